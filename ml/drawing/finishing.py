"""The finishing touch: a few small convolutions that take the ringing of principal components off a drawing.

They learnt the way from a training drawing's few hundred numbers back to the drawing itself
(``research.drawing.networks``); they see no words. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

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
