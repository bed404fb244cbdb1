"""The best assets of a state for one query vector: a generation's candidates and the newer vectors, in one ranking."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable
from itertools import islice

import numpy as np

from tenants.retrieval.types import MODALITIES, Hit, Prefetched, Ranking, Restriction, State


def rank(
    state: State,
    query: np.ndarray,
    count: int,
    only: Restriction,
    *,
    prefetched: Prefetched | None = None,
    exact: bool = False,
) -> Ranking:
    """The best `count` assets by greatest inner product over their vectors. `query`: float32 [256] of norm 1."""
    wanted = count + len(only.without)
    newer, newer_total = _of_array(state, query, wanted, only)
    if state.base is None:
        return Ranking(_without(newer, only.without)[:count], newer_total, 1.0)
    older = state.base.search(state, only, exact=exact)
    found = older.best(query, wanted, prefetched)
    hits = heapq.merge(newer, found, key=lambda hit: -hit.score)
    return Ranking(list(islice(_without(hits, only.without), count)), newer_total + older.total, older.recall)


def _without(hits: Iterable[Hit], left_out: frozenset[uuid.UUID]) -> list[Hit]:
    return [hit for hit in hits if hit.asset_id not in left_out] if left_out else list(hits)


# --- The flat array --------------------------------------------------------------------------------------


def _of_array(state: State, query: np.ndarray, count: int, only: Restriction) -> tuple[list[Hit], int]:
    if not len(state.rows.alive):
        return [], 0
    mask = row_mask(state, only)
    assets = state.rows.assets[mask]
    candidates, per_asset = np.unique(assets, return_counts=True)
    if not len(candidates):
        return [], 0
    # The n-th best asset's best row ranks at most n × (most rows an asset has), so this many rows suffice.
    wanted = min(count * int(per_asset.max()), len(assets))
    scores, rows = state.index.search(query, wanted, mask)
    return _best_by_asset(state, scores, rows, count), len(candidates)


def row_mask(state: State, only: Restriction) -> np.ndarray:
    """The rows of the array that may be found; `only.without` is not looked at."""
    rows, mask = state.rows, state.rows.alive
    if only.datasets is not None:
        mask = mask & np.isin(rows.datasets, state.datasets.known(only.datasets))
    if only.hidden_datasets:
        mask = mask & ~np.isin(rows.datasets, state.datasets.known(only.hidden_datasets))
    if only.modalities is not None:
        mask = mask & np.isin(rows.kinds, [MODALITIES.index(m) for m in only.modalities])
    if only.assets is not None:
        mask = mask & np.isin(rows.assets, state.assets.known(only.assets))
    if only.newer is not None:
        mask = mask & only.newer[rows.assets]
    if only.until is not None:
        mask = mask & (rows.seqs <= only.until)
    return mask


def _best_by_asset(state: State, scores: np.ndarray, rows: np.ndarray, count: int) -> list[Hit]:
    hits: dict[int, Hit] = {}
    for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
        number = int(state.rows.assets[row])
        if number not in hits:
            asset_id, part = state.assets.ids[number], MODALITIES[state.rows.parts[row]]
            hits[number] = Hit(asset_id, score, part, state.segments.get(row))
            if len(hits) == count:
                break
    return list(hits.values())
