"""The older part of a tenant's index where another engine holds it: what `ranking` asks of it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import numpy as np

from tenants.retrieval.engines import Copy, Shelf
from tenants.retrieval.state import MODALITIES, Hit, Restriction, State

if TYPE_CHECKING:
    from tenants.retrieval.ranking import Ahead

# Rows to ask for at first for each asset that is wanted, where assets may have several; and for a few dead ones.
ROWS_EACH, MORE = 4, 8


class OfCopy:
    """A search of a state's copy under a restriction. `total` assets may be found; `recall` is set by `best`."""

    def __init__(self, state: State, copy: Copy, only: Restriction, *, exact: bool) -> None:
        self._gone, self._copy, self._only, self._exact = state.gone.ids, copy, only, exact
        self.total = max(0, _total(state, copy, only))
        self.recall = 1.0

    def best(self, query: np.ndarray, count: int, ahead: Ahead | None) -> list[Hit]:
        count = min(count, self.total)
        if not count:
            return []
        depth = (count if self._copy.one_row_each else count * ROWS_EACH) + MORE
        if ahead is not None and ahead.generation_id == self._copy.id and not self._exact:
            found = self._copy.read(query, ahead.scores[:depth], ahead.rows[:depth], self._only)
            hits = self._best_of(found, count)
            if len(hits) == count:
                self.recall = self._copy.recall_of(1.0)
                return hits
        return self._search(query, count, depth)

    def _search(self, query: np.ndarray, count: int, depth: int) -> list[Hit]:
        share = self.total / max(1, self._copy.asset_count)
        while True:
            found, self.recall = self._copy.find(query, depth, self._only, share=share, exact=self._exact)
            hits = self._best_of(found, count)
            if len(hits) == count or len(found) < depth:
                return hits
            depth *= 4

    def _best_of(self, found: list[Hit], count: int) -> list[Hit]:
        """The best row of each asset that still counts, at most `count`."""
        hits: dict[uuid.UUID, Hit] = {}
        for hit in found:
            if hit.asset_id not in hits and hit.asset_id not in self._gone:
                hits[hit.asset_id] = hit
                if len(hits) == count:
                    break
        return list(hits.values())


def _total(state: State, copy: Copy, only: Restriction) -> int:
    if only.planned or (only.until is not None and only.until < copy.seq):
        return copy.count(only)
    if only.assets is not None:
        return copy.count(only) - len(state.gone.ids.intersection(only.assets))
    held = sum(count for shelf, count in copy.shelves.items() if _allows(only, shelf))
    return held - sum(count for shelf, count in state.gone.shelves.items() if _allows(only, shelf))


def _allows(only: Restriction, shelf: Shelf) -> bool:
    dataset_id, kind = shelf
    if dataset_id in only.hidden_datasets or (only.datasets is not None and dataset_id not in only.datasets):
        return False
    return only.modalities is None or MODALITIES[kind] in only.modalities
