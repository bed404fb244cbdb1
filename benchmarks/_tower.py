"""Would an acoustic tower find more than the transcript? Whisper's own encoder, frozen, mapped to text vectors.

Speech becomes the mean and the spread over time of the encoder's states where there is sound; ridge regression and
CCA learn from pairs to MiniLM's vectors of what was said. Judged on captions, speakers and words that they
have not heard. Their penalties are the best on the very folds they are judged on: to their favour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _baselines import cca
from _measures import ranks
from _report import sized
from numpy.typing import NDArray

from ml.alignment.numerics import ridge, unit
from ml.encoders.base import Samples
from ml.encoders.whisper_tiny_en import Transcriber

Array = NDArray[Any]
Split = tuple[Array, Array]
Fit = Callable[[Array, Array], tuple[Callable[[Array], Array], Callable[[Array], Array]]]

FRAMES_A_SECOND = 50
FOLDS, REPEATS = sized(5, 2), sized(5, 1)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)


def states(transcriber: Transcriber, samples: Samples) -> Array:
    """[768]: mean and standard deviation over the frames that hold the sound, of Whisper's 30 s window."""
    from faster_whisper.transcribe import pad_or_trim

    model = transcriber._model
    features = pad_or_trim(model.feature_extractor(samples)[..., :-1])
    frames = max(1, round(len(samples) / transcriber.sample_rate * FRAMES_A_SECOND))
    found = np.array(model.encode(features))[0, :frames].astype(np.float64)
    return np.concatenate([found.mean(axis=0), found.std(axis=0)])


def folds(count: int) -> Iterator[Split]:
    """(known, asked) rows: five folds, five times over in another order."""
    for repeat in range(REPEATS):
        fold_of = np.random.default_rng(repeat).permutation(count) % FOLDS
        yield from (
            (np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(FOLDS)
        )


def by_speaker(speakers: Array) -> list[Split]:
    return [(np.flatnonzero(speakers != one), np.flatnonzero(speakers == one)) for one in np.unique(speakers)]


def by_word(speakers: Array, words: Array) -> list[Split]:
    """Neither the speaker nor the word was heard in training: two words are held out at a time."""
    pairs = [np.unique(words)[at : at + 2] for at in range(0, len(np.unique(words)), 2)]
    return [
        (
            np.flatnonzero((speakers != one) & ~np.isin(words, pair)),
            np.flatnonzero((speakers == one) & np.isin(words, pair)),
        )
        for one in np.unique(speakers)
        for pair in pairs
    ]


def towers() -> dict[str, list[Fit]]:
    return {
        "ridge": [_ridge(penalty) for penalty in (1.0, 10.0, 100.0, 1000.0)],
        "CCA": [_cca(strength) for strength in (1.0, 3.0, 10.0)],
    }


def _ridge(penalty: float) -> Fit:
    def fit(texts: Array, sounds: Array) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        mean, weights = texts.mean(axis=0), ridge(sounds, texts - texts.mean(axis=0), penalty)
        return (lambda rows: unit(rows - mean)), (lambda rows: unit(rows @ weights))

    return fit


def _cca(strength: float) -> Fit:
    return lambda texts, sounds: cca(texts, sounds, strength)


def compare(
    heard: Array, sounds: Array, pool: Array, wanted: Array, splits: list[Split]
) -> dict[str, list[Array]]:
    """Ranks of the right text among ``pool`` in each split, for every way of asking.

    ``heard`` [n, 384]: text vectors of the transcripts, zeros where nothing was heard; ``sounds`` [n, 768];
    ``pool`` [m, 384]: what may be found; ``wanted`` [n]: which of it is right.
    """
    found = {"transcript": [_ranks(heard[asked] @ pool.T, wanted[asked]) for _, asked in splits]}
    for name, fits in towers().items():
        scored = [[_scores(fit, sounds, pool, wanted, split) for split in splits] for fit in fits]
        alone = [
            [_ranks(s, wanted[asked]) for s, (_, asked) in zip(each, splits, strict=True)] for each in scored
        ]
        found[f"acoustic tower, {name}"] = min(alone, key=_badness)
        both = [
            [
                _ranks(heard[asked] @ pool.T + weight * scores, wanted[asked])
                for scores, (_, asked) in zip(each, splits, strict=True)
            ]
            for each in scored
            for weight in WEIGHTS
        ]
        found[f"transcript and tower, {name}"] = min(both, key=_badness)
    return found


def _scores(fit: Fit, sounds: Array, pool: Array, wanted: Array, split: Split) -> Array:
    known, asked = split
    mean, spread = sounds[known].mean(axis=0), sounds[known].std(axis=0) + 1e-6
    read, listen = fit(pool[wanted[known]], (sounds[known] - mean) / spread)
    return listen((sounds[asked] - mean) / spread) @ read(pool).T


def _ranks(scores: Array, wanted: Array) -> Array:
    return ranks(scores, [[int(one)] for one in wanted])


def _badness(found: list[Array]) -> float:
    return -sum(float((each < 1).mean() + (each < 10).mean() / 100) for each in found)


def line(found: list[Array], cuts: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """R@k in percent: the mean over splits, and the lowest and highest split."""
    each = {cut: [100 * float((one < cut).mean()) for one in found] for cut in cuts}
    return {
        f"r{cut}": {
            "mean": round(float(np.mean(values)), 1),
            "low": round(min(values), 1),
            "high": round(max(values), 1),
        }
        for cut, values in each.items()
    }
