"""A generation as the larger part of a tenant's index: which assets its rows stand for, and a search of it.

Rows lie in the order of their assets, assets in the order of their ids; an asset's number is its place in that order.
Everything that restricts a search (datasets, modalities, filters, what is gone) concerns whole assets, so masks are by
asset and become masks of rows only where an asset has several.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from ml.indexes.generation import Generation
from ml.indexes.postings import Postings
from tenants.retrieval.filters.facet_postings import mask_of
from tenants.retrieval.filters.filter_plan import Plan
from tenants.retrieval.types import MODALITIES, Hit, Prefetched, Restriction, Segment, SegmentSearch, State

# Rows to look at for each asset that is wanted, where assets may have several; doubled until it is enough.
ROWS_EACH = 4
# A mask that leaves at least this share of the assets leaves enough of a list of candidates.
LIGHT = 0.5

# As fixed-width bytes, which sort as the ids do. NumPy drops trailing zeros when it hands out one of them.
ID = "S16"


@dataclass(frozen=True)
class FileSegment(Segment):
    """One tenant's opened generation. Immutable and shared by all searches."""

    is_local: ClassVar[bool] = True

    id: uuid.UUID
    seq: int
    generation: Generation

    def __post_init__(self) -> None:
        # What a damaged column would otherwise answer to the first search.
        if len(self.starts) != self.asset_count + 1 or self.starts[-1] != self.row_count:
            raise ValueError("the columns of this generation do not fit each other")

    @cached_property
    def asset_ids(self) -> np.ndarray:
        return self.generation.columns["asset_ids"]

    @cached_property
    def asset_datasets(self) -> np.ndarray:
        """By asset, the number of its dataset: a place in `dataset_ids`."""
        return self.generation.columns["asset_datasets"]

    @cached_property
    def asset_kinds(self) -> np.ndarray:
        """By asset, the number of its modality."""
        return self.generation.columns["asset_kinds"]

    @cached_property
    def starts(self) -> np.ndarray:
        """By asset, its first row; and behind them the number of rows."""
        return self.generation.columns["starts"]

    @cached_property
    def owners(self) -> np.ndarray:
        """By row, the number of its asset."""
        return self.generation.columns["owners"]

    @cached_property
    def parts(self) -> np.ndarray:
        """By row, the number of the modality that it stands for."""
        return self.generation.columns["parts"]

    @cached_property
    def seqs(self) -> np.ndarray:
        return self.generation.columns["seqs"]

    @cached_property
    def dataset_numbers(self) -> dict[uuid.UUID, int]:
        ids = self.generation.columns["dataset_ids"]
        return {_uuid(ids, number): number for number in range(len(ids))}

    @cached_property
    def postings(self) -> Postings:  # cached, and never None here
        return Postings.open(self.generation.folder)

    @cached_property
    def mapped_bytes(self) -> int:  # cached
        """Of all files."""
        return self.generation.bytes_mapped

    @property
    def kind(self) -> str:
        return self.generation.manifest.kind

    @property
    def asset_count(self) -> int:
        return len(self.asset_ids)

    @property
    def row_count(self) -> int:
        return len(self.generation.vectors)

    @property
    def cost_ms(self) -> float:
        """Of a search without restrictions, CPU, as measured when it was built."""
        return self.generation.manifest.efforts[0].ms

    def asset_id(self, number: int) -> uuid.UUID:
        return _uuid(self.asset_ids, number)

    def numbers(self, asset_ids: Iterable[uuid.UUID]) -> np.ndarray:
        """int64 numbers of those assets that are in it, in the order of their ids."""
        wanted = np.unique(as_ids(asset_ids))
        if not len(wanted) or not self.asset_count:
            return np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(self.asset_ids, wanted), self.asset_count - 1)
        return places[self.asset_ids[places] == wanted]

    def ids(self, numbers: np.ndarray) -> list[uuid.UUID]:
        return [self.asset_id(number) for number in numbers.tolist()]

    def row_mask(self, assets: np.ndarray | None) -> np.ndarray | None:
        """A mask of assets as one of rows."""
        return assets if assets is None or self.one_row_each else assets[self.owners]

    def asset_mask(
        self, datasets: list[uuid.UUID] | None, modalities: list[int] | None, hidden: list[uuid.UUID]
    ) -> np.ndarray | None:
        """Assets of these datasets and modalities and of no hidden dataset; None where that restricts nothing."""
        mask = None
        if datasets is not None or hidden:
            wanted = np.zeros(max(1, len(self.dataset_numbers)), bool)
            known = self.dataset_numbers
            wanted[[known[d] for d in (known if datasets is None else datasets) if d in known]] = True
            wanted[[known[d] for d in hidden if d in known]] = False
            if not wanted.all():
                mask = wanted[self.asset_datasets]
        if modalities is not None:
            kinds = np.zeros(256, bool)
            kinds[modalities] = True
            mask = kinds[self.asset_kinds] if mask is None else mask & kinds[self.asset_kinds]
        return mask

    def allowed(self, state: State, only: Restriction) -> np.ndarray | None:
        kinds = None if only.modalities is None else [MODALITIES.index(m) for m in only.modalities]
        masks = [self.asset_mask(only.datasets, kinds, only.hidden_datasets)]
        if only.numbers is not None:
            masks.append(only.numbers)
        elif only.assets is not None:
            named = np.zeros(self.asset_count, bool)
            named[self.numbers(only.assets)] = True
            masks.append(named)
        if state.dead is not None:
            masks.append(~state.dead)
        if only.until is not None and only.until < self.seq:
            # Each asset's vectors are written at once: the first one's number stands for all.
            masks.append(self.seqs[self.starts[:-1]] <= only.until)
        restricting = [mask for mask in masks if mask is not None]
        return np.logical_and.reduce(restricting) if restricting else None

    def filtered(
        self,
        planned: Plan,
        only: Restriction,
        changed: tuple[np.ndarray, np.ndarray],
        newer: Callable[[], list[uuid.UUID]],
    ) -> Restriction:
        """By its postings; what has changed since as it is told."""
        numbers = mask_of(planned, self.postings, self.asset_count)
        numbers[changed[0]] = changed[1]
        return replace(only, numbers=numbers)

    def without(self, state: State, asset_ids: list[uuid.UUID]) -> State:
        if not len(numbers := self.numbers(asset_ids)):
            return state
        dead = np.zeros(self.asset_count, bool) if state.dead is None else state.dead.copy()
        dead[numbers] = True
        return replace(state, dead=dead)

    def search(self, state: State, only: Restriction, *, exact: bool) -> FileSearch:
        return FileSearch(state, self, only, exact=exact)

    def candidates(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        return self.generation.search(query, depth)

    def segment(self, row: int) -> dict | None:
        """Which part of its asset a row stands for; None for the whole."""
        columns = self.generation.columns
        rows, ends = columns["segment_rows"], columns["segment_ends"]
        if not len(rows):
            return None
        place = int(np.searchsorted(rows, row))
        if place == len(rows) or rows[place] != row:
            return None
        start = int(ends[place - 1]) if place else 0
        return json.loads(columns["segment_bytes"][start : int(ends[place])].tobytes())


class FileSearch(SegmentSearch):
    """A search of a state's generation under a restriction. `total` assets may be found; `recall` is set by `best`."""

    def __init__(self, state: State, base: FileSegment, only: Restriction, *, exact: bool) -> None:
        self._base, self._exact = base, exact
        self._mask = base.allowed(state, only)
        self.total = base.asset_count if self._mask is None else int(np.count_nonzero(self._mask))

    def best(self, query: np.ndarray, count: int, prefetched: Prefetched | None) -> list[Hit]:
        count = min(count, self.total)
        if not count:
            return []
        if (
            prefetched is not None
            and prefetched.generation_id == self._base.id
            and self._is_light()
            and not self._exact
        ):
            hits = self._hits(prefetched.scores, prefetched.rows, count)
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


def as_ids(ids: Iterable[uuid.UUID]) -> np.ndarray:
    return np.array([one.bytes for one in ids], ID)


def _uuid(ids: np.ndarray, number: int) -> uuid.UUID:
    return uuid.UUID(bytes=ids[number].ljust(16, b"\0"))
