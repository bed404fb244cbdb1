"""Projections and vectors compared: laid over each other, how alike they are, and with what neighbours they keep.

One is laid over another turned, mirrored, scaled and moved so that the same assets lie closest: it is only defined up
to these, so a picture of before and after would otherwise show mostly turning.
"""

from __future__ import annotations

import numpy as np


def align(reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` [n, 2] laid over `reference` [n, 2], row by row (orthogonal Procrustes with scale): float32 [n, 2].

    What has no extent cannot be turned: it is only moved.
    """
    if not len(points):
        return np.asarray(points, np.float32)
    goal, given = np.asarray(reference, np.float64), np.asarray(points, np.float64)
    goal_centre, centre = goal.mean(axis=0), given.mean(axis=0)
    goal, given = goal - goal_centre, given - centre
    extent = (given**2).sum()
    if extent == 0 or (goal**2).sum() == 0:
        return (given + goal_centre).astype(np.float32)
    left, lengths, right = np.linalg.svd(given.T @ goal)
    turned = given @ (left @ right) * (lengths.sum() / extent)
    return (turned + goal_centre).astype(np.float32)


def displacements(reference: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """How far each row moved, in units of the reference's extent (root mean square distance from its centre): [n]."""
    if not len(reference):
        return np.zeros(0, np.float32)
    extent = np.sqrt(((reference - reference.mean(axis=0)) ** 2).sum(axis=1).mean())
    distance = np.linalg.norm(aligned - reference, axis=1)
    return (distance / extent if extent > 0 else np.zeros(len(distance))).astype(np.float32)


# --- Similarity matrices ---------------------------------------------------------------------------------
# With their rows in an order that puts like beside like.


def cosines(vectors: np.ndarray) -> np.ndarray:
    """The cosine of each row with each other one: float32 [n, n], symmetric, 1 on the diagonal; 0 for empty rows."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors, np.float32), where=lengths > 0)
    found = np.clip(unit @ unit.T, -1, 1).astype(np.float32)
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1)
    return found


def order_of(matrix: np.ndarray) -> list[int]:
    """The rows in the order of the leaves of an average-linkage tree, so turned that neighbours are most alike."""
    if len(matrix) < 3:
        return list(range(len(matrix)))
    # Imported here: only this needs SciPy.
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    apart = np.clip(1 - matrix.astype(np.float64), 0, None)
    np.fill_diagonal(apart, 0)
    condensed = squareform(apart, checks=False)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    return [int(one) for one in leaves_list(tree)]


# --- Kept neighbours -------------------------------------------------------------------------------------
# How much of what was near stays near in a projection: what a picture of many dimensions in two can be trusted for.


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
