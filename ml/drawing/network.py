"""The network that draws: from a noisy latent, a time and what is wished, the way to the drawing. In torch to train
(``Flow``), in NumPy to draw (``flow_of``): the platform draws without loading torch.

Residual blocks whose scale, shift and gate come from the wish (adaptive layer norm: Peebles & Xie 2023,
arXiv:2212.09748), trained as a rectified flow (Liu et al. 2023, arXiv:2209.03003).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

#: Sines and cosines that say the time.
TIMES = 64
_EPSILON = 1e-5


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


@cache
def flow_class() -> type[Any]:
    """The torch module; built on first use, so that importing this file loads no torch."""
    import torch
    from torch import nn

    class Flow(nn.Module):
        """``forward(latents [n, d], times [n], wishes [n, w])`` gives velocities [n, d]."""

        def __init__(self, shape: Shape) -> None:
            super().__init__()
            self.wish_in = nn.Linear(shape.wish + TIMES, shape.hidden)
            self.wish_out = nn.Linear(shape.hidden, shape.wished)
            self.enter = nn.Linear(shape.latent, shape.hidden)
            self.modulate = nn.ModuleList(
                nn.Linear(shape.wished, 3 * shape.hidden) for _ in range(shape.blocks)
            )
            self.first = nn.ModuleList(nn.Linear(shape.hidden, shape.hidden) for _ in range(shape.blocks))
            self.second = nn.ModuleList(nn.Linear(shape.hidden, shape.hidden) for _ in range(shape.blocks))
            self.leave = nn.Linear(shape.hidden, shape.latent)
            for layer in (*self.modulate, self.leave):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            self.register_buffer(
                "waves", torch.exp(torch.linspace(0, float(np.log(1000)), TIMES // 2)), persistent=False
            )

        def forward(self, x: torch.Tensor, times: torch.Tensor, wishes: torch.Tensor) -> torch.Tensor:
            silu, norm = nn.functional.silu, nn.functional.layer_norm
            waves: Any = self.waves
            angles = times[:, None] * waves
            wished = torch.cat([wishes, torch.sin(angles), torch.cos(angles)], 1)
            c = silu(self.wish_out(silu(self.wish_in(wished))))
            h = self.enter(x)
            for modulate, first, second in zip(self.modulate, self.first, self.second, strict=True):
                scale, shift, gate = modulate(c).chunk(3, 1)
                inner = norm(h, h.shape[1:], eps=_EPSILON) * (1 + scale) + shift
                h = h + (1 + gate) * second(silu(first(inner)))
            out: torch.Tensor = self.leave(norm(h, h.shape[1:], eps=_EPSILON))
            return out

    return Flow


def flow_of(weights: Mapping[str, Floats]) -> Callable[[Floats, Floats, Floats], Floats]:
    """The same in NumPy, from the module's state dict."""
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
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + _EPSILON)
