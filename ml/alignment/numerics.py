"""The few formulas of the joint space. Rows are vectors, everything is float32 or float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def unit(rows: Floats) -> Floats:
    """Rows of norm 1; a row of zeros stays zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.maximum(norms, 1e-12)


def centred(rows: Floats) -> Floats:
    """Each row minus its own mean."""
    return rows - rows.mean(axis=-1, keepdims=True)


def softmax(rows: Floats) -> Floats:
    """Along the last axis."""
    weights = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def log_mean_exp(rows: Floats, sharpness: float) -> Floats:
    """A soft maximum of each row: log(mean(exp(sharpness * x))) / sharpness, [n, m] to [n]."""
    peak = rows.max(axis=-1, keepdims=True)
    return np.log(np.exp(sharpness * (rows - peak)).mean(axis=-1)) / sharpness + peak[..., 0]


def ridge(inputs: Floats, targets: Floats, penalty: float) -> Floats:
    """Least squares with a penalty: W of [d, k] that minimises |inputs W - targets|^2 + penalty |W|^2."""
    gram = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ targets)


def principal_axes(rows: Floats, count: int) -> Floats:
    """The ``count`` right singular vectors of ``rows`` with the largest values: [d, count], not centred.

    Signs are fixed (the largest entry of an axis is positive), so that two builds agree.
    """
    axes = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :count]
    peaks = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(peaks < 0, -1.0, 1.0)


def covariance_root(rows: Floats, share: float, noise: Floats | None = None) -> Floats:
    """(C + N'N + ``share`` tr C)^-1/2 of the covariance C of centred ``rows`` [n, d], and of ``noise`` N [r, d]."""
    covariance = rows.T @ rows / len(rows)
    damping = max(share * float(np.trace(covariance)), 1e-12)
    if noise is not None:
        covariance = covariance + noise.T @ noise
    values, vectors = np.linalg.eigh(covariance)
    return vectors * (np.maximum(values, 0) + damping) ** -0.5 @ vectors.T
