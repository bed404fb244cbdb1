"""How hard a new index must look: recall and cost measured on sample queries, never assumed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ml.indexes import exact
from ml.indexes.base import Mask, Vectors
from ml.indexes.files import Effort
from ml.indexes.kinds.base import Kind

#: Recall is measured on the ten best, the length of a page of results.
TOP = 10

#: Queries that a measurement takes: at 0.99 the standard error of recall@10 is then about 0.2 %.
QUERIES = 512

#: The effort is chosen by this sample, so on other queries it does a little worse: that much of what may be
#: missed is kept in hand. At a target of 0.99 the sample must show 0.9925.
MARGIN = 0.25

#: Up to so many allowed rows are searched exactly: no index is much cheaper, and none is sure to be right. Of a
#: million rows 10,000 at random cost 1 ms, 40,000 cost 7 and 100,000 cost 17 (they are no longer in any cache),
#: where cells cost 5.
EXACT_ROWS = 25_000

#: A filter that leaves out fewer than a tenth changes nothing worth another effort: a tenant's tombstones.
SLACK = 0.9

#: What a search without a filter may cost at most, in cpu ms and as a share of what exact search costs. The
#: last rung of the ladder may cost more, because after it there is nothing else to try.
LIMIT_MS = 1.0
LIMIT_SHARE = 1 / 16
LAST_LIMIT_SHARE = 1 / 2

#: Scores this close are one: sums of 256 products in another order.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """Queries [q, d] under one mask, the score [q] of the last of their ``top`` true best, and what exact search
    over the allowed rows costs in cpu ms."""

    mask: Mask | None
    queries: Vectors
    top: int
    worst: Vectors
    exact_ms: float

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors, mask: Mask | None = None) -> Self:
        top = min(TOP, len(vectors) if mask is None else int(np.count_nonzero(mask)))
        scores, _ = exact.nearest(vectors, queries, top, mask)
        return cls(mask, queries, top, scores[:, -1], _exact_ms(vectors, queries, mask))

    def measure(self, index: Kind, effort: int) -> tuple[float, float]:
        """Recall and cpu ms a query. An answer that is too short counts as an exact one, which it becomes.

        Rows are judged by their score, so that any of several equal ones is right.
        """
        hits, short, started = 0, 0, time.thread_time()
        for query, worst in zip(self.queries, self.worst, strict=True):
            scores, _ = index.search(query, self.top, effort, self.mask)
            if len(scores) < self.top:
                short += 1
            else:
                hits += int(np.count_nonzero(scores >= worst - _TOLERANCE))
        spent = time.thread_time() - started
        count = len(self.queries)
        return (hits / self.top + short) / count, (1000 * spent + short * self.exact_ms) / count


@dataclass(frozen=True)
class Bench:
    """Cases by share of rows allowed, from 1 down."""

    cases: dict[float, tuple[Case, ...]]

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors) -> Self:
        """Shares go by halves to where exact search takes over. At each, half of the queries meet a random
        mask and half one that keeps to a side of the space, as a modality or a category does."""
        cases: dict[float, tuple[Case, ...]] = {1.0: (Case.of(vectors, queries),)}
        share = 0.5
        while share * len(vectors) > EXACT_ROWS:
            masks = _random_mask(vectors, share), _side_mask(vectors, share)
            cases[share] = tuple(
                Case.of(vectors, queries[place::2], mask) for place, mask in enumerate(masks)
            )
            share /= 2
        return cls(cases)

    def exact_ms(self, share: float) -> float:
        """The mean cost of exact search at that share, cpu ms."""
        costs = [case.exact_ms for case in self.cases[share]]
        return sum(costs) / len(costs)

    def measure(self, index: Kind, share: float, effort: int) -> Effort:
        """The worse recall of the share's cases, and their mean cost."""
        measured = [case.measure(index, effort) for case in self.cases[share]]
        recalls, costs = zip(*measured, strict=True)
        return Effort(share, effort, min(recalls), sum(costs) / len(costs))

    def cheapest(self, index: Kind, share: float, target: float) -> Effort:
        """The least effort that meets the target with some in hand, else the greatest. Halves the range."""
        efforts, wanted = list(index.efforts), target + MARGIN * (1 - target)
        low, high, best = 0, len(efforts) - 1, None
        while low < high:
            middle = (low + high) // 2
            tried = self.measure(index, share, efforts[middle])
            if tried.recall >= wanted:
                high, best = middle, tried
            else:
                low = middle + 1
        return best if best and best.effort == efforts[low] else self.measure(index, share, efforts[low])


def efforts_of(bench: Bench, index: Kind, target: float, *, last: bool) -> tuple[Effort, tuple[Effort, ...]]:
    """The effort without a filter, and the whole table: empty when this index does not meet the target.

    At a share where exact search over the allowed rows is cheaper, or where the target is out of reach, the
    table says 0: exact.
    """
    first = bench.cheapest(index, 1.0, target)
    limit = max(LIMIT_MS, bench.exact_ms(1.0) * (LAST_LIMIT_SHARE if last else LIMIT_SHARE))
    if first.recall < target or first.ms > limit:
        return first, ()
    rest = [_worthwhile(bench, index, share, target) for share in bench.cases if share < 1]
    return first, (first, *rest)


def _worthwhile(bench: Bench, index: Kind, share: float, target: float) -> Effort:
    tried, exact_ms = bench.cheapest(index, share, target), bench.exact_ms(share)
    return tried if tried.recall >= target and tried.ms <= exact_ms else Effort(share, 0, 1.0, exact_ms)


def exact_efforts(bench: Bench) -> tuple[Effort, ...]:
    """The table of a generation without an index: exact at every share, at its cost."""
    return tuple(Effort(share, 0, 1.0, bench.exact_ms(share)) for share in bench.cases)


def effort_for(table: Sequence[Effort], share: float) -> Effort | None:
    """The row of the greatest share that is not well above ``share``; None below all of them: exact."""
    return next((row for row in table if row.share * SLACK <= share), None)


def sample_queries(vectors: Vectors, given: Vectors | None) -> Vectors:
    """At most QUERIES of the given ones, filled up with stored rows moved away from where they are stored.

    A stored row itself finds itself at any effort, so half of the made ones carry noise and half lie between
    two rows. All have norm 1. In random order.
    """
    random = np.random.default_rng(0)
    real = np.empty((0, vectors.shape[1]), np.float32) if given is None else np.asarray(given, np.float32)
    real = real[random.permutation(len(real))[:QUERIES]]
    made = _made_queries(vectors, QUERIES - len(real), random)
    return random.permutation(np.vstack([real, made]).astype(np.float32))


def _made_queries(vectors: Vectors, count: int, random: np.random.Generator) -> Vectors:
    rows, others = random.integers(len(vectors), size=(2, count))
    noise = random.standard_normal((count, vectors.shape[1]), np.float32) / np.sqrt(vectors.shape[1])
    between = random.random((count, 1)) < 0.5
    moved = vectors[rows] + np.where(between, 0.7 * vectors[others] + 0.05 * noise, 0.5 * noise)
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def _random_mask(vectors: Vectors, share: float) -> Mask:
    return np.random.default_rng(1).random(len(vectors), np.float32) < share


def _side_mask(vectors: Vectors, share: float) -> Mask:
    """The rows that lie farthest along the direction of one of them."""
    side = vectors[np.random.default_rng(2).integers(len(vectors))]
    along = np.vecdot(vectors, side)
    mask = np.zeros(len(vectors), np.bool_)
    mask[np.argpartition(-along, int(share * len(vectors)))[: int(share * len(vectors))]] = True
    return mask


def _exact_ms(vectors: Vectors, queries: Vectors, mask: Mask | None) -> float:
    """Cpu ms of one exact search; the best of three, because the first one reads the file."""
    times = []
    for query in np.ascontiguousarray(queries[:3]):
        started = time.thread_time()
        if mask is None:
            exact.search_all(vectors, query, TOP)
        else:
            exact.search_rows(vectors, query, TOP, np.flatnonzero(mask))
        times.append(time.thread_time() - started)
    return 1000 * min(times)
