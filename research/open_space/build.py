"""Fit `open-1` to sentences that were rendered and read by the picture tower; see ``ml.alignment.tower_space``.

Settings were chosen on the first half of the photographs of Flickr8k that are at hand, and judged on the second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ml.alignment.numerics import Floats, log_mean_exp, principal_axes, ridge, unit
from ml.alignment.tower_space import HUB_SHARPNESS, TextMap, TowerSpace, unpacked

ID, VERSION = "open", "1"

#: Captions and phrases that a text is compared with; more of them than sentences means all.
LANDMARKS = 2_000
#: Penalty of the kernel ridge regression, beside kernels of about 1.
PENALTY = 0.6
#: The covariance of captions is raised to this: differences that captions rarely make count, too.
POWER, FLOOR = -0.45, 0.05
#: Axes that text and picture meet in, and those of texts, and of pictures, among themselves.
SHOWN, BEYOND, FINER = 256, 104, 140
#: Captions in the bank of hubs.
BANK = 3_000
RESIDUAL_PENALTY = 10.0


@dataclass(frozen=True)
class Sentences:
    """Of one source: what the text encoder says [n, d], and what the tower says of their pictures [n, p]."""

    texts: Floats
    pictures: Floats


@dataclass(frozen=True)
class Widths:
    shown: int = SHOWN
    beyond: int = BEYOND
    finer: int = FINER


def build(
    captions: Sentences, phrases: Sentences, photos: Floats, general: Floats, widths: Widths | None = None
) -> TowerSpace:
    """``photos`` [n, 2 p]: both views of some photographs, of which the mean stays. ``general`` [n, d]: plain texts."""
    widths = widths or Widths()
    mean = captions.texts.mean(axis=0)
    meanings = unit(np.concatenate([captions.texts, phrases.texts]) - mean)
    targets = np.concatenate([_targets(captions.pictures), _targets(phrases.pictures)])
    landmarks = meanings[np.random.default_rng(0).permutation(len(meanings))[:LANDMARKS]]
    coefficients = _kernel_ridge(meanings, targets, landmarks)
    # From here on in the space of the tower, stretched.
    said = unit(_kernel(meanings[: len(captions.texts)], landmarks) @ coefficients)
    stretch = _stretch(said)
    coefficients = coefficients @ stretch
    coefficients /= np.abs(coefficients).max()
    said = unit(said @ stretch)
    axes, finer = np.split(principal_axes(said, widths.shown + widths.finer), [widths.shown], axis=1)
    picture_mean = unit(photos.reshape(-1, captions.pictures.shape[1])).mean(axis=0)
    writing = unit((unit(captions.pictures).mean(axis=0) - picture_mean)[None])[0]
    texts = TextMap(mean, landmarks, coefficients)
    empty = np.zeros((len(mean), widths.beyond)), np.zeros((widths.shown, widths.beyond))
    space = _rounded(TowerSpace(texts, axes, picture_mean, writing, said[:BANK] @ axes, 0.0, *empty, finer))
    return _rounded(_with_text_axes(_with_level(space, photos), general, widths))


def manifest(space: TowerSpace, encoders: dict[str, Any], counts: dict[str, int]) -> dict[str, Any]:
    """What made the space, for the reader of the file."""
    return {
        "id": ID,
        "version": VERSION,
        "kind": "tower",
        "dimension": space.dimension,
        "encoders": encoders,
        "sentences": counts,
        "settings": {
            "landmarks": len(space.texts.landmarks),
            "penalty": PENALTY,
            "power": POWER,
            "floor": FLOOR,
            "hub_sharpness": HUB_SHARPNESS,
            "shown_dimensions": space.axes.shape[1],
            "text_dimensions": space.text_axes.shape[1],
            "sight_dimensions": space.sight_axes.shape[1],
        },
    }


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
