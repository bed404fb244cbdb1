"""Rows in cells around centroids, a byte a number, scored again in float32: cheap to build, 268 bytes a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from ml.indexes import exact
from ml.indexes.base import Mask, Rows, Vectors
from ml.indexes.kinds.base import BLOCK, Kind, Progress, Settings, found, map_index, selector

#: Rows a centroid is learnt from, at most: more do not place it better.
SAMPLE = 64


class IvfSq8(Kind):
    """``effort`` is nprobe: how many of the cells nearest to the query are read."""

    efforts: ClassVar = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

    def __init__(self, index: Any, vectors: Vectors) -> None:
        self._index, self._vectors = index, vectors

    @classmethod
    def ladder(cls, count: int) -> list[Settings]:
        most = max(1, count // 39)
        return [{"cells": min(most, int(share * count**0.5) or 1)} for share in (4, 8)]

    @classmethod
    def build(
        cls, path: Path, vectors: Vectors, settings: Settings, *, threads: int = 1, progress: Progress
    ) -> None:
        faiss.omp_set_num_threads(threads)
        dimension, cells = vectors.shape[1], settings["cells"]
        quantizer = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dimension, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = 10
        index.train(_sample(vectors, SAMPLE * cells))
        progress(0.3)
        for start in range(0, len(vectors), BLOCK):
            index.add(vectors[start : start + BLOCK])
            progress(0.3 + 0.7 * min(1.0, (start + BLOCK) / len(vectors)))
        faiss.write_index(index, str(path))

    @classmethod
    def open(cls, path: Path, vectors: Vectors, settings: Settings) -> Self:
        index = map_index(path, *vectors.shape)
        if not isinstance(index, faiss.IndexIVFScalarQuantizer) or index.nlist != settings["cells"]:
            raise ValueError(f"{path.name} holds no such cells")
        return cls(index, vectors)

    def search(
        self, query: Vectors, k: int, effort: int, allowed: Mask | None = None
    ) -> tuple[Vectors, Rows]:
        faiss.omp_set_num_threads(1)
        chosen = None if allowed is None else selector(allowed)
        params = faiss.SearchParametersIVF(nprobe=min(effort, self._index.nlist), sel=chosen)  # type: ignore[call-arg]
        # A byte a number moves a score by some thousandths: half as many again hold the true best.
        _, rows = found(*self._index.search(query[None], k + max(8, k // 2), params=params))
        return exact.search_rows(self._vectors, query, k, rows)


def _sample(vectors: Vectors, most: int) -> Vectors:
    if len(vectors) <= most:
        return np.ascontiguousarray(vectors)
    rows = np.random.default_rng(0).choice(len(vectors), most, replace=False)
    return vectors[np.sort(rows)]
