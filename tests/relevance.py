"""A calibration to test with, and vectors that have some score for words that are searched."""

from __future__ import annotations

import numpy as np

from ml.alignment.relevance import Curve, Relevance
from tenants.retrieval.query import encoding

WORDS = "two ripe apples"
#: At a score of .2 a picture is as likely right as wrong, at .6 a text is.
RELEVANCE = Relevance(
    0.5,
    0.8,
    {
        ("text", "image"): Curve(40.0, 0.2),
        ("text", "text"): Curve(20.0, 0.6),
        ("image", "image"): Curve(20.0, 0.7),
        ("image", "text"): Curve(40.0, 0.2),
    },
)


def at_score(score: float, seed: int = 0) -> np.ndarray:
    """A vector of norm 1 whose inner product with that of WORDS is `score`."""
    query = encoding.space().embed_texts([WORDS])[0]
    other = np.random.default_rng(seed).normal(size=len(query)).astype(np.float32)
    other -= (other @ query) * query
    return (score * query + np.sqrt(1 - score**2) * other / np.linalg.norm(other)).astype(np.float32)
