"""Where the time of a text query goes inside the library, warm, one query at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _report import sized
from tokenizers import Tokenizer

from ml.alignment.colours import colour_words
from ml.alignment.features import TextFeatures
from ml.alignment.space import JointSpace
from ml.compression import find_model
from ml.encoders.base import Encoder
from ml.indexes.exact import FlatIndex

ASSETS = sized(20_000, 100)
ROUNDS = sized(200, 3)


def measure(space: JointSpace, encoder: Encoder, queries: list[str]) -> dict[str, float]:
    """Milliseconds, median over queries; ``encode`` is without the tokenising that it contains."""
    tokenizer = Tokenizer.from_file(str(find_model("minilm").path.with_name("minilm-tokenizer.json")))
    index = FlatIndex(space.dimension, _random_vectors(space.dimension))
    texts = [queries[number % len(queries)] for number in range(ROUNDS)]
    vectors = [encoder.encode([text]) for text in texts]
    readings = [
        TextFeatures(vector, colour_words([text])) for vector, text in zip(vectors, texts, strict=True)
    ]
    points = [space.project_text(reading)[0] for reading in readings]
    tokenise = _median(lambda n: tokenizer.encode(texts[n]))
    steps = {
        "tokenise": tokenise,
        "encode": max(0.0, _median(lambda n: encoder.encode([texts[n]])) - tokenise),
        "project": _median(lambda n: space.project_text(TextFeatures(vectors[n], colour_words([texts[n]])))),
        f"search {ASSETS} assets, exact": _median(lambda n: index.search(points[n], 10)),
    }
    return {name: round(value, 3) for name, value in (steps | {"sum": sum(steps.values())}).items()}


def _median(step: Callable[[int], Any]) -> float:
    spent = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        step(number)
        spent.append(time.perf_counter() - started)
    return 1000 * statistics.median(spent)


def _random_vectors(dimension: int) -> Any:
    rows = np.random.default_rng(0).normal(size=(ASSETS, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
