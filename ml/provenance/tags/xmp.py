"""XMP packets: every property as one flat tag, read by a parser that knows no entities and keeps no tree.

Source: ISO 16684-1. Namespaces get their usual prefixes, whatever the packet calls them.
"""

from __future__ import annotations

import re
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
_PACKET = re.compile(rb"<(?:\w+:)?xmpmeta\b.*?</(?:\w+:)?xmpmeta\s*>|<rdf:RDF\b.*?</rdf:RDF\s*>", re.DOTALL)


def read(packet: bytes, tags: Tags, place: str = "xmp") -> None:
    """Add the properties of a packet; of a damaged one those before the damage."""
    if len(packet) > MAX_PACKET:
        packet, tags.complete = packet[:MAX_PACKET], False
    reader = _Reader(tags, place)
    try:
        reader.parser.Parse(packet.strip(b"\x00 \r\n\t"), True)
    except (expat.ExpatError, _Refused, ValueError, LookupError):
        tags.complete = False


def scan(content: bytes, tags: Tags) -> None:
    """Add the packets that stand anywhere in ``content``, as XMP is made to be found (part 3, packet scanning)."""
    for found in _PACKET.finditer(content):
        tags.budget.step()
        read(found.group(), tags)


class _Refused(Exception):
    """Something that no honest packet has."""


class _Reader:
    def __init__(self, tags: Tags, place: str) -> None:
        self.tags, self.place = tags, place
        self.path: list[str] = []
        self.texts: list[list[str]] = []
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
        self.texts.append([])
        for key, value in attributes.items():
            short = _short(key)
            if short == "rdf:resource":
                short = self._property()
            if not short.startswith(("rdf:", "xml:")) and short != "x:xmptk":
                self.tags.add(self.place, short, value)

    def text(self, text: str) -> None:
        if self.texts and sum(map(len, self.texts[-1])) < MAX_TEXT:
            self.texts[-1].append(text)

    def end(self, name: str) -> None:
        text = "".join(self.texts.pop()).strip()
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
