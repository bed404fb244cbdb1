"""Figures of retrieval with their uncertainty. NumPy only.

Rates (``r1``, ``r5``, ``r10``, ``map``, ``mrr``) are shares of 1; ``median_rank`` counts from 1. Intervals are
bootstrapped over groups (Efron 1979), because the captions of one picture are not independent queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CUTS = (1, 5, 10)
RESAMPLES = 1000
#: Queries whose scores against the pool are held at once.
BLOCK = 512
#: Resamples whose weights are held at once.
CHUNK = 100


@dataclass(frozen=True)
class Ranking:
    """What each query of one ordered pair of modalities found: rows belong together."""

    ranks: Array  #: [q] of the best wanted item, 0 is best
    precision: Array  #: [q] average precision over all wanted items
    groups: Array  #: [q] queries of one group are resampled together
    pool: int  #: items searched


def search(
    queries: Array, items: Array, wanted: Sequence[Sequence[int]], groups: Array | None = None
) -> Ranking:
    """Inner products of [q, d] with [n, d]; ``wanted[row]`` are the right items of a query, at least one."""
    ranks, precision = np.empty(len(queries), np.int64), np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        ranks[rows], precision[rows] = _judged(queries[rows] @ items.T, wanted[rows])
    return Ranking(
        ranks, precision, np.arange(len(queries)) if groups is None else np.asarray(groups), len(items)
    )


def ranks(scores: Array, wanted: Sequence[Sequence[int]]) -> Array:
    """For each query [q, n] the rank (0 is best) of its best wanted item; ties count against it."""
    return _judged(scores, wanted)[0]


def figures(found: Ranking) -> dict[str, Any]:
    """Every figure of one ordered pair, with ``interval``: 95 % of the bootstrap, [low, high] by figure."""
    values = _values(found)
    result: dict[str, Any] = {"pool": found.pool, "queries": len(found.ranks), **_rounded(values)}
    drawn = _resampled(found, _all_figures)
    result["interval"] = {name: _interval(draws) for name, draws in drawn.items()}
    return result


def difference(one: Ranking, other: Ranking) -> dict[str, dict[str, Any]]:
    """``one`` minus ``other`` on the same queries, figure by figure, with the paired interval.

    ``relative`` is the difference as a share of the other's figure, None where that is 0.
    """
    if not np.array_equal(one.groups, other.groups):
        raise ValueError("only the same queries can be compared in pairs")
    mine, theirs = _values(one), _values(other)
    drawn, beside = _resampled(one, _all_figures), _resampled(other, _all_figures)
    return {name: _compared(mine[name], theirs[name], drawn[name] - beside[name]) for name in mine}


def spread(hits: Array, groups: Array) -> Array:
    """Standard deviation of the means of [q, k] over resampled groups: [k]."""
    columns = np.asarray(hits, float)
    draws = [weights @ columns / weights.sum(axis=1, keepdims=True) for weights in _weights(groups)]
    return np.concatenate(draws).std(axis=0)


def _judged(scores: Array, wanted: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    ranks, precision = np.empty(len(scores), np.int64), np.empty(len(scores))
    for row, items in enumerate(wanted):
        right = np.sort(scores[row, list(items)])[::-1]
        rivals = np.delete(scores[row], list(items))
        # A rival with the same score stands before: a model that says the same of everything finds nothing.
        places = (rivals[None, :] >= right[:, None]).sum(axis=1) + np.arange(len(right))
        ranks[row] = places[0]
        precision[row] = np.mean((np.arange(len(right)) + 1) / (places + 1))
    return ranks, precision


def _means(found: Ranking) -> Array:
    """What is averaged over queries: [q, 5]."""
    hits = [found.ranks < cut for cut in CUTS]
    return np.stack([*hits, found.precision, 1 / (found.ranks + 1)], axis=1).astype(float)


_MEANS = (*(f"r{cut}" for cut in CUTS), "map", "mrr")


def _values(found: Ranking) -> dict[str, float]:
    ones = np.ones((1, len(found.ranks)))
    return {name: float(draws[0]) for name, draws in _all_figures(found, ones).items()}


def _all_figures(found: Ranking, weights: Array) -> dict[str, Array]:
    """Figures under each row of query weights [r, q]: [r] by name."""
    means = weights @ _means(found) / weights.sum(axis=1, keepdims=True)
    order = np.argsort(found.ranks, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    middle = (reached >= reached[:, -1:] / 2).argmax(axis=1)
    return {**dict(zip(_MEANS, means.T, strict=True)), "median_rank": found.ranks[order][middle] + 1.0}


def _resampled(found: Ranking, figures: Callable[[Ranking, Array], dict[str, Array]]) -> dict[str, Array]:
    parts = [figures(found, weights) for weights in _weights(found.groups)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _weights(groups: Array) -> Iterator[Array]:
    """How often each query is drawn, CHUNK resamples of groups at a time: [CHUNK, q]. The same at every call."""
    _, index = np.unique(groups, return_inverse=True)
    count, random = int(index.max()) + 1, np.random.default_rng(0)
    for _ in range(RESAMPLES // CHUNK):
        picks = random.integers(0, count, (CHUNK, count))
        drawn = np.stack([np.bincount(row, minlength=count) for row in picks])
        yield drawn[:, index].astype(float)


def _interval(draws: Array) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(draws, [2.5, 97.5])]


def _compared(mine: float, theirs: float, draws: Array) -> dict[str, Any]:
    relative = round((mine - theirs) / theirs, 4) if theirs else None
    return {"difference": round(mine - theirs, 4), "relative": relative, "interval": _interval(draws)}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
