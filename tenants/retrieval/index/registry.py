"""Generations in files: one as a segment of a tenant's index, which of them this process has open, and who is told when
one turns out to be missing.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Protocol
from weakref import WeakValueDictionary

import msgspec
import numpy as np
from django.conf import settings
from django.db import connection

from ml.indexes.generation import Generation, GenerationDamaged
from ml.indexes.postings import Postings, PostingsDamaged
from tenants.retrieval.filters import Plan, mask_of
from tenants.retrieval.index.generation_files import NotHere, damage_of, open_kept
from tenants.retrieval.types import MODALITIES, Hit, Prefetched, Restriction, Segment, SegmentSearch, State

# --- What is noticed of an index ------------------------------------------------------------------------

# By those who store and search; told to those who build it (`lifecycle`), which stand above them.
# `RetrievalConfig.ready` sees to it that they listen, in every process.


class Repair(Protocol):
    def __call__(self, *, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None: ...


_repairs: list[Repair] = []
_looks: list[Callable[[], None]] = []


def on_damage(function: Repair) -> Repair:
    """Have it called for each generation that turns out to be missing or damaged. In no scope."""
    _repairs.append(function)
    return function


def on_growth(function: Callable[[], None]) -> Callable[[], None]:
    """Have it called from time to time while a tenant's vectors change. In the tenant's scope."""
    _looks.append(function)
    return function


def damaged(*, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
    for repair in _repairs:
        repair(tenant_id=tenant_id, generation_id=generation_id, reason=reason)


def grown() -> None:
    for look in _looks:
        look()


# --- A generation as a segment --------------------------------------------------------------------------

# Rows lie in the order of their assets, assets in the order of their ids; an asset's number is its place in that
# order. Everything that restricts a search (datasets, modalities, filters, what is gone) concerns whole assets, so
# masks are by asset and become masks of rows only where an asset has several.

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
            found = kinds[self.asset_kinds]
            if not found.all():
                mask = found if mask is None else mask & found
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

    def rows_left(self, state: State) -> int:
        if state.dead is None:
            return self.row_count
        if self.one_row_each:
            return self.row_count - state.dead_count
        dead = np.flatnonzero(state.dead)
        return self.row_count - int((self.starts[dead + 1] - self.starts[dead]).sum())

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

    def segments(self, rows: np.ndarray) -> list[dict | None]:
        """The same of many rows [n]."""
        columns = self.generation.columns
        named, ends = columns["segment_rows"], columns["segment_ends"]
        if not len(named) or not len(rows):
            return [None] * len(rows)
        places = np.minimum(np.searchsorted(named, rows), len(named) - 1)
        starts = np.where(places > 0, ends[np.maximum(places, 1) - 1], 0).tolist()
        content, has = columns["segment_bytes"], (named[places] == rows).tolist()
        decode = msgspec.json.decode
        return [
            decode(content[start:end].tobytes()) if there else None
            for start, end, there in zip(starts, ends[places].tolist(), has, strict=True)
        ]


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


# --- The generations that this process has open ---------------------------------------------------------

# Their files are mapped, so the kernel decides what of them is in memory. Whoever searches in one keeps it; here is
# only known which are open, so that all share them, and which are being opened. What is held, and for how long, is
# decided in `tenants.retrieval.index.memory`.

log = logging.getLogger(__name__)

# Opened beside the requests and not fetched yet; those that nobody comes for must not pile up.
MOST_ARRIVED = 16
DAMAGES = (GenerationDamaged, PostingsDamaged, ValueError, KeyError)
# What a process may lack for a moment, in the words that every layer passes on. The files are not at fault.
SHORTAGES = [os.strerror(number) for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)]


class IndexRegistry:
    """Opened generations by id."""

    def __init__(self) -> None:
        self._open: WeakValueDictionary[uuid.UUID, FileSegment] = WeakValueDictionary()
        self._arrived: OrderedDict[uuid.UUID, FileSegment] = OrderedDict()
        self._opening: dict[uuid.UUID, _Opening] = {}
        self._lock = threading.Lock()
        # Requests that wait for a fetch must leave threads for those that need none.
        self._waiting = threading.BoundedSemaphore(max(1, settings.WEB_THREADS // 4))

    def get(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, *, wait: bool) -> FileSegment | None:
        """The generation, for the caller to keep; None if a thread of its own still opens it and `wait` is not set.

        One that has to be fetched first is waited for INDEX_FETCH_WAIT_S, by some requests only.
        Raises NotHere, without `wait` never.
        """
        with self._lock:
            base = self._open.get(generation_id)
            if base is not None:
                self._arrived.pop(generation_id, None)
                return base
            coming = self._opening.get(generation_id)
            if coming is None:
                coming = self._opening[generation_id] = _Opening()
                self._begin(tenant_id, generation_id, coming)
        if not wait:
            return None
        base = self._result(coming)
        with self._lock:
            self._arrived.pop(generation_id, None)
        return base

    def _result(self, coming: _Opening) -> FileSegment:
        coming.settled.wait()
        if coming.base.done():
            return coming.base.result()
        if not self._waiting.acquire(blocking=False):
            raise NotHere
        try:
            return coming.base.result(timeout=settings.INDEX_FETCH_WAIT_S)
        except TimeoutError as error:
            raise NotHere from error
        finally:
            self._waiting.release()

    def _begin(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: _Opening) -> None:
        arguments = (tenant_id, generation_id, coming)
        try:
            threading.Thread(target=self._run, args=arguments, name="open-index", daemon=True).start()
        except RuntimeError:
            # No more threads at this moment: the next request tries again.
            del self._opening[generation_id]
            coming.end(None)

    def _run(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: _Opening) -> None:
        base = self._opened(tenant_id, generation_id, coming)
        connection.close()
        with self._lock:
            del self._opening[generation_id]
            if base is not None:
                self._open[generation_id] = self._arrived[generation_id] = base
            while len(self._arrived) > MOST_ARRIVED:
                self._arrived.popitem(last=False)
        coming.end(base)

    def _opened(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: _Opening) -> FileSegment | None:
        """Whole, with all that a search maps later: after this its files may go."""
        try:
            # What has to be fetched first takes long: nobody waits for all of that.
            generation = open_kept(tenant_id, generation_id, begun=coming.settled.set)
            base = FileSegment(generation_id, generation.manifest.seq, generation)
            base.postings  # noqa: B018 - maps them
            return base
        except NotHere:
            log.warning("the storage is away; an index is fetched later", exc_info=True)
        except Exception as error:
            log.warning("an index cannot be opened", extra={"generation": str(generation_id)}, exc_info=True)
            if isinstance(error, DAMAGES) and not _is_shortage(error):
                self._repair(tenant_id, generation_id, f"{type(error).__name__}: {error}")
        return None

    def _repair(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
        try:
            damaged(tenant_id=tenant_id, generation_id=generation_id, reason=reason)
        except Exception:
            # Upkeep looks for missing files as well.
            log.exception("the repair of an index could not be begun")
        finally:
            connection.close()

    def forget(self, generation_id: uuid.UUID) -> None:
        """For one whose files are gone. Searches under way keep it until they end."""
        with self._lock:
            self._open.pop(generation_id, None)
            self._arrived.pop(generation_id, None)

    def damaged(self) -> Iterator[tuple[uuid.UUID, uuid.UUID, str]]:
        """Tenant, id and what is wrong of each that is open here and whose files changed or went since."""
        with self._lock:
            folders = [base.generation.folder for base in self._open.values()]
        for folder in folders:
            # Let go meanwhile, it is not damaged.
            if (problem := damage_of(folder)) and folder.exists():
                yield uuid.UUID(folder.parent.name), uuid.UUID(folder.name), problem

    def bytes(self) -> int:
        """Of the files of all that are open."""
        with self._lock:
            return sum(base.mapped_bytes for base in self._open.values())


class _Opening:
    """A generation that is being opened. `settled` as soon as it is known whether it has to be fetched first."""

    def __init__(self) -> None:
        self.settled = threading.Event()
        self.base: Future[FileSegment] = Future()

    def end(self, base: FileSegment | None) -> None:
        if base is None:
            self.base.set_exception(NotHere())
        else:
            self.base.set_result(base)
        self.settled.set()


def _is_shortage(error: BaseException) -> bool:
    return any(words in str(cause) for cause in _causes(error) for words in SHORTAGES)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


opened = IndexRegistry()
