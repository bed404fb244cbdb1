"""Sentences of many languages: what MiniLM says of them, which reads English best, beside what E5 says.

A space that is made for it (``ml.alignment.tower_space``) tells by the second half whether the first is to be believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml.encoders import e5
from ml.encoders.base import Encoder, Vectors
from ml.encoders.minilm import MiniLM

#: How many of a vector's numbers are MiniLM's.
FIRST = MiniLM.dimension


class Multilingual(Encoder):
    """Texts to 768 numbers, each half of norm 1."""

    id = "multilingual"
    modality = "text"

    def __init__(self, english: Encoder, many: Encoder) -> None:
        self._encoders = english, many
        self.dimension = english.dimension + many.dimension
        self.device = english.device
        self.version = f"{english.version}+{many.version}"

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 768]."""
        texts = list(batch)
        return np.concatenate([encoder.encode(texts) for encoder in self._encoders], axis=1)


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored. Raises EncoderUnavailable without E5's package."""
    many = e5.load("")  # first: it may be missing
    return Multilingual(MiniLM(), many)
