"""Rows in cells around centroids: what the kinds share that read the cells nearest to a query.

Codes of a few bits a number find the candidates, which are scored again by the float32 rows.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from ml.indexes import exact
from ml.indexes.base import Mask, Rows, Vectors
from ml.indexes.kinds.base import BLOCK, Kind, Progress, Settings, found, map_index, selector

#: Rows a centroid is learnt from, at most: more do not place it better.
SAMPLE = 64

#: What codes of four bits are learnt from, at least.
LEAST = 16

#: Allowed rows a cell that are counted, on average, to see which cells a mask keeps to.
SAMPLED = 32

#: A mask that leaves less than this share of the cells nearest to a query is far away from it: how many cells are
#: enough was measured on masks that are not.
FAR = 0.25

#: Rows at this many standard deviations of what codes are wrong by are taken for found.
DEVIATIONS = 3.0

#: Codes are asked for up to this share of the rows. Above, it is as cheap to score all of these.
SURE = 0.125

#: A row's cell is kept in 16 bits.
MOST_CELLS = 1 << 16


class Cells(Kind):
    """``effort`` is how many of the cells nearest to the query are read.

    Under a mask a cell counts by how much of what the mask allows is in it, against the mask's share of all
    rows, and cells without any are passed over: all of a mask that keeps to some cells, a modality perhaps, may
    be far away from the query.
    """

    efforts: ClassVar = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

    def __init__(self, index: Any, vectors: Vectors) -> None:
        self._index, self._vectors = index, vectors
        self._centroids = index.quantizer.reconstruct_n(0, index.nlist)

    @classmethod
    @abstractmethod
    def empty(cls, quantizer: Any, dimension: int, cells: int) -> Any:
        """faiss's index without rows; its type tells one kind from another."""

    @staticmethod
    @abstractmethod
    def looked_at(k: int) -> int:
        """How many rows to score again for ``k``: as many as the codes may have put in the wrong order."""

    @classmethod
    def ladder(cls, count: int) -> list[Settings]:
        most = max(1, min(count // 39, MOST_CELLS))
        cells = sorted({min(most, int(share * count**0.5) or 1) for share in (4, 8)})
        return [{"cells": number} for number in cells]

    @classmethod
    def build(
        cls, path: Path, vectors: Vectors, settings: Settings, *, threads: int = 1, progress: Progress
    ) -> None:
        faiss.omp_set_num_threads(threads)
        dimension, cells = vectors.shape[1], settings["cells"]
        quantizer = faiss.IndexFlatIP(dimension)
        index = cls.empty(quantizer, dimension, cells)
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
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        expected = type(cls.empty(quantizer, vectors.shape[1], 1))
        if type(index) is not expected or index.nlist != settings["cells"]:
            raise ValueError(f"{path.name} holds no such cells")
        return cls(index, vectors)

    def search(
        self, query: Vectors, k: int, effort: int, allowed: Mask | None = None
    ) -> tuple[Vectors, Rows]:
        faiss.omp_set_num_threads(1)
        wanted = self.looked_at(k)
        if len(self._vectors) <= wanted:
            # Codes tell nothing where all of them would be scored again (and none apart where all rows are equal).
            rows = np.arange(len(self._vectors)) if allowed is None else np.flatnonzero(allowed)
            return exact.search_rows(self._vectors, query, k, rows)
        if allowed is None:
            params = faiss.SearchParametersIVF(nprobe=min(effort, self._index.nlist))  # type: ignore[call-arg]
            _, rows = found(*self._index.search(query[None], wanted, params=params))
            return exact.search_rows(self._vectors, query, k, rows)
        return self._search_allowed(query, k, effort, allowed)

    def _search_allowed(self, query: Vectors, k: int, effort: int, allowed: Mask) -> tuple[Vectors, Rows]:
        scores = np.vecdot(self._centroids, query)
        weights = self._weights(allowed)
        order = np.argsort(-scores)
        is_far = weights[order[:effort]].sum() < FAR * effort
        order = order[weights[order] > 0]
        if not len(order):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        if is_far:
            return self._search_far(query, k, order, scores[order], allowed)
        order = order[: int(np.searchsorted(np.cumsum(weights[order]), effort)) + 1]
        _, rows = found(*self._read(query, self.looked_at(k), order, scores[order], allowed))
        return exact.search_rows(self._vectors, query, k, rows)

    def _search_far(
        self, query: Vectors, k: int, cells: Rows, near: Vectors, allowed: Mask
    ) -> tuple[Vectors, Rows]:
        """All cells with allowed rows; where the codes cannot tell which rows are the best, all allowed rows.

        A row that was not looked at scores no more than the worst code that was, but for what codes are wrong by.
        """
        wanted, count = self.looked_at(k), int(np.count_nonzero(allowed))
        while wanted < SURE * count:
            codes, rows = found(*self._read(query, wanted, cells, near, allowed))
            if len(rows) < wanted:
                break
            scores = exact.inner_products(self._vectors, query, rows)
            places = exact.top_k(scores, k)
            if scores[places[-1]] > codes.min() + DEVIATIONS * np.std(scores - codes):
                return scores[places], rows[places]
            wanted *= 8
        return exact.search_rows(self._vectors, query, k, np.flatnonzero(allowed))

    def _read(
        self, query: Vectors, k: int, cells: Rows, near: Vectors, allowed: Mask
    ) -> tuple[Vectors, Rows]:
        """The best allowed rows [1, k] of these cells. faiss's own wrapper of this call takes no selector."""
        chosen = selector(allowed)
        params = faiss.SearchParametersIVF(nprobe=len(cells), sel=chosen)  # type: ignore[call-arg]
        scores, rows = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        arrays = (faiss.swig_ptr(array) for array in (cells, near, scores, rows))
        self._index.search_preassigned_c(1, faiss.swig_ptr(query), k, *arrays, False, params)
        return scores, rows

    def _weights(self, allowed: Mask) -> Vectors:
        """By cell [cells]: the share of its rows that are allowed over the share of all rows, at most 1.

        From every row where few are allowed, else from so many that each cell has some of the sample.
        """
        count = int(np.count_nonzero(allowed))
        step = max(1, count // (SAMPLED * self._index.nlist))
        counts = np.bincount(self._cells[::step][allowed[::step]], minlength=self._index.nlist)
        usual = self._sizes * (count / len(allowed) / step)
        return np.minimum(1, counts / np.maximum(usual, 1e-9))

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        """Rows of each cell."""
        return np.bincount(self._cells, minlength=self._index.nlist)

    @cached_property
    def _cells(self) -> NDArray[np.uint16]:
        """The cell of each row. Made at the first search under a mask: some 20 ms for a million rows."""
        cells = np.empty(len(self._vectors), np.uint16)
        for cell in range(self._index.nlist):
            size = self._index.invlists.list_size(cell)
            if size:
                cells[faiss.rev_swig_ptr(self._index.invlists.get_ids(cell), size)] = cell
        return cells


def _sample(vectors: Vectors, most: int) -> Vectors:
    if len(vectors) < LEAST:
        return np.resize(vectors, (LEAST, vectors.shape[1]))
    if len(vectors) <= most:
        return np.ascontiguousarray(vectors)
    rows = np.random.default_rng(0).choice(len(vectors), most, replace=False)
    return vectors[np.sort(rows)]
