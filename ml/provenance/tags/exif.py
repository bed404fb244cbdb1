"""EXIF and TIFF directories: the entries that are words. Source: CIPA DC-008 (Exif 3.0), TIFF 6.0."""

from __future__ import annotations

import struct

from ml.provenance.tags import iptc, xmp
from ml.provenance.tags.model import Tags, decode

#: Tags whose value is text.
NAMES = {
    0x000B: "ProcessingSoftware", 0x010D: "DocumentName", 0x010E: "ImageDescription", 0x010F: "Make",
    0x0110: "Model", 0x0131: "Software", 0x013B: "Artist", 0x013C: "HostComputer", 0x8298: "Copyright",
    0x9286: "UserComment", 0x9C9B: "XPTitle", 0x9C9C: "XPComment", 0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords",
    0x9C9F: "XPSubject", 0xA436: "ImageTitle", 0xA437: "Photographer", 0xA438: "ImageEditor",
    0xA43A: "RAWDevelopingSoftware", 0xA43B: "ImageEditingSoftware", 0xA43C: "MetadataEditingSoftware",
}  # fmt: skip
_EXIF_DIRECTORY, _XMP, _IPTC = 0x8769, 0x02BC, 0x83BB
_SIZES = {1: 1, 2: 1, 4: 4, 7: 1, 129: 1}  # of the types that text, packets and pointers come in
MAX_ENTRIES, MAX_DIRECTORIES, MAX_VALUE = 1_000, 8, 1 << 20


def read(content: bytes | memoryview, tags: Tags) -> None:
    """Add the words of a TIFF structure, ``content`` from its byte order mark on."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(content[:4]))
    if order is None or len(content) < 8:
        tags.complete = False
        return
    seen: set[int] = set()
    todo = [struct.unpack(order + "I", content[4:8])[0]]
    while todo and len(seen) < MAX_DIRECTORIES:
        if (at := todo.pop()) not in seen:
            seen.add(at)
            todo += _directory(content, at, order, tags)


def _directory(content: bytes | memoryview, at: int, order: str, tags: Tags) -> list[int]:
    """Read one directory; the places of those that it points to."""
    if at + 2 > len(content):
        tags.complete = False
        return []
    (count,) = struct.unpack(order + "H", content[at : at + 2])
    further: list[int] = []
    for entry in range(min(count, MAX_ENTRIES)):
        tags.budget.step()
        field = content[at + 2 + 12 * entry : at + 14 + 12 * entry]
        if len(field) < 12:
            tags.complete = False
            return further
        tag, kind, number, pointer = struct.unpack(order + "HHII", field)
        if tag == _EXIF_DIRECTORY:
            further.append(pointer)
        elif tag in NAMES or tag in (_XMP, _IPTC):
            size = number * _SIZES.get(kind, 0)
            start = at + 10 + 12 * entry if size <= 4 else pointer
            value = content[start : start + min(size, MAX_VALUE)]
            tags.budget.step(len(value))
            _value(tag, bytes(value), order, tags)
    return further


def _value(tag: int, value: bytes, order: str, tags: Tags) -> None:
    if tag == _XMP:
        xmp.read(value, tags)
    elif tag == _IPTC:
        iptc.read(value, tags)
    elif tag == 0x9286:
        tags.add("exif", NAMES[tag], _comment(value, order))
    elif NAMES[tag].startswith("XP"):
        tags.add("exif", NAMES[tag], value.decode("utf-16-le", "replace"))
    else:
        tags.add("exif", NAMES[tag], decode(value))


def _comment(value: bytes, order: str) -> str:
    """A user comment: eight bytes name its encoding, and programs disagree about UTF-16's byte order."""
    head, body = value[:8], value[8:]
    if head.startswith(b"UNICODE"):
        zeros = (body[0::2].count(0), body[1::2].count(0))
        guess = "<" if zeros[1] > zeros[0] else ">" if zeros[0] > zeros[1] else order
        return body.decode("utf-16-le" if guess == "<" else "utf-16-be", "replace")
    if head[:5] == b"ASCII" or head == b"\x00" * 8 or head.startswith(b"JIS"):
        return decode(body)
    return decode(value)
