"""The traditional methods: linear maps from pairs, in closed form. They are the baseline of every report.

PCA to 256 dimensions with ridge regression or an orthogonal Procrustes rotation (Schönemann 1966), and regularised
canonical correlation analysis (Hotelling 1936; Vinod 1976). Any encoders serve: MiniLM and EfficientNet as bundled,
or BERT and ResNet-101. Stored as spaces of kind ``linear``, so that they can be searched like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.numerics import Floats, covariance_root, ridge, unit

Index = NDArray[np.integer[Any]]

#: Types and shapes as stored; -1 is any length.
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "text_mean": ("float32", (-1,)),
    "text_map": ("float32", (-1, -1)),
    "picture_mean": ("float32", (-1,)),
    "picture_map": ("float32", (-1, -1)),
}

#: The penalties that served best on held-out photos (docs/learning/experiments-align.md), to these methods' favour.
RIDGE_PENALTY = 50.0
CCA_STRENGTH = 3.0


@dataclass(frozen=True)
class Linear:
    """Both halves: rows minus their mean, times a map of at most 256 columns, of norm 1."""

    text_mean: Floats  #: [d]
    text_map: Floats  #: [d, k]
    picture_mean: Floats  #: [F]
    picture_map: Floats  #: [F, k]

    def __post_init__(self) -> None:
        inputs = len(self.text_mean), len(self.picture_mean)
        shapes = self.text_map.shape, self.picture_map.shape
        if (shapes[0][0], shapes[1][0]) != inputs or not 0 < shapes[0][1] == shapes[1][1] <= layout.DIMENSION:
            raise ValueError(
                f"maps of {list(shapes[0])} and {list(shapes[1])} do not fit inputs of {list(inputs)}"
            )

    def text(self, reading: TextFeatures) -> Floats:
        """Texts to [n, 256]."""
        return self.place_texts(reading.vectors)

    def image(self, sight: ImageFeatures) -> Floats:
        """Pictures to [n, 256], by their features alone."""
        return self.place_pictures(sight.features)

    def as_query(self, vectors: Floats) -> Floats:
        """Pictures ask as they are found."""
        return vectors

    def place_texts(self, vectors: Floats) -> Floats:
        """[n, d] to [n, 256]."""
        return _padded(unit((vectors - self.text_mean) @ self.text_map))

    def place_pictures(self, features: Floats) -> Floats:
        """[n, F] to [n, 256]."""
        return _padded(unit((features - self.picture_mean) @ self.picture_map))

    def arrays(self) -> dict[str, Floats]:
        """As stored."""
        return {name: np.asarray(values, np.float32) for name, values in vars(self).items()}


#: (texts [m, d], pictures [n, F], owners int [m]: the picture of each text) to a fitted map.
Fit = Callable[[Floats, Floats, Index], Linear]


def pca_ridge(texts: Floats, pictures: Floats, owners: Index, penalty: float = RIDGE_PENALTY) -> Linear:
    """Pictures to 256 principal axes, then ridge regression to the 256 principal axes of the texts."""
    text_mean, text_axes = _principal(texts)
    picture_mean, picture_axes = _principal(pictures)
    inputs = ((pictures - picture_mean) @ picture_axes)[owners]
    solved = ridge(inputs, (texts - text_mean) @ text_axes, penalty)
    return Linear(text_mean, text_axes, picture_mean, picture_axes @ solved)


def procrustes(texts: Floats, pictures: Floats, owners: Index) -> Linear:
    """Both to 256 principal axes, then the rotation that brings pairs closest."""
    text_mean, text_axes = _principal(texts)
    picture_mean, picture_axes = _principal(pictures)
    width = min(text_axes.shape[1], picture_axes.shape[1])
    text_axes, picture_axes = text_axes[:, :width], picture_axes[:, :width]
    left, right = (texts - text_mean) @ text_axes, ((pictures - picture_mean) @ picture_axes)[owners]
    u, _, vt = np.linalg.svd(right.T @ left)
    return Linear(text_mean, text_axes, picture_mean, picture_axes @ (u @ vt))


def cca(texts: Floats, pictures: Floats, owners: Index, strength: float = CCA_STRENGTH) -> Linear:
    """Each covariance plus ``strength`` times its mean eigenvalue; 256 directions at most."""
    return canonical(texts, pictures, owners, strength, layout.DIMENSION, 0.5)


def canonical(
    texts: Floats,
    pictures: Floats,
    owners: Index,
    strength: float,
    width: int,
    power: float,
    noise: Floats | None = None,
) -> Linear:
    """At most ``width`` canonical directions, each weighted by its correlation to the ``power``.

    ``noise`` [r, F]: rows whose outer products are added to the pictures' covariance, as directions to be avoided.
    """
    text_mean, picture_mean = texts.mean(axis=0), pictures[owners].mean(axis=0)
    left, right = texts - text_mean, pictures - picture_mean
    # A few hundred pictures span far fewer directions than they have features: no need for the whole covariance.
    span = _span(right)
    inside = (right @ span)[owners]
    whiten_left = covariance_root(left, strength / left.shape[1])
    avoided = None if noise is None or not len(noise) else noise @ span
    whiten_right = covariance_root(inside, strength / right.shape[1], avoided)
    crossed = whiten_left @ (left.T @ inside / len(left)) @ whiten_right
    u, correlations, vt = np.linalg.svd(crossed, full_matrices=False)
    scale = correlations[:width] ** power
    picture_map = span @ (whiten_right @ vt[:width].T * scale)
    return Linear(text_mean, whiten_left @ u[:, :width] * scale, picture_mean, picture_map)


METHODS: dict[str, Fit] = {"PCA-256 + ridge": pca_ridge, "Procrustes": procrustes, "regularised CCA": cca}


def fitted(method: str, reading: TextFeatures, sight: ImageFeatures, owners: Index) -> Linear:
    """One of METHODS on texts [m] and pictures [n]; ``owners`` int [m]: the picture of each text."""
    texts, pictures = (np.asarray(rows, np.float64) for rows in (reading.vectors, sight.features))
    return METHODS[method](texts, pictures, owners)


def _principal(rows: Floats) -> tuple[Floats, Floats]:
    """Mean [d] and at most 256 principal axes [d, k]."""
    mean = rows.mean(axis=0)
    return mean, _span(rows - mean)[:, : layout.DIMENSION]


def _span(rows: Floats) -> Floats:
    """An orthonormal basis [d, r] of the rows' span, leading directions first."""
    if len(rows) > rows.shape[1]:
        values, axes = np.linalg.eigh(rows.T @ rows)
        kept = values > 1e-12 * values[-1]
        return axes[:, kept][:, ::-1]
    values, left = np.linalg.eigh(rows @ rows.T)
    kept = values > 1e-12 * values[-1] if values[-1] > 0 else np.arange(len(values)) == len(values) - 1
    return (rows.T @ left[:, kept] / np.sqrt(np.maximum(values[kept], 1e-30)))[:, ::-1]


def _padded(rows: Floats) -> Floats:
    padded = np.zeros((len(rows), layout.DIMENSION), np.float32)
    padded[:, : rows.shape[1]] = rows
    return padded
