"""Drawings as a few hundred numbers: principal components of brightness (64 px) and colour (32 px), and back.

Eyes and encoders see colour coarsely, so its two channels are kept at half the side: half the basis for nothing seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

SIDE = 64
HALF = SIDE // 2
#: Brightness and the two colour channels, side by side in one row.
WIDTH = SIDE * SIDE + 2 * HALF * HALF
# ITU-R BT.601, full range, as JPEG uses it.
_YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
_RGB = np.linalg.inv(_YCC).astype(np.float32)


@dataclass(frozen=True)
class Basis:
    """``components`` [d, WIDTH], ``mean`` [WIDTH], ``scale`` [d]: a drawing is mean + (latent · scale) components."""

    components: Floats
    mean: Floats
    scale: Floats

    @property
    def dimension(self) -> int:
        return len(self.scale)

    def encode(self, pixels: Pixels) -> Floats:
        """Drawings [n, 64, 64, 3] to latents [n, d]."""
        latents = (planes(pixels) - self.mean) @ self.components.T / self.scale
        return latents.astype(np.float32)

    def decode(self, latents: Floats) -> Pixels:
        """Latents [n, d] to drawings [n, 64, 64, 3]."""
        return whole(self.rough(latents))

    def rough(self, latents: Floats) -> Floats:
        """Latents [n, d] to float32 [n, 64, 64, 3] about -1..1."""
        return rgb_of(((latents * self.scale) @ self.components + self.mean).astype(np.float32))


def planes(pixels: Pixels) -> Floats:
    """uint8 [n, 64, 64, 3] to brightness and colours in -1..1: [n, WIDTH]."""
    channels = (pixels.astype(np.float32) / 127.5 - 1) @ _YCC.T
    count = len(pixels)
    colours = channels[..., 1:].reshape(count, HALF, 2, HALF, 2, 2).mean(axis=(2, 4))
    return np.concatenate([channels[..., 0].reshape(count, -1), colours.reshape(count, -1)], axis=1)


def whole(rgb: Floats) -> Pixels:
    """-1..1 to whole numbers 0..255."""
    return np.clip(np.rint((rgb + 1) * 127.5), 0, 255).astype(np.uint8)


def rgb_of(rows: Floats) -> Floats:
    """The inverse of ``planes`` as float32, up to the colours' half resolution, which is filled smoothly."""
    count = len(rows)
    brightness = rows[:, : SIDE * SIDE].reshape(count, SIDE, SIDE, 1)
    colours = _doubled(rows[:, SIDE * SIDE :].reshape(count, HALF, HALF, 2))
    rgb: Floats = np.concatenate([brightness, colours], axis=3) @ _RGB.T
    return rgb


def _doubled(maps: Floats) -> Floats:
    """[n, h, w, c] to [n, 2h, 2w, c], each new cell three parts its own and one part the neighbour's."""
    for axis in (1, 2):
        padded = np.concatenate([maps.take([0], axis), maps, maps.take([-1], axis)], axis)
        before = padded.take(range(maps.shape[axis]), axis)
        after = padded.take(range(2, maps.shape[axis] + 2), axis)
        pair = np.stack([0.75 * maps + 0.25 * before, 0.75 * maps + 0.25 * after], axis + 1)
        shape = list(maps.shape)
        shape[axis] *= 2
        maps = pair.reshape(shape)
    return maps
