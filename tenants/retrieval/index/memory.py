"""The tenant's index in memory, kept fresh from the database by sequence number.

A small tenant is one flat array. A larger one is a generation (`segments`), which covers all vectors up to a sequence
number, and a flat array of the newer ones, which is searched exactly; tombstones say what of either is gone.
Nothing here is the truth: any process may drop it at any time and load it again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from django.conf import settings

from tenants.errors import IndexRebuilding
from tenants.retrieval import engines
from tenants.retrieval.filters.facet_memory import FacetMemory
from tenants.retrieval.index.reader import read_index_status
from tenants.retrieval.index.registry import NotHere, opened
from tenants.retrieval.models import MEMORY, FacetChange, Tombstone, Vector, VectorClock
from tenants.retrieval.types import DIMENSION, MODALITIES, IndexStatus, Rows, Segment, State
from tenants.scope import current_tenant_id

CHUNK = 5_000
# Writers may be faster than a reader; what is read by then is all that was committed before it began.
MAX_ROUNDS = 5
SUM_S = 5.0
COMPACT_SHARE = 0.3
# Vectors and columns of a row, and the asset's id as an object, in a list and in a dictionary; with what the allocator
# adds to that: measured with a thousand tenants of a thousand rows.
ROW_BYTES = DIMENSION * 4 + 26 + 300


class TenantVectors:
    """All vectors of one tenant and model. Searches run beside each other and beside one refresh."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.state = State(FacetMemory())
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        return len(self.state.rows.alive) * ROW_BYTES + self.state.facets.bytes

    @property
    def mapped(self) -> int:
        """Bytes of the files of its generation."""
        base = self.state.base
        return base.mapped_bytes if base else 0

    def current(self, now: IndexStatus) -> State | None:
        """The state as it is if nothing is newer. Needs no scope."""
        state = self.state
        return state if _is_current(state, now) else None

    def refresh(self, now: IndexStatus | None = None) -> State:
        """Catch up with the active tenant's database: at least with all that was committed before `now` was asked.

        Raises IndexRebuilding for a large tenant whose index is not there.
        """
        now, state = now or read_index_status(current_tenant_id(), self.model), self.state
        if _is_current(state, now):
            return state
        with self._lock:
            state = self.state
            start = self._start(state, now)
            if start is not state or state.seq < now.last:
                state = self._catch_up(start, now)
        return state

    def _start(self, state: State, now: IndexStatus) -> State:
        """Where to catch up from: the state as it is, or a fresh one on the generation that is published now."""
        follows = state.seq > 0 and state.seq >= now.pruned
        base = self._base(state, now, must=not follows)
        if base is not None and base.seq < now.pruned:
            # Tombstones that it would need have been forgotten.
            base = None
        if base is not state.base:
            return State(FacetMemory(), seq=base.seq, base=base) if base else self._empty(now)
        if follows and not self._mostly_dead():
            return state
        return State(FacetMemory(), seq=base.seq, base=base) if base else self._empty(now)

    def _base(self, state: State, now: IndexStatus, *, must: bool) -> Segment | None:
        if now.current is None:
            return None
        if state.base is not None and state.base.id == now.current.id:
            return state.base
        try:
            if now.engine != MEMORY:
                return engines.opened_segment(now.engine, now.current)
            # Beside the requests, as long as the state before it still serves; one in an engine is dropped soon.
            must = must or (state.base is not None and not state.base.is_local)
            return opened.get(current_tenant_id(), now.current.id, wait=must) or state.base
        except NotHere:
            return None

    def _empty(self, now: IndexStatus) -> State:
        """For a load of everything. Raises IndexRebuilding where that is too much for a request.

        A tenant whose engine is no more is loaded whatever its size, until its generation is built.
        """
        bound = settings.INDEX_EXACT_MAX
        if (
            now.engine not in engines.LEFT
            and Vector.objects.filter(model=self.model)[: bound + 1].count() > bound
        ):
            raise IndexRebuilding
        return State(FacetMemory())

    def _catch_up(self, state: State, now: IndexStatus) -> State:
        """Publish and return a state of one moment: what was written while it was read is read as well."""
        last = now.last
        try:
            for _ in range(MAX_ROUNDS):
                since, state = state.seq, self._caught_up(state, last)
                clock = VectorClock.objects.first()
                if clock is None or clock.last == state.seq:
                    break
                last = clock.last
                if 0 < since < clock.pruned:
                    # Tombstones that were to be read just now have been pruned meanwhile.
                    state = self._empty(now)
        except BaseException:
            # What broke off half-way may have left rows in the index that nothing describes: start anew.
            self.state = State(FacetMemory())
            raise
        self.state = state
        return state

    def _mostly_dead(self) -> bool:
        alive = self.state.rows.alive
        return len(alive) > CHUNK and 1 - alive.mean() > COMPACT_SHARE

    def _caught_up(self, state: State, last: int) -> State:
        # Tombstones first: a tombstone of a vector that is loaded afterwards has a smaller number than that vector.
        tombstones = Tombstone.objects.filter(seq__gt=state.seq, seq__lte=last).values_list("asset_id", "seq")
        found = [(a, s) for a, s in tombstones.order_by("seq")]
        newer = Vector.objects.filter(model=self.model, seq__gt=state.seq, seq__lte=last).order_by("seq")
        columns = newer.values_list(
            "asset_id", "dataset_id", "asset_modality", "modality", "seq", "segment", "data"
        )
        rows = state.rows
        for batch in _batches(columns.iterator(chunk_size=CHUNK)):
            rows = _append(state, rows, batch)
        known = {state.assets.numbers[a]: s for a, s in found if a in state.assets.numbers}
        changed = state.changed | self._changed(state, last)
        if state.base is not None and found:
            state = state.base.without(state, [asset_id for asset_id, _ in found])
        return replace(state, seq=last, rows=rows.without_deleted(known) if known else rows, changed=changed)

    def _changed(self, state: State, last: int) -> frozenset[uuid.UUID]:
        if state.base is None or not state.base.is_local:
            return frozenset()
        changes = FacetChange.objects.filter(seq__gt=state.seq, seq__lte=last)
        return frozenset(changes.values_list("asset_id", flat=True))


def _is_current(state: State, now: IndexStatus) -> bool:
    published = now.current.id if now.current else None
    return state.seq == now.last and (state.base.id if state.base else None) == published


def _batches(rows: Iterable[tuple]) -> Iterable[list[tuple]]:
    batch: list[tuple] = []
    for row in rows:
        batch.append(row)
        if len(batch) == CHUNK:
            yield batch
            batch = []
    if batch:
        yield batch


def _append(state: State, rows: Rows, batch: list[tuple]) -> Rows:
    values = np.frombuffer(b"".join(bytes(row[6]) for row in batch), dtype="<f4").reshape(-1, DIMENSION)
    numbers = state.index.add(values)
    state.segments.update({int(n): row[5] for n, row in zip(numbers, batch, strict=True) if row[5]})
    return rows.appended(
        assets=[state.assets.number(row[0]) for row in batch],
        datasets=[state.datasets.number(row[1]) for row in batch],
        kinds=[MODALITIES.index(row[2]) for row in batch],
        parts=[MODALITIES.index(row[3]) for row in batch],
        seqs=[row[4] for row in batch],
        alive=[True] * len(batch),
    )


_Key = tuple[uuid.UUID, str]


class VectorCache:
    """The tenants whose indexes are in memory, least recently used first out: one budget of bytes for their arrays,
    and one for the files that they have mapped.

    Sizes are summed as tenants come and go, not anew at every search, which a thousand tenants would make 10 ms dearer.
    """

    def __init__(self, budget_bytes: int | None = None, budget_mapped: int | None = None) -> None:
        self.budget_bytes = settings.INDEX_MEMORY_BYTES if budget_bytes is None else budget_bytes
        self.budget_mapped = settings.INDEX_MAPPED_BYTES if budget_mapped is None else budget_mapped
        self._entries: OrderedDict[_Key, TenantVectors] = OrderedDict()
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all of them."""
        self._entries.clear()
        self._sizes: dict[_Key, tuple[int, int]] = {}
        self._arrays = self._mapped = 0
        self._last: _Key | None = None
        self._summed_at = time.monotonic()

    def of(self, tenant_id: uuid.UUID, model: str) -> TenantVectors:
        key = (tenant_id, model)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = TenantVectors(model)
            if key != self._last:
                self._entries.move_to_end(key)
                self._measure(key)
                self._evict(key)
                self._last = key
        return entry

    def _measure(self, key: _Key) -> None:
        """This one, and the one before, which has loaded what it needed by now; from time to time all of them, as
        loads beside each other end when they end."""
        if time.monotonic() - self._summed_at > SUM_S:
            self._summed_at = time.monotonic()
            changed = set(self._entries)
        else:
            changed = {one for one in (key, self._last) if one is not None and one in self._entries}
        for one in changed:
            self._count(one, self._entries[one].bytes, self._entries[one].mapped)

    def _count(self, key: _Key, arrays: int, mapped: int) -> None:
        before = self._sizes.get(key, (0, 0))
        self._arrays += arrays - before[0]
        self._mapped += mapped - before[1]
        self._sizes[key] = (arrays, mapped)

    def _evict(self, newest: _Key) -> None:
        while self._arrays > self.budget_bytes or self._mapped > self.budget_mapped:
            key = next(iter(self._entries))
            if key == newest:
                return
            del self._entries[key]
            self._count(key, 0, 0)
            del self._sizes[key]

    def bytes(self) -> int:
        with self._lock:
            return sum(entry.bytes for entry in self._entries.values())


cache = VectorCache()
