"""What kind of document a file is: told from its bytes; the name only decides between kinds of text."""

from __future__ import annotations

import re
import zlib
from pathlib import PurePath

from ml import media

#: How many leading bytes ``sniff`` should get. Fewer work, but more is then left to the name.
HEAD_BYTES = 1 << 16

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SLIDES = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB, PDF, HTML, MARKDOWN, EMAIL = (
    "application/epub+zip",
    "application/pdf",
    "text/html",
    "text/markdown",
    "message/rfc822",
)
#: Office files of before 2007, and newer ones under a password. Named so that reading them says what to do.
OLE = "application/x-ole-storage"

#: Media types that ``Reader.read`` takes, and ``Document.format`` of each. Files with macros are of the same types.
FORMATS = {
    PDF: "pdf",
    WORD: "docx",
    SLIDES: "pptx",
    SHEETS: "xlsx",
    EPUB: "epub",
    HTML: "html",
    MARKDOWN: "markdown",
    EMAIL: "email",
}

_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BY_MEMBER = ((b"word/", WORD), (b"ppt/", SLIDES), (b"xl/", SHEETS))
_BY_CONTENT_TYPE = ((b"wordprocessingml", WORD), (b"presentationml", SLIDES), (b"spreadsheetml", SHEETS))
_BY_NAME = {
    ".docx": WORD,
    ".docm": WORD,
    ".pptx": SLIDES,
    ".pptm": SLIDES,
    ".ppsx": SLIDES,
    ".xlsx": SHEETS,
    ".xlsm": SHEETS,
}
_OFFICE_NAMES = frozenset({*_BY_NAME, ".doc", ".ppt", ".xls"})
_MARKDOWN_NAMES = frozenset({".md", ".markdown", ".mdown", ".mkd"})
_HTML_NAMES = frozenset({".html", ".htm", ".xhtml"})
_EMAIL_NAMES = frozenset({".eml"})

#: A field that only the head of an e-mail has: two of them make one.
_FIELD = re.compile(
    rb"^(return-path|received|delivered-to|message-id|mime-version|from|to|subject|date|reply-to|cc|content-type"
    rb"|content-transfer-encoding|dkim-signature|in-reply-to|references|x-[a-z0-9-]+):",
    re.IGNORECASE | re.MULTILINE,
)
_ANY_FIELD = re.compile(rb"^(From |[!-9;-~]+:|[ \t])")
_MEMBER = re.compile(rb"PK\x03\x04.{22}(..)(..)", re.DOTALL)


def sniff(head: bytes, filename: str = "") -> str | None:
    """The media type of a document that begins with ``head``; None where it is none of those that are read.

    ``head`` should hold ``HEAD_BYTES`` bytes or the whole file. Of the types in ``FORMATS``, or ``OLE`` for office
    files that are encrypted or of before 2007, which reading refuses with what to do. Text without markup is Markdown
    or e-mail where the name says so.
    """
    suffix = PurePath(filename).suffix.lower()
    # Programs write a few bytes before the mark; readers look for it in the first kilobyte.
    if head.startswith(b"%PDF-") or (suffix == ".pdf" and b"%PDF-" in head[:1024]):
        return PDF
    if head.startswith(_OLE_MAGIC):
        return OLE if suffix in _OFFICE_NAMES or "EncryptedPackage".encode("utf-16-le") in head else None
    if head.startswith(b"PK\x03\x04"):
        return _zip(head, suffix)
    if _is_email(head, suffix):
        return EMAIL
    kind = media.sniff(head[: media.HEAD_BYTES])
    if suffix in _MARKDOWN_NAMES and kind in ("text/plain", "text/html", "application/xml"):
        return MARKDOWN
    if kind == "text/html":
        return HTML
    if suffix in _HTML_NAMES and kind in (None, "text/plain", "application/xml") and _has_markup(head):
        return HTML
    return None


def _zip(head: bytes, suffix: str) -> str | None:
    names = []
    for found in _MEMBER.finditer(head):
        length = int.from_bytes(found[1], "little")
        names.append(head[found.end() : found.end() + length])
    if names and names[0] == b"mimetype":
        return EPUB if b"application/epub+zip" in head[30:200] else None
    for prefix, media_type in _BY_MEMBER:
        if any(name.startswith(prefix) for name in names):
            return media_type
    if b"META-INF/container.xml" in names:
        return EPUB
    first = _first_member(head)
    if names and names[0] == b"[Content_Types].xml":
        for word, media_type in _BY_CONTENT_TYPE:
            if word in first:
                return media_type
    if any(name.startswith((b"[Content_Types]", b"_rels/", b"docProps/")) for name in names):
        return _BY_NAME.get(suffix)
    return None


def _first_member(head: bytes) -> bytes:
    """As much of it as stands in ``head``, at most 256 kB."""
    at = 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if head[8:10] == b"\0\0":
        return head[at : at + (1 << 18)]
    try:
        return zlib.decompressobj(-15).decompress(head[at:], 1 << 18)
    except zlib.error:
        return b""


def _is_email(head: bytes, suffix: str) -> bool:
    """Begins with fields of a head of an e-mail: two known ones, or one where the name says so."""
    lines = head[:HEAD_BYTES].replace(b"\r\n", b"\n").split(b"\n")
    fields = []
    for line in lines:
        if not line or not _ANY_FIELD.match(line):
            break
        fields.append(line)
    known = {found[1].lower() for found in _FIELD.finditer(b"\n".join(fields))}
    return len(known) >= (1 if suffix in _EMAIL_NAMES else 3)


def _has_markup(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.replace(b"\0", b"")
    return (
        b"\0" not in head
        and re.search(rb"<(!doctype|html|head|body|p|div)[\s>]", head, re.IGNORECASE) is not None
    )
