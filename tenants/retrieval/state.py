"""What a tenant's index is made of at one moment, and what a search of it asks and answers."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ml.indexes.flat import FlatIndex
from tenants.retrieval.base import Base
from tenants.retrieval.engines import Copy, Gone
from tenants.retrieval.facet_memory import FacetMemory
from tenants.retrieval.filters import Plan
from tenants.retrieval.vectors import DIMENSION

MODALITIES = ("text", "image", "audio", "video")


class Numbering:
    """A dense number for each id, in order of appearance; only ever grows."""

    def __init__(self) -> None:
        self.ids: list[uuid.UUID] = []
        self.numbers: dict[uuid.UUID, int] = {}

    def number(self, key: uuid.UUID) -> int:
        number = self.numbers.get(key)
        if number is None:
            number = self.numbers[key] = len(self.ids)
            self.ids.append(key)
        return number

    def known(self, keys: Iterable[uuid.UUID]) -> np.ndarray:
        return np.array([self.numbers[k] for k in keys if k in self.numbers], dtype=np.int64)


@dataclass(frozen=True)
class Rows:
    """What is known of each row of the array, in parallel arrays; assets and datasets by their number."""

    assets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    datasets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    parts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    seqs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    alive: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def appended(self, **columns: list) -> Rows:
        """With the columns' values at the end; the old arrays stay valid for the searches that use them."""
        return Rows(
            **{n: np.concatenate([old, np.asarray(columns[n], old.dtype)]) for n, old in vars(self).items()}
        )

    def buried(self, graves: dict[int, int]) -> Rows:
        """Without the rows of each asset number whose sequence number is below its grave's."""
        limit = np.zeros(int(self.assets.max(initial=-1)) + 1, np.int64)
        for asset, seq in graves.items():
            limit[asset] = max(limit[asset], seq)
        return replace(self, alive=self.alive & (self.seqs >= limit[self.assets]))


@dataclass(frozen=True)
class State:
    """All that one search needs; replaced as a whole, so that a search never sees half a refresh.

    `index` and what follows describe the newer vectors, or all of them where there is no `base`. `dead`: which assets
    of the base count no more; `changed`: those whose metadata is newer than the base. Where the base is a copy in
    another engine, `gone` stands for `dead`, and it knows metadata by itself.
    """

    seq: int = 0
    base: Base | Copy | None = None
    dead: np.ndarray | None = None
    gone: Gone = field(default_factory=Gone)
    changed: frozenset[uuid.UUID] = frozenset()
    index: FlatIndex = field(default_factory=lambda: FlatIndex(DIMENSION))
    rows: Rows = field(default_factory=Rows)
    assets: Numbering = field(default_factory=Numbering)
    datasets: Numbering = field(default_factory=Numbering)
    facets: FacetMemory = field(default_factory=FacetMemory)
    # By row number; only rows that stand for a part of their asset have one.
    segments: dict[int, dict] = field(default_factory=dict)

    @property
    def delta(self) -> int:
        """Rows of the array that count."""
        return int(self.rows.alive.sum())

    @property
    def dead_count(self) -> int:
        return len(self.gone) if self.dead is None else int(self.dead.sum())

    @property
    def size(self) -> int:
        """Vectors that can be found. Those of dead assets are taken from the base as if each had the average."""
        if self.base is None:
            return self.delta
        share = 1 - self.dead_count / max(1, self.base.asset_count)
        return self.delta + round(self.base.row_count * share)


@dataclass(frozen=True)
class Hit:
    asset_id: uuid.UUID
    score: float
    modality: str
    segment: dict | None = None


@dataclass(frozen=True)
class Restriction:
    """Which assets a search may return; None means no restriction of this kind.

    A filter names none: `numbers` is a mask of the base's assets as of now, `planned` what a copy in another engine is
    asked; `newer` is a mask by the state's number of an asset, for the array, and `bare` are assets that have no
    vectors. Or `assets` are the newer ones. `until`: only what was there at that sequence number.
    """

    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    assets: list[uuid.UUID] | None = None
    hidden_datasets: list[uuid.UUID] = field(default_factory=list)
    numbers: np.ndarray | None = None
    planned: Plan = ()
    newer: np.ndarray | None = None
    bare: Collection[uuid.UUID] = ()
    without: frozenset[uuid.UUID] = frozenset()
    until: int | None = None
