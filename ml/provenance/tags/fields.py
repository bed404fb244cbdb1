"""A tag, and the budget under which tags are collected."""

from __future__ import annotations

import codecs
import io
import re
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

MAX_TAGS, MAX_TEXT, MAX_TOTAL = 4_000, 1 << 20, 8 << 20
#: Chunks, segments, boxes and directory entries that are stepped over in one file.
MAX_STEPS = 200_000
#: Bytes of values and packets that are read in one file, those included that several directories point to.
MAX_READ = 32 << 20


@dataclass(frozen=True)
class Tag:
    """``place``: where it stands (png, exif, xmp, iptc, comment, container, alpha). ``key``: as the file names it."""

    place: str
    key: str
    text: str


class Exhausted(Exception):
    """There is more than may be read."""


@dataclass
class Budget:
    """What is left to read of one file."""

    steps: int = MAX_STEPS
    characters: int = MAX_TOTAL
    bytes: int = MAX_READ

    def step(self, read: int = 0) -> None:
        """One step, for which so many bytes are read. Raises Exhausted."""
        self.steps -= 1
        self.bytes -= read
        if self.steps < 0 or self.bytes < 0:
            raise Exhausted


@dataclass
class Tags:
    """What was found. ``complete`` is False where the budget ended or a part was cut off or damaged."""

    tags: list[Tag] = field(default_factory=list)
    complete: bool = True
    budget: Budget = field(default_factory=Budget)

    def add(self, place: str, key: str, text: str) -> None:
        """Keep a tag, shortened where it is long. Raises Exhausted when the file has had its share."""
        text = text.strip("\x00 \t\r\n")
        if not text:
            return
        if len(text) > MAX_TEXT:
            text, self.complete = text[:MAX_TEXT], False
        self.budget.characters -= len(text) + len(key)
        if self.budget.characters < 0 or len(self.tags) >= MAX_TAGS:
            raise Exhausted
        self.tags.append(Tag(place, key[:200], text))

    def inflate(self, packed: bytes) -> bytes:
        """zlib data, of which at most ``MAX_TEXT`` bytes come out, however much is in it. b"" where it is damaged."""
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(packed, MAX_TEXT)
        except zlib.error:
            self.complete = False
            return b""
        if not unpacker.eof:
            self.complete = False
        return content


def decode(content: bytes) -> str:
    """Text of unknown encoding: by its mark, else UTF-8, else Latin-1."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


# --- IPTC ------------------------------------------------------------------------------------------------
# IPTC's older records, alone or inside Photoshop's resources. Source: IPTC-NAA IIM 4.2, Photoshop file format.


IPTC_NAMES = {
    5: "ObjectName", 25: "Keywords", 40: "SpecialInstructions", 65: "OriginatingProgram", 80: "By-line",
    105: "Headline", 110: "Credit", 115: "Source", 116: "Copyright", 120: "Caption", 122: "CaptionWriter",
}  # fmt: skip


def read_iptc(content: bytes, tags: Tags) -> None:
    """Add the data sets of record 2."""
    at = 0
    while at + 5 <= len(content) and content[at] == 0x1C:
        tags.budget.step()
        record, number = content[at + 1], content[at + 2]
        size = int.from_bytes(content[at + 3 : at + 5])
        if size & 0x8000:  # an extended size: nothing that is text needs it
            tags.complete = False
            return
        if record == 2 and number in IPTC_NAMES:
            tags.add("iptc", IPTC_NAMES[number], decode(content[at + 5 : at + 5 + size]))
        at += 5 + size


def read_resources(content: bytes, tags: Tags) -> None:
    """Find the records among Photoshop's resources: 8BIM, number, padded name, size, data."""
    at = 0
    while content[at : at + 4] == b"8BIM":
        tags.budget.step()
        number = int.from_bytes(content[at + 4 : at + 6])
        name = content[at + 6] if at + 6 < len(content) else 0
        data = at + 6 + (name + 2) // 2 * 2
        size = int.from_bytes(content[data : data + 4])
        if number == 0x0404:
            read_iptc(content[data + 4 : data + 4 + size], tags)
        at = data + 4 + (size + 1) // 2 * 2


# --- XMP -------------------------------------------------------------------------------------------------
# XMP packets: every property as one flat tag, read by a parser that knows no entities and keeps no tree.
#
# Source: ISO 16684-1. Namespaces get their usual prefixes, whatever the packet calls them.


MAX_PACKET, MAX_DEPTH = 4 << 20, 60
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PREFIXES = {
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#": "stEvt",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/pdf/1.3/": "pdf",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://www.tc260.org.cn/ns/AIGC/1.0/": "TC260",
    "adobe:ns:meta/": "x",
}
_OPENING = re.compile(rb"<(?:(?:\w+:)?(?P<meta>xmpmeta)|rdf:RDF)\b")
_CLOSING = re.compile(rb"</(?:(?:\w+:)?(?P<meta>xmpmeta)|rdf:RDF)\s*>")


def read_xmp(packet: bytes, tags: Tags, place: str = "xmp") -> None:
    """Add the properties of a packet; of a damaged one those before the damage."""
    if len(packet) > MAX_PACKET:
        packet, tags.complete = packet[:MAX_PACKET], False
    tags.budget.step(len(packet))
    reader = _Reader(tags, place)
    try:
        reader.parser.Parse(packet.strip(b"\x00 \r\n\t"), True)
    except (expat.ExpatError, _Refused, ValueError, LookupError):
        tags.complete = False


def scan(content: bytes, tags: Tags) -> None:
    """Add the packets that stand anywhere in ``content``, as XMP is made to be found (part 3, packet scanning)."""
    for first, last in _packets(content):
        read_xmp(content[first:last], tags)


def _packets(content: bytes) -> Iterator[tuple[int, int]]:
    """From each opening tag to the first closing one of its kind, none inside another; unclosed ones are passed over.

    Both kinds of tags are looked for once: one expression for all of a packet would read the rest from every opening.
    """
    closings: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for found in _CLOSING.finditer(content):
        closings[found["meta"] is not None].append(found.span())
    end = 0
    for found in _OPENING.finditer(content):
        ends = closings[found["meta"] is not None]
        at = bisect_left(ends, (found.end(), 0))
        if found.start() >= end and at < len(ends):
            end = ends[at][1]
            yield found.start(), end


class _Refused(Exception):
    """Something that no honest packet has."""


class _Reader:
    def __init__(self, tags: Tags, place: str) -> None:
        self.tags, self.place = tags, place
        self.path: list[str] = []
        self.texts: list[io.StringIO] = []
        self.parser = expat.ParserCreate(namespace_separator="\n")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.EntityDeclHandler = self.refuse

    def refuse(self, *arguments: object) -> None:
        raise _Refused

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.tags.budget.step()
        if len(self.path) >= MAX_DEPTH:
            raise _Refused
        self.path.append(_short(name))
        self.texts.append(io.StringIO())
        for key, value in attributes.items():
            short = _short(key)
            if short == "rdf:resource":
                short = self._property()
            if not short.startswith(("rdf:", "xml:")) and short != "x:xmptk":
                self.tags.add(self.place, short, value)

    def text(self, text: str) -> None:
        if self.texts and self.texts[-1].tell() < MAX_TEXT:
            self.texts[-1].write(text)

    def end(self, name: str) -> None:
        text = self.texts.pop().getvalue().strip()
        if text and (key := self._property()):
            self.tags.add(self.place, key, text)
        self.path.pop()

    def _property(self) -> str:
        """The innermost name that is not of RDF's own: items of lists belong to the property around them."""
        return next((name for name in reversed(self.path) if not name.startswith(("rdf:", "x:"))), "")


def _short(name: str) -> str:
    namespace, _, local = name.rpartition("\n")
    if namespace == _RDF:
        return f"rdf:{local}"
    if namespace == "http://www.w3.org/XML/1998/namespace":
        return f"xml:{local}"
    return f"{_PREFIXES.get(namespace, namespace.rstrip('/#').rpartition('/')[2][:40])}:{local}"


# --- EXIF ------------------------------------------------------------------------------------------------
# EXIF and TIFF directories: the entries that are words. Source: CIPA DC-008 (Exif 3.0), TIFF 6.0.


#: Tags whose value is text.
EXIF_NAMES = {
    0x000B: "ProcessingSoftware", 0x010D: "DocumentName", 0x010E: "ImageDescription", 0x010F: "Make",
    0x0110: "Model", 0x0131: "Software", 0x013B: "Artist", 0x013C: "HostComputer", 0x8298: "Copyright",
    0x9286: "UserComment", 0x9C9B: "XPTitle", 0x9C9C: "XPComment", 0x9C9D: "XPAuthor", 0x9C9E: "XPKeywords",
    0x9C9F: "XPSubject", 0xA436: "ImageTitle", 0xA437: "Photographer", 0xA438: "ImageEditor",
    0xA43A: "RAWDevelopingSoftware", 0xA43B: "ImageEditingSoftware", 0xA43C: "MetadataEditingSoftware",
}  # fmt: skip
_EXIF_DIRECTORY, _XMP, _IPTC = 0x8769, 0x02BC, 0x83BB
_SIZES = {1: 1, 2: 1, 4: 4, 7: 1, 129: 1}  # of the types that text, packets and pointers come in
MAX_ENTRIES, MAX_DIRECTORIES, MAX_VALUE = 1_000, 8, 1 << 20


def read_exif(content: bytes | memoryview, tags: Tags) -> None:
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
        elif tag in EXIF_NAMES or tag in (_XMP, _IPTC):
            size = number * _SIZES.get(kind, 0)
            start = at + 10 + 12 * entry if size <= 4 else pointer
            value = content[start : start + min(size, MAX_VALUE)]
            tags.budget.step(len(value))
            _value(tag, bytes(value), order, tags)
    return further


def _value(tag: int, value: bytes, order: str, tags: Tags) -> None:
    if tag == _XMP:
        read_xmp(value, tags)
    elif tag == _IPTC:
        read_iptc(value, tags)
    elif tag == 0x9286:
        tags.add("exif", EXIF_NAMES[tag], _comment(value, order))
    elif EXIF_NAMES[tag].startswith("XP"):
        tags.add("exif", EXIF_NAMES[tag], value.decode("utf-16-le", "replace"))
    else:
        tags.add("exif", EXIF_NAMES[tag], decode(value))


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
