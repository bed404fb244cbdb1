"""Similarity matrices, with their rows in an order that puts like beside like."""

from __future__ import annotations

import numpy as np


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
