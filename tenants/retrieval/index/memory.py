"""The tenant's index in memory, kept fresh from the database by sequence number.

A small tenant is one flat array. A larger one is a generation (`registry.FileSegment`), which covers all vectors up to
a sequence number, and a flat array of the newer ones, which is searched exactly; tombstones say what of either is gone.
Nothing here is the truth: any process may drop it at any time and load it again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from ml.indexes.base import as_matrix
from ml.indexes.live_postings import Row
from tenants.datasets.models import Asset, Facet
from tenants.datasets.selectors import is_any
from tenants.errors import IndexRebuilding
from tenants.prepared import Prepared
from tenants.retrieval import engines
from tenants.retrieval.index.generation_files import NotHere, note_use
from tenants.retrieval.index.registry import opened
from tenants.retrieval.models import MEMORY, FacetChange, IndexPointer, Tombstone, Vector, VectorClock
from tenants.retrieval.types import (
    MODALITIES,
    Current,
    Facets,
    IndexStatus,
    Known,
    Rows,
    Segment,
    State,
)
from tenants.scope import current_tenant_id, tenant_scope, whole_tenant

# --- What a search has to know before it begins ---------------------------------------------------------

# Of one moment and in one statement.

log = logging.getLogger(__name__)

NOTE_EVERY_S = 3600.0
NOTE_WAIT_S = 2.0
MOST_NOTED = 10_000

_Key = tuple[uuid.UUID, str]


class Activity:
    """Notes of searches by tenant and model."""

    def __init__(self) -> None:
        self._told: dict[_Key, float] = {}
        self._noted: dict[_Key, uuid.UUID] = {}
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, tenant_id: uuid.UUID, model: str, generation_id: uuid.UUID) -> None:
        """A search was made in a generation. Costs a look into a dictionary, but for the first one in an hour."""
        key, now = (tenant_id, model), time.monotonic()
        if now - self._told.get(key, -math.inf) < NOTE_EVERY_S:
            return
        with self._lock:
            if len(self._told) >= MOST_NOTED:
                self._told.clear()
            self._told[key] = now
            self._noted[key] = generation_id
            self._something.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._tell_for_ever, name="activity", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Tell the database what was noted; what cannot be told is noted again."""
        with self._lock:
            noted, self._noted = self._noted, {}
        while noted:
            key, generation_id = noted.popitem()
            try:
                _tell(*key, generation_id)
            except Exception:
                with self._lock:
                    self._noted = {**noted, key: generation_id, **self._noted}
                raise

    def _tell_for_ever(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            time.sleep(NOTE_WAIT_S)
            try:
                self.flush()
            except Exception:
                log.warning("which indexes are searched waits for the database", exc_info=True)
                self._something.set()
            finally:
                connection.close()


def _tell(tenant_id: uuid.UUID, model: str, generation_id: uuid.UUID) -> None:
    note_use(tenant_id, generation_id)
    with tenant_scope(tenant_id):
        IndexPointer.objects.filter(model=model).update(searched_at=timezone.now())


activity = Activity()


# $1: tenant, $2: model. One row.
INDEX_STATUS_SQL = """
SELECT COALESCE(c.last, 0) AS last, COALESCE(c.pruned, 0) AS pruned, COALESCE(c.live, $2) AS live,
    ARRAY(SELECT id FROM dataset WHERE tenant_id = $1 AND deleted_at IS NOT NULL) AS hidden,
    COALESCE(p.engine, 'memory') AS engine, g.id AS generation, g.seq, g.kind, g.recall
FROM (SELECT) AS always
LEFT JOIN vector_clock c ON c.tenant_id = $1
LEFT JOIN index_pointer p ON p.tenant_id = $1 AND p.model = $2
LEFT JOIN index_generation g ON g.tenant_id = p.tenant_id AND g.id = p.current_id
"""
INDEX_STATUS_COLUMNS = 9
_INDEX_STATUS = Prepared("index_status", ("uuid", "text"), INDEX_STATUS_SQL)


def read_index_status(tenant_id: uuid.UUID, model: str) -> IndexStatus:
    """For this tenant and model. Needs no scope: alone it is one round trip."""
    (row,) = _INDEX_STATUS.rows_of(tenant_id, tenant_id, model)
    return parse_index_status(tenant_id, model, row)


def parse_index_status(tenant_id: uuid.UUID, model: str, row: Sequence[Any]) -> IndexStatus:
    """What a row of `SQL` says."""
    last, pruned, live, hidden, engine, *current = row
    published = Current(*current) if current[0] and engine not in engines.LEFT else None
    if published is not None:
        activity.note(tenant_id, model, published.id)
    return IndexStatus(last, pruned, tuple(hidden), engine, published, live)


# --- Facets of newer and changed assets -----------------------------------------------------------------

# Of the assets that no postings know: the newer ones, and those that have changed since. They stand beside a state
# (tenants.retrieval.types) and are loaded for the keys that searches ask for, at the first of them. They are kept
# fresh as vectors are: whoever changes facets takes a sequence number (`FacetChange`), and an asset that is new to the
# state is read when it comes. So an answer knows every change that was committed before the search began, and is the
# one that Postgres would give.

# Above, Postgres is asked instead: some 20 bytes a facet, and 200 for each text that stands there once.
MOST_ROWS = 3_000_000
MOST_KEYS = 200
# Slots of assets that have got another one since; above this share of all, everything is read anew.
DEAD_SHARE, DEAD_LEAST = 0.5, 10_000
NAMED = 10_000
FETCHED = 5_000

# Of one moment: nobody's change is between the clock and the list. Nothing is missing from it above `pruned`.
_CHANGES = Prepared(
    "facet_changes",
    ("uuid", "bigint"),
    """
SELECT c.last, c.pruned, ARRAY(SELECT asset_id FROM facet_change WHERE tenant_id = $1 AND seq > $2)
FROM vector_clock c WHERE c.tenant_id = $1
""",
)


class TooMany(Exception):
    """More facets than are held in memory."""


class FacetMemory(Facets):
    """What is known beside one line of states, each of which came from the one before."""

    def __init__(self) -> None:
        self._known = Known()
        self._refused = False
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._known.bytes

    def known(self, state: State, keys: Collection[str]) -> Known | None:
        """The facets under these keys of the state's newer and changed assets, as of the state or newer.

        In the tenant's scope; asks nothing of the database where nothing is new. None where they are too many.
        """
        wanted = frozenset(keys)
        if self._refused:
            return None
        if self._known.covers(state, wanted):
            return self._known
        # What is held is shared by everybody, also where somebody asks first who sees a part of it.
        with self._lock, whole_tenant():
            if not self._refused and not self._known.covers(state, wanted):
                self._catch_up(state, wanted)
            return None if self._refused else self._known

    def _catch_up(self, state: State, wanted: frozenset[str]) -> None:
        try:
            before = self._known if len(self._known.keys | wanted) <= MOST_KEYS else Known()
            self._known = _followed(before, state, wanted) or _begun(state, before.keys | wanted)
        except TooMany:
            # Until the state begins anew.
            self._known, self._refused = Known(), True


# --- From one moment to a later one ----------------------------------------------------------------------

Placed = dict[uuid.UUID, int]


def _begun(state: State, keys: frozenset[str]) -> Known:
    """Everything read: afterwards, so it is as of the state or newer."""
    known, placed = _tracking(Known(seq=state.seq), state, {*state.changed, *_without_vectors(state)})
    return _with_keys(known, state, keys, placed)


def _followed(known: Known, state: State, wanted: frozenset[str]) -> Known | None:
    """Caught up; None where it is better or necessary to begin anew.

    Keys first: what is read of them is not newer than the changes that are asked for afterwards, so that no asset
    stands there with one key of before a change and another one of after it.
    """
    if not known.count or known.dead > max(DEAD_LEAST, DEAD_SHARE * known.count):
        return None
    if not known.keys >= wanted:
        known = _with_keys(known, state, wanted - known.keys, _placed(known, state))
    ((last, pruned, changed),) = _CHANGES.rows(current_tenant_id(), known.seq) or [(0, 0, [])]
    if pruned > known.seq:
        return None
    known, placed = _tracking(replace(known, seq=max(known.seq, last)), state, set(changed))
    return _with_rows(known, _rows(known.keys, placed))


def _tracking(known: Known, state: State, changed: set[uuid.UUID]) -> tuple[Known, Placed]:
    """With a new slot for each asset that has come to the state, and for each that has changed; and with those."""
    # A refresh beside this one may be giving out further numbers: their assets come next time.
    numbered = len(state.assets)
    came = state.assets.ids(range(len(known.slots), numbered))
    placed = {asset_id: known.count + n for n, asset_id in enumerate(dict.fromkeys([*came, *changed]))}
    slots = np.concatenate([known.slots, np.array([placed[one] for one in came], np.int32)])
    others = {asset_id: slot for asset_id, slot in known.others.items() if asset_id not in placed}
    # In the base also those that have been embedded anew: older states still find them there.
    base_numbers, base_slots, of_base = _in_base(known, state, placed)
    for asset_id in changed:
        number = state.assets.find(asset_id)
        if number is not None and number < numbered:
            slots[number] = placed[asset_id]
        elif asset_id not in of_base and (state.base is None or state.base.is_local):
            others[asset_id] = placed[asset_id]
    known = replace(
        known,
        count=known.count + len(placed),
        slots=slots,
        base_numbers=base_numbers,
        base_slots=base_slots,
        others=others,
    )
    return known, placed


def _in_base(known: Known, state: State, placed: Placed) -> tuple[np.ndarray, np.ndarray, set[uuid.UUID]]:
    """`base_numbers` and `base_slots` with those of these assets that are in the base; and which these are."""
    base = state.base
    if base is None or not len(numbers := base.numbers(placed)):
        return known.base_numbers, known.base_slots, set()
    ids = base.ids(numbers)
    kept = ~np.isin(known.base_numbers, numbers)
    slots = np.array([placed[asset_id] for asset_id in ids], np.int32)
    return (
        np.concatenate([known.base_numbers[kept], numbers]),
        np.concatenate([known.base_slots[kept], slots]),
        set(ids),
    )


def _without_vectors(state: State) -> list[uuid.UUID]:
    """Assets that only words find. Where there is a base, only those that came after it are known, by their number."""
    if state.base is not None:
        return []
    bare = Asset.objects.exclude(Exists(Vector.objects.filter(asset_id=OuterRef("pk"))))
    return list(bare.values_list("pk", flat=True))


# --- Reading ---------------------------------------------------------------------------------------------


def _with_keys(known: Known, state: State, keys: frozenset[str], placed: Placed) -> Known:
    """With further keys of all assets that are tracked: `placed`."""
    # Named one by one they take longer than all that there are, where no base has most of them.
    rows = _rows(keys, placed, everything=state.base is None)
    return _with_rows(replace(known, keys=known.keys | keys), rows)


def _with_rows(known: Known, rows: Iterator[Row]) -> Known:
    return replace(known, postings=known.postings.grown(_bounded(rows, known.postings.rows)))


def _bounded(rows: Iterator[Row], before: int) -> Iterator[Row]:
    for count, row in enumerate(rows, before + 1):
        if count > MOST_ROWS:
            raise TooMany
        yield row


def _placed(known: Known, state: State) -> Placed:
    """All assets that are tracked, with their slots."""
    tracked = state.assets.ids(range(len(known.slots)))
    placed = dict(zip(tracked, known.slots.tolist(), strict=True)) | dict(known.others)
    if state.base is not None:
        for asset_id, slot in zip(state.base.ids(known.base_numbers), known.base_slots.tolist(), strict=True):
            placed.setdefault(asset_id, slot)
    return placed


def _rows(keys: frozenset[str], placed: Placed, *, everything: bool = False) -> Iterator[Row]:
    """What the assets have under these keys now: (key, slot, text, number). Of an asset in one statement."""
    if not keys or not placed:
        return
    facets = Facet.objects.filter(key__in=sorted(keys))
    ids = list(placed)
    named = [ids[at : at + NAMED] for at in range(0, len(ids), NAMED)]
    for part in [facets] if everything else [facets.filter(is_any("asset_id", some)) for some in named]:
        found = part.values_list("asset_id", "key", "text", "number")
        for asset_id, *value in found.iterator(chunk_size=FETCHED) if len(ids) > FETCHED else found:
            slot = placed.get(asset_id)
            if slot is not None:
                yield value[0], slot, value[1], value[2]


# --- The tenant's vectors -------------------------------------------------------------------------------

CHUNK = 5_000
# Writers may be faster than a reader; what is read by then is all that was committed before it began.
MAX_ROUNDS = 5
SUM_S = 5.0
COMPACT_SHARE = 0.3
# Of a row beside its vector: the columns, and the asset's id as an object, in a list and in a dictionary; with what the
# allocator adds to that: measured with a thousand tenants of a thousand rows.
ROW_BYTES = 26 + 300


class TenantVectors:
    """All vectors of one tenant and model. Searches run beside each other and beside one refresh."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.state = State(FacetMemory())
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Of its arrays."""
        row = ROW_BYTES + 4 * (self.state.index.dimension or 0)
        return len(self.state.rows.alive) * row + self.state.facets.bytes

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
        # The index is shared by everybody, also where somebody asks first who sees a part of it.
        with self._lock, whole_tenant():
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
        rows, numbered = state.rows, len(state.assets)
        for batch in _batches(columns.iterator(chunk_size=CHUNK)):
            rows = _append(state, rows, batch)
        known = {number: s for a, s in found if (number := state.assets.find(a)) is not None}
        changed = state.changed | self._changed(state, last)
        if state.base is not None and found:
            state = state.base.without(state, [asset_id for asset_id, _ in found])
        came = state.assets.ids(range(numbered, len(state.assets)))
        rows = rows.without_deleted(known) if known else rows
        gone = [asset_id for asset_id, _ in found]
        return _told_generated(replace(state, seq=last, rows=rows, changed=changed), state.seq, came, gone)

    def _changed(self, state: State, last: int) -> frozenset[uuid.UUID]:
        if state.base is None or not state.base.is_local:
            return frozenset()
        changes = FacetChange.objects.filter(seq__gt=state.seq, seq__lte=last)
        return frozenset(changes.values_list("asset_id", flat=True))


def _told_generated(state: State, since: int, came: Sequence[uuid.UUID], gone: Sequence[uuid.UUID]) -> State:
    """The state with which assets were made here, and with what it is without them.

    `came`: assets with vectors that are newer than the number `since`; those without are told by the changes of facets.
    `gone`: assets with newer tombstones.
    """
    made, known, before = Asset.objects.exclude(generation_id=None), state.generated, state.without_generated
    if known is not None and len(came) <= NAMED:
        bare = FacetChange.objects.filter(seq__gt=since, seq__lte=state.seq)
        made = made.filter(Q(is_any("id", came)) | Q(pk__in=bare.values("asset_id")))
    new = frozenset(made.values_list("pk", flat=True)) - (known or frozenset())
    generated = (known or frozenset()) | new
    state = replace(state, generated=generated, without_generated=None)
    if not generated:
        return state
    rows = state.rows
    alive = rows.alive & ~np.isin(rows.assets, state.assets.known(generated))
    without = replace(state, rows=replace(rows, alive=alive))
    if state.base is not None:
        # An engine is asked where an asset is filed: once.
        if before is not None and before.base is state.base:
            without = state.base.without(replace(without, dead=before.dead, gone=before.gone), [*new, *gone])
        else:
            without = state.base.without(without, list(generated))
    return replace(state, without_generated=without)


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
    numbers = state.index.add(as_matrix([row[6] for row in batch]))
    state.segments.update({int(n): row[5] for n, row in zip(numbers, batch, strict=True) if row[5]})
    return rows.appended(
        assets=[state.assets.number(row[0]) for row in batch],
        datasets=[state.datasets.number(row[1]) for row in batch],
        kinds=[MODALITIES.index(row[2]) for row in batch],
        parts=[MODALITIES.index(row[3]) for row in batch],
        seqs=[row[4] for row in batch],
        alive=[True] * len(batch),
    )


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

    def drop(self, tenant_id: uuid.UUID) -> None:
        """Forget what is in memory of one tenant: its next search opens the files anew."""
        with self._lock:
            for key in [one for one in self._entries if one[0] == tenant_id]:
                del self._entries[key]
                self._count(key, 0, 0)
                del self._sizes[key]
                if key == self._last:
                    self._last = None

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


vector_cache = VectorCache()
