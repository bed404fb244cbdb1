"""PDF by PDFium: letters and rules at their places, hidden text, active content, and pages as pictures.

PDFium is built without JavaScript and XFA here (the wheels of pypdfium2), and no form is opened: nothing in a document
can run. What would run elsewhere becomes a finding.
"""

from __future__ import annotations

import ctypes
import io
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

from ml.documents import layout
from ml.documents.layout import Page, Rule, Segment
from ml.documents.model import Box, Builder, DocumentError, Piece, clean, is_wide, letters, shortened
from ml.media.model import File

MAX_HEIGHT, MAX_PIXELS = 12_000, 24_000_000
#: Objects of a page that are looked at for rules, pictures and what covers text; rules within one path.
MAX_OBJECTS, MAX_PATH = 20_000, 2_000
#: Lines of this size and less nobody reads, in points.
TINY = 2.0
#: Of 255: colours that differ by less look the same.
CONTRAST = 24
WHITE, CLEAR = 235, 26
_INVISIBLE = frozenset({3, 7})

#: A page of which this share is a picture is a scan.
SCAN = 0.5


def load() -> None:
    """Nothing more to import."""
    from PIL import JpegImagePlugin  # noqa: F401

    reader = _line_reader()
    if reader is not None:
        reader.load()


def read(file: File, builder: Builder, *, ocr: bool) -> None:
    with file.open("rb") as opened:
        content = opened.read()
    document = _opened(content)
    try:
        _active(document, content, builder)
        del content
        pages = _pages(document, builder, _Ocr(builder) if ocr else None)
        _lay_out(pages, builder)
    finally:
        document.close()


def draw(file: File, number: int, width: int) -> bytes | None:
    """A page as JPEG, as wide as asked or less; None where there is none of this number."""
    with file.open("rb") as opened:
        document = _opened(opened.read())
    try:
        if not 1 <= number <= len(document):
            return None
        try:
            picture = _picture(document[number - 1], width)
        except pypdfium2.PdfiumError as error:
            raise DocumentError("damaged", f"page {number} is damaged and cannot be drawn") from error
    finally:
        document.close()
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=85)
    return target.getvalue()


def _picture(page: Any, width: int) -> Any:
    wide, high = page.get_size()
    if not (wide > 0 and high > 0):
        raise DocumentError("damaged", "the page has no size and cannot be drawn")
    scale = min(width / wide, MAX_HEIGHT / high, (MAX_PIXELS / (wide * high)) ** 0.5)
    if wide * scale < 1 or high * scale < 1:
        raise DocumentError("too_large", "the page is too long and narrow to be drawn")
    return page.render(scale=scale, may_draw_forms=False, draw_annots=True).to_pil().convert("RGB")


def _opened(content: bytes) -> Any:
    try:
        document = pypdfium2.PdfDocument(content)
        count = len(document)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pdfium.FPDF_ERR_PASSWORD:
            raise DocumentError(
                "encrypted", "the PDF needs a password: save it without one, and send it again"
            ) from error
        if getattr(error, "err_code", None) == pdfium.FPDF_ERR_SECURITY:
            raise DocumentError(
                "encrypted", "the PDF is encrypted in a way that is not read: save it without protection"
            ) from error
        raise DocumentError(
            "damaged", "the PDF is damaged or was not sent completely: open it, and save it again"
        ) from error
    if count < 1:
        document.close()
        raise DocumentError("damaged", "the PDF has no pages: open it, and save it again")
    return document


# --- Letters ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Style:
    """Of one text object. ``look``: why it may not be seen, "" where nothing tells so."""

    size: float
    bold: bool
    turned: bool
    look: str
    order: int


@dataclass(slots=True)
class _Cover:
    """What is drawn over what came before, in points. ``picture``: not a filled shape."""

    box: Box
    order: int
    picture: bool
    solid: bool


@dataclass
class _Drawn:
    """What a page has beside letters."""

    rules: list[Rule] = field(default_factory=list)
    covers: list[_Cover] = field(default_factory=list)
    orders: dict[int, int] = field(default_factory=dict)
    links: int = 0


class _Places:
    """From a page's coordinates to points from its top left, as it is shown: turned and cut."""

    STEPS = 1_000_000

    def __init__(self, page: Any, width: float, height: float) -> None:
        x, y = ctypes.c_int(), ctypes.c_int()

        def at(left: float, bottom: float) -> tuple[float, float]:
            pdfium.FPDF_PageToDevice(page, 0, 0, self.STEPS, self.STEPS, 0, left, bottom, x, y)
            return x.value * width / self.STEPS, y.value * height / self.STEPS

        self.x0, self.y0 = at(0, 0)
        x1, y1 = at(100, 0)
        x2, y2 = at(0, 100)
        self.xx, self.xy = (x1 - self.x0) / 100, (y1 - self.y0) / 100
        self.yx, self.yy = (x2 - self.x0) / 100, (y2 - self.y0) / 100

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.x0 + x * self.xx + y * self.yx, self.y0 + x * self.xy + y * self.yy

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        one, other = self.point(left, bottom), self.point(right, top)
        return min(one[0], other[0]), min(one[1], other[1]), max(one[0], other[0]), max(one[1], other[1])


@dataclass(slots=True)
class _Seen(Segment):
    look: str = ""
    order: int = -1


def _pages(document: Any, builder: Builder, ocr: _Ocr | None) -> list[Page]:
    limits, count = builder.limits, len(document)
    start = time.process_time()
    builder.title = _title(document)
    if count > limits.pages:
        builder.leave_out(f"Only the first {limits.pages:,} of {count:,} pages were read.")
    pages: list[Page] = []
    characters = 0
    for number in range(1, min(count, limits.pages) + 1):
        if time.process_time() - start > limits.cpu_s:
            builder.leave_out(
                f"Only the first {number - 1:,} of {count:,} pages were read: reading took more than"
                f" {limits.cpu_s:g} s of processor time."
            )
            break
        if characters > limits.chars:
            builder.leave_out(
                f"Only the first {number - 1:,} of {count:,} pages were read: they have more than"
                f" {limits.chars:,} characters."
            )
            break
        page = _page(document, number, builder, ocr)
        characters += sum(len(segment.text) for segment in page.segments)
        pages.append(page)
    if pages and all(page.width == page.height == 1.0 for page in pages):
        raise DocumentError("damaged", "none of the pages can be read: open the PDF, and save it again")
    builder.page_count = count
    builder.page_sizes = [(page.width, page.height) for page in pages]
    return pages


def _title(document: Any) -> str:
    try:
        return clean(document.get_metadata_value("Title"))
    except (pypdfium2.PdfiumError, UnicodeDecodeError):
        return ""


def _page(document: Any, number: int, builder: Builder, ocr: _Ocr | None) -> Page:
    try:
        page = document[number - 1]
    except pypdfium2.PdfiumError:
        builder.find("not_read", "The page is damaged", number)
        return Page(1.0, 1.0)
    try:
        width, height = page.get_size()
        if not (0 < width < 1e6 and 0 < height < 1e6):
            builder.find("not_read", "The page has no usable size", number)
            return Page(1.0, 1.0)
        places = _Places(page, width, height)
        drawn = _drawn(page, places, number, builder)
        text = page.get_textpage()
        try:
            segments = _segments(text, places, drawn, builder.limits.page_chars)
        finally:
            text.close()
        shown = Page(width, height, rules=drawn.rules)
        shown.segments = _visible(page, shown, segments, drawn, number, builder)
        if _may_be_picture(shown, segments, drawn):
            _read_picture(page, shown, number, builder, ocr)
        return shown
    except pypdfium2.PdfiumError:
        builder.find("not_read", "The page is damaged", number)
        return Page(1.0, 1.0)
    finally:
        page.close()


def _segments(text: Any, places: _Places, drawn: _Drawn, most: int) -> list[_Seen]:
    count = pdfium.FPDFText_CountChars(text)
    rect = pdfium.FS_RECTF()
    styles: dict[int, _Style] = {}
    fonts: dict[int, bool] = {}
    downs = sorted((rule.at, rule.start, rule.end) for rule in drawn.rules if not rule.across)
    segments: list[_Seen] = []
    current: _Seen | None = None
    space = False
    high = 0
    last_right = 0.0
    for at in range(min(count, most)):
        code = pdfium.FPDFText_GetUnicode(text, at)
        # Above the basic plane two halves come one after the other.
        if 0xD800 <= code < 0xDC00:
            high = code
            continue
        if 0xDC00 <= code < 0xE000:
            if not high:
                continue
            code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
        high = 0
        if code in (10, 13):
            current, space = None, False
            continue
        if code in (9, 32, 160):
            space = True
            continue
        if code in (2, 0xAD):  # how PDFium tells a hyphen at the end of a line
            code = 45
        if code < 32 or code == 0xFFFE or code > 0x10FFFF:
            continue
        item = pdfium.FPDFText_GetTextObject(text, at)
        address = ctypes.addressof(item.contents) if item else 0
        style = styles.get(address)
        if style is None:
            style = styles[address] = _style(text, at, item, address, drawn, fonts)
        pdfium.FPDFText_GetLooseCharBox(text, at, rect)
        left, top, right, bottom = places.box(rect.left, rect.bottom, rect.right, rect.top)
        character = chr(code)
        if current is not None and not _goes_on(current, last_right, style, left, top, bottom, downs):
            current = None
        if current is None:
            current = _Seen(
                character,
                left,
                top,
                right,
                bottom,
                style.size,
                style.bold,
                style.turned,
                style.look,
                style.order,
            )
            segments.append(current)
        else:
            if space and not (is_wide(current.text[-1]) and is_wide(character)):
                current.text += " "
            current.text += character
            current.left, current.right = min(current.left, left), max(current.right, right)
            current.top, current.bottom = min(current.top, top), max(current.bottom, bottom)
        last_right, space = right, False
    for segment in segments:
        height = segment.bottom - segment.top
        if not 0.4 * height < segment.size < 2.5 * height and not segment.turned:
            segment.size = height / 1.2
    return segments


def _goes_on(
    current: _Seen,
    last_right: float,
    style: _Style,
    left: float,
    top: float,
    bottom: float,
    downs: Sequence[tuple[float, float, float]],
) -> bool:
    """Whether a letter belongs to the line before it."""
    if current.look != style.look or current.turned != style.turned:
        return False
    if style.turned:
        return True
    shared = min(bottom, current.bottom) - max(top, current.top)
    if shared < 0.4 * min(bottom - top, current.bottom - current.top):
        return False
    gap = left - last_right
    size = max(style.size, current.size, 1.0)
    if gap > layout.WORD_GAP * size or gap < -0.8 * size:
        return False
    if abs(style.size - current.size) > 0.4 * size and gap > 0.3 * size:
        return False
    if gap > 0.1 * size:
        middle = (top + bottom) / 2
        return not any(
            last_right - 1 <= at <= left + 1 and start <= middle <= end for at, start, end in downs
        )
    return True


def _style(text: Any, at: int, item: Any, address: int, drawn: _Drawn, fonts: dict[int, bool]) -> _Style:
    size = pdfium.FPDFText_GetFontSize(text, at)
    look, bold = "", False
    angle = pdfium.FPDFText_GetCharAngle(text, at)
    turned = 0.26 < angle < 6.02
    if item:
        matrix = pdfium.FS_MATRIX()
        if pdfium.FPDFPageObj_GetMatrix(item, matrix):
            size *= max(1e-6, (matrix.c**2 + matrix.d**2) ** 0.5)
        mode = pdfium.FPDFTextObj_GetTextRenderMode(item)
        look = "invisible" if mode in _INVISIBLE else _faintness(item, mode)
        bold = _is_bold(pdfium.FPDFTextObj_GetFont(item), fonts)
    return _Style(size, bold, turned, look, drawn.orders.get(address, -1))


def _faintness(item: Any, mode: int) -> str:
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    get = pdfium.FPDFPageObj_GetStrokeColor if mode in (1, 5) else pdfium.FPDFPageObj_GetFillColor
    if not get(item, red, green, blue, alpha):
        return ""
    if alpha.value < CLEAR:
        return "clear"
    return "white" if min(red.value, green.value, blue.value) >= WHITE else ""


def _is_bold(font: Any, fonts: dict[int, bool]) -> bool:
    if not font:
        return False
    address = ctypes.addressof(font.contents)
    if address not in fonts:
        name = ctypes.create_string_buffer(128)
        pdfium.FPDFFont_GetBaseFontName(font, name, 128)
        bold = re.search(rb"bold|black|heavy", name.value, re.IGNORECASE) is not None
        fonts[address] = bold or pdfium.FPDFFont_GetWeight(font) >= 600
    return fonts[address]


# --- What is drawn, and what hides ------------------------------------------------------------------------


def _drawn(page: Any, places: _Places, number: int, builder: Builder) -> _Drawn:
    found = _Drawn()
    count = pdfium.FPDFPage_CountObjects(page)
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    for order in range(min(count, MAX_OBJECTS)):
        item = pdfium.FPDFPage_GetObject(page, order)
        if not item:
            continue
        kind = pdfium.FPDFPageObj_GetType(item)
        if kind == pdfium.FPDF_PAGEOBJ_TEXT:
            found.orders[ctypes.addressof(item.contents)] = order
            continue
        if kind not in (pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_IMAGE):
            continue
        if not pdfium.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            continue
        box = places.box(left.value, bottom.value, right.value, top.value)
        solid = not pdfium.FPDFPageObj_HasTransparency(item)
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            found.covers.append(_Cover(box, order, True, solid))
            continue
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        pdfium.FPDFPath_GetDrawMode(item, fill, stroke)
        if fill.value and box[2] - box[0] > layout.THIN and box[3] - box[1] > layout.THIN:
            found.covers.append(_Cover(box, order, False, solid))
        if fill.value or stroke.value:
            found.rules += _rules(item, box, bool(stroke.value), places)
    return found


def _rules(item: Any, box: Box, stroked: bool, places: _Places) -> Iterator[Rule]:
    left, top, right, bottom = box
    wide, high = right - left, bottom - top
    if high <= layout.THIN:
        if wide > 12:
            yield Rule(True, (top + bottom) / 2, left, right)
        return
    if wide <= layout.THIN:
        if high > 6:
            yield Rule(False, (left + right) / 2, top, bottom)
        return
    if not stroked:
        return
    count = pdfium.FPDFPath_CountSegments(item)
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(item, matrix)
    x, y = ctypes.c_float(), ctypes.c_float()
    before: tuple[float, float] | None = None
    begun: tuple[float, float] | None = None
    for at in range(min(count, MAX_PATH)):
        segment = pdfium.FPDFPath_GetPathSegment(item, at)
        if not segment or not pdfium.FPDFPathSegment_GetPoint(segment, x, y):
            continue
        point = places.point(
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        kind = pdfium.FPDFPathSegment_GetType(segment)
        if kind == pdfium.FPDF_SEGMENT_MOVETO:
            begun = point
        elif kind == pdfium.FPDF_SEGMENT_LINETO and before:
            yield from _straight(before, point)
        if pdfium.FPDFPathSegment_GetClose(segment) and begun:
            yield from _straight(point, begun)
        before = point


def _straight(one: tuple[float, float], other: tuple[float, float]) -> Iterator[Rule]:
    if abs(one[1] - other[1]) <= layout.THIN and abs(one[0] - other[0]) > 12:
        yield Rule(True, (one[1] + other[1]) / 2, min(one[0], other[0]), max(one[0], other[0]))
    elif abs(one[0] - other[0]) <= layout.THIN and abs(one[1] - other[1]) > 6:
        yield Rule(False, (one[0] + other[0]) / 2, min(one[1], other[1]), max(one[1], other[1]))


def _visible(
    page: Any, shown: Page, segments: list[_Seen], drawn: _Drawn, number: int, builder: Builder
) -> list[Segment]:
    """What a reader sees; the rest becomes findings. The text layer of a scan counts as seen: its picture shows it."""
    area = shown.width * shown.height
    scans = [
        cover
        for cover in drawn.covers
        if cover.picture and (cover.box[2] - cover.box[0]) * (cover.box[3] - cover.box[1]) > SCAN * area
    ]
    pixels: Any = None
    visible: list[Segment] = []
    hidden: dict[str, list[_Seen]] = {}
    layer: list[_Seen] = []
    for segment in segments:
        reason = ""
        if (
            segment.right <= 0
            or segment.bottom <= 0
            or segment.left >= shown.width
            or segment.top >= shown.height
        ):
            reason = "outside of the page"
        elif segment.look == "invisible":
            reason = "drawn invisibly"
        elif segment.size < TINY and not segment.turned:
            reason = "too small to read"
        elif segment.look == "clear":
            reason = "transparent"
        elif segment.look == "white":
            if pixels is None:
                pixels = _pixels(page)
            if _is_flat(pixels, segment, shown):
                reason = "of the colour of its ground"
        elif cover := _cover_of(segment, drawn.covers):
            reason = "under a picture" if cover.picture else "under a filled shape"
        if not reason:
            visible.append(segment)
        elif reason in ("drawn invisibly", "under a picture") and any(
            _share(segment, scan.box) > 0.5 for scan in scans
        ):
            layer.append(segment)
        else:
            hidden.setdefault(reason, []).append(segment)
    if layer:
        seen = sum(len(segment.text) for segment in visible)
        if sum(len(segment.text) for segment in layer) > 4 * seen:
            builder.find(
                "text_by_ocr",
                "The page is a picture; the text that somebody's OCR laid under it was read",
                number,
            )
            visible += layer
        else:
            hidden.setdefault("under or over a picture, unseen", []).extend(layer)
    for reason, parts in hidden.items():
        words = clean(" ".join(segment.text for segment in parts))
        box = (
            min(part.left for part in parts) / shown.width,
            min(part.top for part in parts) / shown.height,
            max(part.right for part in parts) / shown.width,
            max(part.bottom for part in parts) / shown.height,
        )
        inside = None if reason == "outside of the page" else _within(box)
        builder.find(
            "hidden_text", f"Text that is {reason}: {shortened(words, 120)}", number, inside, len(parts)
        )
    return visible


def _within(box: Box) -> Box:
    left, top, right, bottom = (round(min(1.0, max(0.0, side)), 4) for side in box)
    return left, top, max(left, right), max(top, bottom)


def _share(segment: Segment, box: Box) -> float:
    """How much of a segment lies in a box."""
    wide = min(segment.right, box[2]) - max(segment.left, box[0])
    high = min(segment.bottom, box[3]) - max(segment.top, box[1])
    area = (segment.right - segment.left) * (segment.bottom - segment.top)
    return max(0.0, wide) * max(0.0, high) / area if area > 0 else 0.0


def _cover_of(segment: _Seen, covers: Sequence[_Cover]) -> _Cover | None:
    if segment.order < 0:
        return None
    for cover in covers:
        if cover.order > segment.order and cover.solid and _share(segment, cover.box) > 0.9:
            return cover
    return None


def _pixels(page: Any) -> Any:
    """Grey, uint8 [h, w]; empty where the page cannot be drawn."""
    import numpy as np

    try:
        return np.asarray(_picture(page, 1_000).convert("L"))
    except DocumentError:
        return np.zeros((0, 1), np.uint8)


def _is_flat(pixels: Any, segment: Segment, shown: Page) -> bool:
    high, wide = pixels.shape
    left, right = (int(side * wide / shown.width) for side in (segment.left, segment.right))
    top, bottom = (int(side * high / shown.height) for side in (segment.top, segment.bottom))
    part = pixels[max(0, top) : bottom + 1, max(0, left) : right + 1]
    return part.size == 0 or int(part.max()) - int(part.min()) < CONTRAST


# --- Pages that are pictures ------------------------------------------------------------------------------

#: The longest side of a page for OCR: letters of 8 points on A4 are 15 pixels high.
OCR_SIDE, OCR_LOOK, OCR_LINES = 1_600, 1_280, 300
#: Fewer letters than this are no text of a page: a stamp, a number.
FEW = 12

_readers: list[Any] = []


def _line_reader() -> Any:
    """The OCR of this process, None where it is not installed."""
    if not _readers:
        from ml.detectors.ocr import LineReader

        missing = LineReader.missing()
        _readers.append(None if missing else LineReader(OCR_LOOK, OCR_SIDE, OCR_LINES))
    return _readers[0]


class _Ocr:
    """OCR within what a document may cost."""

    def __init__(self, builder: Builder) -> None:
        self.pages, self.cpu_s = builder.limits.ocr_pages, builder.limits.ocr_cpu_s

    def read(self, page: Any, shown: Page) -> list[Segment] | None:
        """The lines of a page; None where no more may be read."""
        import numpy as np

        reader = _line_reader()
        if reader is None or self.pages <= 0 or self.cpu_s <= 0:
            return None
        self.pages -= 1
        start = time.process_time()
        wide, high = page.get_size()
        picture = _picture(page, max(16, int(OCR_SIDE * min(1.0, wide / high))))
        pixels = np.asarray(picture)
        found = reader.read(pixels)
        self.cpu_s -= time.process_time() - start
        across, down = shown.width / pixels.shape[1], shown.height / pixels.shape[0]
        segments = []
        for text, corners, _ in found:
            left, right = float(corners[:, 0].min()) * across, float(corners[:, 0].max()) * across
            top, bottom = float(corners[:, 1].min()) * down, float(corners[:, 1].max()) * down
            segments.append(Segment(text, left, top, right, bottom, (bottom - top) / 1.2))
        # What is found is a little higher or lower by chance, which is no change of size.
        usual = median(segment.size for segment in segments) if segments else 0.0
        for segment in segments:
            if 0.7 * usual < segment.size < 1.4 * usual:
                segment.size = usual
        return segments


def _may_be_picture(shown: Page, found: Sequence[_Seen], drawn: _Drawn) -> bool:
    """Whether a page has next to no text, and shows something that may hold some."""
    told = sum(letters(segment.text) for segment in shown.segments)
    if told == 0:
        return bool(found or drawn.covers or drawn.rules)
    area = shown.width * shown.height / 10
    return told < FEW and any(
        cover.picture and (cover.box[2] - cover.box[0]) * (cover.box[3] - cover.box[1]) > area
        for cover in drawn.covers
    )


def _read_picture(page: Any, shown: Page, number: int, builder: Builder, ocr: _Ocr | None) -> None:
    """Read a page by OCR that shows something, but has no text, or none whose letters are told."""
    told = sum(letters(segment.text) for segment in shown.segments)
    if _is_blank(page):
        return
    if ocr is None:
        builder.find("not_read", "Pages that are pictures: OCR is switched off")
        return
    found = ocr.read(page, shown)
    if found is None:
        limit = builder.limits.ocr_pages
        builder.find(
            "not_read", f"Pages that are pictures: not more than {limit} of a document are read by OCR"
        )
    elif found and sum(letters(segment.text) for segment in found) > told:
        builder.find(
            "text_by_ocr",
            "The page is a picture; its text was read by OCR, with the mistakes that OCR makes",
            number,
        )
        shown.segments = found


def _is_blank(page: Any) -> bool:
    pixels = _pixels(page)
    return pixels.size == 0 or int(pixels.max()) - int(pixels.min()) < CONTRAST


# --- Putting it together ----------------------------------------------------------------------------------


def _lay_out(pages: Sequence[Page], builder: Builder) -> None:
    size = layout.body_size(pages)
    outer = layout.margins(pages)
    for number, (page, (header, footer)) in enumerate(zip(pages, outer, strict=True), 1):
        for kind, segments in (("header", header), ("footer", footer)):
            for line in layout.lines_of(segments):
                box = _shares((line.left, line.top, line.right, line.bottom), page)
                builder.add(kind, line.text, number, box, [Piece(0, len(line.text), box)])
        for block in layout.blocks_of(page, [*header, *footer], size):
            pieces = [Piece(p.start, p.end, _shares(p.box, page)) for p in block.pieces]
            builder.add(block.kind, block.text, number, _shares(block.box, page), pieces)


def _shares(box: Box, page: Page) -> Box:
    return _within((box[0] / page.width, box[1] / page.height, box[2] / page.width, box[3] / page.height))


# --- Active content ---------------------------------------------------------------------------------------

_MARKS = (
    (re.compile(rb"/(?:JavaScript|JS)\b"), "JavaScript, which was not run"),
    (re.compile(rb"/Launch\b"), "Actions that start a program, which were not run"),
    (re.compile(rb"/SubmitForm\b"), "A form that sends what is typed"),
    (re.compile(rb"/(?:GoToR|GoToE)\b"), "Links into other files"),
    (re.compile(rb"/RichMedia\b"), "Embedded films, sound or 3D, which were not opened"),
    (re.compile(rb"/XFA\b"), "A form of type XFA, of which only the plain page was read"),
)
_STREAM = re.compile(rb"/ObjStm\b[^>]{0,400}>>\s*stream\r?\n")
_PRINTED = re.compile(rb"[\t\r\n -~]*")
MAX_STREAMS, MAX_STREAM = 4_000, 4 << 20


def _active(document: Any, content: bytes, builder: Builder) -> None:
    """What a viewer could run or open: by its names in the file, and in its packed objects."""
    seen: set[str] = set()
    for part in _parts(content):
        for mark, told in _MARKS:
            # Names may be written in code (#4A for J); such a file hides something.
            if told not in seen and mark.search(part):
                seen.add(told)
                builder.find("active_content", told)
    if pdfium.FPDFDoc_GetJavaScriptActionCount(document) > 0 and _MARKS[0][1] not in seen:
        builder.find("active_content", _MARKS[0][1])
    for at in range(min(100, max(0, pdfium.FPDFDoc_GetAttachmentCount(document)))):
        attachment = pdfium.FPDFDoc_GetAttachment(document, at)
        name = _name_of(attachment) if attachment else ""
        builder.find(
            "active_content", f"An embedded file, which was not opened: {shortened(name or 'no name', 80)}"
        )


def _parts(content: bytes) -> Iterator[bytes]:
    """The file as it stands, without what streams hold, and its packed objects unpacked."""
    yield _unescaped(b"".join(_plain(content)))
    for number, found in enumerate(_STREAM.finditer(content)):
        if number >= MAX_STREAMS:
            return
        try:
            yield _unescaped(
                zlib.decompressobj().decompress(content[found.end() : found.end() + MAX_STREAM], MAX_STREAM)
            )
        except zlib.error:
            continue


def _plain(content: bytes) -> Iterator[bytes]:
    """The file without what stands packed in streams: there a name may stand by chance. What reads as text stays."""
    at = 0
    while True:
        start = content.find(b"stream", at)
        if start < 0:
            yield content[at:]
            return
        yield content[at:start]
        end = content.find(b"endstream", start)
        if end < 0:
            end = len(content)
        if _PRINTED.fullmatch(content[start : min(end, start + 512)]):
            yield content[start:end]
        if end == len(content):
            return
        at = end + len(b"endstream")


def _unescaped(content: bytes) -> bytes:
    if not re.search(rb"/[A-Za-z]*#[0-9A-Fa-f]{2}", content):
        return content
    return re.sub(rb"#([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), content)


def _name_of(attachment: Any) -> str:
    size = pdfium.FPDFAttachment_GetName(attachment, None, 0)
    if not 2 < size < 4_096:
        return ""
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDFAttachment_GetName(attachment, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return clean(buffer.raw[:size].decode("utf-16-le", "replace"))
