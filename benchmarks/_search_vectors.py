"""A million unit vectors that are as hard to index as real embeddings, and queries that are none of them.

Every vector is a real one moved at random along the differences to its nearest real neighbours: a mixture of as many
broad Gaussians as there are real vectors, each as flat as the data are there, all overlapping. Neighbours and reach
are such that the estimates of intrinsic dimension and the cosines to the neighbours are those of the real vectors,
for as many points; both are printed side by side.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import faiss
import numpy as np
from _data import CACHE
from _report import sized
from _search_real import Vectors, different, neighbours

SPREAD, REACH = 32, 0.72
BATCH = sized(4096, 64)


class Source:
    """Draws vectors float32 [n, 256] of norm 1 that resemble the real ones it was given."""

    def __init__(self, real: Vectors) -> None:
        self.real = np.ascontiguousarray(different(real))
        self.spread = min(SPREAD, max(2, len(self.real) // 8))
        _, self._near = neighbours(self.real, self.spread)
        self.digest = hashlib.sha256(self.real.tobytes() + f"{self.spread} {REACH}".encode()).hexdigest()[:12]

    def draw(self, count: int, seed: int) -> Vectors:
        out = np.empty((count, self.real.shape[1]), np.float32)
        self._fill(out, np.random.default_rng(seed))
        return out

    def stored(self, count: int) -> Vectors:
        """The first `count` of the vectors that are searched, mapped."""
        return np.load(self.file(count), mmap_mode="r")

    def file(self, count: int) -> Path:
        """Where they are kept: drawn on first use."""
        path = CACHE / f"drawn-{self.digest}-{count}.npy"
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            shape = (count, self.real.shape[1])
            out = np.lib.format.open_memmap(part, "w+", np.float32, shape)
            self._fill(out, np.random.default_rng(1))
            out.flush()
            part.replace(path)
        return path

    def _fill(self, out: Vectors, rng: np.random.Generator) -> None:
        """In batches of one size, so that fewer vectors are the beginning of more."""
        for start in range(0, len(out), BATCH):
            out[start : start + BATCH] = self._batch(rng)[: len(out) - start]

    def _batch(self, rng: np.random.Generator) -> Vectors:
        chosen = rng.integers(0, len(self.real), BATCH)
        steps = rng.standard_normal((BATCH, self.spread), np.float32) * (REACH / np.sqrt(self.spread))
        centre = self.real[chosen]
        near = self.real[self._near[chosen]]
        moved = centre * (1 - steps.sum(axis=1, keepdims=True)) + np.matmul(steps[:, None], near)[:, 0]
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def exact(stored: Vectors, queries: Vectors, k: int = 10, rows: np.ndarray | None = None) -> np.ndarray:
    """The true best rows int64 [queries, k] by inner product, among `rows` (None: all)."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    best = np.full((len(queries), k), -1, np.int64)
    total = len(stored) if rows is None else len(rows)
    for start in range(0, total, 100_000):
        numbers = (
            np.arange(start, min(start + 100_000, total)) if rows is None else rows[start : start + 100_000]
        )
        part = np.ascontiguousarray(stored[numbers[0] : numbers[-1] + 1] if rows is None else stored[numbers])
        found, where = faiss.knn(queries, part, min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        both, names = np.hstack([scores, found]), np.hstack([best, numbers[where]])
        order = np.argsort(-both, axis=1, kind="stable")[:, :k]
        scores, best = np.take_along_axis(both, order, 1), np.take_along_axis(names, order, 1)
    return best


def recall(found: list[list[int]], truth: np.ndarray) -> float:
    """The mean share of the true best that were found."""
    hits = [len(set(some) & set(true.tolist())) / len(true) for some, true in zip(found, truth, strict=True)]
    return float(np.mean(hits))


def floor_file(source: Source, count: int) -> Path:
    return CACHE / f"floor-{source.digest}-{count}.faiss"
