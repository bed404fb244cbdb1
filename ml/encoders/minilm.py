"""all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; MIT): English sentences to 384-d unit vectors.

Dynamic INT8 on ONNX Runtime. Rows run one by one: dynamic quantisation takes its scale from the whole batch,
so a text's vector would depend on its neighbours, while a batch of 16 saves only a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from ml.compression.store import find_model
from ml.encoders._onnx import device_of, open_session
from ml.encoders.base import Encoder, Vectors, as_text

MAX_TOKENS = 256


class MiniLM(Encoder):
    """Mean-pooled MiniLM. Text beyond 256 tokens is cut; an empty text has a vector like any other."""

    id = "minilm"
    modality = "text"
    dimension = 384

    def __init__(self) -> None:
        model = find_model("minilm")
        self.version = model.version
        self._session = open_session(model.path)
        self.device = device_of(self._session)
        self._tokenizer = Tokenizer.from_file(str(model.path.with_name("minilm-tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 384], rows of norm 1."""
        vectors = np.empty((len(batch), self.dimension), np.float32)
        for row, text in enumerate(batch):
            vectors[row] = self._encode_one(as_text(text))
        return vectors

    def _encode_one(self, text: str) -> Vectors:
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        vectors: Vectors = self._session.run(None, feed)[0][0]
        return vectors


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored."""
    return MiniLM()
