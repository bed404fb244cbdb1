"""Sound at another rate, by cutting or padding its spectrum: exact below half of the lower rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def resampled(samples: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """Float32 [n] at ``source`` hertz to ``target`` hertz."""
    if source == target or not len(samples):
        return samples
    length = max(1, round(len(samples) * target / source))
    return (np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples))).astype(np.float32)
