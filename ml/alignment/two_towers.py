"""A space on two towers that learnt to meet (CLIP, SigLIP): each side's own mean is taken off, then both are turned.

Such towers put texts and pictures into two narrow cones side by side (the modality gap, Liang et al. 2022,
arXiv:2203.02053). With each cone's mean taken off, a text is compared with texts and pictures on the same scale; the
order of the pictures for one text hardly changes. The axes are all that the towers have, the first of them
(Matryoshka, Kusupati et al. 2022, arXiv:2205.13147), or the principal ones. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import Floats, unit

#: Types and shapes as stored; -1 is any length.
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "text_mean": ("float32", (-1,)),
    "picture_mean": ("float32", (-1,)),
    "axes": ("float16", (-1, -1)),
}


@dataclass(frozen=True)
class TwoTowerSpace:
    """Both halves. Rows of every result have norm 1 and ``dimension`` numbers."""

    text_mean: Floats  #: [d] of unit vectors of texts
    picture_mean: Floats  #: [d] of unit vectors of pictures
    axes: Floats  #: [d, k]

    @property
    def dimension(self) -> int:
        return int(self.axes.shape[1])

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, dimension]."""
        return self._placed(reading.vectors, self.text_mean)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, dimension]."""
        return self._placed(sight.features, self.picture_mean)

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures as they are: there is no hub bias in them."""
        return np.array(vectors, np.float32, copy=True)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As stored."""
        return {
            "text_mean": self.text_mean.astype(np.float32),
            "picture_mean": self.picture_mean.astype(np.float32),
            "axes": self.axes.astype(np.float16),
        }

    def _placed(self, vectors: Floats, mean: Floats) -> Floats:
        rows = (unit(np.asarray(vectors, np.float32)) - mean) @ self.axes
        # What lies exactly at the mean has no direction; the first axis is as good as any.
        rows[~rows.any(axis=1), 0] = 1.0
        return unit(rows)


def unpacked(arrays: dict[str, NDArray[Any]]) -> TwoTowerSpace:
    """What ``arrays`` gave. Raises ValueError where shapes do not fit each other, and for numbers that are none."""
    wide = {name: value.astype(np.float32) for name, value in arrays.items()}
    width = len(wide["axes"])
    for name in ("text_mean", "picture_mean"):
        if wide[name].shape != (width,):
            raise ValueError(f"{name!r} is {list(wide[name].shape)}, not {[width]}")
    if not width or not 0 < wide["axes"].shape[1] <= width:
        raise ValueError(f"'axes' is {list(wide['axes'].shape)}: at least one axis, and no more than numbers")
    if damaged := [name for name, value in wide.items() if not np.isfinite(value).all()]:
        raise ValueError(f"{damaged[0]!r} holds numbers that are none")
    return TwoTowerSpace(**wide)


def all_axes(width: int, kept: int | None = None) -> Floats:
    """The towers' own numbers, or the first ``kept`` of them: [width, kept]."""
    return np.eye(width, kept or width, dtype=np.float32)


def fitted_axes(texts: Floats, pictures: Floats, count: int) -> tuple[Floats, float]:
    """The ``count`` principal axes of both sides, each side counting the same, and the share of variance they keep.

    ``texts`` [n, d], ``pictures`` [m, d]: unit vectors with their mean taken off.
    """
    from ml.alignment.numerics import principal_axes

    rows = np.concatenate([side / np.sqrt(max(1e-12, float((side**2).sum()))) for side in (texts, pictures)])
    axes = principal_axes(rows.astype(np.float64), count)
    kept = float(((rows @ axes) ** 2).sum() / (rows**2).sum())
    return axes.astype(np.float32), kept
