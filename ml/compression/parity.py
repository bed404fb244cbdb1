"""How far an exported encoder strays from its fp32 original: the numbers, and where they are refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

#: Neighbours that are compared. Of fewer than fifty items a fifth: ten of twelve are found by anyone.
NEIGHBOURS, SHARE = 10, 5
#: Fewer than this say nothing about neighbours.
LEAST_ITEMS = 10


@dataclass(frozen=True)
class Floors:
    """The least mean cosine and share of neighbours that an export may have."""

    cosine: float
    recall: float

    def admit(self, parity: Parity) -> bool:
        return parity.cosine >= self.cosine and parity.recall >= self.recall


@dataclass(frozen=True)
class Parity:
    """Mean cosine to fp32 and recall of fp32's neighbours, both 0..1, over ``items`` held-out inputs."""

    cosine: float
    recall: float
    neighbours: int
    items: int

    def text(self) -> str:
        found = f"recall@{self.neighbours} of fp32's neighbours {self.recall:.3f}"
        return f"mean cosine {self.cosine:.4f}, {found} ({self.items} items)"


def parity_of(reference: Vectors, found: Vectors) -> Parity:
    """Compare vectors [n, d] of the same n items. Numbers that are none count as a cosine of 0."""
    found = np.nan_to_num(found)
    count = min(NEIGHBOURS, max(1, len(reference) // SHARE))
    one, other = _unit(reference), _unit(found)
    pairs = zip(_nearest(one, count), _nearest(other, count), strict=True)
    shared = [len(np.intersect1d(wanted, got)) for wanted, got in pairs]
    cosine = float(np.mean(np.sum(one * other, axis=1)))
    return Parity(cosine, float(np.mean(shared)) / count, count, len(reference))


def _unit(vectors: Vectors) -> Vectors:
    rows: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return rows


def _nearest(rows: Vectors, count: int) -> NDArray[np.intp]:
    """The nearest others of each unit row: [n, count]."""
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
