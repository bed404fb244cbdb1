"""A navigable graph over the float32 rows: the fastest to search, the slowest to build. 270 bytes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from ml.indexes.base import Mask, Rows, Vectors
from ml.indexes.kinds.base import BLOCK, Kind, Progress, Settings, found, map_index

#: Rows found before a mask is applied, as a multiple of what holds enough allowed ones if they lie at random.
ENOUGH = 1.5


class Hnsw(Kind):
    """The file holds the links only; distances are computed on the caller's mapping of the vectors.

    ``effort`` is how many of the nearest rows a walk keeps on hand, beyond those asked for. Under a mask it is
    how many are found before the mask is applied: the allowed ones among the true nearest are the true nearest
    allowed, whatever the mask, and where they are too few the caller sees it. (A selector inside the walk answers
    with whatever it passes by, and nothing tells that a mask far away from the query was hardly looked at.)
    """

    efforts: ClassVar = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)

    def __init__(self, index: Any, storage: Any, vectors: Vectors) -> None:
        # faiss keeps plain pointers to the storage, and the storage to the vectors: both must live as long.
        self._index, self._storage, self._vectors = index, storage, vectors

    @classmethod
    def ladder(cls, count: int) -> list[Settings]:
        return [
            {"links": 32, "construction": 80},
            {"links": 32, "construction": 160},
            {"links": 48, "construction": 320},
        ]

    @classmethod
    def build(
        cls, path: Path, vectors: Vectors, settings: Settings, *, threads: int = 1, progress: Progress
    ) -> None:
        count, dimension = vectors.shape
        faiss.omp_set_num_threads(threads)
        index = faiss.IndexHNSWFlat(dimension, settings["links"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings["construction"]
        _reserve(faiss.downcast_index(index.storage), vectors.nbytes)
        for start in range(0, count, BLOCK):
            index.add(vectors[start : start + BLOCK])
            progress(min(1.0, (start + BLOCK) / count))
        faiss.write_index(index, str(path), faiss.IO_FLAG_SKIP_STORAGE)  # type: ignore[call-overload]

    @classmethod
    def open(cls, path: Path, vectors: Vectors, settings: Settings) -> Self:
        index = map_index(path, *vectors.shape)
        if not isinstance(index, faiss.IndexHNSWFlat):
            raise ValueError(f"{path.name} holds no graph")
        storage = _storage(vectors)
        index.storage, index.own_fields = storage, False
        return cls(index, storage, vectors)

    def search(
        self, query: Vectors, k: int, effort: int, allowed: Mask | None = None
    ) -> tuple[Vectors, Rows]:
        faiss.omp_set_num_threads(1)
        if allowed is None:
            return self._walk(query, k, effort)
        share = max(1, int(np.count_nonzero(allowed))) / len(allowed)
        wanted = min(int(ENOUGH * k / share), self.efforts[-1])
        scores, rows = self._walk(query, max(effort, wanted, k), effort // 4)
        kept = np.flatnonzero(allowed[rows])[:k]
        return scores[kept], rows[kept]

    def _walk(self, query: Vectors, k: int, more: int) -> tuple[Vectors, Rows]:
        params = faiss.SearchParametersHNSW(efSearch=k + more)  # type: ignore[attr-defined]
        return found(*self._index.search(query[None], k, params=params))


def _reserve(storage: Any, size: int) -> None:
    """Let the storage grow to ``size`` bytes in place: growing by doubling would take half as much again."""
    storage.codes.resize(size)
    storage.codes.resize(0)


def _storage(vectors: Vectors) -> Any:
    """A flat index whose codes are the caller's array itself, as faiss makes one over a mapped file.

    faiss offers no call for it from Python (its owner is a C++ shared pointer), but the fields are open.
    """
    storage = faiss.IndexFlatIP(vectors.shape[1])
    codes, address = storage.codes, faiss.swig_ptr(vectors.reshape(-1).view(np.uint8))
    codes.is_owned = False
    codes.view_data = codes.c_ptr = address
    codes.view_size = codes.c_size = vectors.nbytes
    storage.ntotal = len(vectors)
    return storage
