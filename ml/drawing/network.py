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
