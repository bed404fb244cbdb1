"""A tag, and the budget under which tags are collected."""

from __future__ import annotations

import codecs
import zlib
from dataclasses import dataclass, field

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
