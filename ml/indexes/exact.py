"""Exact search, over a mapped array and over a growing one.

It is what every approximate answer is measured against, and falls back to.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import faiss
import numpy as np

from ml.indexes.base import Index, Mask, Rows, Vectors, checked

Found = tuple[Vectors, Rows]

#: Rows a step of ``nearest``: 16 MB of vectors of 256 numbers.
STEP = 16_384


def inner_products(vectors: Vectors, query: Vectors, rows: Rows) -> Vectors:
    """Inner products float32 [len(rows)], read in place: half the cost of copying the rows out first."""
    faiss.omp_set_num_threads(1)
    scores = np.empty(len(rows), np.float32)
    faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
        faiss.swig_ptr(scores),
        faiss.swig_ptr(query),
        faiss.swig_ptr(vectors),
        faiss.swig_ptr(rows),
        vectors.shape[1],
        1,
        len(rows),
    )
    return scores


def top_k(scores: Vectors, k: int) -> Rows:
    """Positions of the ``k`` greatest, descending, ties by position (also where a tie is cut)."""
    if k < len(scores):
        threshold = scores[np.argpartition(scores, -k)[-k:]].min()
        places = np.flatnonzero(scores >= threshold)
    else:
        places = np.arange(len(scores))
    return places[np.argsort(-scores[places], kind="stable")][:k]


def search_rows(vectors: Vectors, query: Vectors, k: int, rows: Rows) -> tuple[Vectors, Rows]:
    """The best ``k`` of ``rows`` (each at most once, all inside ``vectors``): scores descending, and rows."""
    if not len(rows) or k < 1:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores = inner_products(vectors, query, rows)
    places = top_k(scores, k)
    return scores[places], rows[places]


def search_all(vectors: Vectors, query: Vectors, k: int) -> tuple[Vectors, Rows]:
    """The best ``k`` of all rows."""
    scores = np.vecdot(vectors, query)
    places = top_k(scores, k)
    return scores[places], places


def nearest(vectors: Vectors, queries: Vectors, k: int, mask: Mask | None = None) -> Found:
    """Scores and rows [q, k] nearest to each query; -inf and -1 where fewer are allowed. In bounded memory."""
    best_scores = np.full((len(queries), k), -np.inf, np.float32)
    best_rows = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(vectors), STEP):
        rows = np.arange(start, min(start + STEP, len(vectors)))
        if mask is not None:
            rows = rows[mask[rows]]
        if not len(rows):
            continue
        block = vectors[start : start + STEP] if mask is None else vectors[rows]
        scores, places = faiss.knn(queries, block, min(k, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
        scores, found = np.hstack([best_scores, scores]), np.hstack([best_rows, rows[places]])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best_scores, best_rows = np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
    return best_scores, best_rows


# --- A growing array -------------------------------------------------------------------------------------
# Exact search over one growing array: the index of a tenant with up to some 20,000 vectors.
#
# A dot product a row and a partial sort, on the caller's thread alone. Products of 20,000 x 256 on a busy 2-core
# machine, median and p99: ``np.vecdot`` 0.43 and 0.56 ms; BLAS ``@`` 8 and 12 ms and ``faiss.knn`` 16 and 19 ms,
# because their thread pools wait for a core that someone else has (0.16 and 0.34 ms on a quiet one).


#: With fewer allowed rows than this share, copying them out is cheaper than scoring all rows.
SPARSE_SHARE = 0.05

MIN_CAPACITY = 256


class _State(NamedTuple):
    """What a reader sees, replaced as a whole: the first ``size`` rows of ``array``, where ``alive``."""

    array: Vectors
    size: int
    alive: Mask
    removed: int


class FlatIndex(Index):
    """Exact inner product over float32 [capacity, dimension].

    Readers take the current state once and need no lock: a writer fills rows that no published state covers,
    copies the array to grow it and the ``alive`` mask to remove, and publishes a new state in one assignment.
    A reader that started before a write therefore answers from before it. Writers exclude each other.
    """

    def __init__(self, dimension: int | None = None, vectors: Vectors | None = None) -> None:
        """An empty index, or one that holds a copy of ``vectors`` [n, dimension].

        Without a ``dimension`` the first rows that are added decide.
        """
        self.dimension = dimension
        self._write = threading.Lock()
        self._state = _State(np.empty((0, dimension or 0), np.float32), 0, np.empty(0, np.bool_), 0)
        if vectors is not None:
            self.add(vectors)

    def __len__(self) -> int:
        state = self._state
        return state.size - state.removed

    @property
    def rows(self) -> int:
        """How many rows were ever added: the length that a ``rows_mask`` should have."""
        return self._state.size

    def add(self, vectors: Vectors) -> Rows:
        """Append [n, dimension] rows. Amortised constant cost: capacity doubles."""
        with self._write:
            vectors = checked(vectors, (-1, self.dimension or -1))
            self.dimension, state = vectors.shape[1], self._state
            total = state.size + len(vectors)
            array = _grown(state.array, state.size, total, self.dimension)
            array[state.size : total] = vectors
            alive = np.concatenate([state.alive, np.ones(len(vectors), np.bool_)])
            self._state = _State(array, total, alive, state.removed)
        return np.arange(total - len(vectors), total)

    def remove(self, rows: Rows) -> None:
        """Hide rows. Their memory stays: build a new index when many are gone (``rows`` against ``len``)."""
        rows = np.asarray(rows, np.int64)
        with self._write:
            state = self._state
            if rows.size and (rows.min() < 0 or rows.max() >= state.size):
                raise IndexError(f"rows must be in 0..{state.size - 1}")
            alive = state.alive.copy()
            alive[rows] = False
            self._state = _State(state.array, state.size, alive, state.size - int(alive.sum()))

    def search(self, query: Vectors, k: int, rows_mask: Mask | None = None) -> tuple[Vectors, Rows]:
        """Exact top ``k``; equal scores come in row order."""
        query = checked(query, (self.dimension or -1,))
        state = self._state
        allowed = _allowed(state, rows_mask)
        live = state.size if allowed is None else int(np.count_nonzero(allowed))
        if live == 0 or k < 1:
            return np.empty(0, np.float32), np.empty(0, np.int64)
        if allowed is not None and live < SPARSE_SHARE * state.size:
            rows = np.flatnonzero(allowed)
            scores, places = search_all(state.array[rows], query, k)
            return scores, rows[places]
        scores = np.vecdot(state.array[: state.size], query)
        if allowed is not None:
            scores[~allowed] = -np.inf
        places = top_k(scores, min(k, live))
        return scores[places], places

    def scores(self, queries: Vectors, rows: Rows) -> Vectors:
        """Inner products float32 [rows, queries] of some rows with ``queries`` [q, dimension]."""
        array = self._state.array
        if not len(rows):
            return np.zeros((0, len(queries)), np.float32)
        queries = checked(queries, (-1, self.dimension or -1))
        rows = np.ascontiguousarray(rows, np.int64)
        return np.stack([inner_products(array, np.ascontiguousarray(one), rows) for one in queries], axis=1)


def _grown(array: Vectors, count: int, total: int, dimension: int) -> Vectors:
    """``array`` itself while it has room, else a copy of its first ``size`` rows with twice the room."""
    if total <= len(array) and array.shape[1] == dimension:
        return array
    grown = np.empty((max(MIN_CAPACITY, total, 2 * len(array)), dimension), np.float32)
    if count:
        grown[:count] = array[:count]
    return grown


def _allowed(state: _State, rows_mask: Mask | None) -> Mask | None:
    """None when every row may be found; else a mask of exactly ``state.size`` rows."""
    if rows_mask is None:
        return state.alive if state.removed else None
    mask = np.zeros(state.size, np.bool_)
    shared = min(state.size, len(rows_mask))
    mask[:shared] = rows_mask[:shared]
    return mask & state.alive
