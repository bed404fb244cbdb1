"""Documents (PDF, office files, EPUB, HTML, Markdown, e-mail): what was read of a file, and pictures of its pages.

A document is a text asset whose file is the document itself. What was read of it is stored beside the file: `parsed`, a
`ml.documents.Document` as JSON, and `words`, its text in UTF-32, of which a passage is read by its place. Passages are
made of that anew for each model, so that no document is read twice.
"""

from __future__ import annotations

import json
import threading
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from django.conf import settings
from django.utils.translation import gettext as _

from ml import media
from ml.documents import FORMATS, HEAD_BYTES, Block, Document, DocumentError, Limits, Line, Reader, sniff
from ml.documents.model import FINDINGS
from ml.documents.sniffing import EMAIL, HTML, MARKDOWN, OLE, PDF
from ml.media import FairQueue, MediaError, QueueFull
from ml.passages import PASSAGE, passages
from tenants import observe
from tenants.datasets import storage
from tenants.datasets.encrypted_files import FileDamaged
from tenants.datasets.models import Asset, Blob
from tenants.errors import Busy, Invalid, NotFound, Unavailable
from tenants.scope import tenant_scope

__all__ = ["HEAD_BYTES", "PDF"]

T = TypeVar("T")

# Of one document; what is beyond is not found by its meaning, and that is told.
MAX_PASSAGES = 2_000
# Of the text, as `ml.documents.Limits` has it.
MAX_CHARACTERS = Limits().chars
# A heading opens a passage of its own where the one before has so many characters.
ENOUGH = 200
# Pixels across that pictures of pages are made with, and up to which page they are kept.
WIDTHS = (400, 800, 1600)
MOST_KEPT = 200
THUMBNAIL_WIDTH = 384
# Findings that an asset is shown with; the parsed form has them all.
MOST_FINDINGS = 50
# How what reading says is named among the errors of assets; others as they are, with hyphens.
CODES = {"damaged": "corrupt", "reader_died": "decoder-died"}
# By which name a file of a kind is known whose bytes do not tell.
_NAMES = {HTML: "document.html", MARKDOWN: "document.md", EMAIL: "document.eml"}
_UTF32 = "utf-32-le"
CHARACTER = 4


class DocumentRefused(MediaError):
    """A document that cannot be read; the message says what to do."""


def is_document(media_type: str) -> bool:
    return media_type in FORMATS or media_type == OLE


def type_of(head: bytes, filename: str = "") -> str | None:
    """The media type of a file that begins so, HEAD_BYTES of it or all: of a document or of anything else."""
    return sniff(head, filename) or media.sniff(head[: media.HEAD_BYTES])


def may_be(head: bytes, media_type: str) -> bool:
    """Whether a file that begins so can be this kind of document, whatever its name was."""
    return type_of(head, _NAMES.get(media_type, f"document.{FORMATS.get(media_type, 'doc')}")) == media_type


# --- Reading ----------------------------------------------------------------------------------------------


def _once(load: Callable[[], T]) -> Callable[[], T]:
    kept, lock = cache(load), threading.Lock()

    def get() -> T:
        with lock:
            return kept()

    return get


@_once
def _reader() -> Reader:
    return Reader()


@_once
def _pages() -> Reader:
    """Whoever waits for a page holds a thread that answers requests."""
    return Reader(turns=_turns, ocr=False)


def _turns() -> FairQueue:
    children = settings.DECODER_QUERY_CHILDREN
    return FairQueue(
        children,
        each=max(1, children - 1),
        waiting=settings.DECODER_QUERIES_WAITING,
        crowd=max(1, settings.WEB_THREADS // 4),
        patience_s=3 * settings.DECODER_QUERY_TIMEOUT_S,
    )


def read(path: Path, media_type: str) -> Document:
    """Read a local file in a limited child. Takes seconds to minutes: in no scope. Raises DocumentRefused."""
    with _refusals():
        return _reader().of(observe.tenant_id.get()).read(path, media_type)


def draw(path: Path, page: int, width: int) -> bytes:
    """A page of a PDF as JPEG, for whoever prepares it. Raises DocumentRefused, ValueError."""
    with _refusals():
        return _reader().of(observe.tenant_id.get()).page(path, PDF, page, width)


@contextmanager
def _refusals() -> Iterator[None]:
    """What a reader raises as an error of media, which jobs know."""
    try:
        yield
    except DocumentError as error:
        code = CODES.get(error.code, error.code.replace("_", "-"))
        refused = DocumentRefused(cast("Any", code), error.detail)
        refused.cpu_s = error.cpu_s
        raise refused from error


# --- What is stored of it ---------------------------------------------------------------------------------


def as_stored(document: Document) -> dict[str, bytes]:
    """The derived files of a document, by their kind (`storage.KINDS`)."""
    parsed = json.dumps(document.to_json(), ensure_ascii=False, separators=(",", ":"))
    return {"parsed": parsed.encode(), "words": document.text.encode(_UTF32)}


def summary(document: Document, passages_cut: bool = False) -> dict[str, Any]:
    """What an asset is shown with: `Blob.document`."""
    findings = [
        {"kind": one.kind, "page": one.page, "detail": one.detail, "count": one.count}
        for one in document.findings[:MOST_FINDINGS]
    ]
    cut = f"Only the first {MAX_PASSAGES:,} passages are found by their meaning." if passages_cut else ""
    return {
        "format": document.format,
        "title": document.title,
        "pages": document.page_count,
        "findings": findings,
        "truncated": " ".join(filter(None, (document.truncated, cut))) or None,
    }


def stored(tenant_id: uuid.UUID, sha256: str) -> Document | None:
    """What was read of a document; None where that is not there, or was damaged."""
    try:
        with storage.open_blob(storage.path_of(tenant_id, sha256, "parsed")) as stream:
            return Document.from_json(json.load(stream))
    except (FileNotFoundError, FileDamaged, ValueError):
        return None


def words_at(tenant_id: uuid.UUID, sha256: str, start: int, end: int) -> str:
    """These characters of a document's text; none where they are not there."""
    try:
        with storage.open_blob(storage.path_of(tenant_id, sha256, "words")) as stream:
            stream.seek(CHARACTER * start)
            return stream.read(CHARACTER * max(0, end - start)).decode(_UTF32, errors="ignore")
    except (FileNotFoundError, FileDamaged):
        return ""


def visible_text(document: Document) -> str:
    """The words of the body, without headers and footers."""
    body = [block.end for block in document.body()]
    return document.text[: max(body, default=0)]


# --- What audits see --------------------------------------------------------------------------------------

# Characters of the text that detectors read.
MOST_EXAMINED = 400_000


def examined_texts(document: Document) -> list[str]:
    """What text detectors read of a document: its text, and how hidden text begins, as far as findings tell."""
    hidden = [one.detail for one in document.findings if one.kind == "hidden_text"]
    return [document.text[:MOST_EXAMINED], *hidden]


def told_of(document: Document) -> dict[str, Any]:
    """What rules and answers of an audit are told: as `summary`, and of each kind of finding whether there is one."""
    kinds = {one.kind for one in document.findings}
    told = summary(document) | {kind: kind in kinds for kind in FINDINGS}
    if len(document.text) > MOST_EXAMINED:
        rest = f"Detectors read the first {MOST_EXAMINED:,} characters."
        told |= {"not_read": True, "truncated": " ".join(filter(None, (told["truncated"], rest)))}
    return told


# --- Passages ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passage:
    """A stretch of a document's text on one page, that a text encoder reads whole."""

    start: int
    end: int
    page: int
    box: tuple[float, ...] | None = None

    @property
    def segment(self) -> dict[str, Any]:
        place = {"start_char": self.start, "end_char": self.end, "page": self.page}
        return place | ({"box": list(self.box)} if self.box else {})


def passages_of(document: Document) -> list[Passage]:
    """All of them, in reading order: blocks that follow each other on a page together, long ones cut at sentences."""
    found: list[tuple[int, int, int]] = []
    for block in document.body():
        for start, end in _cuts(document.text, block):
            if found and _belongs(found[-1], block, end):
                found[-1] = (found[-1][0], end, block.page)
            else:
                found.append((start, end, block.page))
    places = _Places(document)
    return [Passage(start, end, page, places.box(start, end, page)) for start, end, page in found]


def _cuts(text: str, block: Block) -> Iterator[tuple[int, int]]:
    words = text[block.start : block.end]
    for start, end in passages(words, most=len(words)):
        yield block.start + start, block.start + end


def _belongs(last: tuple[int, int, int], block: Block, end: int) -> bool:
    opens = block.kind == "heading" and last[1] - last[0] >= ENOUGH
    return block.page == last[2] and end - last[0] <= PASSAGE and not opens


class _Places:
    """Where stretches of text stand on their pages: by lines, else by blocks."""

    def __init__(self, document: Document) -> None:
        placed: list[Block | Line] = [*document.lines] or [one for one in document.blocks if one.box]
        self._placed = sorted(placed, key=lambda one: one.start)
        self._ends = [one.end for one in self._placed]

    def within(self, start: int, end: int, page: int) -> list[tuple[float, ...]]:
        found: list[tuple[float, ...]] = []
        for one in self._placed[bisect_left(self._ends, start + 1) :]:
            if one.start >= end:
                break
            if one.page == page and one.box:
                found.append(one.box)
        return found

    def box(self, start: int, end: int, page: int) -> tuple[float, ...] | None:
        boxes = self.within(start, end, page)
        if not boxes:
            return None
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)


def boxes_of(document: Document, start: int, end: int, page: int) -> list[tuple[float, ...]]:
    """The places of the lines of a passage: left, top, right and bottom as shares of the page."""
    return _Places(document).within(start, end, page)


def cut(found: Sequence[Passage]) -> tuple[Sequence[Passage], bool]:
    """Those that get vectors, and whether some do not."""
    return found[:MAX_PASSAGES], len(found) > MAX_PASSAGES


# --- Pictures of pages ------------------------------------------------------------------------------------


def has_pictures(asset: Asset) -> bool:
    """Whether its pages can be shown as pictures."""
    return asset.blob.media_type == PDF and bool(asset.blob.document)


def page_picture(asset: Asset, page: int, width: int) -> bytes:
    """A page as JPEG, as wide as the least of WIDTHS that is enough. In no scope.

    Raises NotFound for a page that there is not, Invalid for a width, Busy, Unavailable.
    """
    blob = asset.blob
    if not has_pictures(asset):
        raise NotFound(_("This asset has no pictures of pages."))
    if not 1 <= page <= (blob.document or {})["pages"]:
        raise NotFound(_("This document has no page %(page)s.") % {"page": page})
    if not 1 <= width <= WIDTHS[-1]:
        raise Invalid(_("A width from 1 to %(most)s pixels.") % {"most": WIDTHS[-1]}, pointer="/width")
    width = next(one for one in WIDTHS if one >= width)
    path = storage.page_path(asset.tenant_id, blob.sha256, page, width)
    try:
        with storage.open_blob(path) as stream:
            return stream.read()
    except (FileNotFoundError, FileDamaged):
        picture = _draw_page(asset, page, width)
    if page <= MOST_KEPT:
        _keep_page(blob, path, picture)
    return picture


def _draw_page(asset: Asset, page: int, width: int) -> bytes:
    source = storage.path_of(asset.tenant_id, asset.blob.sha256)
    try:
        with (
            TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="page-") as folder,
            storage.local(source, Path(folder)) as local,
        ):
            return _pages().of(asset.tenant_id).page(local, PDF, page, width)
    except FileNotFoundError as error:
        raise NotFound(_("The content of this asset is gone.")) from error
    except ValueError as error:
        raise NotFound(_("This document has no page %(page)s.") % {"page": page}) from error
    except QueueFull as error:
        raise Busy(_("Other pages are being drawn; try again in a few seconds.")) from error
    except DocumentError as error:
        raise Unavailable(_("This page could not be drawn; its words can be read.")) from error


def _keep_page(blob: Blob, path: str, picture: bytes) -> None:
    """Unless the file has gone meanwhile: under its row's lock, which whoever removes it takes."""
    with tenant_scope(blob.tenant_id):
        if Blob.objects.select_for_update().filter(pk=blob.pk, references__gt=0).exists():
            storage.drop(path)
            storage.put(path, picture)
