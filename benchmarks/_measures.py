"""Ranks, recall with its uncertainty, and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.training.metrics import CUTS, RESAMPLES, ranks, spread

__all__ = [
    "CUTS",
    "RESAMPLES",
    "Recall",
    "Table",
    "at_smaller_pool",
    "ndcg",
    "ranks",
    "recall",
    "recall_of_ranks",
    "spread",
]

Array = NDArray[Any]
Z95 = 1.96


@dataclass(frozen=True)
class Recall:
    """R@1/5/10 in percent with 95 % bootstrap half-widths, over queries that come in groups."""

    pool: int
    queries: int
    at: tuple[float, ...]
    half: tuple[float, ...]

    def text(self) -> str:
        return "  ".join(f"{value:5.1f} ±{half:3.1f}" for value, half in zip(self.at, self.half, strict=True))

    def json(self) -> dict[str, Any]:
        keys = [f"r{cut}" for cut in CUTS]
        rounded = {key: round(value, 2) for key, value in zip(keys, self.at, strict=True)}
        halves = {key: round(value, 2) for key, value in zip(keys, self.half, strict=True)}
        return {"pool": self.pool, "queries": self.queries, **rounded, "half_width_95": halves}


def recall(scores: Array, wanted: list[list[int]], groups: Array | None = None) -> Recall:
    """``groups``: queries with the same number (five captions of a photo) are resampled together."""
    return recall_of_ranks(ranks(scores, wanted), scores.shape[1], groups)


def recall_of_ranks(found: Array, pool: int, groups: Array | None = None) -> Recall:
    groups = np.arange(len(found)) if groups is None else groups
    hits = np.stack([found < cut for cut in CUTS], axis=1).astype(float)
    half = Z95 * spread(hits, groups)
    return Recall(pool, len(found), tuple(100 * hits.mean(axis=0)), tuple(100 * half))


def at_smaller_pool(found: Array, pool: int, smaller: int) -> list[float]:
    """R@1/5/10 expected if the pool had ``smaller`` items: each rival stays with that probability."""
    from scipy.stats import hypergeom

    return [float(100 * hypergeom.cdf(cut - 1, pool - 1, found, smaller - 1).mean()) for cut in CUTS]


def ndcg(scores: Array, gains: dict[int, dict[int, float]], cut: int = 10) -> float:
    """Mean nDCG@10 in percent; ``gains[query][item]``."""
    discounts = 1 / np.log2(np.arange(2, cut + 2))
    values = []
    for query, graded in gains.items():
        top = np.argsort(-scores[query], kind="stable")[:cut]
        ideal = sorted(graded.values(), reverse=True)[:cut]
        found = sum(graded.get(int(item), 0.0) * weight for item, weight in zip(top, discounts, strict=True))
        values.append(found / sum(gain * weight for gain, weight in zip(ideal, discounts, strict=False)))
    return float(100 * np.mean(values))


class Table:
    """One section: printed as it fills, kept for the JSON."""

    def __init__(self, title: str, note: str = "") -> None:
        self.rows: dict[str, Any] = {}
        print(f"\n{title}")
        if note:
            print(f"  {note}")
        print(f"  {'':44}{'pool':>6}{'queries':>9}   {'R@1':<12}{'R@5':<12}{'R@10':<12}")

    def add(self, label: str, value: Recall) -> None:
        print(f"  {label:44}{value.pool:>6}{value.queries:>9}   {value.text()}")
        self.rows[label] = value.json()
