"""Exact search over a mapped array: what every approximate answer is measured against, and falls back to."""

from __future__ import annotations

import faiss
import numpy as np

from ml.indexes.base import Mask, Rows, Vectors

Found = tuple[Vectors, Rows]

#: Rows a step of ``nearest``: 16 MB of vectors.
STEP = 16_384


def products(vectors: Vectors, query: Vectors, rows: Rows) -> Vectors:
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


def best(scores: Vectors, k: int) -> Rows:
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
    scores = products(vectors, query, rows)
    places = best(scores, k)
    return scores[places], rows[places]


def search_all(vectors: Vectors, query: Vectors, k: int) -> tuple[Vectors, Rows]:
    """The best ``k`` of all rows."""
    scores = np.vecdot(vectors, query)
    places = best(scores, k)
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
