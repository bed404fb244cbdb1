"""Pictures that are the same on every machine: drawn with whole numbers, without any library's resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def drawing(seed: int, height: int, width: int) -> Pixels:
    """Overlapping rectangles of many colours with a grain: uint8 [height, width, 3]."""
    random = np.random.RandomState(seed)
    pixels = np.full((height, width, 3), random.randint(0, 256, 3), np.uint8)
    for _ in range(60):
        top, left = random.randint(0, height), random.randint(0, width)
        tall, wide = 1 + random.randint(0, max(1, height // 2)), 1 + random.randint(0, max(1, width // 2))
        pixels[top : top + tall, left : left + wide] = random.randint(0, 256, 3)
    grain = random.randint(-12, 13, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)
