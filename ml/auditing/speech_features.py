"""Linear frequency cepstra of speech: what the model of synthetic speech sees of a recording.

Only 150 to 3,600 Hz are looked at, so that sampling rate and codec of the telephone kind tell nothing, and only loud
frames, so that silence, its length and its noise tell nothing. The mean of every coefficient is taken out: a constant
filter, such as a microphone's, leaves no trace. After Sahidullah, Kinnunen, Hanilçi, "A comparison of features for
synthetic speech detection", Interspeech 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# --- Resampling ------------------------------------------------------------------------------------------
# Sound at another rate, by cutting or padding its spectrum: exact below half of the lower rate.


def resample(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """Float32 [n] at ``source`` hertz to ``target`` hertz."""
    if source == target or not len(samples):
        return samples
    length = max(1, round(len(samples) * target / source))
    return (np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples))).astype(np.float32)


# --- Cepstra ---------------------------------------------------------------------------------------------


RATE = 16_000
LOW_HZ, HIGH_HZ = 150.0, 3_600.0
FRAME, HOP, BINS = 400, 160, 512
FILTERS, CEPSTRA = 48, 40
#: Frames this far below the loudest are not speech.
RANGE_DB = 30.0
#: Below this root mean square (of full scale 1) nothing is speech.
FLOOR = 1e-3

Matrix = NDArray[np.float32]


def lfcc(samples: NDArray[np.float32]) -> Matrix:
    """Float32 [n] mono at 16 kHz to [frames, 120]: cepstra 1 to 40, their slopes, and the slopes of these.

    Frames without speech are left out; the answer may have no row.
    """
    frames = _framed(np.nan_to_num(np.asarray(samples, np.float32), posinf=0, neginf=0))
    if len(frames) < 5:
        return np.empty((0, 3 * CEPSTRA), np.float32)
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), BINS)) ** 2
    bands = power @ _filters().T + 1e-9
    loud = bands.sum(1)
    speech = loud > max(loud.max() * 10 ** (-RANGE_DB / 10), FRAME * BINS / 4 * FLOOR**2)
    cepstra = np.log(bands) @ _cosines().T
    slopes = _slopes(cepstra)
    found = np.concatenate([cepstra, slopes, _slopes(slopes)], axis=1)[speech]
    if len(found):
        found[:, :CEPSTRA] -= found[:, :CEPSTRA].mean(0)
    return found.astype(np.float32)


def _framed(samples: NDArray[np.float32]) -> Matrix:
    if len(samples) < FRAME:
        return np.empty((0, FRAME), np.float32)
    emphasised = np.append(samples[:1], samples[1:] - np.float32(0.97) * samples[:-1])
    return np.lib.stride_tricks.sliding_window_view(emphasised, FRAME)[::HOP]


def _slopes(rows: Matrix) -> Matrix:
    """Least squares over five frames."""
    padded = np.pad(rows, ((2, 2), (0, 0)), mode="edge")
    return np.asarray((padded[3:-1] - padded[1:-3] + 2 * (padded[4:] - padded[:-4])) / 10)


@cache
def _filters() -> Matrix:
    """Triangles [filters, bins] of equal width."""
    edges = np.linspace(LOW_HZ, HIGH_HZ, FILTERS + 2)
    hertz = np.arange(BINS // 2 + 1) * RATE / BINS
    rise = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


@cache
def _cosines() -> Matrix:
    """Cosine transform [cepstra, filters], without the row that only tells the loudness."""
    at = np.pi * (np.arange(FILTERS) + 0.5) / FILTERS
    return (np.cos(np.arange(1, CEPSTRA + 1)[:, None] * at) * np.sqrt(2 / FILTERS)).astype(np.float32)


# --- Gaussian mixtures -----------------------------------------------------------------------------------
# Two Gaussian mixtures, real and synthetic, and what a recording's frames say between them. NumPy only.


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
class MixturePair:
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
    def load(cls, path: Path) -> MixturePair:
        """Raises OSError, ValueError or KeyError for a file that is none."""
        with np.load(path, allow_pickle=False) as arrays:
            real, synthetic = (
                Mixture(*(arrays[f"{name}_{part}"] for part in ("weights", "means", "variances")))
                for name in ("real", "synthetic")
            )
            return cls(real, synthetic, float(arrays["least"]))
