"""Hash lists in memory: read once, grown by what was added, read anew after a removal; bounded, the oldest go first.

A list's revision, which every query reads under row-level security, tells whether what is in memory still holds.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from django.conf import settings
from django.db import connection
from numpy.typing import NDArray

from ml.hashing import looks, pdq
from ml.hashing.bits import Bits
from ml.hashing.sound_index import SoundIndex
from tenants.moderation.models.known import Algorithm

Ids = NDArray[np.uint8]
# Id of the entry, id of the item, algorithm, content (of a vector only its code).
Row = tuple[uuid.UUID, uuid.UUID, str, bytes]

FETCH = 5_000
_NOTHING = uuid.UUID(int=0)
_CONTENT = f"CASE algorithm WHEN 'vector' THEN substring(content FROM 1 FOR {looks.BYTES}) ELSE content END"
_OWN = f"""
SELECT id, item, algorithm, {_CONTENT} FROM hash_entry
WHERE tenant_id = current_setting('app.tenant')::uuid AND hash_list_id = %s AND id > %s
"""  # noqa: S608 (no value from outside)
_SHARED = f"""
SELECT id, item, algorithm, {_CONTENT} FROM shared_hash_entry
WHERE hash_list_id = %s AND id > %s
"""  # noqa: S608 (no value from outside)
_OWN_COUNT = """
SELECT count(*) FROM hash_entry WHERE tenant_id = current_setting('app.tenant')::uuid AND hash_list_id = %s
"""
_SHARED_COUNT = "SELECT count(*) FROM shared_hash_entry WHERE hash_list_id = %s"


@dataclass(frozen=True)
class Listed:
    """What identifies a list and its state: all that is known of it without its entries."""

    id: uuid.UUID
    name: str
    stance: str
    shared: bool
    revision: int


@dataclass(frozen=True)
class Column:
    """The hashes of one algorithm: rows of equal length, with the ids of entry and item of each."""

    rows: NDArray[np.uint8]
    entries: Ids
    items: Ids

    @classmethod
    def of(cls, rows: Iterable[Row], width: int) -> Column:
        kept = [(entry, item, content) for entry, item, _, content in rows if len(content) == width]
        return cls(
            np.frombuffer(b"".join(content for _, _, content in kept), np.uint8).reshape(-1, width),
            _ids(entry for entry, _, _ in kept),
            _ids(item for _, item, _ in kept),
        )

    def grown(self, other: Column) -> Column:
        return Column(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.entries, other.entries]),
            np.concatenate([self.items, other.items]),
        )

    def item(self, row: int) -> uuid.UUID:
        return uuid.UUID(bytes=self.items[row].tobytes())

    def entry(self, row: int) -> uuid.UUID:
        return uuid.UUID(bytes=self.entries[row].tobytes())

    @cached_property
    def bits(self) -> Bits:
        return Bits(self.rows)

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """For each row the number of its item, the same for rows of the same item."""
        keys = np.ascontiguousarray(self.items).view("V16").ravel()
        return np.unique(keys, return_inverse=True)[1]

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """How many rows the item of each number has."""
        return np.bincount(self.numbers)

    @cached_property
    def sorted_heads(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """The first eight bytes of all rows in order, and which rows they are."""
        heads = np.ascontiguousarray(self.rows[:, :8]).view(np.uint64).ravel()
        order = np.argsort(heads, kind="stable")
        return heads[order], order

    @property
    def size(self) -> int:
        # Twice: word by word beside the rows; ids, numbers and heads.
        return 2 * self.rows.nbytes + 32 * len(self.rows) + 24 * len(self.rows)


@dataclass(frozen=True)
class Loaded:
    """One list at one moment. ``last``: the greatest id of an entry in it."""

    count: int
    last: uuid.UUID
    sha256: Column
    pdq: Column
    looks: Column
    sounds: SoundIndex

    @classmethod
    def of(cls, rows: list[Row]) -> Loaded:
        def only(algorithm: Algorithm) -> Iterator[Row]:
            return (row for row in rows if row[2] == algorithm)

        return cls(
            count=len(rows),
            last=max((row[0] for row in rows), default=_NOTHING),
            sha256=Column.of(only(Algorithm.SHA256), 32),
            pdq=Column.of(only(Algorithm.PDQ), pdq.BYTES),
            looks=Column.of(only(Algorithm.VECTOR), looks.BYTES),
            sounds=SoundIndex.of((item.bytes, content) for _, item, _, content in only(Algorithm.SOUND)),
        )

    def grown(self, other: Loaded) -> Loaded:
        return Loaded(
            self.count + other.count,
            max(self.last, other.last),
            self.sha256.grown(other.sha256),
            self.pdq.grown(other.pdq),
            self.looks.grown(other.looks),
            self.sounds.grown(other.sounds),
        )

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.sha256, self.pdq, self.looks, self.sounds))


def _ids(ids: Iterable[uuid.UUID]) -> Ids:
    return np.frombuffer(b"".join(one.bytes for one in ids), np.uint8).reshape(-1, 16)


class Memory:
    """The lists that were asked for last, up to so many bytes. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[uuid.UUID, tuple[int, Loaded]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, listed: Listed) -> Loaded:
        """The list's hashes at this revision or a newer one. In the scope of the list's tenant."""
        with self._lock:
            revision, loaded = self._kept.get(listed.id, (-1, None))
            if loaded is not None and revision == listed.revision:
                self._kept.move_to_end(listed.id)
                return loaded
        loaded = _read(listed, loaded)
        with self._lock:
            self._kept[listed.id] = (listed.revision, loaded)
            self._kept.move_to_end(listed.id)
            while len(self._kept) > 1 and self.size > settings.HASH_LISTS_BYTES:
                self._kept.popitem(last=False)
        return loaded

    @property
    def size(self) -> int:
        return sum(loaded.size for _, loaded in self._kept.values())

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


memory = Memory()


def _read(listed: Listed, before: Loaded | None) -> Loaded:
    """What was added since, or all of it where something is gone or was committed late."""
    if before is not None:
        grown = before.grown(Loaded.of(list(_rows(listed, before.last))))
        if grown.count == _count(listed):
            return grown
    return Loaded.of(list(_rows(listed, _NOTHING)))


def _rows(listed: Listed, after: uuid.UUID) -> Iterator[Row]:
    # A cursor on the server: rows come as they lie, and no more than one chunk of them is here twice.
    with connection.chunked_cursor() as cursor:
        cursor.execute(_SHARED if listed.shared else _OWN, [listed.id, after])
        while rows := cursor.fetchmany(FETCH):
            for entry, item, algorithm, content in rows:
                yield entry, item, algorithm, bytes(content)


def _count(listed: Listed) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SHARED_COUNT if listed.shared else _OWN_COUNT, [listed.id])
        return int(cursor.fetchone()[0])
