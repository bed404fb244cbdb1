"""Train the model of classic synthetic speech: ``python -m research.auditing.train_speech --data SPOKEN_DIGITS``.

Needs scikit-learn and the synthesisers that ``research.auditing.synthesisers`` names. Writes the weights and their
calibration to ``ml/auditing/weights/synthetic-speech-1``, and prints the equal error rates of the scores that the
calibration was fitted to: each speaker and each technique of synthesis is scored by mixtures that saw neither.

The thresholds come from real speech of other gear, which the mixtures never saw: the prompts of Debian's packages
asterisk-core-sounds-{en,es,fr}-wav (CC BY-SA 3.0). Without it they would promise a share of false alarms that holds
for four microphones only. The prompts in Italian and Russian are kept for measuring.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.auditing.calibration import fit
from ml.auditing.speech_features import Matrix, Mixture, MixturePair, lfcc
from ml.detectors.synthetic_speech import WEIGHTS
from research.auditing.speech_data import Utterance, real_utterances, synthetic_utterances
from research.auditing.synthesisers import read_wave

COMPONENTS, FRAMES, ROUNDS = 64, 30_000, 30
#: Variances are at least this: a mixture must not fit single frames.
LEAST_VARIANCE = 1e-2
#: Share of the training utterances that lie below what counts as "neither".
NEITHER = 0.01
#: Languages of the prompts that set the thresholds, how many of each, and how long (two seconds and a half at 8 kHz).
THRESHOLDS_FROM, PROMPTS, LEAST_BYTES = ("en", "es", "fr"), 60, 40_000
Scores = NDArray[np.float64]


def fit_mixture(utterances: Iterable[Matrix], seed: int = 0) -> Mixture:
    """A diagonal mixture of the frames, at most ``FRAMES`` of them."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    rows = np.concatenate(list(utterances))
    rows = rows[np.random.default_rng(seed).permutation(len(rows))[:FRAMES]]
    model = GaussianMixture(
        COMPONENTS, covariance_type="diag", reg_covar=LEAST_VARIANCE, max_iter=ROUNDS, random_state=seed
    )
    with warnings.catch_warnings():
        # A fixed number of rounds is meant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    return Mixture(
        *(np.asarray(part, np.float32) for part in (model.weights_, model.means_, model.covariances_))
    )


def balanced(
    utterances: Sequence[Utterance], key: Callable[[Utterance], str], each: int = 60
) -> list[Matrix]:
    """As many utterances of every group, drawn with replacement."""
    rng = np.random.default_rng(1)
    groups: dict[str, list[Matrix]] = {}
    for one in utterances:
        groups.setdefault(key(one), []).append(one.frames)
    return [groups[name][at] for name in sorted(groups) for at in rng.integers(0, len(groups[name]), each)]


def without_each(real: Sequence[Utterance]) -> dict[str, Mixture]:
    """Speaker to a mixture of all the others."""
    speakers = sorted({one.voice for one in real})
    return {name: fit_mixture(one.frames for one in real if one.voice != name) for name in speakers}


def held_out(
    real: Sequence[Utterance],
    synthetic: Sequence[Utterance],
    key: Callable[[Utterance], str],
    mixtures: dict[str, Mixture],
) -> dict[str, dict[str, tuple[Scores, Scores]]]:
    """Scores of (real, synthetic) utterances by what ``key`` tells and by speaker, both unseen by the mixtures.

    ``mixtures``: those of ``without_each``.
    """
    found: dict[str, dict[str, tuple[Scores, Scores]]] = {}
    for group in sorted({key(one) for one in synthetic}):
        others = fit_mixture(balanced([one for one in synthetic if key(one) != group], key))
        theirs = [one for one in synthetic if key(one) == group]
        found[group] = {}
        for name, mixture in mixtures.items():
            pair = MixturePair(mixture, others, -np.inf)
            found[group][name] = (
                np.asarray([pair.score(one.frames)[0] for one in real if one.voice == name]),
                np.asarray([pair.score(one.frames)[0] for one in theirs]),
            )
    return found


def equal_error_rate(real: Scores, synthetic: Scores) -> float:
    """Where as many reals lie above a threshold as synthetic ones below it."""
    limits = np.sort(np.concatenate([real, synthetic]))
    false = np.asarray([(real >= limit).mean() for limit in limits])
    missed = np.asarray([(synthetic < limit).mean() for limit in limits])
    at = int(np.argmin(np.abs(false - missed)))
    return float((false[at] + missed[at]) / 2)


def error_rates(scores: dict[str, dict[str, tuple[Scores, Scores]]]) -> dict[str, list[float]]:
    """By synthesiser, one for each speaker."""
    return {group: [equal_error_rate(*pair) for pair in each.values()] for group, each in scores.items()}


def train(data: Path, prompts: Path, out: Path) -> None:
    real, synthetic = real_utterances(data), synthetic_utterances()
    if not synthetic:
        sys.exit("error: no synthesiser is installed; see research/auditing/synthesisers.py")
    scores = held_out(real, synthetic, lambda one: one.technique, without_each(real))
    for name, rates in error_rates(scores).items():
        sys.stdout.write(
            f"{name}: equal error rate {np.mean(rates):.3f} ({min(rates):.3f} to {max(rates):.3f})\n"
        )
    pair = MixturePair(
        fit_mixture(one.frames for one in real),
        fit_mixture(balanced(synthetic, lambda one: one.technique)),
        -np.inf,
    )
    densities = [pair.score(one.frames)[1] for one in (*real, *synthetic)]
    pair = MixturePair(pair.real, pair.synthetic, float(np.quantile(densities, NEITHER)))
    out.mkdir(parents=True, exist_ok=True)
    pair.save(out / "mixtures.npz")
    others = {name: [pair.score(frames)[0] for frames in each] for name, each in other_reals(prompts).items()}
    (out / "calibration.json").write_text(_calibrated(scores, synthetic, others) + "\n")


def other_reals(folder: Path) -> dict[str, list[Matrix]]:
    """Features of up to ``PROMPTS`` prompts of two seconds and more in each language. Exits where there are none."""
    found = {}
    for language in sorted(folder.glob("*_*")):
        if language.name.split("_")[0] in THRESHOLDS_FROM:
            paths = [path for path in sorted(language.glob("*.wav")) if path.stat().st_size > LEAST_BYTES]
            found[language.name] = [lfcc(read_wave(path)) for path in paths[:PROMPTS]]
    if sum(map(len, found.values())) < 100:
        sys.exit("error: fewer than 100 real prompts; apt-get install asterisk-core-sounds-{en,es,fr}-wav")
    return found


def _calibrated(
    scores: dict[str, dict[str, tuple[Scores, Scores]]],
    synthetic: Sequence[Utterance],
    others: dict[str, list[float]],
) -> str:
    """Every utterance once, with its mean over the mixtures that had not seen it; and ``others``, real speech.

    A group of the bootstrap is a speaker, a voice, or a language of the others.
    """
    speakers = next(iter(scores.values()))
    values: list[float] = []
    groups: list[str] = []
    for speaker in speakers:
        means = np.mean([each[speaker][0] for each in scores.values()], axis=0)
        values += means.tolist()
        groups += [speaker] * len(means)
    for name, found in others.items():
        values += found
        groups += [name] * len(found)
    labels = [False] * len(values)
    for technique, each in scores.items():
        values += np.mean([fakes for _, fakes in each.values()], axis=0).tolist()
        groups += [one.voice for one in synthetic if one.technique == technique]
    labels += [True] * (len(values) - len(labels))
    note = "spoken_digits and prompts against Debian's synthesisers; each speaker and technique held out"
    references = [score for found in others.values() for score in found]
    return fit(values, labels, reals=references, groups=groups, note=note).dumps()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of spoken_digits")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--reals", type=Path, default=Path("/usr/share/asterisk/sounds"))
    chosen = parser.parse_args()
    train(chosen.data, chosen.reals, chosen.out)
