"""Late interaction: an asset with several vectors against a query of several, exactly.

MaxSim (Khattab and Zaharia, ColBERT, SIGIR 2020): each part of the query meets the vector of the asset that is nearest
to it, and the asset's score is the sum of these maxima. What is not wanted is taken off in proportion, as Rocchio's
negative feedback does; here the sum is divided by the weights of what is wanted, so that it stays on the scale of a
cosine. In order: the same sum over vectors each of which begins later than the one before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.int64]

#: Places an asset's times on a line of their own: more than any film lasts, and any time between two.
APART = 1e7


def max_sim(
    scores: Floats, starts: Places, weights: Floats, wanted: NDArray[np.bool_]
) -> tuple[Floats, Places]:
    """The score of each asset, float64 [n], and which row answers each part, int64 [n, parts].

    ``scores`` [rows, parts] are inner products; an asset's rows lie together and begin at ``starts`` [n], and each
    has one at least. ``weights`` [parts] above 0, of which some is ``wanted``.
    """
    best = np.maximum.reduceat(scores, starts, axis=0)
    owners = np.repeat(np.arange(len(starts)), np.diff([*starts, len(scores)]))
    rows = np.empty(best.shape, np.int64)
    for part in range(scores.shape[1]):
        at = np.flatnonzero(scores[:, part] == best[owners, part])
        # From behind, so that the first of equals stays.
        rows[owners[at[::-1]], part] = at[::-1]
    signed = np.where(wanted, best, -np.maximum(best, 0)).astype(np.float64)
    return signed @ weights / weights[wanted].sum(), rows


def best_in_order(
    scores: Floats, starts: Places, times: Floats, weights: Floats, within_s: float | None = None
) -> tuple[Floats, Places]:
    """As ``max_sim``, of rows each of which begins later than the one for the part before, and at most ``within_s``
    later; -inf where an asset has none. By dynamic programming, exact.

    ``times`` [rows] ascend within an asset, 0 to less than ``APART`` / 2.
    """
    count, parts = scores.shape
    owners = np.repeat(np.arange(len(starts)), np.diff([*starts, count]))
    line = owners * APART + times
    latest = np.searchsorted(line, line, "left")
    earliest = np.asarray(starts)[owners]
    if within_s is not None:
        # Times are told to a hundredth of a second: what is exactly so much later counts.
        earliest = np.maximum(earliest, np.searchsorted(line, line - min(within_s, APART / 2) - 1e-3, "left"))
    total = scores[:, 0] * weights[0].astype(np.float64)
    before = np.zeros((parts, count), np.int64)
    for part in range(1, parts):
        came = _best_between(total, earliest, latest)
        reached = np.where(came >= 0, total[came], -np.inf)
        before[part], total = came, reached + scores[:, part] * weights[part]
    ends = _first_best(total, starts, owners)
    rows = np.empty((len(starts), parts), np.int64)
    for part in range(parts - 1, -1, -1):
        rows[:, part] = ends
        ends = before[part][np.maximum(ends, 0)]
    return np.maximum.reduceat(total, starts) / weights.sum(), rows


def _first_best(values: Floats, starts: Places, owners: Places) -> Places:
    best = np.maximum.reduceat(values, starts)
    at = np.flatnonzero(values == best[owners])
    found = np.empty(len(starts), np.int64)
    found[owners[at[::-1]]] = at[::-1]
    return found


def _best_between(values: Floats, low: Places, high: Places) -> Places:
    """Where the greatest of ``values`` in each [low, high) is, the first of equals; -1 where that is empty.

    From a sparse table: the best of each stretch of 1, 2, 4, … values.
    """
    sizes = high - low
    found = np.full(len(low), -1, np.int64)
    table = np.arange(len(values))
    length = 1
    while length <= len(values) and (sizes >= length).any():
        here = np.flatnonzero((sizes >= length) & (sizes < 2 * length))
        if len(here):
            left, right = table[low[here]], table[high[here] - length]
            found[here] = np.where(values[left] >= values[right], left, right)
        if 2 * length <= len(values):
            left, right = table[:-length], table[length:]
            table = np.where(values[left] >= values[right], left, right)
        length *= 2
    return found
