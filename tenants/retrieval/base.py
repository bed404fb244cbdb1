"""A generation as the larger part of a tenant's index: which assets its rows stand for.

Rows lie in the order of their assets, assets in the order of their ids; an asset's number is its place in that order.
Everything that restricts a search (datasets, modalities, filters, what is gone) concerns whole assets, so masks are by
asset and become masks of rows only where an asset has several.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml.indexes.generation import Generation
from ml.indexes.postings import Postings

# As fixed-width bytes, which sort as the ids do. NumPy drops trailing zeros when it hands out one of them.
ID = "S16"


@dataclass(frozen=True)
class Base:
    """One tenant's opened generation. Immutable and shared by all searches."""

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
    def postings(self) -> Postings:
        return Postings.open(self.generation.folder)

    @cached_property
    def bytes(self) -> int:
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

    @property
    def one_row_each(self) -> bool:
        return self.asset_count == self.row_count

    def asset_id(self, number: int) -> uuid.UUID:
        return _uuid(self.asset_ids, number)

    def numbers(self, asset_ids: Iterable[uuid.UUID]) -> np.ndarray:
        """int64 numbers of those assets that are in it, in the order of their ids."""
        wanted = np.unique(as_ids(asset_ids))
        if not len(wanted) or not self.asset_count:
            return np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(self.asset_ids, wanted), self.asset_count - 1)
        return places[self.asset_ids[places] == wanted]

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

    def ahead(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Its best rows without restriction: scores float32 [m] and rows int64 [m]."""
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


def as_ids(ids: Iterable[uuid.UUID]) -> np.ndarray:
    return np.array([one.bytes for one in ids], ID)


def _uuid(ids: np.ndarray, number: int) -> uuid.UUID:
    return uuid.UUID(bytes=ids[number].ljust(16, b"\0"))
