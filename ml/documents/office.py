"""Word, PowerPoint and Excel files of today's format (Open XML), by python-docx, python-pptx and openpyxl.

The libraries open a package that was checked before (`ml.documents.archive`); nothing in it is run, fetched or opened.
What Word and PowerPoint show, what they hide and what was deleted is told from the elements themselves.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ml.documents.archive import Archive
from ml.documents.model import Box, Builder, DocumentError, clean, row, shortened
from ml.media.model import File

#: Tables within tables, groups within groups.
MAX_NESTING = 30
#: Letters of this size and less nobody reads, in points.
TINY = 2.0

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_COMPATIBLE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_STRICT = b"purl.oclc.org/ooxml"
_OFFICE = "application/vnd.openxmlformats-officedocument."
_MICROSOFT = "application/vnd.ms-"


def load() -> None:
    """Import what opening asks for."""
    import docx
    import openpyxl
    import pptx  # noqa: F401

    docx.Document()
    openpyxl.Workbook()


# --- Packages ---------------------------------------------------------------------------------------------

#: Parts that a program would run or open, and what is told. Each chart has its figures in an embedded workbook.
_PARTS = (
    (re.compile(r"vbaProject\.bin$", re.IGNORECASE), "active_content", "Macros (VBA), which were not run"),
    (re.compile(r"/macrosheets/", re.IGNORECASE), "active_content", "Macros of Excel 4, which were not run"),
    (
        re.compile(r"/activeX/.*\.xml$", re.IGNORECASE),
        "active_content",
        "ActiveX controls, which were not run",
    ),
    (
        re.compile(r"/embeddings/(?!Microsoft_Excel_(?:Work)?[Ss]heet\d{0,5}\.xlsx$)", re.IGNORECASE),
        "active_content",
        "Embedded files, which were not opened",
    ),
    (re.compile(r"^xl/connections\.xml$", re.IGNORECASE), "active_content", "Connections to outside data"),
    (re.compile(r"^xl/(?:drawings|charts)/[^/]*\.xml$"), "not_read", "Drawings and charts of sheets"),
    (re.compile(r"^xl/(?:comments|threadedComments/)[^/]*\.xml$"), "not_read", "Comments on cells"),
)
_RELATION = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"


def _package(file: Any, builder: Builder) -> Archive:
    """A checked package; what would run or be fetched becomes findings."""
    package = Archive(file, builder.limits)
    if "[Content_Types].xml" not in package.names:
        raise DocumentError("damaged", "the list of parts is missing: open the document, and save it again")
    package.check_xml()
    for name in sorted(package.names):
        for pattern, kind, told in _PARTS:
            if pattern.search(name):
                builder.find(kind, told)
        if name.endswith(".rels"):
            _outside(package, name, builder)
    return package


def _outside(package: Archive, name: str, builder: Builder) -> None:
    """What a program would fetch when it opens the document. Links that are followed by hand are none."""
    for relation in package.xml(name).iter(_RELATION):
        kind = (relation.get("Type") or "").rsplit("/", 1)[-1]
        if (relation.get("TargetMode") or "").lower() == "external" and kind != "hyperlink":
            told = f"An outside part ({shortened(kind, 40)}) {_where(relation.get('Target') or '')}"
            builder.find("active_content", f"{told}, which was not fetched")


def _where(address: str) -> str:
    try:
        host = urlsplit(address).hostname
    except ValueError:
        host = None
    return f"from {shortened(host, 80)}" if host else "in another file"


def _refuse_strict(package: Archive, name: str) -> None:
    if name in package.names and _STRICT in package.read(name)[:4_096]:
        raise DocumentError(
            "unsupported", "the document is of the type Strict Open XML: save it as an ordinary office file"
        )


# --- Word -------------------------------------------------------------------------------------------------

_FETCHING = re.compile(r"\b(DDE|DDEAUTO|INCLUDETEXT|INCLUDEPICTURE|IMPORT|LINK|RD)\b")


def read_word(file: File, builder: Builder) -> None:
    from docx.opc.part import PartFactory
    from docx.package import Package
    from docx.parts.document import DocumentPart

    with file.open("rb") as opened:
        package = _package(opened, builder)
        _refuse_strict(package, "word/document.xml")
        for kind in ("macroEnabled.main", "macroEnabledTemplate.main"):
            PartFactory.part_type_for[f"{_MICROSOFT}word.{_word_kind(kind)}+xml"] = DocumentPart
        PartFactory.part_type_for[f"{_OFFICE}wordprocessingml.template.main+xml"] = DocumentPart
        opened.seek(0)
        part = Package.open(opened).main_document_part
        if not isinstance(part, DocumentPart):
            raise DocumentError("damaged", "the file is no Word document: open it in Word, and save it again")
        builder.title = part.core_properties.title or ""
        word = _Word(builder, part)
        word.body(part.element.body, 0)
        word.flush()
        word.notes()
        word.margins()


def _word_kind(kind: str) -> str:
    return f"document.{kind}" if kind == "macroEnabled.main" else f"template.{kind}"


@dataclass
class _Hidden:
    """Words that Word does not show, by the reason."""

    words: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, text: str) -> None:
        if text.strip():
            self.words.setdefault(reason, []).append(text)

    def tell(self, builder: Builder, page: int = 1) -> None:
        for reason, words in self.words.items():
            text = clean("".join(words[:200]))
            builder.find(
                "hidden_text", f"Text that is {reason}: {shortened(text, 120)}", page, None, len(words)
            )


class _Word:
    """Goes through the elements of a document of Word."""

    def __init__(self, builder: Builder, part: Any) -> None:
        self.builder, self.part = builder, part
        self.hidden = _Hidden()
        self._items: list[str] = []
        self._names: dict[str, str] = {}
        self._outline: set[str] = set()
        self._unseen: set[str] = set()
        self._listed: set[str] = set()
        self._styles()

    def _styles(self) -> None:
        """Names of styles, and which make headings, lists, or hide."""
        for style in self.part.styles.element.iter(f"{_WORD}style"):
            identifier = style.get(f"{_WORD}styleId") or ""
            name = style.find(f"{_WORD}name")
            self._names[identifier] = (name.get(f"{_WORD}val") or "").lower() if name is not None else ""
            if style.find(f"{_WORD}pPr/{_WORD}outlineLvl") is not None:
                self._outline.add(identifier)
            if style.find(f"{_WORD}pPr/{_WORD}numPr") is not None:
                self._listed.add(identifier)
            if _is_on(style.find(f"{_WORD}rPr/{_WORD}vanish")):
                self._unseen.add(identifier)

    def body(self, parent: Any, depth: int) -> None:
        if depth > MAX_NESTING:
            raise DocumentError("too_large", "tables and frames are nested too deeply: flatten the document")
        for element in parent.iterchildren():
            if element.tag == f"{_WORD}p":
                self.paragraph(element, depth)
            elif element.tag == f"{_WORD}tbl":
                self.flush()
                self.builder.add("table", "\n".join(filter(None, self._rows(element, depth))))
            elif element.tag == f"{_WORD}altChunk":
                self.builder.find("not_read", "A document within the document (altChunk)")
            elif element.tag in (f"{_WORD}del", f"{_WORD}moveFrom"):
                self.hidden.add("deleted, but still in the file", _all_text(element))
            elif element.tag in (f"{_WORD}sdt", f"{_WORD}sdtContent", f"{_WORD}customXml", f"{_WORD}ins"):
                self.body(element, depth + 1)

    def paragraph(self, element: Any, depth: int) -> None:
        boxes: list[Any] = []
        text = clean(self._text(element, boxes), lines=True)
        kind = self._kind(element)
        if kind == "list" and text:
            self._items.append(clean(text))
        elif text:
            self.flush()
            self.builder.add(kind, clean(text) if kind == "heading" else text)
        for box in boxes:
            self.flush()
            self.body(box, depth + 1)

    def flush(self) -> None:
        """The items of a list so far are a block."""
        items, self._items = self._items, []
        self.builder.add("list", "\n".join(f"- {item}" for item in items))

    def _kind(self, paragraph: Any) -> str:
        properties = paragraph.find(f"{_WORD}pPr")
        if properties is None:
            return "paragraph"
        style = _value(properties.find(f"{_WORD}pStyle"))
        name = self._names.get(style, "")
        level = properties.find(f"{_WORD}outlineLvl")
        if name.startswith("heading") or name in ("title", "subtitle") or style in self._outline:
            return "heading"
        if level is not None and _value(level) != "9":
            return "heading"
        if name == "caption":
            return "caption"
        number = properties.find(f"{_WORD}numPr/{_WORD}numId")
        if (number is not None and _value(number) != "0") or name.startswith("list") or style in self._listed:
            return "list"
        return "paragraph"

    def _text(self, paragraph: Any, boxes: list[Any]) -> str:
        """What Word shows of a paragraph; frames with text in it are put into ``boxes``."""
        words: list[str] = []
        unseen = _value(paragraph.find(f"{_WORD}pPr/{_WORD}pStyle")) in self._unseen
        stack = [iter([paragraph])]
        runs: list[str] = ["hidden by its style" if unseen else ""]
        while stack:
            element = next(stack[-1], None)
            if element is None:
                stack.pop()
                if len(runs) > len(stack) + 1:
                    runs.pop()
                continue
            if not isinstance(element.tag, str):
                continue
            reason = runs[-1]
            tag = element.tag.removeprefix(_WORD)
            if tag in ("del", "moveFrom"):
                self.hidden.add("deleted, but still in the file", _all_text(element))
                continue
            if tag == "txbxContent":
                boxes.append(element)
                continue
            if tag in ("pPr", "rPr", "rt", "delText", "delInstrText", f"{_COMPATIBLE}Fallback"):
                continue
            if tag == "r":
                reason = reason or self._reason(element)
            said = _said(element, tag)
            if tag in ("instrText", "fldSimple"):
                asked = element.text if tag == "instrText" else element.get(f"{_WORD}instr")
                if found := _FETCHING.search(asked or ""):
                    self.builder.find(
                        "active_content", f"A field that fetches ({found[1]}), which was not followed"
                    )
            if said and reason:
                self.hidden.add(reason, said)
            else:
                words.append(said)
            if len(stack) > 200:
                raise DocumentError("too_large", "elements are nested too deeply: flatten the document")
            if len(element):
                stack.append(iter(element))
                runs.append(reason)
        return "".join(words)

    def _reason(self, run: Any) -> str:
        """Why a run is not seen, "" where it is."""
        properties = run.find(f"{_WORD}rPr")
        if properties is None:
            return ""
        style = _value(properties.find(f"{_WORD}rStyle"))
        if _is_on(properties.find(f"{_WORD}vanish")) or style in self._unseen:
            return "marked hidden"
        size = _value(properties.find(f"{_WORD}sz"))
        if size.isdigit() and int(size) <= 2 * TINY:
            return "too small to read"
        color = _value(properties.find(f"{_WORD}color")).upper()
        ground = (
            properties.find(f"{_WORD}shd") is not None or properties.find(f"{_WORD}highlight") is not None
        )
        if color == "FFFFFF" and not ground and not _on_a_ground(run):
            return "white on white"
        return ""

    def _rows(self, table: Any, depth: int) -> Iterator[str]:
        if depth > MAX_NESTING:
            raise DocumentError("too_large", "tables are nested too deeply: flatten the document")
        for line in _inside(table, "tr"):
            properties = line.find(f"{_WORD}trPr")
            if properties is not None and properties.find(f"{_WORD}del") is not None:
                self.hidden.add("deleted, but still in the file", _all_text(line))
            elif properties is not None and _is_on(properties.find(f"{_WORD}hidden")):
                self.hidden.add("in a hidden row", _all_text(line))
            else:
                yield row(self._cell(cell, depth) for cell in _inside(line, "tc"))

    def _cell(self, cell: Any, depth: int) -> str:
        words: list[str] = []
        for element in cell.iterchildren():
            if element.tag == f"{_WORD}p":
                boxes: list[Any] = []
                words.append(self._text(element, boxes))
                words += [_all_text(box) for box in boxes]
            elif element.tag == f"{_WORD}tbl":
                words += self._rows(element, depth + 1)
            elif element.tag == f"{_WORD}sdt":
                words += [self._cell(part, depth + 1) for part in element.iter(f"{_WORD}sdtContent")][:1]
        return " ".join(filter(None, words))

    def notes(self) -> None:
        """Notes at the foot and the end, and comments; then what was hidden."""
        for relation in self.part.rels.values():
            kind = relation.reltype.rsplit("/", 1)[-1]
            if relation.is_external or kind not in ("footnotes", "endnotes", "comments"):
                continue
            from docx.opc.oxml import parse_xml

            root = parse_xml(relation.target_part.blob)
            name = "comment" if kind == "comments" else kind[:-1]
            for note in root.iter(f"{_WORD}{name}"):
                if note.get(f"{_WORD}type") in ("separator", "continuationSeparator", "continuationNotice"):
                    continue
                parts = [self._text(paragraph, []) for paragraph in note.iter(f"{_WORD}p")]
                text = clean("\n".join(parts), lines=True)
                if text:
                    self.builder.add("note", f"Comment: {text}" if kind == "comments" else text)
        self.hidden.tell(self.builder)

    def margins(self) -> None:
        for relation in self.part.rels.values():
            kind = relation.reltype.rsplit("/", 1)[-1]
            if kind in ("header", "footer") and not relation.is_external:
                root = relation.target_part.element
                parts = [clean(self._text(paragraph, [])) for paragraph in root.iter(f"{_WORD}p")]
                self.builder.add(kind, "\n".join(filter(None, parts)))


def _inside(parent: Any, name: str, depth: int = 0) -> Iterator[Any]:
    """Rows of a table or cells of a row, also those in content controls."""
    for element in parent.iterchildren():
        if element.tag == f"{_WORD}{name}":
            yield element
        elif depth < MAX_NESTING and element.tag in (
            f"{_WORD}sdt",
            f"{_WORD}sdtContent",
            f"{_WORD}customXml",
            f"{_WORD}ins",
        ):
            yield from _inside(element, name, depth + 1)


def _said(element: Any, tag: str) -> str:
    if tag in ("t", f"{_MATH}t"):
        return element.text or ""
    if tag in ("br", "cr"):
        return "\n"
    return {"tab": " ", "noBreakHyphen": "-", "ptab": " "}.get(tag, "")


def _all_text(element: Any) -> str:
    """All words below, seen or not."""
    wanted = (f"{_WORD}t", f"{_WORD}delText")
    return clean(
        "".join(
            (e.text or "") + (" " if e.tag == f"{_WORD}p" else "") for e in element.iter(*wanted, f"{_WORD}p")
        )
    )


def _value(element: Any) -> str:
    return (element.get(f"{_WORD}val") or "") if element is not None else ""


def _is_on(element: Any) -> bool:
    return element is not None and _value(element).lower() not in ("0", "false", "off")


def _on_a_ground(run: Any) -> bool:
    """Whether a paragraph, cell or frame around may have a colour."""
    for around in run.iterancestors():
        tag = str(around.tag)
        if tag.endswith("}txbxContent"):
            return True
        for name in ("pPr", "tcPr", "tblPr"):
            if around.find(f"{_WORD}{name}/{_WORD}shd") is not None:
                return True
        if tag == f"{_WORD}tbl":
            return around.find(f"{_WORD}tblPr/{_WORD}tblStyle") is not None
    return False


# --- PowerPoint -------------------------------------------------------------------------------------------

#: English metric units in a point.
_EMU = 12_700


@dataclass
class _Part:
    """What a shape says, and where: ``box`` in shares of the slide, not cut."""

    kind: str
    text: str
    box: Box | None


def read_slides(file: File, builder: Builder) -> None:
    from pptx.opc.package import PartFactory
    from pptx.package import Package
    from pptx.parts.presentation import PresentationPart

    with file.open("rb") as opened:
        package = _package(opened, builder)
        _refuse_strict(package, "ppt/presentation.xml")
        for kind in ("slideshow.main", "template.main"):
            PartFactory.part_type_for[f"{_OFFICE}presentationml.{kind}+xml"] = PresentationPart
        for kind in ("presentation", "slideshow", "template"):
            media_type = f"{_MICROSOFT}powerpoint.{kind}.macroEnabled.main+xml"
            PartFactory.part_type_for[media_type] = PresentationPart
        opened.seek(0)
        part = Package.open(opened).main_document_part
        if not isinstance(part, PresentationPart):
            raise DocumentError(
                "damaged", "the file is no presentation: open it in PowerPoint, and save it again"
            )
        builder.title = part.core_properties.title or ""
        presentation = part.presentation
        wide, high = presentation.slide_width or 1, presentation.slide_height or 1
        slides = presentation.slides
        count = len(slides)
        builder.page_count = count
        builder.page_sizes = [(wide / _EMU, high / _EMU)] * min(count, builder.limits.pages)
        for number, slide in enumerate(slides, 1):
            if number > builder.limits.pages:
                builder.full(f"more than {builder.limits.pages:,} slides")
            _Slide(builder, number, slide, (wide, high)).read()


class _Slide:
    def __init__(self, builder: Builder, number: int, slide: Any, size: tuple[int, int]) -> None:
        self.builder, self.number, self.slide = builder, number, slide
        self.wide, self.high = size

    def read(self) -> None:
        parts = list(self._parts(self.slide.shapes, (0.0, 0.0, 1.0, 1.0), 0))
        if self.slide._element.get("show") in ("0", "false"):
            text = clean(" ".join(part.text for part in parts))
            if text:
                self._hide("on a hidden slide", text)
            return
        for part in sorted(parts, key=_place):
            self.builder.add(part.kind, part.text, self.number, part.box)
        if self.slide.has_notes_slide:
            frame = self.slide.notes_slide.notes_text_frame
            if frame is not None:
                self.builder.add("note", clean(frame.text.replace("\v", "\n"), lines=True), self.number)

    def _hide(self, reason: str, text: str) -> None:
        self.builder.find("hidden_text", f"Text that is {reason}: {shortened(text, 120)}", self.number)

    def _parts(self, shapes: Any, within: tuple[float, float, float, float], depth: int) -> Iterator[_Part]:
        """``within``: offset and scale of the group around, in units of the slide."""
        if depth > MAX_NESTING:
            raise DocumentError("too_large", "groups are nested too deeply: ungroup them")
        for shape in shapes:
            box = self._box(shape, within)
            if shape._element.xpath(".//p:cNvPr[@hidden='1' or @hidden='true']") and not hasattr(
                shape, "shapes"
            ):
                text = clean(" ".join(shape._element.xpath(".//a:t/text()")))
                if text:
                    self._hide("in a hidden shape", text)
                continue
            self._actions(shape)
            for part in self._said(shape, box, within, depth):
                if part.box and (
                    part.box[2] <= 0 or part.box[3] <= 0 or part.box[0] >= 1 or part.box[1] >= 1
                ):
                    self._hide("outside of the slide", clean(part.text))
                elif part.text:
                    yield part

    def _said(self, shape: Any, box: Box | None, within: tuple[float, ...], depth: int) -> Iterator[_Part]:
        if hasattr(shape, "shapes"):
            yield from self._parts(shape.shapes, _group(shape, within), depth + 1)
        elif getattr(shape, "has_table", False):
            lines = (row(cell.text.replace("\v", " ") for cell in line.cells) for line in shape.table.rows)
            yield _Part("table", "\n".join(filter(None, lines)), box)
        elif getattr(shape, "has_chart", False):
            yield _Part("table", self._chart(shape), box)
        elif getattr(shape, "has_text_frame", False):
            yield _Part(*self._frame(shape), box)
        elif shape._element.xpath(".//*[local-name()='relIds']"):
            yield _Part("paragraph", self._diagram(shape), box)

    def _frame(self, shape: Any) -> tuple[str, str]:
        lines = []
        for paragraph in shape.text_frame.paragraphs:
            seen = []
            for run in paragraph._p.iter(f"{_DRAWING}r", f"{_DRAWING}br", f"{_DRAWING}fld"):
                if run.tag == f"{_DRAWING}br":
                    seen.append("\n")
                    continue
                text = "".join(found.text or "" for found in run.iter(f"{_DRAWING}t"))
                size = run.find(f"{_DRAWING}rPr")
                points = size.get("sz") if size is not None else None
                if points and points.isdigit() and int(points) <= 100 * TINY and text.strip():
                    self._hide("too small to read", clean(text))
                else:
                    seen.append(text)
            lines.append(clean("".join(seen), lines=True))
        lines = [line for line in lines if line]
        kind = "paragraph"
        if shape.is_placeholder:
            name = str(shape.placeholder_format.type).split(" ")[0].rsplit(".", 1)[-1]
            if name in ("TITLE", "CENTER_TITLE", "VERTICAL_TITLE"):
                return "heading", clean(" ".join(lines))
            if name in ("FOOTER", "SLIDE_NUMBER", "DATE"):
                return "footer", clean(" ".join(lines))
            if name == "HEADER":
                return "header", clean(" ".join(lines))
            if len(lines) > 1 and name in ("BODY", "OBJECT", "VERTICAL_BODY"):
                kind = "list"
        return kind, "\n".join(lines)

    def _chart(self, shape: Any) -> str:
        """The figures of a chart: a row for each category, a column for each series."""
        try:
            chart = shape.chart
            plot = chart.plots[0]
            series = [(one.name or "", list(one.values)[:1_000]) for one in list(plot.series)[:50]]
            lines = [row(["", *(name for name, _ in series)])]
            for number, category in enumerate(list(plot.categories)[:1_000]):
                lines.append(row([str(category), *(_number(values, number) for _, values in series)]))
            title = clean(chart.chart_title.text_frame.text) if chart.has_title else ""
        except (AttributeError, IndexError, KeyError, ValueError, TypeError, NotImplementedError):
            self.builder.find("not_read", "A chart of a kind that is not read", self.number)
            return ""
        return "\n".join(filter(None, [title, *lines]))

    def _diagram(self, shape: Any) -> str:
        """The words of a diagram (SmartArt), which stand in a part of their own."""
        from lxml import etree

        words: list[str] = []
        for identifier in shape._element.xpath(".//*[local-name()='relIds']/@*[local-name()='dm']"):
            try:
                part = self.slide.part.related_part(identifier)
            except KeyError:
                continue
            parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
            words += [t.text or "" for t in etree.fromstring(part.blob, parser).iter(f"{_DRAWING}t")]
        return "\n".join(filter(None, map(clean, words)))

    def _actions(self, shape: Any) -> None:
        for action in shape._element.xpath(".//a:hlinkClick/@action | .//a:hlinkHover/@action"):
            if "program" in action or "macro" in action or "ole" in action:
                told = "A shape that starts a program or macro, which was not run"
                self.builder.find("active_content", told, self.number)

    def _box(self, shape: Any, within: tuple[float, ...]) -> Box | None:
        try:
            places = shape.left, shape.top, shape.width, shape.height
        except (AttributeError, ValueError, KeyError):
            return None
        if any(place is None for place in places):
            return None
        left, top, wide, high = (float(place) for place in places)
        x, y, across, down = within
        left, top = x + left * across, y + top * down
        right, bottom = left + wide * across, top + high * down
        return left / self.wide, top / self.high, right / self.wide, bottom / self.high


def _group(shape: Any, within: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Offset and scale of what is in a group."""
    x, y, across, down = within
    frame = shape._element.find(f".//{_DRAWING}xfrm")
    if frame is None:
        return x, y, across, down
    values = {}
    for name in ("off", "ext", "chOff", "chExt"):
        found = frame.find(f"{_DRAWING}{name}")
        for key, value in (found.attrib if found is not None else {}).items():
            values[name + key] = float(value)
    try:
        scale_x = values["extcx"] / values["chExtcx"] if values["chExtcx"] else 1.0
        scale_y = values["extcy"] / values["chExtcy"] if values["chExtcy"] else 1.0
        left = values["offx"] - values["chOffx"] * scale_x
        top = values["offy"] - values["chOffy"] * scale_y
    except KeyError:
        return x, y, across, down
    return x + left * across, y + top * down, across * scale_x, down * scale_y


def _number(values: list[Any], at: int) -> str:
    value = values[at] if at < len(values) else None
    return "" if value is None else f"{value:g}"


def _place(part: _Part) -> tuple[int, int, float]:
    """The title first, then in rows of a twentieth of the height."""
    if part.box is None:
        return (0 if part.kind == "heading" else 2), 0, 0.0
    return (0 if part.kind == "heading" else 1), int(part.box[1] * 20), part.box[0]


# --- Excel ------------------------------------------------------------------------------------------------

_ROW = re.compile(rb"<(?:\w+:)?row\b([^<>]{0,1000})>")
_COLUMN = re.compile(rb"<(?:\w+:)?col\b([^<>]{0,1000})>")
_HIDDEN = re.compile(rb"""\bhidden=["'](?:1|true)["']""")
_FORMULA = re.compile(rb"WEBSERVICE\(|\bcmd\|")


def read_sheets(file: File, builder: Builder) -> None:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    with file.open("rb") as opened:
        package = _package(opened, builder)
        _refuse_strict(package, "xl/workbook.xml")
        if "xl/workbook.bin" in package.names:
            raise DocumentError("unsupported", "binary workbooks (.xlsb) are not read: save it as .xlsx")
        opened.seek(0)
        try:
            book = openpyxl.load_workbook(opened, read_only=True, data_only=True, keep_links=False)
        except InvalidFileException as error:
            raise DocumentError(
                "damaged", "the file is no workbook: open it in Excel, and save it again"
            ) from error
        try:
            builder.title = book.properties.title or ""
            sheets = book.worksheets
            builder.page_count = max(1, len(sheets))
            left = builder.limits.cells
            for number, sheet in enumerate(sheets, 1):
                if number > builder.limits.pages:
                    builder.full(f"more than {builder.limits.pages:,} sheets")
                left = _sheet(package, builder, number, sheet, left)
        finally:
            book.close()


def _sheet(package: Archive, builder: Builder, number: int, sheet: Any, left: int) -> int:
    """Add a sheet; how many cells may still be read."""
    rows, columns = _unseen(package, builder, number, sheet)
    hidden = sheet.sheet_state != "visible"
    if not hidden:
        builder.add("heading", clean(sheet.title), number)
    unseen: list[str] = []
    lines: list[str] = []
    sheet.reset_dimensions()
    for cells in sheet.iter_rows():
        left -= 1 + len(cells) // 16 + sum(cell.value is not None for cell in cells)
        if left < 0:
            builder.add("table", "\n".join(lines), number)
            builder.full(f"more than {builder.limits.cells:,} cells")
        at = next((cell.row for cell in cells if cell.value is not None), None)
        if at is None:
            builder.add("table", "\n".join(lines), number)
            lines = []
            continue
        words = [(getattr(cell, "column", 0), _shown(cell)) for cell in cells]
        if hidden or at in rows:
            unseen += [word for _, word in words if word]
            continue
        unseen += [word for column, word in words if column in columns and word]
        seen = [word for column, word in words if column not in columns]
        while seen and not seen[-1]:
            seen.pop()
        if any(seen):
            lines.append(row(seen))
    builder.add("table", "\n".join(lines), number)
    if unseen:
        reason = "on a hidden sheet" if hidden else "in hidden rows or columns"
        told = f"Text that is {reason}: {shortened(' '.join(unseen[:50]), 120)}"
        builder.find("hidden_text", told, number, None, len(unseen))
    return left


def _unseen(package: Archive, builder: Builder, number: int, sheet: Any) -> tuple[set[int], set[int]]:
    """Numbers of hidden rows and columns: the reader of big sheets does not tell them."""
    name = str(getattr(sheet, "_worksheet_path", "")).lstrip("/")
    if name not in package.names:
        return set(), set()
    content = package.read(name)
    if count := len(_FORMULA.findall(content)):
        told = "Formulas that fetch or start something, which were not run"
        builder.find("active_content", told, number, None, count)
    rows = set()
    for found in _ROW.finditer(content):
        if _HIDDEN.search(found[1]) and (at := re.search(rb"""\br=["'](\d{1,7})["']""", found[1])):
            rows.add(int(at[1]))
    columns: set[int] = set()
    for found in _COLUMN.finditer(content[: 1 << 20]):
        if not _HIDDEN.search(found[1]):
            continue
        first = re.search(rb"""\bmin=["'](\d{1,5})["']""", found[1])
        last = re.search(rb"""\bmax=["'](\d{1,5})["']""", found[1])
        if first and last:
            columns |= set(range(int(first[1]), min(int(last[1]), 16_384) + 1))
    return rows, columns


def _shown(cell: Any) -> str:
    """A value as a sheet shows it, as far as its kind tells."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "minutes")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (int, float)):
        if "%" in (cell.number_format or ""):
            return f"{value * 100:.10g}%"
        return f"{value:.15g}"
    return clean(str(value))
