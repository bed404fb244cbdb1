"""Hashes as they are stored in lists, of fingerprints and from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from ml.hashing import looks
from ml.hashing.fingerprints import Fingerprints, read_hex
from tenants.datasets import metadata
from tenants.errors import Invalid
from tenants.moderation.models import HashEntry
from tenants.moderation.models.known import Algorithm

MAX_NOTE = 500
#: Hashes that other platforms give out; both are 64 hexadecimal digits.
RAW = (Algorithm.PDQ.value, Algorithm.SHA256.value)

# Algorithm and what is stored of it.
Content = tuple[str, bytes]


@dataclass(frozen=True)
class RawHash:
    """A hash from elsewhere: hex digits of one of ``RAW``."""

    algorithm: str
    hash: str
    note: str = ""


def contents_of(prints: Fingerprints) -> list[Content]:
    """The hashes of an item as they are stored."""
    contents = [(Algorithm.SHA256.value, bytes.fromhex(prints.sha256))] if prints.sha256 else []
    contents += [(Algorithm.PDQ.value, hashed) for hashed in filter(None, [prints.pdq])]
    contents += [(Algorithm.PDQ.value, frame.pdq) for frame in prints.frames]
    if prints.code:
        contents.append((Algorithm.VECTOR.value, prints.code + prints.points))
    if prints.sound:
        contents.append((Algorithm.SOUND.value, prints.sound))
    return list(dict.fromkeys(contents))


def in_memory(entry: HashEntry) -> bytes:
    """What of an entry's content is compared at once; points are fetched for candidates only."""
    content = bytes(entry.content)
    return content[: looks.BYTES] if entry.algorithm == Algorithm.VECTOR else content


def checked_hash(raw: RawHash, pointer: str) -> bytes:
    """The bytes of a hash from elsewhere. Raises Invalid."""
    if raw.algorithm not in RAW:
        raise Invalid(_("One of %(names)s.") % {"names": ", ".join(RAW)}, pointer=f"{pointer}/algorithm")
    digits = read_hex(raw.hash)
    if not digits:
        raise Invalid(_("A hash has 64 hexadecimal digits."), pointer=f"{pointer}/hash")
    checked_text(raw.note, f"{pointer}/note", MAX_NOTE)
    return bytes.fromhex(digits)


def checked_text(text: str, pointer: str, most: int) -> str:
    metadata.check_text(text, pointer)
    if len(text) > most:
        raise Invalid(_("At most %(most)s characters.") % {"most": most}, pointer=pointer)
    return text
