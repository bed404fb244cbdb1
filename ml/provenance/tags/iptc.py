"""IPTC's older records, alone or inside Photoshop's resources. Source: IPTC-NAA IIM 4.2, Photoshop file format."""

from __future__ import annotations

from ml.provenance.tags.model import Tags, decode

NAMES = {
    5: "ObjectName", 25: "Keywords", 40: "SpecialInstructions", 65: "OriginatingProgram", 80: "By-line",
    105: "Headline", 110: "Credit", 115: "Source", 116: "Copyright", 120: "Caption", 122: "CaptionWriter",
}  # fmt: skip


def read(content: bytes, tags: Tags) -> None:
    """Add the data sets of record 2."""
    at = 0
    while at + 5 <= len(content) and content[at] == 0x1C:
        tags.budget.step()
        record, number = content[at + 1], content[at + 2]
        size = int.from_bytes(content[at + 3 : at + 5])
        if size & 0x8000:  # an extended size: nothing that is text needs it
            tags.complete = False
            return
        if record == 2 and number in NAMES:
            tags.add("iptc", NAMES[number], decode(content[at + 5 : at + 5 + size]))
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
            read(content[data + 4 : data + 4 + size], tags)
        at = data + 4 + (size + 1) // 2 * 2
