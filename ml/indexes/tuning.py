"""How hard a new index must look: recall and cost measured on sample queries, never assumed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ml.indexes import exact
from ml.indexes.base import Mask, Vectors
from ml.indexes.kinds.base import Kind
from ml.indexes.manifest import Effort

#: Recall is measured on the ten best, the length of a page of results.
TOP = 10

#: Queries that a measurement takes: at 0.99 the standard error of recall@10 is then about 0.3 %.
QUERIES = 256

#: Up to so many allowed rows are searched exactly: no index is cheaper, and none is sure to be right.
EXACT_ROWS = 50_000

#: What a search without a filter may cost at most, in cpu ms and as a share of what exact search costs. The
#: last rung of the ladder may cost more, because after it there is nothing else to try.
LIMIT_MS = 1.0
LIMIT_SHARE = 1 / 16
LAST_LIMIT_SHARE = 1 / 2

#: Scores this close are one: sums of 256 products in another order.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Bench:
    """Queries [q, d], what is exactly nearest to them under masks of several shares, and what exact costs."""

    queries: Vectors
    shares: tuple[float, ...]
    masks: tuple[Mask | None, ...]
    worst: tuple[Vectors, ...]
    found: tuple[int, ...]
    exact_ms: float

    @classmethod
    def of(cls, vectors: Vectors, queries: Vectors) -> Self:
        """Masks are random and go from all rows down, by halves, to where exact search takes over."""
        halves = range(1, max(1, len(vectors)).bit_length())
        shares = (1.0, *(share for i in halves if (share := 0.5**i) * len(vectors) > EXACT_ROWS))
        random = np.random.default_rng(1)
        masks = [None, *(random.random(len(vectors), np.float32) < share for share in shares[1:])]
        top = min(TOP, len(vectors))
        worst = tuple(scores[:, -1] for scores, _ in exact.nearest(vectors, queries, top, masks))
        return cls(queries, shares, tuple(masks), worst, (top,) * len(masks), _exact_ms(vectors, queries))

    def measure(self, index: Kind, place: int, effort: int) -> Effort:
        """Recall@10 and cpu ms of one effort at one share."""
        hits, started = 0, time.thread_time()
        for query, worst in zip(self.queries, self.worst[place], strict=True):
            scores, _ = index.search(query, self.found[place], effort, self.masks[place])
            hits += int(np.count_nonzero(scores >= worst - _TOLERANCE))
        spent = time.thread_time() - started
        recall = hits / (len(self.queries) * self.found[place])
        return Effort(self.shares[place], effort, recall, 1000 * spent / len(self.queries))

    def cheapest(self, index: Kind, place: int, target: float) -> Effort:
        """The least effort that meets the target, or the greatest there is. Halves the range at each step."""
        efforts = list(index.efforts)
        low, best = 0, self.measure(index, place, efforts[-1])
        high = len(efforts) - 1
        if best.recall < target:
            return best
        while low < high:
            middle = (low + high) // 2
            tried = self.measure(index, place, efforts[middle])
            if tried.recall >= target:
                high, best = middle, tried
            else:
                low = middle + 1
        return best


def efforts_of(bench: Bench, index: Kind, target: float, *, last: bool) -> tuple[Effort, tuple[Effort, ...]]:
    """The effort without a filter, and the whole table: empty when this index does not meet the target.

    At a share where exact search over the allowed rows is cheaper, or where the target is out of reach, the
    table says 0: exact.
    """
    first = bench.cheapest(index, 0, target)
    limit = max(LIMIT_MS, bench.exact_ms * (LAST_LIMIT_SHARE if last else LIMIT_SHARE))
    if first.recall < target or first.ms > limit:
        return first, ()
    table = [first]
    for place, share in enumerate(bench.shares[1:], 1):
        exact_ms = bench.exact_ms * share
        tried = bench.cheapest(index, place, target)
        cheap = tried.recall >= target and tried.ms <= exact_ms
        table.append(tried if cheap else Effort(share, 0, 1.0, exact_ms))
    return first, tuple(table)


def effort_for(table: Sequence[Effort], share: float) -> Effort | None:
    """The row measured at the greatest share that is not above ``share``; None below all of them: exact."""
    return next((row for row in table if row.share <= share), None)


def sample_queries(vectors: Vectors, given: Vectors | None) -> Vectors:
    """At most QUERIES of the given ones, filled up with stored rows moved away from where they are stored.

    A stored row itself finds itself at any effort, so half of the made ones carry noise and half lie between
    two rows. All have norm 1.
    """
    random = np.random.default_rng(0)
    real = np.empty((0, vectors.shape[1]), np.float32) if given is None else np.asarray(given, np.float32)
    if len(real) > QUERIES:
        real = real[np.sort(random.choice(len(real), QUERIES, replace=False))]
    wanted = QUERIES - len(real)
    if not wanted:
        return np.ascontiguousarray(real)
    rows, others = random.integers(len(vectors), size=(2, wanted))
    noise = random.standard_normal((wanted, vectors.shape[1]), np.float32) / np.sqrt(vectors.shape[1])
    between = np.arange(wanted) % 2 == 0
    moved = vectors[rows] + np.where(between[:, None], 0.7 * vectors[others], 0.5 * noise)
    moved += 0.05 * noise
    return np.vstack([real, moved / np.linalg.norm(moved, axis=1, keepdims=True)]).astype(np.float32)


def _exact_ms(vectors: Vectors, queries: Vectors) -> float:
    """Cpu ms of one exact search over all rows; the best of three, because the first one reads the file."""
    times = []
    for query in queries[:3]:
        started = time.thread_time()
        exact.search_all(vectors, np.ascontiguousarray(query), TOP)
        times.append(time.thread_time() - started)
    return 1000 * min(times)
