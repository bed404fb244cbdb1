"""The tenant's vectors in memory: one flat array, kept fresh from the database by sequence number.

Nothing here is the truth: any process may drop it at any time and load it again.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ml.indexes.flat import FlatIndex
from tenants.retrieval.models import Tombstone, Vector, VectorClock
from tenants.retrieval.vectors import DIMENSION
from tenants.scope import current_tenant_id

MODALITIES = ("text", "image", "audio", "video")
CHUNK = 5_000
# Writers may be faster than a reader; what is read by then is all that was committed before it began.
MAX_ROUNDS = 5
COMPACT_SHARE = 0.3
BUDGET_BYTES = 1 << 30
ROW_BYTES = DIMENSION * 4 + 26


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
    """What is known of each row of the index, in parallel arrays; assets and datasets by their number."""

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
    """All that one search needs; replaced as a whole, so that a search never sees half a refresh."""

    seq: int = 0
    index: FlatIndex = field(default_factory=lambda: FlatIndex(DIMENSION))
    rows: Rows = field(default_factory=Rows)
    assets: Numbering = field(default_factory=Numbering)
    datasets: Numbering = field(default_factory=Numbering)
    # By row number; only rows that stand for a part of their asset have one.
    segments: dict[int, dict] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return int(self.rows.alive.sum())


@dataclass(frozen=True)
class Hit:
    asset_id: uuid.UUID
    score: float
    modality: str
    segment: dict | None = None


@dataclass(frozen=True)
class Restriction:
    """Which assets a search may return; None means no restriction of this kind."""

    datasets: list[uuid.UUID] | None = None
    modalities: list[str] | None = None
    assets: list[uuid.UUID] | None = None
    hidden_datasets: list[uuid.UUID] = field(default_factory=list)


class TenantVectors:
    """All vectors of one tenant and model. Searches run beside each other and beside one refresh."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.state = State()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return len(self.state.rows.alive) * ROW_BYTES

    def refresh(self) -> State:
        """Catch up with the active tenant's database: at least with all that was committed before this call."""
        clock, state = VectorClock.objects.first(), self.state
        if clock is None or clock.last == state.seq:
            return state
        with self._lock:
            state = self.state
            if clock.last > state.seq:
                stale = state.seq < clock.pruned or self._mostly_dead()
                state = self._catch_up(State() if stale else state, clock)
        return state

    def _catch_up(self, state: State, clock: VectorClock) -> State:
        """Publish and return a state of one moment: what was written while it was read is read as well."""
        try:
            for _ in range(MAX_ROUNDS):
                since, state = state.seq, self._caught_up(state, clock.last)
                clock = VectorClock.objects.get()
                if 0 < since < clock.pruned:
                    # Tombstones that were to be read just now have been pruned meanwhile.
                    state = State()
                elif clock.last == state.seq:
                    break
        except BaseException:
            # What broke off half-way may have left rows in the index that nothing describes: start anew.
            self.state = State()
            raise
        self.state = state
        return state

    def _mostly_dead(self) -> bool:
        alive = self.state.rows.alive
        return len(alive) > CHUNK and 1 - alive.mean() > COMPACT_SHARE

    def _caught_up(self, state: State, last: int) -> State:
        # Graves first: a tombstone of a vector that is loaded afterwards has a smaller number than that vector.
        graves = Tombstone.objects.filter(seq__gt=state.seq, seq__lte=last).values_list("asset_id", "seq")
        found = [(a, s) for a, s in graves.order_by("seq")]
        newer = Vector.objects.filter(model=self.model, seq__gt=state.seq, seq__lte=last).order_by("seq")
        columns = newer.values_list(
            "asset_id", "dataset_id", "asset_modality", "modality", "seq", "segment", "data"
        )
        rows = state.rows
        for batch in _batches(columns.iterator(chunk_size=CHUNK)):
            rows = _append(state, rows, batch)
        known = {state.assets.numbers[a]: s for a, s in found if a in state.assets.numbers}
        return replace(state, seq=last, rows=rows.buried(known) if known else rows)

    def search(self, state: State, query: np.ndarray, count: int, only: Restriction) -> tuple[list[Hit], int]:
        """The best `count` assets by greatest inner product, and how many assets were candidates."""
        mask = _mask(state, only)
        assets = state.rows.assets[mask]
        candidates, per_asset = np.unique(assets, return_counts=True)
        if not len(candidates):
            return [], 0
        # The n-th best asset's best row ranks at most n × (most rows an asset has), so this many rows suffice.
        wanted = min(count * int(per_asset.max()), len(assets))
        scores, rows = state.index.search(query, wanted, mask)
        return _best_by_asset(state, scores, rows, count), len(candidates)


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


def _mask(state: State, only: Restriction) -> np.ndarray:
    rows, mask = state.rows, state.rows.alive
    if only.datasets is not None:
        mask = mask & np.isin(rows.datasets, state.datasets.known(only.datasets))
    if only.hidden_datasets:
        mask = mask & ~np.isin(rows.datasets, state.datasets.known(only.hidden_datasets))
    if only.modalities is not None:
        mask = mask & np.isin(rows.kinds, [MODALITIES.index(m) for m in only.modalities])
    if only.assets is not None:
        mask = mask & np.isin(rows.assets, state.assets.known(only.assets))
    return mask


def _best_by_asset(state: State, scores: np.ndarray, rows: np.ndarray, count: int) -> list[Hit]:
    hits: dict[int, Hit] = {}
    for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
        number = int(state.rows.assets[row])
        if number not in hits:
            hits[number] = Hit(
                state.assets.ids[number],
                score,
                MODALITIES[state.rows.parts[row]],
                state.segments.get(row),
            )
            if len(hits) == count:
                break
    return list(hits.values())


class VectorCache:
    """The tenants whose vectors are in memory, least recently used first out, within a budget of bytes."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._entries: OrderedDict[tuple[uuid.UUID, str], TenantVectors] = OrderedDict()
        self._lock = threading.Lock()

    def of_current_tenant(self, model: str) -> TenantVectors:
        key = (current_tenant_id(), model)
        with self._lock:
            entry = self._entries.setdefault(key, TenantVectors(model))
            self._entries.move_to_end(key)
            self._evict(key)
        return entry

    def _evict(self, newest: tuple[uuid.UUID, str]) -> None:
        total = sum(entry.bytes for entry in self._entries.values())
        for key in list(self._entries):
            if total <= self.budget_bytes or key == newest:
                return
            total -= self._entries.pop(key).bytes

    def bytes(self) -> int:
        with self._lock:
            return sum(entry.bytes for entry in self._entries.values())


cache = VectorCache()
