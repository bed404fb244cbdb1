"""XMP packets: every property as one flat tag, read by a parser that knows no entities and keeps no tree.

Source: ISO 16684-1. Namespaces get their usual prefixes, whatever the packet calls them.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Iterator
from xml.parsers import expat

from ml.provenance.tags.model import MAX_TEXT, Exhausted, Tags

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


def read(packet: bytes, tags: Tags, place: str = "xmp") -> None:
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
        read(content[first:last], tags)


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


__all__ = ["Exhausted", "read", "scan"]
