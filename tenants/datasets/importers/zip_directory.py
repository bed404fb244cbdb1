"""The central directory of a zip file, read from the disk as it is needed.

An own reader, because ``zipfile`` keeps about 800 bytes for each entry and believes what headers say. Kept here are
24 bytes an entry: its place, the digest of its path, and their order. After APPNOTE.TXT 6.3.10 of PKWARE.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from django.utils.translation import gettext
from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.datasets.importers.content import Content
from tenants.errors import Invalid

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")

_FULL, _FULL16 = 0xFFFFFFFF, 0xFFFF
_UTF8, ENCRYPTED = 1 << 11, 1 | 1 << 6 | 1 << 13


class Header(NamedTuple):
    """One entry as the central directory has it. ``mode``: Unix file type and permissions, 0 where unknown."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    mode: int
    is_directory: bool


def digest(name: str) -> int:
    """64 bits of a path, the same in every process."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Directory:
    """Raises Invalid where the directory is missing, damaged, or lists more than ``limits.ENTRIES`` files.

    ``note`` is shown each entry once while the directory is read for the first time.
    """

    def __init__(self, content: Content, note: Callable[[Header], None]) -> None:
        self._content, self._note = content, note
        self._start, self._end, self._shift = _locate(content)
        self._places = array("Q")
        self._overlapping: frozenset[int] = frozenset()
        self._scan()

    def __iter__(self) -> Iterator[Header]:
        for header, _name in self._walk():
            yield header

    def __len__(self) -> int:
        return len(self._places)

    def find(self, name: str) -> Header | None:
        """The first entry of exactly this path."""
        wanted = digest(name)
        at = bisect_left(self._digests, wanted)
        while at < len(self._digests) and self._digests[at] == wanted:
            header = self._header(self._places[self._order[at]])
            if header.name == name:
                return header
            at += 1
        return None

    def overlaps(self, header: Header) -> bool:
        """The entry's bytes are also another's."""
        return header.offset in self._overlapping

    def _scan(self) -> None:
        digests, offsets, ends = array("Q"), array("Q"), array("Q")
        for header, place in self._walk():
            if len(self._places) >= limits.ENTRIES:
                raise Invalid(
                    _("The archive lists more than %(entries)s entries; split it.")
                    % {"entries": f"{limits.ENTRIES:,}"},
                    pointer="/file",
                )
            self._note(header)
            self._places.append(place)
            digests.append(digest(header.name))
            offsets.append(header.offset)
            ends.append(header.offset + LOCAL.size + len(header.raw_name) + header.compressed)
        self._order = array("L", sorted(range(len(digests)), key=digests.__getitem__))
        self._digests = array("Q", (digests[at] for at in self._order))
        self._overlapping = frozenset(_overlapping(offsets, ends))

    def _walk(self) -> Iterator[tuple[Header, int]]:
        stream, place = self._content.stream(self._start), self._start
        while place + _CENTRAL.size <= self._end:
            fields = _fields(stream.read(_CENTRAL.size))
            length = fields[10] + fields[11] + fields[12]
            yield self._parse(fields, stream.read(length)), place
            place += _CENTRAL.size + length
        if place != self._end:
            raise _damaged()

    def _header(self, place: int) -> Header:
        fields = _fields(self._content.at(place, _CENTRAL.size))
        return self._parse(fields, self._content.at(place + _CENTRAL.size, fields[10] + fields[11]))

    def _parse(self, fields: tuple[Any, ...], rest: bytes) -> Header:
        flags, method, crc, compressed, size, name_length, extra_length = *fields[3:5], *fields[7:12]
        disk, attributes, offset = fields[13], fields[15], fields[16]
        if len(rest) < name_length + extra_length:
            raise _damaged()
        raw = rest[:name_length]
        if _FULL in (size, compressed, offset):
            extra = rest[name_length : name_length + extra_length]
            size, compressed, offset = _wide(extra, size, compressed, offset)
        if disk not in (0, _FULL16):
            raise Invalid(_("The archive is one part of several; join them first."), pointer="/file")
        name, mode = _decoded(raw, flags), attributes >> 16
        directory = name.endswith("/") or (not mode and bool(attributes & 0x10))
        return Header(name, raw, flags, method, crc, compressed, size, offset + self._shift, mode, directory)


def _fields(fixed: bytes) -> tuple[Any, ...]:
    if len(fixed) < _CENTRAL.size or fixed[:4] != b"PK\x01\x02":
        raise _damaged()
    return _CENTRAL.unpack(fixed)


def _locate(content: Content) -> tuple[int, int, int]:
    """Where the directory starts and ends, and by how much offsets are shifted by bytes before the archive."""
    tail_at = max(0, content.size - _END.size - _FULL16)
    tail = content.at(tail_at, _END.size + _FULL16)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise Invalid(
            gettext("Not a complete zip file: its directory, at the end, is missing."), pointer="/file"
        )
    _, disk, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    if disk not in (0, _FULL16):
        raise Invalid(gettext("The archive is one part of several; join them first."), pointer="/file")
    if _FULL16 in (count, disk) or _FULL in (size, offset):
        end, size, offset = _locate64(content, end, size, offset)
    start = end - size
    if start < 0 or offset > start:
        raise _damaged()
    return start, end, start - offset


def _locate64(content: Content, end: int, size: int, offset: int) -> tuple[int, int, int]:
    locator = content.at(max(0, end - _LOCATOR.size), _LOCATOR.size)
    if locator[:4] != b"PK\x06\x07":
        return end, size, offset  # exactly 65,535 entries in the old form
    # The record stands right before its locator, as every writer puts it; its own offset may be shifted.
    record_at = end - _LOCATOR.size - _END64.size
    record = content.at(max(0, record_at), _END64.size)
    if len(record) < _END64.size or record[:4] != b"PK\x06\x06":
        raise _damaged()
    fields = _END64.unpack(record)
    return record_at, fields[8], fields[9]


def _wide(extra: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset beyond 32 bits from the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            numbers = list(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            found = [
                numbers.pop(0) if value == _FULL and numbers else value
                for value in (size, compressed, offset)
            ]
            return found[0], found[1], found[2]
        at += 4 + length
    return size, compressed, offset


def _decoded(raw: bytes, flags: int) -> str:
    try:
        return raw.decode()  # many tools write UTF-8 and do not say so
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw.decode("cp437")


def _overlapping(offsets: array[int], ends: array[int]) -> Iterator[int]:
    """Offsets of entries that begin before an earlier one has ended; of both."""
    reached = holder = -1
    for at in sorted(range(len(offsets)), key=offsets.__getitem__):
        if offsets[at] < reached:
            yield from (holder, offsets[at])
        if ends[at] > reached:
            reached, holder = ends[at], offsets[at]


def _damaged() -> Invalid:
    return Invalid(_("The directory of the zip file is damaged."), pointer="/file")
