"""What the drawing model learns, in torch: its basis, the network that draws and the finishing convolutions.

``ml.drawing`` has the same in NumPy, which is what the platform draws with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from ml.drawing.network import CHANNELS, EPSILON, SPACING, TIMES, Basis, Pixels, Shape, planes
from ml.drawing.packing import FORMAT, SCALES

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

#: Components are divided by their spread to this power: between keeping the energy (0) and whitening (1).
WHITENING = 0.6
#: Noise on the latents while the finishing is learnt, as generated ones are never quite right.
NOISE = 0.1


def fit_basis(pixels: Pixels, dimension: int, seed: int = 0) -> Basis:
    """The basis of drawings [n, 64, 64, 3], n > dimension; latents have an RMS of about 1 over all of them."""
    from sklearn.utils.extmath import randomized_svd

    rows = planes(pixels)
    mean = rows.mean(axis=0)
    _, values, components = randomized_svd(rows - mean, dimension, n_iter=4, random_state=seed)
    spread = values / np.sqrt(len(rows))
    scale = spread**WHITENING
    scale *= np.sqrt(np.mean((spread / scale) ** 2))
    return Basis(components.astype(np.float32), mean.astype(np.float32), scale.astype(np.float32))


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
                inner = norm(h, h.shape[1:], eps=EPSILON) * (1 + scale) + shift
                h = h + (1 + gate) * second(silu(first(inner)))
            out: torch.Tensor = self.leave(norm(h, h.shape[1:], eps=EPSILON))
            return out

    return Flow


def train_finishing(
    pixels: Pixels,
    basis: Basis,
    *,
    steps: int = 600,
    batch: int = 24,
    seed: int = 0,
    say: Callable[..., None],
) -> dict[str, Floats]:
    """Weights of ``ml.drawing.network`` by name, from the training drawings [n, 64, 64, 3]; mean absolute error."""
    import torch

    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    layers = finishing_layers()
    optimizer = torch.optim.Adam(layers.parameters(), 2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - 0.95 * step / steps)
        chosen = pixels[chance.integers(len(pixels), size=batch)]
        latents = basis.encode(chosen)
        rough = basis.rough(latents + NOISE * chance.standard_normal(latents.shape, np.float32))
        x, wanted = (channels_first(part) for part in (rough, chosen.astype(np.float32) / 127.5 - 1))
        loss = (x + layers(x) - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            say("fine", step=step, error=float(loss.detach()), before=float((x - wanted).abs().mean()))
    convolutions = [layer for layer in layers if hasattr(layer, "weight")]
    return {
        f"{number}.{name}": value.detach().numpy().copy()
        for number, layer in enumerate(convolutions)
        for name, value in layer.named_parameters()
    }


def finishing_layers() -> Any:
    """The torch module that ``ml.drawing.network.apply`` repeats in NumPy."""
    from torch import nn

    layers: list[Any] = []
    for number, spacing in enumerate(SPACING):
        sizes = CHANNELS[number], CHANNELS[number + 1]
        layers += [nn.Conv2d(*sizes, 3, padding=spacing, dilation=spacing), nn.SiLU()]
    nn.init.zeros_(layers[-2].weight)
    return nn.Sequential(*layers[:-1])


def channels_first(pixels: Floats) -> Any:
    """Channels first, as torch has them."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def pack(
    path: Path,
    weights: Mapping[str, Floats],
    basis: Basis,
    about: Mapping[str, Any],
    fine: Mapping[str, Floats] | None = None,
    names: Floats | None = None,
) -> int:
    """Write the file; its size in bytes. Equal weights give equal bytes."""
    named = {f"flow.{name}": value for name, value in weights.items()}
    named |= {f"fine.{name}": value for name, value in (fine or {}).items()}
    named |= {f"basis.{name}": value for name, value in vars(basis).items()}
    if names is not None:
        named["names"] = names
    arrays: dict[str, NDArray[Any]] = {}
    for name in sorted(named):
        arrays |= _small(name, named[name])
    content = save(arrays, {"format": FORMAT, "about": json.dumps(dict(about), sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content)


def _small(name: str, value: Floats) -> dict[str, NDArray[Any]]:
    if value.ndim != 2:
        return {name: np.ascontiguousarray(value, np.float32)}
    scales = np.maximum(np.abs(value).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
    # In C order: the file has an array's bytes as they lie in memory, and components come in another order.
    return {name: np.ascontiguousarray(np.rint(value / scales), np.int8), name + SCALES: scales}
