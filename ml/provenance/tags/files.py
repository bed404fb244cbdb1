"""Where pictures keep their tags: PNG, JPEG, WebP, GIF and TIFF are walked, other containers are scanned."""

from __future__ import annotations

import itertools
import json
import os
import re
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from ml.media.model import File
from ml.provenance.tags import fields
from ml.provenance.tags.fields import MAX_TEXT, Exhausted, Tags, decode

# --- Alpha channel ---------------------------------------------------------------------------------------
# Tags hidden in the lowest bit of a PNG's alpha, which outlive the removal of text chunks ("stealth pnginfo").
#
# Written by NovelAI and by an extension of Stable Diffusion web UI: bits column by column; a signature of 15 bytes,
# a length in bits, then JSON or parameters, as text or gzip.


SIGNATURES = {b"stealth_pnginfo": False, b"stealth_pngcomp": True}
MAX_PIXELS = 20_000_000


def read_alpha(file: BinaryIO, tags: Tags) -> None:
    """Add what stands in the alpha of the PNG ``file``; nothing for most."""
    file.seek(0)
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.mode != "RGBA" or picture.width * picture.height > MAX_PIXELS:
                return
            plane = np.asarray(picture.getchannel("A"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    bits = np.ascontiguousarray(plane.T).ravel() & 1
    head = np.packbits(bits[: 19 * 8]).tobytes()
    if len(head) < 19 or (packed := SIGNATURES.get(head[:15])) is None:
        return
    size = int.from_bytes(head[15:19]) // 8
    content = np.packbits(bits[19 * 8 : 8 * (19 + min(size, MAX_TEXT))]).tobytes()
    _add(_unzip(content) if packed else content, tags)


def _unzip(content: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, MAX_TEXT)
    except zlib.error:
        return b""


def _add(content: bytes, tags: Tags) -> None:
    text = decode(content)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        tags.add("alpha", "parameters", text)
        return
    for key, value in document.items():
        tags.budget.step()
        tags.add("alpha", str(key), value if isinstance(value, str) else json.dumps(value)[:MAX_TEXT])


# --- Pictures --------------------------------------------------------------------------------------------


MAX_PART = 8 << 20  # of one chunk or segment that is read, and of a part that is scanned
MAX_EXTENDED = 4 << 20
_EXIF = re.compile(rb"Exif\x00\x00(?=II\*\x00|MM\x00\*)")
_XMP_KEY, _XMP_SEGMENT = "XML:com.adobe.xmp", b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\x00"


def read_picture(file: BinaryIO, media_type: str, tags: Tags) -> None:
    """Add the tags of a picture, open at its start."""
    walk = _WALKS.get(media_type, _scan)
    try:
        walk(file, tags)
    except Exhausted:
        tags.complete = False


# --- PNG ---


def _png(file: BinaryIO, tags: Tags) -> None:
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        tags.complete = False
        return
    has_alpha = False
    while len(head := file.read(8)) == 8:
        tags.budget.step()
        size, name = int.from_bytes(head[:4]), head[4:]
        if name == b"IEND":
            if has_alpha:
                read_alpha(file, tags)
            return
        if name in _CHUNKS or name == b"IHDR":
            content = _part(file, size, tags)
            has_alpha |= name == b"IHDR" and content[9:10] == b"\x06"
            if name in _CHUNKS:
                _CHUNKS[name](content, tags)
        else:
            file.seek(size, os.SEEK_CUR)
        file.seek(4, os.SEEK_CUR)
    tags.complete = False


def _text(content: bytes, tags: Tags) -> None:
    key, _, text = content.partition(b"\x00")
    _named(key, text, tags)


def _packed_text(content: bytes, tags: Tags) -> None:
    key, _, rest = content.partition(b"\x00")
    _named(key, tags.inflate(rest[1:]), tags)


def _international_text(content: bytes, tags: Tags) -> None:
    key, _, rest = content.partition(b"\x00")
    packed, text = rest[:1] == b"\x01", rest[2:].split(b"\x00", 2)[-1]
    _named(key, tags.inflate(text) if packed else text, tags)


def _named(key: bytes, text: bytes, tags: Tags) -> None:
    name = key[:79].decode("latin-1")
    if name == _XMP_KEY:
        fields.read_xmp(text, tags)
    elif name.startswith("Raw profile type "):
        _raw_profile(name[17:], text, tags)
    else:
        tags.add("png", name, decode(text))


def _raw_profile(kind: str, text: bytes, tags: Tags) -> None:
    """ImageMagick's way: a name, a length, then the profile in hexadecimal."""
    digits = b"".join(text.split()[2:])
    try:
        content = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        tags.complete = False
        return
    if kind == "xmp":
        fields.read_xmp(content, tags)
    elif kind == "iptc":
        fields.read_resources(content, tags)
    elif kind in ("exif", "APP1"):
        _application_1(content, tags)


_CHUNKS = {
    b"tEXt": _text,
    b"zTXt": _packed_text,
    b"iTXt": _international_text,
    b"eXIf": fields.read_exif,
}


# --- JPEG ---


def _jpeg(file: BinaryIO, tags: Tags) -> None:
    extended: dict[bytes, bytearray] = {}
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        tags.budget.step()
        marker, size = head[1], int.from_bytes(head[2:])
        if marker == 0xFF:
            file.seek(-3, os.SEEK_CUR)
        elif marker == 0xDA or size < 2:  # the scan: no tags after it
            break
        elif marker in (0xE1, 0xED, 0xFE):
            _segment(marker, _part(file, size - 2, tags), tags, extended)
        else:
            file.seek(size - 2, os.SEEK_CUR)
    for content in extended.values():
        fields.read_xmp(bytes(content), tags)


def _segment(marker: int, content: bytes, tags: Tags, extended: dict[bytes, bytearray]) -> None:
    if marker == 0xFE:
        tags.add("comment", "comment", decode(content))
    elif marker == 0xED:
        if content.startswith(b"Photoshop 3.0\x00"):
            fields.read_resources(content[14:], tags)
    elif content.startswith(_XMP_EXTENSION):
        _extend(content[len(_XMP_EXTENSION) :], tags, extended)
    else:
        _application_1(content, tags)


def _application_1(content: bytes, tags: Tags) -> None:
    if content.startswith(b"Exif\x00"):
        fields.read_exif(content[6:], tags)
    elif content.startswith(_XMP_SEGMENT):
        fields.read_xmp(content[len(_XMP_SEGMENT) :], tags)
    elif content[:4] in (b"II*\x00", b"MM\x00*"):
        fields.read_exif(content, tags)


def _extend(content: bytes, tags: Tags, extended: dict[bytes, bytearray]) -> None:
    """A piece of XMP that did not fit into one segment: digest, full length, place, text."""
    if len(content) < 40 or (len(extended) >= 2 and content[:32] not in extended):
        tags.complete = False
        return
    full, at = struct.unpack(">II", content[32:40])
    piece = content[40:]
    if full > MAX_EXTENDED or at + len(piece) > full:
        tags.complete = False
        return
    whole = extended.setdefault(content[:32], bytearray(full))
    whole[at : at + len(piece)] = piece


# --- WebP, GIF, TIFF, others ---


def _webp(file: BinaryIO, tags: Tags) -> None:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        tags.budget.step()
        size = int.from_bytes(head[4:], "little")
        if head[:4] in (b"EXIF", b"XMP "):
            content = _part(file, size, tags)
            if head[:4] == b"XMP ":
                fields.read_xmp(content, tags)
            else:
                _application_1(content, tags)
        else:
            file.seek(size, os.SEEK_CUR)
        file.seek(size % 2, os.SEEK_CUR)


def _gif(file: BinaryIO, tags: Tags) -> None:
    """Comments stand in blocks of up to 255 bytes; XMP stands whole and is found by scanning."""
    head = file.read(13)
    if len(head) == 13 and head[10] & 0x80:
        file.seek(3 << ((head[10] & 7) + 1), os.SEEK_CUR)
    while mark := file.read(1):
        tags.budget.step()
        if mark == b"!" and file.read(1) == b"\xfe":
            tags.add("comment", "comment", decode(_blocks(file, tags)))
        elif mark == b"!":
            _blocks(file, tags)
        elif mark == b"," and len(image := file.read(9)) == 9:
            file.seek(3 << ((image[8] & 7) + 1) if image[8] & 0x80 else 0, os.SEEK_CUR)
            file.seek(1, os.SEEK_CUR)
            _blocks(file, tags)
        else:
            break
    _scan(file, tags)


def _blocks(file: BinaryIO, tags: Tags) -> bytes:
    kept = b""
    while (size := file.read(1)) and size != b"\x00":
        tags.budget.step()
        block = file.read(size[0])
        kept += block if len(kept) < 1 << 16 else b""
    return kept


def _tiff(file: BinaryIO, tags: Tags) -> None:
    """Directories may lie anywhere in the file, most often near one of its ends: those within reach are read."""
    fields.read_exif(_part(file, min(_size(file), 8 * MAX_PART), tags, 8 * MAX_PART), tags)


def _scan(file: BinaryIO, tags: Tags) -> None:
    for content in ends(file):
        fields.scan(content, tags)
        view = memoryview(content)
        for found in _EXIF.finditer(content):
            tags.budget.step()
            fields.read_exif(view[found.end() : found.end() + (1 << 20)], tags)


def ends(file: BinaryIO) -> list[bytes]:
    """The first and the last ``MAX_PART`` bytes, as one piece where they meet."""
    size = _size(file)
    file.seek(0)
    if size <= 2 * MAX_PART:
        return [file.read(size)]
    first = file.read(MAX_PART)
    file.seek(-MAX_PART, os.SEEK_END)
    return [first, file.read(MAX_PART)]


def _part(file: BinaryIO, size: int, tags: Tags, most: int = MAX_PART) -> bytes:
    """The next ``size`` bytes, of which ``most`` are kept; shorter where the file ends."""
    content = file.read(min(size, most))
    if len(content) < size:
        tags.complete = False
        with suppress(OSError):
            file.seek(size - len(content), os.SEEK_CUR)
    return content


def _size(file: BinaryIO) -> int:
    at = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(at)
    return end


_WALKS = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "image/gif": _gif,
    "image/tiff": _tiff,
}


# --- Sound and film --------------------------------------------------------------------------------------
# The tags of sound and film, as FFmpeg reads them (ID3, MP4 atoms, RIFF INFO, Vorbis comments, Matroska), and XMP.


_OPTIONS = {"export_xmp": "1", "max_streams": "256", "analyzeduration": "0", "probesize": "1000000"}
_OPTIONS |= {"protocol_whitelist": "none"}  # the kind of file is guessed here, and playlists name others
MAX_STREAMS = 64


def read_stream(path: File, tags: Tags) -> None:
    """Add the tags of a sound or film."""
    try:
        _containers(path, tags)
        with path.open("rb") as file:
            for content in ends(file):
                fields.scan(content, tags)
    except Exhausted:
        tags.complete = False


def _containers(path: File, tags: Tags) -> None:
    try:
        with av.open(path.open("rb"), metadata_errors="replace", options=_OPTIONS) as container:
            _keep(container.metadata, tags)
            for stream in itertools.islice(container.streams, MAX_STREAMS):
                _keep(stream.metadata, tags)
    except (av.FFmpegError, ValueError, EOFError):
        tags.complete = False


def _keep(metadata: Mapping[str, str], tags: Tags) -> None:
    for key, value in metadata.items():
        tags.budget.step()
        if key != "xmp":  # it is found by the scan as well
            tags.add("container", key, value)
