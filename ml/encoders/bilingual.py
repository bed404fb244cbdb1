"""Chinese and English in one space: MiniLM for all that is not Chinese, its student for what is.

Texts without Chinese characters get exactly MiniLM's vectors. Mixed texts (红色 iPhone 手机壳) get the mean of both
readings, each weighted by its share of the text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml.encoders._chinese import load_student
from ml.encoders._scripts import Parts, chinese_parts
from ml.encoders.base import Encoder, Vectors, as_text
from ml.encoders.minilm import MiniLM


class Bilingual(Encoder):
    """Sentences to 384-d unit vectors. Japanese and Korean texts are read as MiniLM reads them."""

    id = "bilingual"
    modality = "text"
    dimension = MiniLM.dimension

    def __init__(self, english: Encoder | None = None) -> None:
        """``english``: a MiniLM that was tuned and stayed near what it was, as the student knows only that."""
        self._english = english or MiniLM()
        self._chinese = load_student()
        self.device = self._english.device
        self.version = f"{self._english.version}+{self._chinese.version}"

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 384], rows of norm 1."""
        vectors = np.empty((len(batch), self.dimension), np.float32)
        for row, text in enumerate(batch):
            vectors[row] = self._encode_one(as_text(text))
        return vectors

    def _encode_one(self, text: str) -> Vectors:
        parts = chinese_parts(text)
        if parts is None:
            return self._english.encode([text])[0]
        chinese = self._chinese.read(parts.runs)
        return self._mixed(chinese, parts) if parts.rest else chinese

    def _mixed(self, chinese: Vectors, parts: Parts) -> Vectors:
        vector = parts.share * chinese + (1 - parts.share) * self._english.encode([parts.rest])[0]
        mixed: Vectors = vector / np.linalg.norm(vector)
        return mixed


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored."""
    return Bilingual()
