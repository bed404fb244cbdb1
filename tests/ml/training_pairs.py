"""Pairs as encoders might have seen them: a few numbers hide behind both sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from ml.training.shards import Pair

WORDS = ("red", "blue", "small", "old", "round", "wet", "loud", "cold", "green", "tall")
NOUNS = ("dog", "boat", "house", "tree", "car", "cup", "bird", "road", "ball", "hat", "horse", "bench")

#: So many that no two pictures are nearly the same.
HIDDEN = 48


def halves(values: Any) -> Any:
    return np.asarray(values).astype(np.float16)


def pairs(count: int, seed: int = 0, captions: int = 2, features: int = 24) -> list[Pair]:
    """Different pairs, one picture a group, no split declared."""
    random = np.random.default_rng(seed)
    to_text, to_classes, to_features = (random.normal(size=(HIDDEN, size)) for size in (384, 1000, features))
    return [_pair(row, random, captions, to_text, to_classes, to_features) for row in range(count)]


def _pair(row: int, random: Any, captions: int, to_text: Any, to_classes: Any, to_features: Any) -> Pair:
    hidden = random.normal(size=HIDDEN)
    said = hidden + random.normal(0, 0.4, (captions, HIDDEN))
    seen = hidden + random.normal(0, 0.4, HIDDEN)
    text = said @ to_text
    classes = np.exp(0.25 * seen @ to_classes)
    words = [
        f"a {random.choice(WORDS)} {random.choice(NOUNS)} number {row}, seen {time} times"
        for time in range(captions)
    ]
    return Pair(
        key=f"k{row}",
        group=f"g{row}",
        split="",
        captions=tuple(words),
        text=halves(text / np.linalg.norm(text, axis=1, keepdims=True)),
        text_colours=halves(np.zeros((captions, 11))),
        probabilities=halves(classes / classes.sum()),
        features=halves(seen @ to_features),
        colours=halves(random.normal(size=11)),
    )
