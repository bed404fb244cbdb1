"""Facets of the assets that no postings know, in memory: of the newer ones, and of those that have changed since.

They stand beside a state (tenants.retrieval.types) and are loaded for the keys that searches ask for, at the first of
them. They are kept fresh as vectors are: whoever changes facets takes a sequence number (`FacetChange`), and an asset
that is new to the state is read when it comes. So an answer knows every change that was committed before the search
began, and is the one that Postgres would give.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
from django.db.models import Exists, OuterRef

from ml.indexes.live_postings import Row
from tenants.datasets.models import Asset, Facet
from tenants.prepared import Prepared
from tenants.retrieval.filters.filter_plan import is_any
from tenants.retrieval.models import Vector
from tenants.retrieval.types import Facets, Known, State
from tenants.scope import current_tenant_id

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
        with self._lock:
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
    numbered = state.assets.ids[:]
    came = numbered[len(known.slots) :]
    placed = {asset_id: known.count + n for n, asset_id in enumerate(dict.fromkeys([*came, *changed]))}
    slots = np.concatenate([known.slots, np.array([placed[one] for one in came], np.int32)])
    others = {asset_id: slot for asset_id, slot in known.others.items() if asset_id not in placed}
    # In the base also those that have been embedded anew: older states still find them there.
    base_numbers, base_slots, of_base = _in_base(known, state, placed)
    for asset_id in changed:
        number = state.assets.numbers.get(asset_id, len(numbered))
        if number < len(numbered):
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
    placed = dict(zip(state.assets.ids, known.slots.tolist(), strict=False)) | dict(known.others)
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
