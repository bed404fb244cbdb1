"""Word, PowerPoint, Excel: what is shown in order, and what is hidden, deleted, or would run or be fetched."""

from __future__ import annotations

import datetime
from typing import Any

from docx.shared import Pt, RGBColor
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from ml.documents import Document
from tests.ml.documents.conftest import Read
from tests.ml.documents.office_files import book, changed, element, sheets, slides, word


def blocks(document: Document) -> list[tuple[str, int, str]]:
    return [(block.kind, block.page, document.text_of(block)) for block in document.blocks]


def findings(document: Document) -> list[tuple[str, str]]:
    return [(finding.kind, finding.detail) for finding in document.findings]


def test_word(read: Read) -> None:
    def fill(document: Any) -> None:
        document.core_properties.title = "The title"
        document.add_heading("第一章 Head", 1)
        paragraph = document.add_paragraph("What is seen ")
        paragraph.add_run("hidden").font.hidden = True
        paragraph.add_run("white").font.color.rgb = RGBColor(255, 255, 255)
        paragraph.add_run("tiny").font.size = Pt(1)
        paragraph._p.append(element('<w:del w:id="1"><w:r><w:delText>gone</w:delText></w:r></w:del>'))
        paragraph._p.append(element('<w:ins w:id="2"><w:r><w:t>and inserted</w:t></w:r></w:ins>'))
        document.add_comment(paragraph.runs[0], "Is that so?", "An author")
        for item in ("one", "two"):
            document.add_paragraph(item, style="List Bullet")
        table = document.add_table(2, 2)
        for at, text in enumerate(("A", "B", "1", "2")):
            table.cell(at // 2, at % 2).text = text
        document.sections[0].header.paragraphs[0].text = "Top"
        document.sections[0].footer.paragraphs[0].text = "Bottom"

    document = read(word(fill), "a.docx")
    assert (document.format, document.title, document.page_count) == ("docx", "The title", 1)
    assert blocks(document) == [
        ("heading", 1, "第一章 Head"),
        ("paragraph", 1, "What is seen and inserted"),
        ("list", 1, "- one\n- two"),
        ("table", 1, "A | B\n1 | 2"),
        ("note", 1, "Comment: Is that so?"),
        ("header", 1, "Top"),
        ("footer", 1, "Bottom"),
    ]
    assert findings(document) == [
        ("hidden_text", "Text that is marked hidden: hidden"),
        ("hidden_text", "Text that is white on white: white"),
        ("hidden_text", "Text that is too small to read: tiny"),
        ("hidden_text", "Text that is deleted, but still in the file: gone"),
    ]


def test_macros_and_outside_parts_are_told(read: Read) -> None:
    relations = (
        b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1"'
        b' Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate"'
        b' Target="https://evil.example/t.dotm" TargetMode="External"/></Relationships>'
    )
    content = changed(
        word(lambda document: document.add_paragraph("Hello")),
        {
            "[Content_Types].xml": lambda old: old.replace(
                b"vnd.openxmlformats-officedocument.wordprocessingml.document.main",
                b"vnd.ms-word.document.macroEnabled.main",
            ),
            "word/vbaProject.bin": b"macros",
            "word/_rels/settings.xml.rels": relations,
        },
    )
    document = read(content, "a.docm")
    assert document.text == "Hello"
    assert findings(document) == [
        ("active_content", "An outside part (attachedTemplate) from evil.example, which was not fetched"),
        ("active_content", "Macros (VBA), which were not run"),
    ]


def test_slides(read: Read) -> None:
    def fill(presentation: Any) -> None:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = "Plan"
        slide.placeholders[1].text = "first\nsecond"
        slide.notes_slide.notes_text_frame.text = "say it slowly"
        table = slide.shapes.add_table(2, 2, Inches(1), Inches(5), Inches(4), Inches(1)).table
        table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 1).text = "A", "B", "2"
        slide.shapes.add_textbox(Inches(-5), 0, Inches(1), Inches(1)).text_frame.text = "beside it"
        hidden = presentation.slides.add_slide(presentation.slide_layouts[5])
        hidden.shapes.title.text = "Not shown"
        hidden._element.set("show", "0")
        chart = CategoryChartData()
        chart.categories = ["North", "South"]
        chart.add_series("2026", (1, 2.5))
        third = presentation.slides.add_slide(presentation.slide_layouts[6])
        third.shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, Inches(3), Inches(3), chart)
        group = third.shapes.add_group_shape()
        group.shapes.add_textbox(Inches(2), Inches(3), Inches(1), Inches(1)).text_frame.text = "in a group"

    document = read(slides(fill), "a.pptx")
    assert (document.page_count, document.page_sizes[0]) == (3, (720.0, 540.0))
    assert blocks(document) == [
        ("heading", 1, "Plan"),
        ("list", 1, "first\nsecond"),
        ("table", 1, "A | B\n| 2"),
        ("note", 1, "say it slowly"),
        ("table", 3, "| 2026\nNorth | 1\nSouth | 2.5"),
        ("paragraph", 3, "in a group"),
    ]
    assert document.blocks[2].box == (0.1, 0.6667, 0.5, 0.8)
    assert findings(document) == [
        ("hidden_text", "Text that is outside of the slide: beside it"),
        ("hidden_text", "Text that is on a hidden slide: Not shown"),
    ]


def test_sheets(read: Read) -> None:
    def fill(workbook: Any) -> None:
        sheet = workbook.active
        sheet.title = "Sales"
        sheet.append(["Region", "Share", "since"])
        sheet.append(["North", 0.25, datetime.date(2026, 1, 2)])
        sheet["B2"].number_format = "0%"
        sheet.append(["not shown", 2])
        sheet.row_dimensions[3].hidden = True
        sheet["D1"] = "nor this"
        sheet.column_dimensions["D"].hidden = True
        sheet["A6"] = "Below"
        secret = workbook.create_sheet("Secret")
        secret["A1"] = "very much hidden"
        secret.sheet_state = "veryHidden"

    document = read(sheets(fill), "a.xlsx")
    assert document.page_count == 2
    assert blocks(document) == [
        ("heading", 1, "Sales"),
        ("table", 1, "Region | Share | since\nNorth | 25% | 2026-01-02"),
        ("table", 1, "Below"),
    ]
    assert findings(document) == [
        ("hidden_text", "Text that is in hidden rows or columns: nor this not shown 2"),
        ("hidden_text", "Text that is on a hidden sheet: very much hidden"),
    ]


def test_a_book(read: Read) -> None:
    content = book(
        {"one.xhtml": "<h1>One</h1><p>The first&#160;chapter.</p>", "zwei.xhtml": "<p>第二章。</p>"}
    )
    document = read(content, "a.epub")
    assert (document.format, document.title, document.page_count) == ("epub", "A book", 2)
    assert blocks(document) == [
        ("heading", 1, "One"),
        ("paragraph", 1, "The first chapter."),
        ("paragraph", 2, "第二章。"),
    ]
