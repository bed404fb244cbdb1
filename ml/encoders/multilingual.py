"""Sentences of many languages: what MiniLM and its student for Chinese say of them, beside what E5 says.

A space that is made for it (``ml.alignment.tower_space``) tells by the second half whether the first is to be believed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml.encoders import e5
from ml.encoders.base import Encoder, Vectors
from ml.encoders.bilingual import Bilingual

#: How many of a vector's numbers are those of the encoder for English and Chinese.
FIRST = Bilingual.dimension


class Multilingual(Encoder):
    """Texts to 768 numbers, each half of norm 1."""

    id = "multilingual"
    modality = "text"

    def __init__(self, few: Encoder, many: Encoder) -> None:
        self._encoders = few, many
        self.dimension = few.dimension + many.dimension
        self.device = few.device
        self.version = f"{few.version}+{many.version}"

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 768]."""
        texts = list(batch)
        return np.concatenate([encoder.encode(texts) for encoder in self._encoders], axis=1)


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored. Raises EncoderUnavailable without E5's package."""
    many = e5.load("")  # first: it may be missing
    return Multilingual(Bilingual(), many)
