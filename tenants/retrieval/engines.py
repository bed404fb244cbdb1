"""What an engine outside of this process has to be able to: hold a copy of a tenant's vectors, and search it.

A copy is what a generation is, in another place: every vector of a model up to a sequence number, published by the
pointer and never changed. Newer vectors, graves and changed metadata are the tenant's own business, in memory; so no
engine has to be fresh, to delete, or to know what a transaction is. ADR 16 says what that asks of a distributed one.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ml.indexes.manifest import Effort
from ml.indexes.tuning import effort_for
from tenants.errors import Conflict, IndexRebuilding

if TYPE_CHECKING:
    from tenants.retrieval.state import Hit, Restriction

# What an asset is filed under: its dataset, and the number of its modality.
Shelf = tuple[uuid.UUID, int]


class EngineMissing(Conflict):
    """The installation does not have this engine."""

    slug, title = "engine-missing", "This engine is not here"


class CopyGone(IndexRebuilding):
    """The copy was let go of while it was searched; the next search finds another index."""


class NewRow(NamedTuple):
    """A vector to copy: of which asset, where that is filed, and the number of the modality that it stands for."""

    seq: int
    asset_id: uuid.UUID
    dataset_id: uuid.UUID
    kind: int
    part: int


@dataclass(frozen=True)
class Gone:
    """Assets of a copy that count no more, and how many there are of each shelf."""

    ids: frozenset[uuid.UUID] = frozenset()
    shelves: Mapping[Shelf, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def and_also(self, places: Mapping[uuid.UUID, Shelf]) -> Gone:
        new = {asset_id: shelf for asset_id, shelf in places.items() if asset_id not in self.ids}
        return Gone(self.ids | new.keys(), Counter(self.shelves) + Counter(new.values())) if new else self


@dataclass(frozen=True)
class Copy(ABC):
    """A published copy of a tenant's, as one search uses it. Immutable; only filters need an open scope.

    `efforts`: recall@10 as measured when it was made, by share of the rows that may be found.
    """

    tenant_id: uuid.UUID
    id: uuid.UUID
    seq: int
    kind: str
    row_count: int
    asset_count: int
    efforts: tuple[Effort, ...]
    shelves: Mapping[Shelf, int]

    # A restriction that leaves at most so many assets is answered exactly.
    exact_assets: ClassVar[int] = 0

    @property
    def bytes(self) -> int:
        """Of files that this process has mapped."""
        return 0

    @property
    def cost_ms(self) -> float:
        """Of a search without restrictions, as measured when it was made."""
        return self.efforts[0].ms if self.efforts else 0.0

    @property
    def one_row_each(self) -> bool:
        return self.asset_count == self.row_count

    def recall_of(self, share: float) -> float:
        """Recall@10 to expect where that share of the assets may be found."""
        row = effort_for(self.efforts, share) or (self.efforts[-1] if self.efforts else None)
        return row.recall if row else 0.0

    def effort_of(self, share: float) -> int:
        row = effort_for(self.efforts, share) or (self.efforts[-1] if self.efforts else None)
        return row.effort if row else 0

    @abstractmethod
    def count(self, only: Restriction) -> int:
        """How many of its assets a restriction by filter, by names or by time leaves; `only.without` is not looked at.

        Of a filter those that `only.assets` names are left out, as they are newer; what waits for its vectors or has
        none may be counted.
        """

    @abstractmethod
    def find(
        self, query: np.ndarray, depth: int, only: Restriction, *, share: float, exact: bool
    ) -> tuple[list[Hit], float]:
        """The best `depth` rows, several of an asset among them, scored by the stored vectors; and their recall.

        `share` of the assets may be found. Filters (`only.planned`) hold as of now. Finds fewer only if there are no
        more. Raises CopyGone.
        """

    @abstractmethod
    def ahead(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 [m] and rows (uint32's range) [m] without restriction, for the cache. Raises CopyGone."""

    @abstractmethod
    def read(self, query: np.ndarray, scores: np.ndarray, rows: np.ndarray, only: Restriction) -> list[Hit]:
        """What `ahead` found as `find` tells it, the best first."""

    @abstractmethod
    def measured(self, query: np.ndarray, depth: int, effort: int, every: int) -> np.ndarray:
        """Scores float32 of the best rows at that effort, among those whose number `every` divides."""

    @abstractmethod
    def places(self, asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Shelf]:
        """Those of the assets that are in it."""


class Engine(ABC):
    """Makes, opens and drops the copies of the active tenant. All of it in the tenant's scope."""

    kind: str
    # Efforts to try, from the cheapest; what they mean is the engine's own matter.
    efforts: Sequence[int]

    @abstractmethod
    def require(self) -> None:
        """Raises EngineMissing and says what to do about it."""

    @abstractmethod
    def begin(self, copy_id: uuid.UUID) -> None:
        """Make an empty copy that nothing is served of."""

    @abstractmethod
    def add(self, copy_id: uuid.UUID, rows: Sequence[NewRow], vectors: np.ndarray) -> None:
        """Store rows; `vectors` float32 [n, 256]. In the caller's transaction."""

    @abstractmethod
    def finish(self, copy_id: uuid.UUID, rows: int) -> None:
        """Index what was stored; nothing is added afterwards. May take minutes."""

    @abstractmethod
    def open(self, copy_id: uuid.UUID, *, seq: int, details: Mapping[str, Any]) -> Copy | None:
        """A finished copy; None if it is not there. `details`: see `described`."""

    @abstractmethod
    def is_there(self, copy_id: uuid.UUID) -> bool: ...

    @abstractmethod
    def shelves(self, copy_id: uuid.UUID) -> dict[Shelf, int]:
        """How many assets of each shelf it holds."""

    @abstractmethod
    def copies(self) -> Iterator[tuple[uuid.UUID, int]]:
        """The tenant's copies with their bytes, finished or not."""

    @abstractmethod
    def drop(self, copy_id: uuid.UUID) -> bool:
        """Remove it; False if the tenant has no such copy. Waits for searches in it for a moment only."""


def described(shelves: Mapping[Shelf, int], efforts: Sequence[Effort]) -> dict[str, Any]:
    """What of a copy is kept in the details of its generation, as JSON."""
    return {
        "shelves": [[str(dataset), kind, count] for (dataset, kind), count in shelves.items()],
        "efforts": [[one.share, one.effort, one.recall, round(one.ms, 3)] for one in efforts],
    }


def read_shelves(details: Mapping[str, Any]) -> dict[Shelf, int]:
    return {(uuid.UUID(dataset), kind): count for dataset, kind, count in details["shelves"]}


def read_efforts(details: Mapping[str, Any]) -> tuple[Effort, ...]:
    return tuple(Effort(*one) for one in details["efforts"])
