"""The network that draws: from a noisy latent, a time and what is wished, the way to the drawing. In NumPy, so that
the platform draws without loading torch; ``research.drawing.networks`` has the module that is trained.

Residual blocks whose scale, shift and gate come from the wish (adaptive layer norm: Peebles & Xie 2023,
arXiv:2212.09748), trained as a rectified flow (Liu et al. 2023, arXiv:2209.03003).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Sines and cosines that say the time.
TIMES = 64
EPSILON = 1e-5


@dataclass(frozen=True)
class Shape:
    """How large a network is; kept with its weights."""

    latent: int = 384
    wish: int = 645
    hidden: int = 512
    wished: int = 256
    blocks: int = 5


def time_waves(times: Floats) -> Floats:
    """Times in 0..1 [n] to [n, TIMES]."""
    angles = times[:, None] * np.exp(np.linspace(0, np.log(1000), TIMES // 2, dtype=np.float32))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def flow_of(weights: Mapping[str, Floats]) -> Callable[[Floats, Floats, Floats], Floats]:
    """Of a module's state dict: latents [n, d], times [n] and wishes [n, w] to velocities [n, d]."""
    blocks = sum(name.startswith("first.") and name.endswith("weight") for name in weights)

    def linear(name: str, x: Floats) -> Floats:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def velocity(x: Floats, times: Floats, wishes: Floats) -> Floats:
        c = _silu(linear("wish_in", np.concatenate([wishes, time_waves(times)], axis=1)))
        c = _silu(linear("wish_out", c))
        h = linear("enter", x)
        for number in range(blocks):
            scale, shift, gate = np.split(linear(f"modulate.{number}", c), 3, axis=1)
            inner = _silu(linear(f"first.{number}", _normed(h) * (1 + scale) + shift))
            h = h + (1 + gate) * linear(f"second.{number}", inner)
        return linear("leave", _normed(h))

    return velocity


def _silu(x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def _normed(x: Floats) -> Floats:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)


# --- Latents ---------------------------------------------------------------------------------------------
# Drawings as a few hundred numbers: principal components of brightness (64 px) and colour (32 px), and back.
#
# Eyes and encoders see colour coarsely, so its two channels are kept at half the side: half the basis for nothing
# seen.


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


# --- Finishing -------------------------------------------------------------------------------------------
# The finishing touch: a few small convolutions that take the ringing of principal components off a drawing.
#
# They learnt the way from a training drawing's few hundred numbers back to the drawing itself
# (``research.drawing.networks``); they see no words. NumPy only.


#: Steps between the cells that a kernel of 3 × 3 sees, layer by layer, and channels.
SPACING = (1, 2, 4, 1)
CHANNELS = (3, 32, 32, 32, 3)


def apply(weights: Mapping[str, Floats], pixels: Floats) -> Floats:
    """Drawings float32 [n, 64, 64, 3] in -1..1 to the same, finished."""
    x = pixels
    for number, spacing in enumerate(SPACING):
        x = _convolved(x, weights[f"{number}.weight"], weights[f"{number}.bias"], spacing)
        if number < len(SPACING) - 1:
            x = x / (1 + np.exp(-np.clip(x, -60, 60)))
    finished: Floats = pixels + x
    return finished


def _convolved(x: Floats, weight: Floats, bias: Floats, spacing: int) -> Floats:
    """``weight`` [out, in, 3, 3], zeros beyond the border, as torch's ``conv2d``."""
    side = x.shape[1]
    padded = np.pad(x, ((0, 0), (spacing, spacing), (spacing, spacing), (0, 0)))
    found = np.broadcast_to(bias, (*x.shape[:3], len(bias))).astype(np.float32)
    for row in range(3):
        for column in range(3):
            down, right = row * spacing, column * spacing
            found += padded[:, down : down + side, right : right + side] @ weight[:, :, row, column].T
    return found
