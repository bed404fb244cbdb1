"""Two Gaussian mixtures, real and synthetic, and what a recording's frames say between them. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
CHUNK = 4_096


@dataclass(frozen=True)
class Mixture:
    """Diagonal covariances: weights [k], means [k, d], variances [k, d]."""

    weights: Matrix
    means: Matrix
    variances: Matrix

    def log_likelihoods(self, rows: Matrix) -> Matrix:
        """Of each row [n, d] its log density [n]."""
        scale = 1 / self.variances
        constant = np.log(self.weights) - 0.5 * (
            np.log(2 * np.pi * self.variances).sum(1) + (self.means**2 * scale).sum(1)
        )
        parts = []
        for at in range(0, len(rows), CHUNK):
            part = rows[at : at + CHUNK]
            each = constant + part @ (self.means * scale).T - 0.5 * (part**2) @ scale.T
            top = each.max(1, keepdims=True)
            parts.append(np.log(np.exp(each - top).sum(1)) + top[:, 0])
        return np.concatenate(parts) if parts else np.empty(0, np.float32)


@dataclass(frozen=True)
class Pair:
    """What a real and what a synthetic voice's frames are like; ``least`` below which a recording is neither."""

    real: Mixture
    synthetic: Mixture
    least: float

    def score(self, rows: Matrix) -> tuple[float, float]:
        """Mean log ratio of frames [n, d], above 0 towards synthetic, and the greater mean log density."""
        real, synthetic = self.real.log_likelihoods(rows), self.synthetic.log_likelihoods(rows)
        return float(synthetic.mean() - real.mean()), float(max(real.mean(), synthetic.mean()))

    def save(self, path: Path) -> None:
        arrays = {
            f"{name}_{part}": getattr(getattr(self, name), part).astype(np.float32)
            for name in ("real", "synthetic")
            for part in ("weights", "means", "variances")
        }
        np.savez_compressed(path, least=np.float32(self.least), **arrays)

    @classmethod
    def load(cls, path: Path) -> Pair:
        """Raises OSError, ValueError or KeyError for a file that is none."""
        with np.load(path, allow_pickle=False) as arrays:
            real, synthetic = (
                Mixture(*(arrays[f"{name}_{part}"] for part in ("weights", "means", "variances")))
                for name in ("real", "synthetic")
            )
            return cls(real, synthetic, float(arrays["least"]))
