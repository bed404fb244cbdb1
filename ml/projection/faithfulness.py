"""How much of what was near stays near in a projection: what a picture of 256 dimensions in two can be trusted for."""

from __future__ import annotations

import numpy as np

NEIGHBOURS = 10
SAMPLE = 500


def kept_neighbours(
    vectors: np.ndarray,
    points: np.ndarray,
    *,
    neighbours: int = NEIGHBOURS,
    sample: int = SAMPLE,
    seed: int = 0,
) -> float:
    """Of the nearest neighbours of some rows, the share that is nearest in the plane, too: 0 to 1, 1 for all.

    Looks at `sample` rows against all of them. Where there are no more rows than neighbours all are kept.
    """
    count = len(vectors)
    wanted = min(neighbours, count - 1)
    if wanted < 1 or count <= neighbours:
        return 1.0
    chosen = np.random.default_rng(seed).permutation(count)[:sample]
    before = _nearest(vectors, chosen, wanted)
    after = _nearest(points, chosen, wanted)
    shared = [len(np.intersect1d(one, other)) for one, other in zip(before, after, strict=True)]
    return float(np.sum(shared) / (len(chosen) * wanted))


def _nearest(rows: np.ndarray, chosen: np.ndarray, count: int) -> np.ndarray:
    """The places of the nearest other rows by Euclidean distance: [len(chosen), count]."""
    lengths = (rows.astype(np.float64) ** 2).sum(axis=1)
    distances = lengths[None, :] - 2 * (rows[chosen].astype(np.float64) @ rows.T.astype(np.float64))
    distances[np.arange(len(chosen)), chosen] = np.inf
    return np.argpartition(distances, count - 1, axis=1)[:, :count]
