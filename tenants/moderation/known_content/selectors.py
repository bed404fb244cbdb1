"""Reading hash lists of the active tenant, and files of hashes."""

from __future__ import annotations

import csv
import datetime as dt
import io
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from cachetools import LRUCache
from django.db.models import Count, Min, QuerySet
from django.utils.translation import gettext as _

from ml.hashing.fingerprints import parse_hex
from tenants.errors import Invalid, TooLarge
from tenants.moderation import shapes
from tenants.moderation.known_content.services import MAX_NOTE, RAW, RawHash
from tenants.moderation.models import Algorithm, HashEntry, HashList, SharedHashEntry, SharedHashList

MAX_ROWS, MAX_LINE = 100_000, 2_000


@dataclass(frozen=True)
class Entry:
    """One listed item; ``id`` is what `match` calls its entry."""

    id: uuid.UUID
    algorithms: tuple[str, ...]
    sha256: str | None
    pdq: str | None
    note: str
    created_by: str
    created_at: dt.datetime


def list_shape(row: HashList) -> shapes.HashList:
    return list_shapes([row])[row.id]


def list_shapes(rows: Sequence[HashList] | Sequence[SharedHashList]) -> dict[uuid.UUID, shapes.HashList]:
    """By id, with the number of items."""
    items = items_of(rows)
    return {
        row.id: shapes.HashList(
            id=str(row.id),
            name=row.name,
            stance=row.stance,
            description=row.description,
            created_at=row.created_at,
            shared=isinstance(row, SharedHashList),
            entries=items[row.id],
        )
        for row in rows
    }


_ENTRIES: dict[type, type[HashEntry | SharedHashEntry]] = {
    HashList: HashEntry,
    SharedHashList: SharedHashEntry,
}
#: By list and revision, which goes up with each change of entries: what was counted once stays true.
_counted: LRUCache[tuple[uuid.UUID, int], int] = LRUCache(10_000)
_counted_lock = threading.Lock()


def items_of(rows: Sequence[HashList] | Sequence[SharedHashList]) -> dict[uuid.UUID, int]:
    """The number of items on each of these lists, by its id; those that changed are counted, by one statement.

    Not where this transaction has changed entries: it may be rolled back, and the revision given again.
    """
    with _counted_lock:
        known = {row.id: _counted[key] for row in rows if (key := (row.id, row.revision)) in _counted}
    if changed := [row for row in rows if row.id not in known]:
        entries = _ENTRIES[type(rows[0])].objects.filter(hash_list__in=[row.id for row in changed])
        counts = entries.values("hash_list").annotate(items=Count("item", distinct=True)).order_by()
        known |= {row.id: 0 for row in changed} | dict(counts.values_list("hash_list", "items"))
        with _counted_lock:
            _counted.update({(row.id, row.revision): known[row.id] for row in changed})
    return known


def shared_lists() -> QuerySet[SharedHashList]:
    """What the operator shares with every tenant."""
    return SharedHashList.objects.order_by("name")


def entries_of(list_id: uuid.UUID, after: uuid.UUID | None, limit: int) -> list[Entry]:
    """At most so many items of a list, newest first, below an id."""
    entries = HashEntry.objects.filter(hash_list_id=list_id)
    entries = entries.filter(item__lt=after) if after else entries
    items = list(
        entries.values("item")
        .annotate(first=Min("id"))
        .order_by("-item")
        .values_list("item", flat=True)[:limit]
    )
    return _entries(items)


def entry_of(item_id: uuid.UUID) -> Entry:
    (found,) = _entries([item_id])
    return found


def _entries(items: Sequence[uuid.UUID]) -> list[Entry]:
    rows: dict[uuid.UUID, list[HashEntry]] = {item: [] for item in items}
    for row in HashEntry.objects.filter(item__in=items).order_by("id"):
        rows[row.item].append(row)
    return [_entry(item, found) for item, found in rows.items() if found]


def _entry(item: uuid.UUID, rows: Sequence[HashEntry]) -> Entry:
    digits = {row.algorithm: bytes(row.content).hex() for row in rows if row.algorithm in RAW}
    frames = sum(row.algorithm == Algorithm.PDQ for row in rows)
    return Entry(
        id=item,
        algorithms=tuple(sorted({row.algorithm for row in rows})),
        sha256=digits.get(Algorithm.SHA256.value),
        pdq=digits.get(Algorithm.PDQ.value) if frames == 1 else None,
        note=rows[0].note,
        created_by=rows[0].created_by,
        created_at=rows[0].created_at,
    )


def entry_shape(entry: Entry) -> shapes.HashEntry:
    return shapes.HashEntry(
        id=str(entry.id),
        algorithms=list(entry.algorithms),
        sha256=entry.sha256,
        pdq=entry.pdq,
        note=entry.note,
        created_by=entry.created_by,
        created_at=entry.created_at,
    )


# --- Files of hashes from elsewhere ---


def read_hashes(stream: IO[bytes], algorithm: str = Algorithm.PDQ.value) -> list[RawHash]:
    """A CSV file of ``hash``, ``note`` and ``algorithm``: with a header that names them, or hash and note alone.

    Raises Invalid, naming the line, and TooLarge.
    """
    rows = csv.reader(_lines(stream))
    try:
        return list(_hashes(rows, algorithm))
    except csv.Error as error:
        raise Invalid(
            _("Line %(line_num)s cannot be read as CSV.") % {"line_num": rows.line_num}, pointer="/hashes"
        ) from error


def _hashes(rows: Any, algorithm: str) -> Iterator[RawHash]:
    names: Sequence[str] | None = None
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if names is None:
            names = _names(cells)
            if names is not None:
                continue
            names = ("hash", "note", "algorithm")
        found = dict(zip(names, cells, strict=False))
        kind = (found.get("algorithm") or algorithm).lower()
        if kind not in RAW:
            raise Invalid(
                _("Line %(line_num)s: the algorithm is one of %(names)s.")
                % {"line_num": rows.line_num, "names": ", ".join(RAW)},
                pointer="/hashes",
            )
        if not parse_hex(found.get("hash")):
            raise Invalid(
                _("Line %(line_num)s: a hash has 64 hexadecimal digits.") % {"line_num": rows.line_num},
                pointer="/hashes",
            )
        yield RawHash(kind, found.get("hash", ""), found.get("note", "")[:MAX_NOTE])


def _names(cells: Sequence[str]) -> Sequence[str] | None:
    """The columns, if this is a header."""
    names = [cell.lower() for cell in cells]
    return names if "hash" in names else None


def _lines(stream: IO[bytes]) -> Iterator[str]:
    stream.seek(0)
    text = io.TextIOWrapper(io.BufferedReader(_Unclosed(stream)), encoding="utf-8-sig", newline="")
    try:
        for number, line in enumerate(iter(lambda: text.readline(MAX_LINE), "")):
            if number > MAX_ROWS:
                raise TooLarge(
                    _("A file of hashes has at most %(rows)s lines; split it.") % {"rows": f"{MAX_ROWS:,}"}
                )
            yield line.replace("\0", "")
    except UnicodeDecodeError as error:
        raise Invalid(_("A file of hashes is CSV in UTF-8."), pointer="/hashes") from error


class _Unclosed(io.RawIOBase):
    """A stream that outlives the text layer over it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
