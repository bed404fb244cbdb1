"""Engines outside of this process that hold copies of generations: what one has to meet, and which there are.

Milvus is one, where MILVUS_URL is set (`tenants.retrieval.milvus`); the tests keep the contract true with a slow one in
another process. Searches, builds and upkeep know of engines only what stands here.
"""

from __future__ import annotations

import logging
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from django.db import DatabaseError, connection, transaction

from ml.indexes.files import Effort
from ml.indexes.tuning import effort_for
from tenants.errors import Conflict, Unavailable
from tenants.retrieval.index import registry
from tenants.retrieval.index.generation_files import NotHere, is_here
from tenants.retrieval.models import IndexGeneration
from tenants.retrieval.types import (
    MODALITIES,
    Current,
    Hit,
    Partition,
    Plan,
    Prefetched,
    Restriction,
    Segment,
    SegmentSearch,
    State,
)
from tenants.scope import current_tenant_id

# --- The contract ---------------------------------------------------------------------------------------

# A copy is what a generation is, in another place: every vector of a model up to a sequence number, published by the
# pointer and never changed. Newer vectors, tombstones and changed metadata are the tenant's own business, in memory;
# so no engine has to be fresh, to delete, or to know what a transaction is. ADR 16 says what that asks of a
# distributed one.

# Rows to ask for at first for each asset that is wanted, where assets may have several; and for a few dead ones.
ROWS_EACH, MORE = 4, 8


class EngineMissing(Conflict):
    """The installation does not have this engine."""

    slug, title = "engine-missing", "This engine is not here"


class NewRow(NamedTuple):
    """A vector to copy: of which asset, where that is filed, and the number of the modality that it stands for."""

    seq: int
    asset_id: uuid.UUID
    dataset_id: uuid.UUID
    kind: int
    part: int


@dataclass(frozen=True)
class ExternalSegment(Segment):
    """A published segment in another engine, as one search uses it. Immutable; only filters need an open scope.

    `efforts`: recall@10 as measured when it was made, by share of the rows that may be found. What an engine writes
    are the abstract methods of this class; what it does not answer in time they raise as `tenants.errors.Unavailable`.
    """

    tenant_id: uuid.UUID
    id: uuid.UUID
    seq: int
    name: str
    rows: int
    efforts: tuple[Effort, ...]
    partitions: Mapping[Partition, int]

    is_local: ClassVar[bool] = False
    # A restriction that leaves at most so many assets is answered exactly.
    exact_assets: ClassVar[int] = 0

    @property
    def kind(self) -> str:
        return self.name

    @property
    def row_count(self) -> int:
        return self.rows

    @property
    def asset_count(self) -> int:
        return sum(self.partitions.values())

    @property
    def cost_ms(self) -> float:
        return self.efforts[0].ms if self.efforts else 0.0

    def recall_of(self, share: float) -> float:
        """Recall@10 to expect where that share of the assets may be found."""
        row = effort_for(self.efforts, share) or (self.efforts[-1] if self.efforts else None)
        return row.recall if row else 0.0

    def effort_of(self, share: float) -> int:
        row = effort_for(self.efforts, share) or (self.efforts[-1] if self.efforts else None)
        return row.effort if row else 0

    def search(self, state: State, only: Restriction, *, exact: bool) -> SegmentSearch:
        return _Search(state, self, only, exact=exact)

    def without(self, state: State, asset_ids: list[uuid.UUID]) -> State:
        return replace(state, gone=state.gone.and_also(self.partitions_of(asset_ids)))

    def filtered(
        self,
        planned: Plan,
        only: Restriction,
        changed: tuple[np.ndarray, np.ndarray],
        newer: Callable[[], list[uuid.UUID]],
    ) -> Restriction:
        """By the engine, which knows metadata as it is now."""
        return replace(only, planned=planned, assets=newer())

    # --- What an engine writes ---------------------------------------------------------------------------

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

        `query` float32 [d] of norm 1. `share` of the assets may be found. Filters (`only.planned`) hold as of now.
        Finds fewer only if there are no more. Raises SegmentGone and Unavailable.
        """

    @abstractmethod
    def hits_of(
        self, query: np.ndarray, scores: np.ndarray, rows: np.ndarray, only: Restriction
    ) -> list[Hit]:
        """What `candidates` found as `find` tells it, the best first. Raises SegmentGone and Unavailable."""

    @abstractmethod
    def measured(self, query: np.ndarray, depth: int, effort: int, every: int) -> np.ndarray:
        """Scores float32 of the best rows at that effort, among those whose number `every` divides."""

    @abstractmethod
    def partitions_of(self, asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Partition]:
        """Those of the assets that are in it."""


class Engine(ABC):
    """Makes, opens and drops the segments of the active tenant. All of it in the tenant's scope.

    `kind`: as the generation's row names it, the name under which the engine is registered before a colon.
    """

    kind: str
    # Efforts to try, from the cheapest; what they mean is the engine's own matter.
    efforts: Sequence[int]

    @property
    def above(self) -> int | None:
        """A tenant with more vectors of a model moves there by itself; None: only by hand."""
        return None

    @abstractmethod
    def describe(self) -> str:
        """What answers, for operators. Raises EngineMissing and Unavailable."""

    @abstractmethod
    def everything(self) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
        """Tenant and id of every segment of this installation, for operators. Needs no scope."""

    @abstractmethod
    def require(self) -> None:
        """Raises EngineMissing and says what to do about it."""

    @abstractmethod
    def begin(self, segment_id: uuid.UUID) -> None:
        """Make an empty segment that nothing is served of."""

    @abstractmethod
    def add(self, segment_id: uuid.UUID, rows: Sequence[NewRow], vectors: np.ndarray) -> None:
        """Store rows; `vectors` float32 [n, d]. What a transaction that is rolled back has added may stay."""

    @abstractmethod
    def finish(self, segment_id: uuid.UUID, rows: int) -> float:
        """Index what was stored; nothing is added afterwards. Called until it returns 1.0, which may take hours: how
        much is done by then. A call takes no longer than a transaction may."""

    @abstractmethod
    def open(self, segment_id: uuid.UUID, *, seq: int, details: Mapping[str, Any]) -> ExternalSegment | None:
        """A finished segment; None if it is not there. `details`: see `described`, and `rows`, how many."""

    @abstractmethod
    def is_there(self, segment_id: uuid.UUID) -> bool: ...

    @abstractmethod
    def partitions(self, segment_id: uuid.UUID) -> dict[Partition, int]:
        """How many assets of each partition it holds."""

    @abstractmethod
    def segments(self) -> Iterator[tuple[uuid.UUID, int]]:
        """The tenant's segments with their bytes, finished or not."""

    @abstractmethod
    def drop(self, segment_id: uuid.UUID) -> bool:
        """Remove it; False if the tenant has no such segment. Waits for searches in it for a moment only."""


def described(partitions: Mapping[Partition, int], efforts: Sequence[Effort]) -> dict[str, Any]:
    """What of a segment is kept in the details of its generation, as JSON."""
    return {
        "partitions": [[str(dataset), kind, count] for (dataset, kind), count in partitions.items()],
        "efforts": [[one.share, one.effort, one.recall, round(one.ms, 3)] for one in efforts],
    }


def read_partitions(details: Mapping[str, Any]) -> dict[Partition, int]:
    return {(uuid.UUID(dataset), kind): count for dataset, kind, count in details["partitions"]}


def read_efforts(details: Mapping[str, Any]) -> tuple[Effort, ...]:
    return tuple(Effort(*one) for one in details["efforts"])


# --- A search --------------------------------------------------------------------------------------------


class _Search(SegmentSearch):
    def __init__(self, state: State, segment: ExternalSegment, only: Restriction, *, exact: bool) -> None:
        self._gone, self._segment, self._only, self._exact = state.gone.ids, segment, only, exact
        self.total = max(0, _total(state, segment, only))

    def best(self, query: np.ndarray, count: int, prefetched: Prefetched | None) -> list[Hit]:
        count = min(count, self.total)
        if not count:
            return []
        depth = (count if self._segment.one_row_each else count * ROWS_EACH) + MORE
        if prefetched is not None and prefetched.generation_id == self._segment.id and not self._exact:
            found = self._segment.hits_of(
                query, prefetched.scores[:depth], prefetched.rows[:depth], self._only
            )
            hits = self._best_of(found, count)
            if len(hits) == count:
                self.recall = self._segment.recall_of(1.0)
                return hits
        return self._search(query, count, depth)

    def _search(self, query: np.ndarray, count: int, depth: int) -> list[Hit]:
        share = self.total / max(1, self._segment.asset_count)
        while True:
            found, self.recall = self._segment.find(query, depth, self._only, share=share, exact=self._exact)
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


def _total(state: State, segment: ExternalSegment, only: Restriction) -> int:
    if only.planned or (only.until is not None and only.until < segment.seq):
        return segment.count(only)
    if only.assets is not None:
        return segment.count(only) - len(state.gone.ids.intersection(only.assets))
    held = sum(count for partition, count in segment.partitions.items() if allows(only, partition))
    return held - sum(count for one, count in state.gone.partitions.items() if allows(only, one))


def allows(only: Restriction, partition: Partition) -> bool:
    """Whether assets that are filed there may be found, as far as datasets and modalities say."""
    dataset_id, kind = partition
    if dataset_id in only.hidden_datasets or (only.datasets is not None and dataset_id not in only.datasets):
        return False
    return only.modalities is None or MODALITIES[kind] in only.modalities


# --- Engines that there are -----------------------------------------------------------------------------

log = logging.getLogger(__name__)

ENGINES: dict[str, Engine] = {}

# Engines of earlier releases. Who was in one is searched in memory, whatever the size, until a generation is built.
LEFT = frozenset({"pgvector"})

_repairing: set[uuid.UUID] = set()
_lock = threading.Lock()


def opened_segment(engine: str, current: Current) -> ExternalSegment:
    """The published segment. In the tenant's scope. Raises NotHere, and has it repaired, where it is missing."""
    generation = IndexGeneration.objects.filter(pk=current.id).first()
    segment = (
        ENGINES[engine].open(
            generation.pk, seq=generation.seq, details={**generation.details, "rows": generation.vectors}
        )
        if generation and engine in ENGINES
        else None
    )
    if segment is None:
        _repair(current_tenant_id(), current.id)
        raise NotHere
    return segment


def is_there(generation: IndexGeneration) -> bool:
    """Whether what a generation is made of exists: its files, stored or here, or its copy. In the tenant's scope.

    Of an engine that does not answer it is taken to be so: searches say that, and nothing is built anew for it.
    """
    if generation.is_external:
        with suppress(Unavailable):
            return generation.engine in ENGINES and ENGINES[generation.engine].is_there(generation.pk)
        return True
    return generation.archived or is_here(generation.tenant_id, generation.pk)


def of_tenant() -> Iterator[tuple[Engine, uuid.UUID]]:
    """Every copy of the active tenant, also one that nothing refers to."""
    for engine in ENGINES.values():
        for segment_id, _size in list(engine.segments()):
            yield engine, segment_id


def tidy(kept: Collection[str]) -> None:
    """Remove the active tenant's copies but those whose ids are kept; one that is in use, or in an engine that does not
    answer, stays until the next time."""
    try:
        for engine, segment_id in of_tenant():
            if str(segment_id) not in kept:
                with transaction.atomic():
                    engine.drop(segment_id)
    except (DatabaseError, Unavailable, EngineMissing):
        log.warning("copies could not be dropped", exc_info=True)


def _repair(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """In a thread and a transaction of its own: that of the search which noticed may be rolled back."""
    with _lock:
        if generation_id in _repairing:
            return
        _repairing.add(generation_id)

    def run() -> None:
        try:
            registry.damaged(tenant_id=tenant_id, generation_id=generation_id, reason="the copy is gone")
        except Exception:
            # Upkeep looks for missing copies as well.
            log.exception("the repair of an index could not be begun")
        finally:
            with _lock:
                _repairing.discard(generation_id)
            connection.close()

    threading.Thread(target=run, name="repair-index", daemon=True).start()
