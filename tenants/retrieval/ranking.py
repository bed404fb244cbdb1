"""The best assets of a state for one query vector: a generation's candidates and the newer vectors, in one ranking."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tenants.retrieval.base import Base
from tenants.retrieval.copied import OfCopy
from tenants.retrieval.state import MODALITIES, Hit, Restriction, State

# Rows to look at for each asset that is wanted, where assets may have several; doubled until it is enough.
ROWS_EACH = 4
# A mask that leaves at least this share of the assets leaves enough of a list of candidates.
LIGHT = 0.5


@dataclass(frozen=True)
class Ahead:
    """Rows of a generation that were found before, for the same vector and without any restriction."""

    generation_id: uuid.UUID
    scores: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Ranking:
    """The best assets, how many could have been found, and the recall@10 to expect of it (1.0: exact)."""

    hits: list[Hit]
    total: int
    recall: float


def rank(
    state: State,
    query: np.ndarray,
    count: int,
    only: Restriction,
    *,
    ahead: Ahead | None = None,
    exact: bool = False,
) -> Ranking:
    """The best `count` assets by greatest inner product over their vectors. `query`: float32 [256] of norm 1."""
    wanted = count + len(only.without)
    newer, newer_total = _of_array(state, query, wanted, only)
    if state.base is None:
        return Ranking(_without(newer, only.without)[:count], newer_total, 1.0)
    older: OfBase | OfCopy
    if isinstance(state.base, Base):
        older = OfBase(state, state.base, only, exact=exact)
    else:
        older = OfCopy(state, state.base, only, exact=exact)
    found = older.best(query, wanted, ahead)
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


# --- The generation --------------------------------------------------------------------------------------


class OfBase:
    """A search of a state's generation under a restriction. `total` assets may be found; `recall` is set by `best`."""

    def __init__(self, state: State, base: Base, only: Restriction, *, exact: bool) -> None:
        self._base, self._exact = base, exact
        self._mask = asset_mask(state, base, only)
        self.total = base.asset_count if self._mask is None else int(np.count_nonzero(self._mask))
        self.recall = 1.0

    def best(self, query: np.ndarray, count: int, ahead: Ahead | None) -> list[Hit]:
        count = min(count, self.total)
        if not count:
            return []
        if (
            ahead is not None
            and ahead.generation_id == self._base.id
            and self._is_light()
            and not self._exact
        ):
            hits = self._hits(ahead.scores, ahead.rows, count)
            if len(hits) == count:
                self.recall = self._base.generation.recall_of(1.0)
                return hits
        return self._search(query, count)

    def _is_light(self) -> bool:
        return self.total >= LIGHT * self._base.asset_count

    def _search(self, query: np.ndarray, count: int) -> list[Hit]:
        base, allowed = self._base, self._base.row_mask(self._mask)
        depth = count if base.one_row_each else count * ROWS_EACH
        left = base.row_count if allowed is None else int(np.count_nonzero(allowed))
        while True:
            depth = min(depth, left)
            scores, rows = self._rows(query, depth, allowed)
            hits = self._hits(scores, rows, count)
            if len(hits) == count or depth == left:
                return hits
            depth *= 4

    def _rows(
        self, query: np.ndarray, depth: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        generation = self._base.generation
        if self._exact:
            rows = np.arange(self._base.row_count) if allowed is None else np.flatnonzero(allowed)
            return generation.exact(query, depth, rows)
        self.recall = generation.recall_of(1.0 if allowed is None else float(allowed.mean()))
        return generation.search(query, depth, allowed)

    def _hits(self, scores: np.ndarray, rows: np.ndarray, count: int) -> list[Hit]:
        """The best row of each allowed asset, at most `count`."""
        base, mask = self._base, self._mask
        owners = rows if base.one_row_each else base.owners[rows]
        found: dict[int, Hit] = {}
        for score, row, owner in zip(scores.tolist(), rows.tolist(), owners.tolist(), strict=True):
            if owner in found or (mask is not None and not mask[owner]):
                continue
            part = MODALITIES[base.parts[row]]
            found[owner] = Hit(base.asset_id(owner), score, part, base.segment(row))
            if len(found) == count:
                break
        return list(found.values())


def asset_mask(state: State, base: Base, only: Restriction) -> np.ndarray | None:
    """The assets of the base that may be found, `only.without` not looked at; None: all."""
    kinds = None if only.modalities is None else [MODALITIES.index(m) for m in only.modalities]
    masks = [base.asset_mask(only.datasets, kinds, only.hidden_datasets)]
    if only.numbers is not None:
        masks.append(only.numbers)
    elif only.assets is not None:
        named = np.zeros(base.asset_count, bool)
        named[base.numbers(only.assets)] = True
        masks.append(named)
    if state.dead is not None:
        masks.append(~state.dead)
    if only.until is not None and only.until < base.seq:
        # Each asset's vectors are written at once: the first one's number stands for all.
        masks.append(base.seqs[base.starts[:-1]] <= only.until)
    restricting = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(restricting) if restricting else None
