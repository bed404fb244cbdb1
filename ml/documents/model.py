"""What reading a document gives, and how it fails. Shared by parent and child.

``Document.text`` is the body in reading order, its blocks joined by blank lines. Headers and footers of pages stand
after it, as the last blocks, each wording once: passages are made of ``Document.body``. Hidden text is not in it at
all: findings tell how much there is, and how it begins.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Box = tuple[float, float, float, float]
Code = Literal[
    "encrypted", "damaged", "too_large", "unsupported", "no_text", "empty", "timeout", "reader_died"
]

KINDS = ("heading", "paragraph", "list", "table", "caption", "header", "footer", "note")
#: Kinds of blocks that no passage should be made of.
MARGINS = frozenset({"header", "footer"})
FINDINGS = ("active_content", "hidden_text", "text_by_ocr", "not_read")
CODES: tuple[str, ...] = get_args(Code)
#: Another try may end otherwise: the machine was busy, or the process was ended from outside.
TRANSIENT = frozenset({"timeout", "reader_died"})

MAX_DETAIL, MAX_TITLE = 200, 300
#: Of findings that differ; the last one tells how many more there are.
MAX_FINDINGS = 200


class DocumentError(Exception):
    """A document that cannot be read. ``code`` is for programs, ``detail`` says what to do.

    ``encrypted``: needs a password. ``damaged``: not what its format demands. ``too_large``: beyond a limit, in bytes,
    nesting, entities or what it unpacks to. ``unsupported``: another format. ``no_text``: there is nothing to read in
    it. ``empty``: no bytes. ``timeout`` and ``reader_died``: try again. ``cpu_s``: processor seconds that finding out
    took.
    """

    def __init__(self, code: Code, detail: str, cpu_s: float = 0.0) -> None:
        super().__init__(detail)
        self.code: Code = code
        self.detail = self.message = detail
        self.cpu_s = cpu_s


@dataclass(frozen=True)
class Limits:
    """Bounds of one document. What is beyond the first group is refused, beyond the second left out and told.

    ``bytes``: of the file. ``unpacked_bytes``, ``members``: of a zip. ``ratio``: unpacked to packed bytes of a member
    above 1 MB. ``depth``: of elements in XML and HTML.

    ``pages``: of a PDF, slides, sheets, chapters. ``chars``: of the text, ``page_chars`` of one page of a PDF.
    ``blocks``: paragraphs and tables. ``cells``: of sheets. ``ocr_pages``: pages without text that are read by OCR.
    ``cpu_s``: processor seconds, ``ocr_cpu_s`` those of OCR alone.
    """

    bytes: int = 256 << 20
    unpacked_bytes: int = 512 << 20
    members: int = 10_000
    ratio: int = 200
    depth: int = 200

    pages: int = 2_000
    chars: int = 4_000_000
    page_chars: int = 100_000
    blocks: int = 100_000
    cells: int = 500_000
    ocr_pages: int = 50
    cpu_s: float = 240.0
    ocr_cpu_s: float = 200.0


@dataclass(frozen=True)
class Block:
    """A stretch of ``Document.text``, ``start`` to ``end`` in characters.

    ``page`` counts from 1: slides, sheets and chapters of an EPUB are pages; 1 where a format has none. ``box``: left,
    top, right, bottom as shares of the page, 0..1; None where a format has no places.
    """

    kind: str
    page: int
    box: Box | None
    start: int
    end: int


@dataclass(frozen=True)
class Line:
    """A line of a page of a PDF, so that a passage can be marked line by line. As in ``Block``."""

    page: int
    box: Box
    start: int
    end: int


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the document should know.

    ``kind``: "active_content" (scripts, macros, embedded files, external addresses, forms that send), "hidden_text",
    "text_by_ocr" or "not_read". ``detail``: English, at most 200 characters. ``count``: of what ``detail`` names.
    """

    kind: str
    page: int | None
    box: Box | None
    detail: str
    count: int = 1


@dataclass(frozen=True)
class Document:
    """``format``: "pdf", "docx", "pptx", "xlsx", "epub", "html", "markdown" or "email". ``page_sizes``: width and
    height in points, () where there are none. ``truncated``: "", or what was left out and why."""

    format: str
    title: str
    page_count: int
    page_sizes: tuple[tuple[float, float], ...]
    text: str
    blocks: tuple[Block, ...]
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    truncated: str
    cpu_s: float = 0.0

    def body(self) -> Iterator[Block]:
        """The blocks that passages are made of: all but headers and footers."""
        return (block for block in self.blocks if block.kind not in MARGINS)

    def text_of(self, part: Block | Line) -> str:
        """The words of a block or line."""
        return self.text[part.start : part.end]

    def to_json(self) -> dict[str, Any]:
        """Compact, for ``json.dumps``; ``from_json`` reads it back."""
        return {
            "version": 1,
            "format": self.format,
            "title": self.title,
            "page_count": self.page_count,
            "page_sizes": [list(size) for size in self.page_sizes],
            "text": self.text,
            "blocks": [[KINDS.index(b.kind), b.page, b.start, b.end, *_row_of(b.box)] for b in self.blocks],
            "lines": [[line.page, line.start, line.end, *line.box] for line in self.lines],
            "findings": [[f.kind, f.page, f.detail, f.count, *_row_of(f.box)] for f in self.findings],
            "truncated": self.truncated,
            "cpu_s": round(self.cpu_s, 3),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Document:
        """Raises ValueError where it is not what ``to_json`` writes: places outside of the text, unknown kinds."""
        try:
            return cls._from_json(value)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a document: {error}") from error

    @classmethod
    def _from_json(cls, value: dict[str, Any]) -> Document:
        _check(value["version"] == 1, "unknown version")
        text, pages = value["text"], value["page_count"]
        _check(isinstance(text, str) and _is_count(pages) and pages >= 1, "no text or pages")
        blocks = tuple(
            Block(KINDS[_index(kind)], _page(page, pages), _box(box), *_span(start, end, text))
            for kind, page, start, end, *box in value["blocks"]
        )
        lines = []
        for page, start, end, *sides in value["lines"]:
            box = _box(sides)
            if box is None:
                raise ValueError("a line without a place")
            lines.append(Line(_page(page, pages), box, *_span(start, end, text)))
        findings = []
        for kind, page, detail, count, *sides in value["findings"]:
            _check(kind in FINDINGS and _is_count(count), "unknown finding")
            _check(isinstance(detail, str) and len(detail) <= MAX_DETAIL, "detail too long")
            at = None if page is None else _page(page, pages)
            findings.append(Finding(kind, at, _box(sides), detail, count))
        sizes = tuple((_number(width), _number(height)) for width, height in value["page_sizes"])
        return cls(
            format=_short(value["format"], 20),
            title=_short(value["title"], MAX_TITLE),
            page_count=pages,
            page_sizes=sizes,
            text=text,
            blocks=blocks,
            lines=tuple(lines),
            findings=tuple(findings),
            truncated=_short(value["truncated"], 2_000),
            cpu_s=_number(value["cpu_s"]),
        )


def _row_of(box: Box | None) -> tuple[float, ...]:
    return box or ()


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _index(value: object) -> int:
    _check(_is_count(value), "unknown kind")
    return int(value)  # type: ignore[call-overload]


def _number(value: Any) -> float:
    number = float(value)
    _check(math.isfinite(number) and number >= 0, "not a size")
    return number


def _short(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("not a short text")
    return value


def _page(value: Any, pages: int) -> int:
    _check(_is_count(value) and 1 <= value <= pages, "a page that there is not")
    return int(value)


def _span(start: Any, end: Any, text: str) -> tuple[int, int]:
    _check(_is_count(start) and _is_count(end) and start <= end <= len(text), "outside of the text")
    return start, end


def _box(sides: list[Any]) -> Box | None:
    if not sides:
        return None
    left, top, right, bottom = (float(side) for side in sides)
    _check(0 <= left <= right <= 1 and 0 <= top <= bottom <= 1, "outside of the page")
    return left, top, right, bottom


# --- Putting a document together --------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000]+")
_SPACES_AND_LINES = re.compile(r"[\s\u00a0\u2000-\u200a\u202f\u205f\u3000]+")
#: Marks that show nothing: soft hyphens, joiners of no width, marks of direction. Those of direction also turn what is
#: shown around.
_UNSEEN = re.compile("[\u00ad\u200b\u2060-\u2064\u202a-\u202e\u2066-\u2069]")


def clean(text: str, lines: bool = False) -> str:
    """Without control characters and runs of spaces; with ``lines`` line ends stay."""
    text = _UNSEEN.sub("", _CONTROL.sub("", text))
    if not lines:
        return _SPACES_AND_LINES.sub(" ", text).strip()
    kept = (_SPACES.sub(" ", line).strip() for line in text.splitlines())
    return "\n".join(line for line in kept if line)


def is_wide(character: str) -> bool:
    """Chinese, Japanese and their punctuation: written without spaces."""
    return bool(character) and (
        "\u2e80" <= character <= "\u9fff"
        or "\uf900" <= character <= "\ufaff"
        or "\uff00" <= character <= "\uffef"
        or character >= "\U00020000"
    )


def row(cells: Iterable[str]) -> str:
    """A line of a table, "" where all its cells are empty."""
    cleaned = [clean(cell) for cell in cells]
    return " | ".join(cleaned).strip() if any(cleaned) else ""


def shortened(text: str, most: int = MAX_DETAIL) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


class Full(Exception):
    """A limit of ``Builder`` was reached: what it has is the document."""


@dataclass
class Piece:
    """A line of a block: where its words stand in the block, and on the page."""

    start: int
    end: int
    box: Box


@dataclass
class Builder:
    """Collects blocks in reading order within limits."""

    limits: Limits
    title: str = ""
    page_count: int = 1
    page_sizes: list[tuple[float, float]] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    _blocks: list[tuple[str, str, int, Box | None, list[Piece]]] = field(default_factory=list)
    _margins: list[tuple[str, str, int, Box | None, list[Piece]]] = field(default_factory=list)
    _known_margins: set[tuple[str, str]] = field(default_factory=set)
    _findings: dict[tuple[str, int | None, str], Finding] = field(default_factory=dict)
    _left_out: int = 0
    _chars: int = 0

    def add(
        self, kind: str, text: str, page: int = 1, box: Box | None = None, lines: list[Piece] | None = None
    ) -> None:
        """Add a block of clean text. Raises Full where it does not fit."""
        if not text:
            return
        if kind in MARGINS:
            key = (kind, re.sub(r"\d+", "#", text))
            if key not in self._known_margins and len(self._margins) < 2_000:
                self._known_margins.add(key)
                self._margins.append((kind, text[:2_000], page, box, lines or []))
            return
        if len(self._blocks) >= self.limits.blocks:
            self.full(f"more than {self.limits.blocks:,} paragraphs and tables")
        room = self.limits.chars - self._chars
        if len(text) > room:
            if room > 0:
                kept = [piece for piece in lines or [] if piece.end <= room]
                self._blocks.append((kind, text[:room], page, box, kept))
            self._chars = self.limits.chars
            self.full(f"more than {self.limits.chars:,} characters")
        self._chars += len(text) + 2
        self._blocks.append((kind, text, page, box, lines or []))

    def full(self, reason: str) -> None:
        """Say that the rest is left out, and stop."""
        self.leave_out(f"What follows was left out: {reason}.")
        raise Full

    def leave_out(self, sentence: str) -> None:
        if sentence not in self.truncated and len(self.truncated) < 8:
            self.truncated.append(shortened(sentence))

    def find(
        self, kind: str, detail: str, page: int | None = None, box: Box | None = None, count: int = 1
    ) -> None:
        """Add a finding, or count it to one that says the same of the same page."""
        detail = shortened(clean(detail))
        known = self._findings.get((kind, page, detail))
        if known is None and len(self._findings) >= MAX_FINDINGS:
            self._left_out += count
            return
        if known:
            count += known.count
            box = known.box
        self._findings[kind, page, detail] = Finding(kind, page, box, detail, count)

    def take(self, other: Builder, blocks: bool) -> None:
        """The findings of another one, and its blocks if wanted."""
        for found in other._findings.values():
            self.find(found.kind, found.detail, found.page, found.box, found.count)
        for part in [*other._blocks, *other._margins] if blocks else ():
            self.add(*part)

    def words(self) -> str:
        """The text of the body so far."""
        return "\n\n".join(text for _, text, *_ in self._blocks)

    def document(self, format: str) -> Document:
        """What was collected."""
        text: list[str] = []
        blocks, lines, at = [], [], 0
        for kind, words, page, box, pieces in [*self._blocks, *self._margins]:
            blocks.append(Block(kind, page, rounded(box), at, at + len(words)))
            for piece in pieces:
                place = rounded(piece.box)
                if place:
                    lines.append(Line(page, place, at + piece.start, at + piece.end))
            text.append(words)
            at += len(words) + 2
        findings = list(self._findings.values())
        if self._left_out:
            findings.append(
                Finding("not_read", None, None, "Further findings are not listed.", self._left_out)
            )
        first = next((words for kind, words, *_ in self._blocks if kind == "heading"), "")
        return Document(
            format=format,
            title=shortened(clean(self.title) or clean(first), MAX_TITLE),
            page_count=max(1, self.page_count),
            page_sizes=tuple((round(width, 2), round(height, 2)) for width, height in self.page_sizes),
            text="\n\n".join(text),
            blocks=tuple(blocks),
            lines=tuple(lines),
            findings=tuple(findings),
            truncated=" ".join(self.truncated),
        )


def rounded(box: Box | None) -> Box | None:
    """Within the page, to four places."""
    if box is None:
        return None
    left, top, right, bottom = (round(min(1.0, max(0.0, side)), 4) for side in box)
    return left, top, max(left, right), max(top, bottom)


def letters(text: str) -> int:
    """How many letters and digits there are."""
    return sum(unicodedata.category(character)[0] in "LN" for character in text)
