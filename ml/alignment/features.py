"""What the encoders say before any space is chosen: one encode serves every space that is made of the same encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml.alignment.numerics import unit

Floats = NDArray[np.float32]
Index = NDArray[Any] | slice | Sequence[int]


#: Channels of an EfficientNet-Lite's last layer.
HEAD = 1280


def described(pooled: Floats) -> Floats:
    """Pooled activations [n, HEAD + b] as features: two blocks of norm 1 each.

    The last layer's are square roots, or a few channels would drown the rest (they are never negative); the b
    channels before it say what the last layer was not trained to keep.
    """
    last = unit(np.sqrt(np.maximum(pooled[:, :HEAD], 0.0)))
    return np.concatenate([last, unit(pooled[:, HEAD:])], axis=1).astype(np.float32)


class _Columns:
    """Arrays of as many rows each."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def rows(self, index: Index) -> Self:
        """Some of the rows, by slice, numbers or mask."""
        return type(self)(**{name: values[index] for name, values in vars(self).items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of all ``parts``, at least one, in order."""
        names = vars(parts[0])
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in names})


@dataclass(frozen=True)
class ImageFeatures(_Columns):
    """Pictures as the image encoders saw them."""

    probabilities: (
        Floats  #: [n, 1000] of the ImageNet classes, the mean over the encoders; [n, 0] where none names any
    )
    features: Floats  #: [n, F] what the networks saw before they named it, one encoder after the other
    colours: Floats  #: [n, 11] how much more of each colour than usual


@dataclass(frozen=True)
class TextFeatures(_Columns):
    """Texts as the text encoder read them."""

    vectors: Floats  #: [n, d], d is 384 for MiniLM
    colours: Floats  #: [n, 11] which colours they name
