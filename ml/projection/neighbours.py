"""The nearest neighbours of every vector among all of them, in seconds of one core for a hundred thousand.

Exact for few. Of many, each is compared with the vectors of the cells whose centres are nearest to it: what is nearly
the same lies in the same cell or in the next ones, and what is far from everything is far from these, too. A neighbour
in a farther cell is missed, so a distance is never underestimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Up to so many are compared with all others.
EXACT = 4_096
# Cells that a vector is compared with; vectors of one cell that are (of more, the first: they are alike); rows of a
# product at once.
PROBES, MOST_IN_CELL, ROWS = 3, 2_048, 2_048
# k-means: on so many vectors for each centre, for so many rounds.
TRAINED, ROUNDS = 32, 5


@dataclass(frozen=True)
class Neighbours:
    """`places` int64 and `cosines` float32, [n, k], the nearest first; -1 and -inf where there are fewer."""

    places: np.ndarray
    cosines: np.ndarray


def nearest(vectors: np.ndarray, count: int, *, seed: int = 0) -> Neighbours:
    """Of unit vectors float32 [n, d], the `count` others nearest to each by cosine."""
    n = len(vectors)
    best = Neighbours(np.full((n, count), -1, np.int64), np.full((n, count), -np.inf, np.float32))
    if n < 2:
        return best
    if n <= EXACT:
        _compare(vectors, np.arange(n), np.arange(n), best)
        return best
    centres = _centres(vectors, int(np.sqrt(n)), seed)
    probed = np.concatenate([_best_cells(part, centres) for part in np.array_split(vectors, n // ROWS + 1)])
    order = np.argsort(probed[:, 0], kind="stable")
    bounds = np.searchsorted(probed[order, 0], np.arange(len(centres) + 1))
    for probe in range(PROBES):
        asking = np.argsort(probed[:, probe], kind="stable")
        edges = np.searchsorted(probed[asking, probe], np.arange(len(centres) + 1))
        for cell in range(len(centres)):
            members = order[bounds[cell] : bounds[cell + 1]][:MOST_IN_CELL]
            _compare(vectors, asking[edges[cell] : edges[cell + 1]], members, best)
    return best


def _centres(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: TRAINED * count]
    sample = vectors[chosen]
    centres = sample[:count].copy()
    for _ in range(ROUNDS):
        cells = np.concatenate(
            [(part @ centres.T).argmax(axis=1) for part in np.array_split(sample, len(sample) // ROWS + 1)]
        )
        sums = np.zeros_like(centres)
        np.add.at(sums, cells, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A cell that nothing fell into keeps its centre.
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres).astype(np.float32)
    return centres


def _best_cells(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest cells, the nearest first: [n, PROBES]."""
    scores = vectors @ centres.T
    cells = np.argpartition(scores, -PROBES, axis=1)[:, -PROBES:]
    ranks = np.argsort(-np.take_along_axis(scores, cells, axis=1), axis=1)
    return np.take_along_axis(cells, ranks, axis=1)


def _compare(vectors: np.ndarray, asking: np.ndarray, members: np.ndarray, best: Neighbours) -> None:
    """Put the nearest of `members` beside the best of `asking` so far."""
    count = best.places.shape[1]
    if not len(members):
        return
    others = vectors[members]
    for first in range(0, len(asking), ROWS):
        rows = asking[first : first + ROWS]
        scores = vectors[rows] @ others.T
        scores[rows[:, None] == members[None, :]] = -np.inf
        kept = min(count, len(members))
        chosen = np.argpartition(scores, -kept, axis=1)[:, -kept:]
        found = np.take_along_axis(scores, chosen, axis=1)
        cosines = np.concatenate([best.cosines[rows], found], axis=1)
        places = np.concatenate([best.places[rows], members[chosen]], axis=1)
        ranks = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        best.cosines[rows] = np.take_along_axis(cosines, ranks, axis=1)
        best.places[rows] = np.where(
            np.isfinite(best.cosines[rows]), np.take_along_axis(places, ranks, axis=1), -1
        )


def groups_of(found: Neighbours, least: float) -> list[list[int]]:
    """Places that are joined by cosines of at least `least`, the largest group first; those of one are left out."""
    leader = np.arange(len(found.places))

    def root(at: int) -> int:
        while leader[at] != at:
            leader[at] = leader[leader[at]]
            at = int(leader[at])
        return at

    pairs = np.argwhere(found.cosines >= least)
    joined = np.stack([pairs[:, 0], found.places[pairs[:, 0], pairs[:, 1]]], axis=1)
    for at, neighbour in joined.tolist():
        one, other = root(at), root(neighbour)
        leader[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for at in np.unique(joined).tolist():
        groups.setdefault(root(at), []).append(at)
    return sorted(groups.values(), key=lambda one: (-len(one), one[0]))


def far_out(found: Neighbours) -> list[int]:
    """Places whose mean cosine to their neighbours lies beyond Tukey's outer fence, below the lower quartile by three
    times the distance of the quartiles; the farthest first."""
    means = np.where(np.isfinite(found.cosines), found.cosines, -1).mean(axis=1)
    lower, upper = np.percentile(means, [25, 75])
    places = np.flatnonzero(means < lower - 3 * (upper - lower))
    return [int(at) for at in places[np.argsort(means[places], kind="stable")]]
