"""Ranks, recall with its uncertainty, and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CUTS = (1, 5, 10)
RESAMPLES = 1000
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


def ranks(scores: Array, wanted: list[list[int]]) -> Array:
    """For each query the rank (0 is best) of its best wanted item; ties count against it."""
    best = [scores[row, items].max() for row, items in enumerate(wanted)]
    rivals = scores.copy()
    for row, items in enumerate(wanted):
        rivals[row, items] = -np.inf
    return (rivals >= np.array(best)[:, None]).sum(axis=1)


def recall(scores: Array, wanted: list[list[int]], groups: Array | None = None) -> Recall:
    """``groups``: queries with the same number (five captions of a photo) are resampled together."""
    return recall_of_ranks(ranks(scores, wanted), scores.shape[1], groups)


def recall_of_ranks(found: Array, pool: int, groups: Array | None = None) -> Recall:
    groups = np.arange(len(found)) if groups is None else groups
    hits = np.stack([found < cut for cut in CUTS], axis=1).astype(float)
    spread = _bootstrap(hits, groups)
    return Recall(pool, len(found), tuple(100 * hits.mean(axis=0)), tuple(100 * Z95 * spread))


def _bootstrap(hits: Array, groups: Array) -> Array:
    """Standard deviation of the mean over resampled groups (of about equal size)."""
    _, index = np.unique(groups, return_inverse=True)
    sizes = np.bincount(index)
    sums = np.stack([np.bincount(index, column) for column in hits.T], axis=1)
    random = np.random.default_rng(0)
    picks = random.integers(0, len(sizes), (RESAMPLES, len(sizes)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1, keepdims=True)
    return means.std(axis=0)


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
