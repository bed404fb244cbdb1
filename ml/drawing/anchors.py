"""Words in terms of what was learnt: a prompt becomes a mixture of the learnt names nearest to it.

A network that saw some 800 names does not know what lies between them: asked for "ox" it draws a blur of many things,
asked for a mixture of "water buffalo" and "cow" it draws something with horns. Names that were learnt stay themselves.
Colour words stay as they were said.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.alignment import layout
from ml.alignment.numerics import unit
from ml.drawing.conditioning import TEXT

Floats = NDArray[np.float32]

#: How fast the share of a name falls with its distance (cosine, about the mean name). Chosen on concepts that neither
#: teach nor test (`PARTS=choices make bench-generation`).
SHARPNESS = 0.01
_COLOURS = slice(TEXT + layout.COLOURS.start, TEXT + layout.COLOURS.stop)


def anchored(words: Floats, names: Floats, sharpness: float = SHARPNESS) -> Floats:
    """Words [n, PROMPT] by the words of the learnt names [m, PROMPT]; without names, as they are."""
    if not len(words) or not len(names):
        return words
    mean = names[:, :TEXT].mean(axis=0)
    near = unit(words[:, :TEXT] - mean) @ unit(names[:, :TEXT] - mean).T / sharpness
    shares = np.exp(near - near.max(axis=1, keepdims=True))
    mixed = (shares / shares.sum(axis=1, keepdims=True)) @ names
    mixed[:, _COLOURS] = words[:, _COLOURS]
    return mixed.astype(np.float32)
