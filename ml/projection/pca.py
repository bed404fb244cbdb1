"""The two directions in which vectors differ most: exact, from the covariance.

A singular value decomposition of 50,000 rows would take seconds; the eigenvectors of the covariance are the same ones
and cost two passes of matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK = 8_192
# A spread below this share of the mean length is what rounding leaves of equal vectors.
NOTHING = 1e-6


@dataclass(frozen=True)
class Projection:
    """`points` float32 [n, 2]; rows that were not finite are NaN. `explained`: shares of the variance, one an axis."""

    points: np.ndarray
    explained: tuple[float, float]


def project(vectors: np.ndarray) -> Projection:
    """Vectors float32 [n, d], d at least 2, in the plane. The same vectors in the same order give the same points."""
    reduced, explained = reduce(vectors, 2)
    return Projection(reduced, (float(explained[0]), float(explained[1])))


def reduce(vectors: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates float32 [n, dimension] along the directions of greatest variance, and each one's share of it.

    Of equal vectors, or of less than two, all coordinates are 0. Rows with a value that is not finite become NaN, and
    count for nothing.
    """
    sound = finite_rows(vectors)
    found = np.full((len(vectors), dimension), np.nan, np.float32)
    shares = np.zeros(dimension)
    # Not copied where it need not be: a million vectors are mapped from their file.
    kept = vectors if sound.all() else vectors[sound]
    kept = kept if kept.dtype == np.float32 else kept.astype(np.float32)
    if not len(kept):
        return found, shares
    mean, covariance = _moments(kept)
    values, directions = _leading(covariance, dimension)
    total = float(np.trace(covariance))
    if total <= (NOTHING * float(np.linalg.norm(mean))) ** 2:
        found[sound] = 0
        return found, shares
    shares[: len(values)] = np.clip(values, 0, None) / total
    found[sound] = _coordinates(kept, mean, directions)
    return found, shares


def finite_rows(vectors: np.ndarray) -> np.ndarray:
    """Which rows have only finite values: bool [n]. In parts, as a million rows lie in a file."""
    found = np.empty(len(vectors), bool)
    for start in range(0, len(vectors), CHUNK):
        found[start : start + CHUNK] = np.isfinite(vectors[start : start + CHUNK]).all(axis=1)
    return found


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance: products of float32, which is quick, summed as float64, which is exact enough."""
    mean = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), CHUNK):
        mean += vectors[start : start + CHUNK].sum(axis=0, dtype=np.float64)
    mean /= len(vectors)
    covariance = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), CHUNK):
        part = vectors[start : start + CHUNK] - mean.astype(np.float32)
        covariance += part.T @ part
    return mean, covariance / max(1, len(vectors) - 1)


def _leading(covariance: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Greatest eigenvalues first. The sign is chosen so that the largest entry of a direction is positive, as it would
    otherwise hang on the linear algebra library."""
    values, directions = np.linalg.eigh(covariance)
    values, directions = values[::-1][:dimension], directions[:, ::-1][:, :dimension]
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(directions.shape[1])])
    return values, directions * np.where(signs == 0, 1, signs)


def _coordinates(vectors: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    found = np.empty((len(vectors), directions.shape[1]), np.float32)
    turned, centre = directions.astype(np.float32), mean.astype(np.float32)
    for start in range(0, len(vectors), CHUNK):
        found[start : start + CHUNK] = (vectors[start : start + CHUNK] - centre) @ turned
    return found
