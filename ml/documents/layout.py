"""From letters at places to lines, columns, tables and paragraphs in reading order. No library of PDF is needed here.

Places are in points from the top left of a page. A *segment* is a stretch of letters of one line without a wide gap.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from ml.documents.model import Box, Piece, clean, is_wide

#: Shares of a page's height in which a line may be a header or footer, and how many lines of one.
MARGIN, MARGIN_LINES = 0.11, 3
#: In multiples of the size of letters: a gap between columns, and one that ends a segment.
GUTTER, WORD_GAP = 0.9, 0.9
#: An empty stretch over the whole width of so many lines parts a page: columns do not go on below it.
BAND = 3.0
#: Rules are at most so thick, in points.
THIN = 2.5
NEAR = 3.0


@dataclass(slots=True)
class Segment:
    """``size``: height of its letters in points. ``turned``: not written from left to right."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    bold: bool = False
    turned: bool = False

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2

    @property
    def center(self) -> float:
        return (self.left + self.right) / 2


@dataclass(slots=True)
class Rule:
    """A straight line that is drawn: ``across`` from left to right, else from top to bottom."""

    across: bool
    at: float
    start: float
    end: float


@dataclass
class Page:
    width: float
    height: float
    segments: list[Segment] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)


@dataclass
class TextBlock:
    """A block of one page with the places of its lines, in points."""

    kind: str
    text: str
    box: Box
    pieces: list[Piece]


@dataclass
class _Line:
    segments: list[Segment]

    def __post_init__(self) -> None:
        self.segments.sort(key=lambda segment: segment.left)
        self.left = min(segment.left for segment in self.segments)
        self.right = max(segment.right for segment in self.segments)
        self.top = min(segment.top for segment in self.segments)
        self.bottom = max(segment.bottom for segment in self.segments)
        self.size = max(self.segments, key=lambda segment: len(segment.text)).size
        self.bold = all(segment.bold for segment in self.segments)
        self.turned = any(segment.turned for segment in self.segments)
        self.text = _spaced(segment.text for segment in self.segments)

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def _spaced(texts: Iterable[str]) -> str:
    """Joined by spaces, except where Chinese goes on."""
    joined = ""
    for text in map(clean, texts):
        if joined and text and not (is_wide(joined[-1]) and is_wide(text[0])):
            joined += " "
        joined += text
    return joined


def lines_of(segments: Sequence[Segment]) -> list[_Line]:
    """Segments that stand beside each other, from top to bottom."""
    groups: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda segment: (segment.middle, segment.left)):
        for group in reversed(groups[-3:]):
            other = group[-1]
            height = min(segment.bottom - segment.top, other.bottom - other.top)
            shared = min(segment.bottom, other.bottom) - max(segment.top, other.top)
            if shared > 0.5 * height and not (segment.turned or other.turned):
                group.append(segment)
                break
        else:
            groups.append([segment])
    return sorted((_Line(group) for group in groups), key=lambda line: (line.middle, line.left))


# --- Headers and footers ----------------------------------------------------------------------------------

_PAGE_NUMBER = re.compile(
    r"^(?:page |p\. ?|seite |第 ?)?[-–—\[( ]*\d{1,5}[-–—\]) ]*(?:页|頁|/ ?\d{1,5}|of \d{1,5}|,? ?共 ?\d{1,5} ?页)?"
    r"(?: ?,? ?共 ?\d{1,5} ?[页頁])?$",
    re.IGNORECASE,
)


def margins(pages: Sequence[Page]) -> list[tuple[list[Segment], list[Segment]]]:
    """Header and footer of each page: what stands at the same place of several pages, but for its numbers."""
    tops = [_outer(page, top=True) for page in pages]
    bottoms = [_outer(page, top=False) for page in pages]
    return list(zip(_repeated(tops, pages), _repeated(bottoms, pages), strict=True))


def _outer(page: Page, top: bool) -> list[_Line]:
    """Lines in the margin, the outermost first."""
    edge = page.height * MARGIN
    near = [
        segment
        for segment in page.segments
        if (segment.bottom <= edge if top else segment.top >= page.height - edge)
    ]
    lines = lines_of(near)
    return (lines if top else lines[::-1])[:MARGIN_LINES]


def _repeated(outer: Sequence[list[_Line]], pages: Sequence[Page]) -> list[list[Segment]]:
    places: dict[str, list[tuple[int, float]]] = defaultdict(list)
    numbers: Counter[int] = Counter()
    for number, (lines, page) in enumerate(zip(outer, pages, strict=True)):
        for line in lines:
            places[_wording(line.text)].append((number, line.middle / max(1.0, page.height)))
            if _PAGE_NUMBER.match(line.text):
                numbers[_first_number(line.text) - number] += 1
    found = []
    for number, (lines, page) in enumerate(zip(outer, pages, strict=True)):
        taken: list[Segment] = []
        last: _Line | None = None
        for line in lines:
            if last and max(line.top - last.bottom, last.top - line.bottom) > 1.5 * line.size:
                break
            last = line
            at = line.middle / max(1.0, page.height)
            same = {other for other, place in places[_wording(line.text)] if abs(place - at) < 0.015}
            if _PAGE_NUMBER.match(line.text):
                enough = len(pages) == 1 or numbers[_first_number(line.text) - number] >= 2
            else:
                enough = len(same) >= 3 or (len(pages) == 2 and len(same) == 2)
            if not enough:
                break
            taken += line.segments
        found.append(taken)
    return found


def _wording(text: str) -> str:
    return re.sub(r"\d+", "#", text)[:200]


def _first_number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


# --- Tables -----------------------------------------------------------------------------------------------


def _clusters(values: Iterable[float]) -> list[float]:
    """Positions that lie near each other as one."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][-1] <= NEAR:
            groups[-1].append(value)
        else:
            groups.append([value])
    return [sum(group) / len(group) for group in groups]


def _grids(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Rules that touch each other, in groups."""
    groups = list(range(len(rules)))

    def root(at: int) -> int:
        while groups[at] != at:
            groups[at] = groups[groups[at]]
            at = groups[at]
        return at

    downs = [number for number, rule in enumerate(rules) if not rule.across]
    for number, rule in enumerate(rules):
        if not rule.across:
            continue
        for other_number in downs:
            other = rules[other_number]
            if (
                rule.start - NEAR <= other.at <= rule.end + NEAR
                and other.start - NEAR <= rule.at <= other.end + NEAR
            ):
                groups[root(number)] = root(other_number)
    found: dict[int, list[Rule]] = defaultdict(list)
    for number, rule in enumerate(rules):
        found[root(number)].append(rule)
    return list(found.values())


@dataclass
class _Table:
    left: float
    top: float
    right: float
    bottom: float
    rows: list[list[list[Segment]]]

    def block(self) -> TextBlock | None:
        text, pieces = "", []
        boxes = []
        for cells in self.rows:
            words = [_spaced(line.text for line in lines_of(cell)) for cell in cells]
            segments = [segment for cell in cells for segment in cell]
            if not segments:
                continue
            line = " | ".join(words).strip()
            text += "\n" if text else ""
            box = _box_of(segments)
            pieces.append(Piece(len(text), len(text) + len(line), box))
            boxes.append(box)
            text += line
        if not text:
            return None
        around = (
            min([self.left, *(box[0] for box in boxes)]),
            min([self.top, *(box[1] for box in boxes)]),
            max([self.right, *(box[2] for box in boxes)]),
            max([self.bottom, *(box[3] for box in boxes)]),
        )
        return TextBlock("table", text, around, pieces)


def _box_of(parts: Sequence[Segment] | Sequence[_Line]) -> Box:
    return (
        min(part.left for part in parts),
        min(part.top for part in parts),
        max(part.right for part in parts),
        max(part.bottom for part in parts),
    )


def _ruled_tables(page: Page, segments: list[Segment]) -> list[_Table]:
    """Tables with rules around their cells, and tables between rules from left to right."""
    if len(page.rules) > 4_000:
        return []
    tables: list[_Table] = []
    loose: list[Rule] = []
    for rules in _grids(page.rules):
        xs = _clusters(rule.at for rule in rules if not rule.across)
        ys = _clusters(rule.at for rule in rules if rule.across)
        if len(xs) >= 3 and len(ys) >= 2 and len(xs) * len(ys) <= 20_000:
            inside = [
                s for s in segments if xs[0] - NEAR < s.center < xs[-1] + NEAR and ys[0] < s.middle < ys[-1]
            ]
            rows: list[list[list[Segment]]] = [[[] for _ in xs[1:]] for _ in ys[1:]]
            for segment in inside:
                column = _between(xs, segment.left + min(NEAR, (segment.right - segment.left) / 2))
                rows[_between(ys, segment.middle)][column].append(segment)
            filled = sum(bool(cell) for row in rows for cell in row)
            if filled >= 3 and sum(any(row) for row in rows) >= 2:
                tables.append(_Table(xs[0], ys[0], xs[-1], ys[-1], rows))
                continue
        loose += [rule for rule in rules if rule.across]
    tables += _between_rules(loose, segments, tables)
    return tables


def _between(edges: Sequence[float], value: float) -> int:
    for number, (_, end) in enumerate(pairwise(edges)):
        if value < end:
            return number
    return len(edges) - 2


def _between_rules(rules: Sequence[Rule], segments: list[Segment], known: Sequence[_Table]) -> list[_Table]:
    """Three rules or more of the same ends above each other, as in printed papers."""
    groups: dict[tuple[int, int], list[Rule]] = defaultdict(list)
    for rule in rules:
        if rule.end - rule.start > 60:
            groups[round(rule.start / 6), round(rule.end / 6)].append(rule)
    found = []
    for group in groups.values():
        ys = _clusters(rule.at for rule in group)
        left, right = min(rule.start for rule in group), max(rule.end for rule in group)
        if len(ys) < 3 or any(table.top < ys[-1] and ys[0] < table.bottom for table in known):
            continue
        inside = [
            s
            for s in segments
            if left - NEAR < s.left and s.right < right + NEAR and ys[0] < s.middle < ys[-1]
        ]
        table = _aligned(inside)
        if table:
            found.append(_Table(left, ys[0], right, ys[-1], table))
    return found


def _aligned(segments: Sequence[Segment]) -> list[list[list[Segment]]] | None:
    """Rows and columns by the gaps that all rows leave; None where there are fewer than two of each."""
    lines = lines_of(segments)
    if len(lines) < 2:
        return None
    columns: list[tuple[float, float]] = []
    for segment in sorted(segments, key=lambda segment: segment.left):
        if columns and segment.left < columns[-1][1] + 2:
            columns[-1] = (columns[-1][0], max(columns[-1][1], segment.right))
        else:
            columns.append((segment.left, segment.right))
    if len(columns) < 2:
        return None
    rows = []
    for line in lines:
        cells: list[list[Segment]] = [[] for _ in columns]
        for segment in line.segments:
            at = next(n for n, (left, right) in enumerate(columns) if left <= segment.left <= right)
            cells[at].append(segment)
        rows.append(cells)
    return rows


# --- Reading order ----------------------------------------------------------------------------------------


def blocks_of(page: Page, taken: Iterable[Segment], body_size: float) -> list[TextBlock]:
    """The blocks of a page in reading order, without the segments that are ``taken`` already."""
    gone = {id(segment) for segment in taken}
    segments = [segment for segment in page.segments if id(segment) not in gone]
    placed: list[Segment | _Placed] = []
    for table in _ruled_tables(page, segments):
        block = table.block()
        if block:
            held = {id(s) for row in table.rows for cell in row for s in cell}
            segments = [segment for segment in segments if id(segment) not in held]
            placed.append(_Placed(block))
    blocks: list[TextBlock] = []
    run: list[_Line] = []
    for part in _ordered([*segments, *placed], 0):
        if isinstance(part, _Line):
            run.append(part)
            continue
        blocks += _paragraphs(run, body_size)
        run = []
        blocks.append(part)
    return blocks + _paragraphs(run, body_size)


class _Placed(Segment):
    """A table, which is moved as one."""

    __slots__ = ("block",)

    def __init__(self, block: TextBlock) -> None:
        super().__init__("", *block.box, size=10.0, turned=True)
        self.block = block


def _ordered(parts: Sequence[Segment], depth: int) -> list[_Line | TextBlock]:
    """Lines and tables in reading order: columns one after the other, what crosses them in between."""
    if not parts:
        return []
    if depth == 0 and len(bands := _bands(parts)) > 1:
        return [part for band in bands for part in _ordered(band, 1)]
    gutter = _gutter(parts) if depth < 12 else None
    if gutter is None:
        return _down(parts)
    crossing = [part for part in parts if part.left < gutter[0] and part.right > gutter[1]]
    middles = sorted({part.middle for part in crossing})
    ordered: list[_Line | TextBlock] = []
    left_over = [part for part in parts if not (part.left < gutter[0] and part.right > gutter[1])]
    for middle in [*middles, float("inf")]:
        above = [part for part in left_over if part.middle < middle]
        left_over = [part for part in left_over if part.middle >= middle]
        ordered += _ordered([part for part in above if part.center < gutter[0]], depth + 1)
        ordered += _ordered([part for part in above if part.center >= gutter[0]], depth + 1)
        ordered += _down([part for part in crossing if part.middle == middle])
    return ordered


def _bands(parts: Sequence[Segment]) -> list[list[Segment]]:
    """Parts above each other with an empty stretch of several lines between them."""
    bands: list[list[Segment]] = []
    bottom = 0.0
    size = median(part.size for part in parts)
    for part in sorted(parts, key=lambda part: part.top):
        if not bands or part.top - bottom > BAND * size:
            bands.append([])
        bands[-1].append(part)
        bottom = max(bottom, part.bottom)
    return bands


def _down(parts: Sequence[Segment]) -> list[_Line | TextBlock]:
    """From top to bottom; rows of aligned cells become a table."""
    ordered: list[_Line | TextBlock] = []
    run: list[_Line] = []
    for line in lines_of(parts):
        first = line.segments[0]
        if isinstance(first, _Placed):
            ordered += _open_tables(run)
            run = []
            ordered.append(first.block)
        else:
            run.append(line)
    return ordered + _open_tables(run)


def _open_tables(lines: list[_Line]) -> list[_Line | TextBlock]:
    """Three or more rows of several short cells in the same columns are a table without rules."""
    ordered: list[_Line | TextBlock] = []
    at = 0
    while at < len(lines):
        end = at
        while (
            end < len(lines)
            and len(_cells(lines[end])) > 1
            and (end == at or lines[end].top - lines[end - 1].bottom < 2 * lines[end].size)
        ):
            end += 1
        rows = (
            _aligned([segment for line in lines[at:end] for segment in line.segments])
            if end - at >= 3
            else None
        )
        if rows and median(sum(bool(cell) for cell in row) for row in rows) >= 2:
            segments = [segment for row in rows for cell in row for segment in cell]
            block = _Table(*_box_of(segments), rows).block()
            if block:
                ordered.append(block)
                at = end
                continue
        end = max(end, at + 1)
        ordered += lines[at:end]
        at = end
    return ordered


def _cells(line: _Line) -> list[Segment]:
    return [
        s for n, s in enumerate(line.segments) if n == 0 or s.left - line.segments[n - 1].right > 1.2 * s.size
    ]


def _gutter(parts: Sequence[Segment]) -> tuple[float, float] | None:
    """The widest gap from top to bottom between two columns, crossed by little; None where there is none."""
    if len(parts) < 6:
        return None
    size = median(part.size for part in parts)
    left, right = min(part.left for part in parts), max(part.right for part in parts)
    if right - left < 12 * size:
        return None
    best: tuple[float, float, float] | None = None
    total = sum(part.bottom - part.top for part in parts)
    for start, end, crossed in _gaps(parts, left, right, 0.3 * total):
        if end - start < GUTTER * size:
            continue
        if not _are_columns(parts, start, end, size):
            continue
        worth = (end - start) / (1 + 4 * crossed / total)
        if best is None or worth > best[0]:
            best = (worth, start, end)
    return best and (best[1], best[2])


def _gaps(
    parts: Sequence[Segment], left: float, right: float, allowed: float
) -> list[tuple[float, float, float]]:
    """Stretches from left to right that at most ``allowed`` points of height cross, and how much does."""
    events = sorted({*(part.left for part in parts), *(part.right for part in parts)})
    steps: dict[float, float] = defaultdict(float)
    for part in parts:
        steps[part.left] += part.bottom - part.top
        steps[part.right] -= part.bottom - part.top
    gaps: list[tuple[float, float, float]] = []
    crossed = 0.0
    for at, following in pairwise(events):
        crossed += steps[at]
        if at <= left or following >= right or crossed > allowed:
            continue
        if gaps and gaps[-1][1] == at and abs(gaps[-1][2] - crossed) < 1e-6:
            gaps[-1] = (gaps[-1][0], following, crossed)
        else:
            gaps.append((at, following, crossed))
    return gaps


def _are_columns(parts: Sequence[Segment], start: float, end: float, size: float) -> bool:
    """Whether text stands on both sides as columns do: lines that fill them, not cells of rows."""
    before = [part for part in parts if part.right <= start + 0.1]
    after = [part for part in parts if part.left >= end - 0.1]
    if len(before) < 3 or len(after) < 3:
        return False
    if min(max(p.bottom for p in side) - min(p.top for p in side) for side in (before, after)) < 3 * size:
        return False
    shared = min(max(p.bottom for p in before), max(p.bottom for p in after)) - max(
        min(p.top for p in before), min(p.top for p in after)
    )
    if shared < 2 * size:
        return False
    if any(isinstance(part, _Placed) for part in (*before, *after)):
        return True
    middles = sorted(part.middle for part in after)
    level = sum(_has_near(middles, part.middle, 0.2 * size) for part in before) / len(before)
    widths = [max(p.right for p in side) - min(p.left for p in side) for side in (before, after)]
    fill = min(
        median((p.right - p.left) / width for p in side)
        for side, width in zip((before, after), widths, strict=True)
    )
    long = median(len(part.text) for part in (*before, *after))
    # Rows of a table: level with each other, and short.
    return not (level > 0.8 and (fill < 0.6 or long < 12))


def _has_near(ordered: Sequence[float], value: float, within: float) -> bool:
    at = bisect_left(ordered, value - within)
    return at < len(ordered) and ordered[at] <= value + within


# --- Paragraphs -------------------------------------------------------------------------------------------

_BULLET = re.compile(
    r"^(?:[•◦▪■●○–—*·‣-]\s+|\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)]\s+|[一二三四五六七八九十]{1,3}、|（[一二三四五六七八九十]{1,3}）)"
)
_CAPTION = re.compile(
    r"^(?:figure|fig\.|table|chart|listing|abbildung|tabelle|图|表|圖)\s*\d+(?:[.-]\d+)*\s*[.:：)\s]",
    re.IGNORECASE,
)
_NOTE = re.compile(r"^(?:\[?\d{1,3}\]?|[*†‡§¹²³⁴-⁹])\s*\S")
_END = re.compile(r"[.!?。！？:：;；…”’\"')）]$")


def body_size(pages: Sequence[Page]) -> float:
    """The size that most letters have."""
    sizes: Counter[float] = Counter()
    for page in pages:
        for segment in page.segments:
            sizes[round(segment.size * 2) / 2] += len(segment.text)
    return sizes.most_common(1)[0][0] if sizes else 10.0


def _paragraphs(lines: Sequence[_Line], body: float) -> list[TextBlock]:
    blocks: list[TextBlock] = []
    run: list[_Line] = []
    right = max((line.right for line in lines), default=0.0)
    for line in lines:
        if not line.text:
            continue
        if run and _begins(run, line, right, body):
            blocks.append(_block(run, body))
            run = []
        run.append(line)
    if run:
        blocks.append(_block(run, body))
    return _lists_joined(blocks)


def _begins(run: Sequence[_Line], line: _Line, right: float, body: float) -> bool:
    """Whether a line begins a block of its own after the lines of ``run``."""
    last = run[-1]
    size = max(last.size, 1.0)
    if line.turned or last.turned or abs(line.size - last.size) > 0.12 * size:
        return True
    # Another column, or back up.
    if line.top < last.top - 0.5 * size or line.left > last.right or line.right < last.left:
        # A column that goes on in the next one: a sentence that has not ended, in lines of full width.
        return bool(_END.search(last.text)) or line.top > last.top or _is_heading(line, body)
    gap = line.top - last.bottom
    usual = (
        median([second.top - first.bottom for first, second in pairwise(run)])
        if len(run) > 1
        else 0.35 * size
    )
    if gap > max(usual + 0.35 * size, 0.6 * size):
        return True
    if _BULLET.match(line.text) or (line.bold != last.bold and (_is_heading(last, body) or line.bold)):
        return True
    if len(run) > 1 and line.left > last.left + 0.8 * size and abs(last.left - run[0].left) < 2 * size:
        # A first line that is set in; not the second line of an item.
        return bool(_END.search(last.text)) and not _BULLET.match(run[0].text)
    # A last line that is short.
    widest = max(part.right for part in run)
    return (
        bool(_END.search(last.text))
        and last.right < widest - 6 * size
        and line.left > run[-1].left + 0.8 * size
    )


def _is_heading(line: _Line, body: float) -> bool:
    return len(line.text) <= 200 and (
        line.size > 1.15 * body or (line.bold and not _BULLET_ONLY.match(line.text))
    )


_BULLET_ONLY = re.compile(r"^[•◦▪■●○–—*·‣-]\s")


def _block(lines: Sequence[_Line], body: float) -> TextBlock:
    text = ""
    pieces: list[Piece] = []
    for line in lines:
        words = line.text
        if text:
            if _is_broken_word(text, words):
                text = text[:-1]
                pieces[-1] = Piece(pieces[-1].start, len(text), pieces[-1].box)
            elif not (is_wide(text[-1]) and is_wide(words[0])):
                text += " "
        pieces.append(
            Piece(len(text), len(text) + len(words), (line.left, line.top, line.right, line.bottom))
        )
        text += words
    return TextBlock(_kind(lines, text, body), text, _box_of(lines), pieces)


def _is_broken_word(text: str, following: str) -> bool:
    """A word that was divided at the end of the line."""
    return len(text) > 2 and text[-1] == "-" and text[-2].islower() and following[:1].islower()


def _kind(lines: Sequence[_Line], text: str, body: float) -> str:
    first = lines[0]
    if _CAPTION.match(text) and len(text) < 600:
        return "caption"
    if len(text) <= 200 and len(lines) <= 3 and all(_is_heading(line, body) for line in lines):
        return "heading"
    if _BULLET.match(text):
        return "list"
    if first.size < 0.88 * body and _NOTE.match(text):
        return "note"
    return "paragraph"


def _lists_joined(blocks: Sequence[TextBlock]) -> list[TextBlock]:
    """Items that follow each other are one block, an item a line."""
    joined: list[TextBlock] = []
    for block in blocks:
        last = joined[-1] if joined else None
        if last and block.kind == last.kind == "list":
            at = len(last.text) + 1
            last.text += "\n" + block.text
            last.pieces += [Piece(p.start + at, p.end + at, p.box) for p in block.pieces]
            last.box = (
                min(last.box[0], block.box[0]),
                min(last.box[1], block.box[1]),
                max(last.box[2], block.box[2]),
                max(last.box[3], block.box[3]),
            )
        else:
            joined.append(block)
    return joined
