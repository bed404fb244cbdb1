"""Fit `open-1` to sentences that were rendered and read by the picture tower; see ``ml.alignment.tower_space``.

Settings were chosen on the first half of the photographs of Flickr8k that are at hand, and judged on the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.numerics import Floats, log_mean_exp, principal_axes, ridge, unit
from ml.alignment.projection import Projection
from ml.alignment.tower_space import (
    HUB_SHARPNESS,
    Classes,
    KernelMap,
    LanguageDetector,
    TextMap,
    TowerSpace,
    unpacked,
)

ID, VERSION = "open", "1"

#: Texts that a text is compared with, in each of the two maps; more of them than there are means all.
LANDMARKS = 2_000
#: The same of Chinese texts, beside English ones.
CHINESE_LANDMARKS = 700
#: Penalty of the kernel ridge regression, beside kernels of about 1.
PENALTY = 0.6
#: The covariance of captions is raised to this: differences that captions rarely make count, too.
POWER, FLOOR = -0.45, 0.05
#: Axes that text and picture meet in, and those of texts, and of pictures, among themselves.
SHOWN, BEYOND, FINER = 256, 104, 140
#: Captions in the bank of hubs.
BANK = 3_000
RESIDUAL_PENALTY = 10.0
#: Of the spread of texts of one kind, where languages are told from each other.
SHRINKAGE = 0.1
#: Above every pair of different pictures of the demo (.958).
NEAR_DUPLICATE = 0.96
#: By so many nats another language has to be likelier than English: a word alone may belong to several.
ENGLISH_FIRST = 8.0


@dataclass(frozen=True)
class Translated:
    """Some of a list of texts in one language: which [m], and what the text encoder says of them there [m, d]."""

    places: NDArray[np.intp]
    texts: Floats


@dataclass(frozen=True)
class Sentences:
    """Of one source: what the text encoder says of them in English [n, d], what the tower says of pictures of these
    [n, p], and some of them in other languages, by code."""

    texts: Floats
    pictures: Floats
    others: Mapping[str, Translated]


#: On the square of the numbers that go from texts to classes.
CLASS_PENALTY = 1.0


@dataclass(frozen=True)
class Widths:
    shown: int = SHOWN
    beyond: int = BEYOND
    finer: int = FINER


def build(
    captions: Sentences,
    phrases: Sentences,
    photos: Floats,
    general: Floats,
    first: int,
    names: Sentences | None = None,
    widths: Widths | None = None,
) -> TowerSpace:
    """``photos`` [n, p]: some photographs, of which the mean stays. ``general`` [n, d]: plain texts in
    English. ``names``: of things, single words in many languages. The ``first`` numbers of a text are those of the
    encoder for English and Chinese."""
    widths = widths or Widths()
    texts = _centred(captions, phrases, first, names)
    parts, codes = [captions, phrases], languages(captions, names)
    english = np.concatenate([texts.meanings(part.texts, 0) for part in parts])
    shown = [_targets(part.pictures) for part in parts]
    read = [_read(part.others["zh"], first) for part in parts]
    chinese = np.concatenate([texts.meanings(one.texts, 1) for one in read])
    also = [rows[one.places] for rows, one in zip(shown, read, strict=True)]
    landmarks = np.concatenate([_some(english, LANDMARKS), _some(chinese, CHINESE_LANDMARKS)])
    both = _fitted(np.concatenate([english, chinese]), np.concatenate([*shown, *also]), landmarks)
    meanings, targets = _by_second_half(texts, parts, codes)
    second = _fitted(meanings, targets, _some(meanings, LANDMARKS))
    # From here on in the space of the tower, stretched.
    said = both(english[: len(captions.texts)])
    stretch = _stretch(said)
    said = unit(said @ stretch)
    axes, finer = np.split(principal_axes(said, widths.shown + widths.finer), [widths.shown], axis=1)
    picture_mean = unit(photos).mean(axis=0)
    writing = unit((unit(captions.pictures).mean(axis=0) - picture_mean)[None])[0]
    texts = replace(texts, both=_stretched(both, stretch), second=_stretched(second, stretch))
    empty = np.zeros((english.shape[1], widths.beyond)), np.zeros((widths.shown, widths.beyond))
    space = _rounded(TowerSpace(texts, axes, picture_mean, writing, said[:BANK] @ axes, 0.0, *empty, finer))
    return _rounded(_with_text_axes(_with_level(space, photos), general, widths))


def classes_of(space: TowerSpace, prior: Projection, width: int) -> Classes:
    """The first ``width`` axes of a prior's classes; in texts by a ridge regression at the landmarks.

    The prior reads their first half. Each counts twice: whole, and without that half, as in most languages.
    """
    known, first = space.texts.both.landmarks, space.texts.first_means.shape[1]
    named = unit(prior.reader.classes(unit(known[:, :first])) @ prior.axes)[:, :width]
    other = known.copy()
    other[:, :first] = 0
    meanings = np.concatenate([known, unit(other)])
    from_text = ridge(meanings.astype(np.float64), np.concatenate([named, named]), CLASS_PENALTY)
    return Classes(prior.axes[:, :width], from_text.astype(np.float32))


def manifest(
    space: TowerSpace, encoders: dict[str, Any], counts: dict[str, int], known: Sequence[str] = ("en", "zh")
) -> dict[str, Any]:
    """What made the space, for the reader of the file; ``known``: as ``languages`` gives them."""
    return {
        "id": ID,
        "version": VERSION,
        "kind": "tower",
        "dimension": space.dimension,
        "near_duplicate": NEAR_DUPLICATE,
        "encoders": encoders,
        "languages": list(known),
        "sentences": counts,
        "settings": {
            "landmarks": [len(space.texts.both.landmarks), len(space.texts.second.landmarks)],
            "penalty": PENALTY,
            "power": POWER,
            "floor": FLOOR,
            "hub_sharpness": HUB_SHARPNESS,
            "shown_dimensions": space.axes.shape[1],
            "text_dimensions": space.text_axes.shape[1],
            "sight_dimensions": space.sight_axes.shape[1],
        },
    }


def languages(captions: Sentences, names: Sentences | None = None) -> list[str]:
    """The codes of the rows of ``language_means``."""
    known = {"zh", *captions.others, *(names.others if names else ())} - {"zh"}
    return ["en", "zh", *sorted(known)]


def _centred(captions: Sentences, phrases: Sentences, first: int, names: Sentences | None) -> TextMap:
    """The means of texts and what tells languages, before anything else is learnt."""
    codes = languages(captions, names)
    english = unit(captions.texts[:, first:]).mean(axis=0)
    # Names are not captions: what they say of a language counts where no caption does.
    offsets = {**(_offsets(names, first) if names else {}), **_offsets(captions, first)}
    means = np.stack([english, *(english + offsets[code] for code in codes[1:])])
    said = [
        (codes.index(code), unit(rows[:, first:]))
        for part in (names, captions, phrases)
        if part is not None
        for code, rows in _by_language(part)
    ]
    nothing = KernelMap(np.empty((0, 0)), np.empty((0, 0)))
    chinese = np.concatenate([_read(part.others["zh"], first).texts for part in (captions, phrases)])
    read = [unit(rows[:, :first]).mean(axis=0) for rows in (captions.texts, chinese)]
    return TextMap(np.stack(read), means.astype(np.float32), _detector(said), nothing, nothing)


def _read(said: Translated, first: int) -> Translated:
    """Those of which the first encoder says something."""
    known = said.texts[:, :first].any(axis=1)
    return Translated(said.places[known], said.texts[known])


def _by_language(part: Sentences) -> list[tuple[str, Floats]]:
    return [("en", part.texts), *((code, part.others[code].texts) for code in sorted(part.others))]


def _offsets(part: Sentences, first: int) -> dict[str, Floats]:
    """What to add to a mean of English texts for one of each other language: of the same texts in both."""
    english = unit(part.texts[:, first:])
    return {
        code: unit(said.texts[:, first:]).mean(axis=0) - english[said.places].mean(axis=0)
        for code, said in part.others.items()
    }


def _by_second_half(
    texts: TextMap, parts: Sequence[Sentences], codes: Sequence[str]
) -> tuple[Floats, Floats]:
    """The second half of every text in every language, of norm 1, and the picture of what it says in English."""
    first, meanings, targets = texts.first_means.shape[1], [], []
    for part in parts:
        shown = _targets(part.pictures)
        for code, rows in _by_language(part):
            meanings.append(unit(texts.meanings(rows, codes.index(code))[:, first:]))
            targets.append(shown if code == "en" else shown[part.others[code].places])
    return np.concatenate(meanings), np.concatenate(targets)


def _detector(kinds: Sequence[tuple[int, Floats]]) -> LanguageDetector:
    """From some texts of each kind, and the language of each: all kinds are taken to spread alike."""
    means = np.stack([rows.mean(axis=0) for _, rows in kinds])
    spread = sum(
        (rows - mean).T @ (rows - mean) / len(rows) for (_, rows), mean in zip(kinds, means, strict=True)
    ) / len(kinds)
    ridged = spread + SHRINKAGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    axes = np.linalg.solve(ridged, means.T).T
    spoken = np.array([language for language, _ in kinds], np.int32)
    levels = np.sum(means * axes, axis=1) / 2 - ENGLISH_FIRST * (spoken == 0)
    return LanguageDetector(axes, levels, spoken)


def _some(meanings: Floats, count: int) -> Floats:
    return meanings[np.random.default_rng(0).permutation(len(meanings))[:count]]


def _fitted(meanings: Floats, targets: Floats, landmarks: Floats) -> KernelMap:
    return KernelMap(landmarks, _kernel_ridge(meanings, targets, landmarks))


def _stretched(fitted: KernelMap, stretch: Floats) -> KernelMap:
    coefficients = fitted.coefficients @ stretch
    return KernelMap(fitted.landmarks, coefficients / np.abs(coefficients).max())


def _targets(pictures: Floats) -> Floats:
    rows = unit(pictures)
    return unit(rows - rows.mean(axis=0))


def _kernel(meanings: Floats, landmarks: Floats) -> Floats:
    return np.exp(meanings.astype(np.float64) @ landmarks.T - 1)


def _kernel_ridge(meanings: Floats, targets: Floats, landmarks: Floats) -> Floats:
    """In double precision: in single, 5,000 landmarks lose a sixth of what they find."""
    known, among = _kernel(meanings, landmarks), _kernel(landmarks, landmarks)
    gram = known.T @ known + PENALTY * among + 1e-4 * np.eye(len(landmarks))
    return np.linalg.solve(gram, known.T @ targets)


def _stretch(said: Floats) -> Floats:
    """The covariance of captions to a power: [p, p]."""
    values, vectors = np.linalg.eigh(said.T @ said / len(said))
    return (vectors * (np.maximum(values, 1e-9) + FLOOR * values.max()) ** POWER) @ vectors.T


def _with_level(space: TowerSpace, photos: Floats) -> TowerSpace:
    seen = space.seen(photos)
    level = float(np.median(log_mean_exp(seen @ space.axes @ space.hub_bank.T, HUB_SHARPNESS)))
    return replace(space, hub_level=level)


def _with_text_axes(space: TowerSpace, general: Floats, widths: Widths) -> TowerSpace:
    """Axes of what a text means beyond what it shows, so that no dimension says it twice."""
    meanings = space.texts.meanings(general)
    shown = unit(space.texts.shown(meanings) @ space.axes)
    explained = ridge(shown, meanings, RESIDUAL_PENALTY)
    axes = principal_axes(meanings - shown @ explained, widths.beyond)
    return replace(space, text_axes=axes, text_from_shown=explained @ axes)


def _rounded(space: TowerSpace) -> TowerSpace:
    """As it will be loaded: later steps fit what is shipped."""
    return unpacked(space.arrays())
