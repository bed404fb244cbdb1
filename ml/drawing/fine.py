"""The finishing touch: a few small convolutions that take the ringing of principal components off a drawing.

They learn the way from a training drawing's few hundred numbers back to the drawing itself; they see no words. In torch
to train, in NumPy to draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.drawing.latent import Basis, Pixels

Floats = NDArray[np.float32]

#: Steps between the cells that a kernel of 3 × 3 sees, layer by layer, and channels.
SPACING = (1, 2, 4, 1)
CHANNELS = (3, 32, 32, 32, 3)
#: Noise on the latents, as generated ones are never quite right.
NOISE = 0.1


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


def trained(
    pixels: Pixels,
    basis: Basis,
    *,
    steps: int = 600,
    batch: int = 24,
    seed: int = 0,
    say: Callable[..., None],
) -> dict[str, Floats]:
    """Weights by name, from the training drawings [n, 64, 64, 3]; mean absolute error."""
    import torch

    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    layers = _layers()
    optimizer = torch.optim.Adam(layers.parameters(), 2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - 0.95 * step / steps)
        chosen = pixels[chance.integers(len(pixels), size=batch)]
        latents = basis.encode(chosen)
        rough = basis.rough(latents + NOISE * chance.standard_normal(latents.shape, np.float32))
        x, wanted = (_first(part) for part in (rough, chosen.astype(np.float32) / 127.5 - 1))
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


def _layers() -> Any:
    from torch import nn

    layers: list[Any] = []
    for number, spacing in enumerate(SPACING):
        sizes = CHANNELS[number], CHANNELS[number + 1]
        layers += [nn.Conv2d(*sizes, 3, padding=spacing, dilation=spacing), nn.SiLU()]
    nn.init.zeros_(layers[-2].weight)
    return nn.Sequential(*layers[:-1])


def _first(pixels: Floats) -> Any:
    """Channels first, as torch has them."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
