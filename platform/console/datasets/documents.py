"""What the page of a document shows: a page at a time, as a picture and as words, and the passage that was found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from ml.documents import Block, Document
from tenants.datasets import documents
from tenants.datasets.models import Asset
from tenants.datasets.shapes import DocumentFinding

# Characters of a part: pages longer than this, and formats without pages, are shown in several.
MOST_CHARACTERS = 20_000
SHOWN_FINDINGS = 20
PICTURE_WIDTH = 1600
_PASSAGE = re.compile(r"(\d{1,8})-(\d{1,8})", re.ASCII)
_POINT = re.compile(r"\s{0,40}[-*•‣◦▪–]\s+")
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)

FINDINGS = {
    "hidden_text": _("Hidden text"),
    "active_content": _("Active content"),
    "text_by_ocr": _("Text read from pictures"),
    "not_read": _("Not read"),
}
# What its pages are called.
PAGES = {"pptx": _("Slide"), "xlsx": _("Sheet"), "epub": _("Chapter")}

# Words, and whether they belong to the passage.
Words = list[tuple[str, bool]]


@dataclass(frozen=True)
class ShownBlock:
    """A block as it is shown: `lines` of words, or of a table `rows` of cells with whether the passage has them."""

    kind: str
    lines: list[Words] = field(default_factory=list)
    rows: list[tuple[list[str], bool]] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    label: Any
    page: int | None
    detail: str
    count: int


@dataclass(frozen=True)
class Viewer:
    """One part of a document. `part` counts from 1, as pages do; `marks` are x, y, width and height of lines in shares
    of a thousand."""

    part: int
    parts: int
    page: int
    pages: int
    called: Any
    blocks: list[ShownBlock]
    picture: bool
    size: tuple[int, int] | None
    marks: list[tuple[float, float, float, float]]
    passage: str

    @property
    def previous(self) -> int:
        return self.part - 1

    @property
    def next(self) -> int:
        return self.part + 1

    @property
    def has_pages(self) -> bool:
        """Whether a part is a page, so that it is called one."""
        return self.pages > 1 and self.parts == self.pages


def findings_of(asset: Asset) -> list[Finding]:
    """What a reader should know, of the asset's row; the first of it."""
    found = [DocumentFinding(**one) for one in (asset.blob.document or {}).get("findings", ())]
    return [
        Finding(FINDINGS.get(one.kind, one.kind), one.page, one.detail, one.count)
        for one in found[:SHOWN_FINDINGS]
    ]


def viewer_of(asset: Asset, asked: QueryDict) -> Viewer | None:
    """The part that is asked for by `part`, `passage` (characters) or `page`; None where nothing was read.

    Reads storage: in no scope.
    """
    document = documents.stored(asset.tenant_id, asset.blob.sha256) if asset.blob.document else None
    if document is None:
        return None
    parts = _parts(document)
    passage = _passage(asked.get("passage", ""), document)
    number = _chosen(parts, asked, passage)
    blocks = parts[number]
    page = blocks[0].page if blocks else 1
    start, end = passage or (0, 0)
    boxes = documents.boxes_of(document, start, end, page) if passage else []
    sized = page <= len(document.page_sizes) and document.page_sizes[page - 1]
    return Viewer(
        part=number + 1,
        parts=len(parts),
        page=page,
        pages=document.page_count,
        called=PAGES.get(document.format, _("Page")),
        blocks=[_shown(document, block, start, end) for block in blocks if block.end > block.start],
        picture=documents.has_pictures(asset),
        size=(PICTURE_WIDTH, round(PICTURE_WIDTH * sized[1] / sized[0])) if sized and sized[0] > 0 else None,
        marks=[_mark(box) for box in boxes],
        passage=f"{start}-{end}" if passage else "",
    )


def _parts(document: Document) -> list[list[Block]]:
    """Of each page at least one, also of a page without words where pages are pictures."""
    of_page: dict[int, list[Block]] = {}
    if document.page_sizes:
        of_page = {page: [Block("paragraph", page, None, 0, 0)] for page in range(1, document.page_count + 1)}
    for block in document.body():
        of_page.setdefault(block.page, []).append(block)
    return [part for page in sorted(of_page) for part in _split(of_page[page])] or [[]]


def _split(blocks: list[Block]) -> Iterator[list[Block]]:
    part: list[Block] = []
    for block in blocks:
        if part and block.end - part[0].start > MOST_CHARACTERS and part[0].end:
            yield part
            part = []
        part.append(block)
    yield part


def _passage(asked: str, document: Document) -> tuple[int, int] | None:
    found = _PASSAGE.fullmatch(asked)
    if found is None:
        return None
    start, end = int(found[1]), int(found[2])
    return (start, end) if start < end <= len(document.text) else None


def _chosen(parts: list[list[Block]], asked: QueryDict, passage: tuple[int, int] | None) -> int:
    """The place of the part that is asked for; the first where there is no such."""
    if _NUMBER.fullmatch(part := asked.get("part", "")):
        return min(max(int(part), 1), len(parts)) - 1
    if passage is not None:
        for number, blocks in enumerate(parts):
            if any(block.start <= passage[0] < block.end for block in blocks):
                return number
    if _NUMBER.fullmatch(page := asked.get("page", "")):
        wanted = int(page)
        later = [number for number, blocks in enumerate(parts) if blocks and blocks[0].page >= wanted]
        return later[0] if later else len(parts) - 1
    return 0


def _mark(box: tuple[float, ...]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (1000 * side for side in box)
    return round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)


def _shown(document: Document, block: Block, start: int, end: int) -> ShownBlock:
    at, lines = block.start, []
    for line in document.text_of(block).split("\n"):
        # What points a list has are the page's.
        point = _POINT.match(line) if block.kind == "list" else None
        lines.append((line[point.end() :], at + point.end()) if point else (line, at))
        at += len(line) + 1
    if block.kind == "table":
        return ShownBlock(
            "table", rows=[(line.split(" | "), start < at + len(line) and at < end) for line, at in lines]
        )
    return ShownBlock(block.kind, lines=[_words(line, at, start, end) for line, at in lines])


def _words(line: str, at: int, start: int, end: int) -> Words:
    """The line in pieces, those of the passage marked."""
    first, last = max(0, min(len(line), start - at)), max(0, min(len(line), end - at))
    pieces = [(line[:first], False), (line[first:last], True), (line[last:], False)]
    return [piece for piece in pieces if piece[0]]
