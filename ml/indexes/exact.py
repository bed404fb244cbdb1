"""Exact search over a mapped array: what every approximate answer is measured against, and falls back to."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from ml.indexes.base import Mask, Rows, Vectors

Found = tuple[Vectors, Rows]

#: Rows a step of ``nearest``: 16 MB of vectors, and as much of scores for 256 queries.
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


def nearest(vectors: Vectors, queries: Vectors, k: int, masks: Sequence[Mask | None]) -> list[Found]:
    """For each mask [n], the scores [q, k] and rows nearest to each query; -inf and -1 where fewer are allowed.

    One pass over the vectors serves all masks, in bounded memory.
    """
    heaps: list[Found] = [
        (np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64))
        for _ in masks
    ]
    for start in range(0, len(vectors), STEP):
        scores = queries @ vectors[start : start + STEP].T
        rows = np.arange(start, start + scores.shape[1])
        for place, mask in enumerate(masks):
            kept = slice(None) if mask is None else mask[start : start + STEP]
            heaps[place] = _merged(*heaps[place], scores[:, kept], rows[kept], k)
    return heaps


def _merged(top: Vectors, top_rows: Rows, scores: Vectors, rows: Rows, k: int) -> Found:
    if scores.shape[1] > k:
        places = np.argpartition(scores, -k, axis=1)[:, -k:]
        scores, found = np.take_along_axis(scores, places, 1), rows[places]
    else:
        found = np.broadcast_to(rows, scores.shape)
    scores, found = np.hstack([top, scores]), np.hstack([top_rows, found])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)
