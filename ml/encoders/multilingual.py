"""Sentences of many languages: what MiniLM and its student for Chinese say of them, beside what E5 says.

A space that is made for it (``ml.alignment.tower_space``) tells by the second half whether the first is to be believed.
Words the student knows better than E5, and sentences E5: of a long Chinese text the first half is zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml.encoders import e5
from ml.encoders._scripts import chinese_parts
from ml.encoders.base import Encoder, Vectors, as_text
from ml.encoders.bilingual import Bilingual

#: How many of a vector's numbers are those of the encoder for English and Chinese.
FIRST = Bilingual.dimension


#: Chinese characters of a text that the student reads; it learnt from words and phrases.
MOST_CHINESE = 6


class Multilingual(Encoder):
    """Texts to 768 numbers, each half of norm 1, or the first one of zeros."""

    id = "multilingual"
    modality = "text"

    def __init__(self, few: Encoder, many: Encoder) -> None:
        self._encoders = few, many
        self.dimension = few.dimension + many.dimension
        self.device = few.device
        self.version = f"{few.version}-{MOST_CHINESE}+{many.version}"

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 768]."""
        texts = list(batch)
        halves = [encoder.encode(texts) for encoder in self._encoders]
        halves[0][[_is_long_chinese(as_text(text)) for text in texts]] = 0
        return np.concatenate(halves, axis=1)


def _is_long_chinese(text: str) -> bool:
    parts = chinese_parts(text)
    return parts is not None and sum(map(len, parts.runs)) > MOST_CHINESE


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored. Raises EncoderUnavailable without E5's package."""
    many = e5.load("")  # first: it may be missing
    return Multilingual(Bilingual(), many)
