"""Media types from the first bytes of a file, never from its name or from what the sender claims.

An own table instead of a library: what a browser might run (HTML, SVG, PDF, archives) has to be named for
certain so that callers refuse it, and text has to be told from bytes; libmagic's database does neither well.
Signatures after the WHATWG MIME Sniffing standard and the formats' own specifications.
"""

from __future__ import annotations

import codecs
import re

#: How many leading bytes callers should pass; fewer work, but WebM may then look like video. Sound in a container
#: for films looks like film all the same where its brand or head does not tell: ``Decoder.probe`` knows.
HEAD_BYTES = 4096

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS", "application/postscript"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"PAR1", "application/vnd.apache.parquet"),
    (b"\x7fELF", "application/x-elf"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x00\x00\x00\x0cjP  \r\n", "image/jp2"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
)

_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevm": "image/heic",
    b"hevs": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"crx ": "image/x-canon-cr3",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4",
    b"F4A ": "audio/mp4",
    b"F4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
}

#: What old QuickTime files begin with: they have no ftyp.
_QUICKTIME = frozenset({b"moov", b"mdat", b"wide", b"pnot"})

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
#: Possessive and atomic throughout: a comment ends at its first ``-->``, and what was read is never read again. A
#: form that may go back takes time exponential in the number of comments.
_HTML = re.compile(
    rb"\s*+(?>(?><!--.*?-->|<\?xml.*?\?>)\s*+)*+<(!doctype\s+html|html|head|body|script|iframe|style|title|table|div"
    rb"|h1|font|img|a|br|p|b|meta|link|form|object|embed)[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_SVG = re.compile(rb"\s*<(\?xml|!doctype|!--|svg[\s>:]|[a-z]+:svg)", re.IGNORECASE)


def sniff(head: bytes) -> str | None:
    """The media type of a file that begins with ``head``, or None where it is not recognised.

    ``head`` should hold ``HEAD_BYTES`` bytes or the whole file. Valid UTF-8 without control characters and
    without markup is ``text/plain``.
    """
    for magic, media_type in _MAGIC:
        # Two-letter signatures also begin ordinary words: text goes first there.
        if head.startswith(magic) and (len(magic) > 3 or not _is_text(head)):
            return media_type
    return _container(head) or _sound(head) or _text(head)


def _container(head: bytes) -> str | None:
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _mp4(head)
    if head[4:8] in _QUICKTIME and not _is_text(head):
        return "video/quicktime"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _matroska(head)
    if head[257:262] == b"ustar":
        return "application/x-tar"
    return None


def _mp4(head: bytes) -> str:
    """Major brand first; the generic brands mif1 and msf1 leave the word to the compatible ones.

    Telephones' 3GP and Apple's M4V are MP4 by another brand, and players treat them so.
    """
    size = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in (b"mif1", b"msf1") and (b"avif" in brands or b"avis" in brands):
        return "image/avif"
    return _BRANDS.get(brands[0], "video/mp4")


def _matroska(head: bytes) -> str:
    if b"webm" not in head[:64]:
        return "video/x-matroska"
    # Codec ids stand in the track list, right after the segment's header in every live recording.
    has_sound = b"A_OPUS" in head or b"A_VORBIS" in head
    return "audio/webm" if has_sound and b"V_" not in head else "video/webm"


def _sound(head: bytes) -> str | None:
    if head[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in head[:512] else "audio/ogg"
    if head[:3] == b"ID3" and not _is_text(head):
        return "audio/mpeg"
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mpeg_frame(head)
    return None


def _mpeg_frame(head: bytes) -> str | None:
    """A bare MPEG audio frame: the header's reserved values rule out chance."""
    if head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    # Layer I (3) is not reserved but extinct, and UTF-16's byte order mark looks like it.
    reserved = version == 1 or layer in (0, 3) or bitrate in (0, 15) or rate == 3
    return None if reserved else "audio/mpeg"


def _text(head: bytes) -> str | None:
    if not _is_text(head):
        return None
    body = head.removeprefix(codecs.BOM_UTF8)
    if _SVG.match(body) and re.search(rb"<([a-z]+:)?svg[\s>]", body, re.IGNORECASE):
        return "image/svg+xml"
    if _HTML.match(body):
        return "text/html"
    return "application/xml" if body.lstrip()[:5].lower() == b"<?xml" else "text/plain"


def _is_text(head: bytes) -> bool:
    """Valid UTF-8, not empty, no control characters but tab, line feed, form feed and carriage return."""
    try:
        # The head of a longer file may end inside a character; a whole file may not.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return False
    return bool(text) and _CONTROL.search(text) is None
