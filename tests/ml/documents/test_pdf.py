"""PDF: reading order, headers and footers, tables, hidden text, active content, pages as pictures."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from ml.documents import Document, DocumentError, Reader
from tests.ml.documents.conftest import Read
from tests.ml.documents.pdf_files import BOLD, Page, pdf

LEFT = [*(f"The left column says in line {number} that it" for number in range(7)), "is on the left."]
RIGHT = [*(f"The right column says in line {number} that it" for number in range(7)), "is on the right."]


def blocks(document: Document) -> list[tuple[str, int, str]]:
    return [(block.kind, block.page, document.text_of(block)) for block in document.blocks]


def test_columns_below_a_title_that_crosses_them(read: Read) -> None:
    page = Page().text(72, 740, "A title across the whole of the page", 20, BOLD)
    page.lines(330, 700, RIGHT).lines(72, 700, LEFT)
    document = read(pdf([page]), "a.pdf")
    assert blocks(document) == [
        ("heading", 1, "A title across the whole of the page"),
        ("paragraph", 1, " ".join(LEFT)),
        ("paragraph", 1, " ".join(RIGHT)),
    ]
    assert document.title == "A title across the whole of the page"
    assert [document.text_of(line) for line in document.lines[1:]] == LEFT + RIGHT
    # Boxes are shares from the top left.
    left, top, right, bottom = document.lines[1].box
    assert (left, round(top, 2), round(bottom, 2)) == (round(72 / 612, 4), 0.1, 0.12)
    assert 0.35 < right < 0.4


def test_headers_and_footers(read: Read) -> None:
    pages = [
        Page()
        .text(72, 760, "Annual report 2026")
        .text(72, 700, f"What page {n} says.")
        .text(300, 30, f"{n} / 4")
        for n in range(1, 5)
    ]
    document = read(pdf(pages), "a.pdf")
    assert blocks(document) == [
        *(("paragraph", n, f"What page {n} says.") for n in range(1, 5)),
        ("header", 1, "Annual report 2026"),
        ("footer", 1, "1 / 4"),
    ]
    assert [document.text_of(block) for block in document.body()] == [
        f"What page {n} says." for n in range(1, 5)
    ]


def test_a_ruled_table(read: Read) -> None:
    page = (
        Page()
        .text(72, 400, "Before the table there is a sentence.")
        .grid([72, 200, 330, 500], [300, 320, 340, 360])
    )
    for row in range(3):
        for column, left in enumerate((76, 204, 334)):
            page.text(
                left, 345 - 20 * row, ("Region", "2025", "2026")[column] if row == 0 else f"{row}.{column}"
            )
    document = read(pdf([page]), "a.pdf")
    assert blocks(document) == [
        ("paragraph", 1, "Before the table there is a sentence."),
        ("table", 1, "Region | 2025 | 2026\n1.0 | 1.1 | 1.2\n2.0 | 2.1 | 2.2"),
    ]


def test_chinese_has_no_spaces_between_characters(read: Read) -> None:
    page = Page().lines(
        72, 700, ["这是一个中文段落，说明了第一季度的", "销售情况，以及下一步的计划。"], 11, 15
    )
    document = read(pdf([page]), "a.pdf")
    assert document.text == "这是一个中文段落，说明了第一季度的销售情况，以及下一步的计划。"


def test_hidden_text_is_left_out_and_told(read: Read) -> None:
    page = Page().text(72, 700, "What is seen.").text(72, 600, "white", before="1 g")
    page.draw("0 g 72 500 200 20 re f").text(80, 505, "White on black is seen.", before="1 g")
    page.text(72, 400, "below").draw("0.5 g 60 390 300 30 re f")
    page.text(72, 300, "tiny", 1).text(72, 200, "drawn so", before="3 Tr").text(900, 100, "far away")
    document = read(pdf([page]), "a.pdf")
    assert document.text == "What is seen.\n\nWhite on black is seen."
    assert [finding.detail for finding in document.findings if finding.kind == "hidden_text"] == [
        "Text that is of the colour of its ground: white",
        "Text that is under a filled shape: below",
        "Text that is too small to read: tiny",
        "Text that is drawn invisibly: drawn so",
        "Text that is outside of the page: far away",
    ]


def test_active_content_is_told(read: Read) -> None:
    content = pdf(
        [Page().text(72, 700, "Hello")], catalog=b"/OpenAction << /S /Java#53cript /JS (app.alert(1)) >>"
    )
    (finding,) = read(content, "a.pdf").findings
    assert (finding.kind, finding.detail) == ("active_content", "JavaScript, which was not run")


def test_a_page_that_is_a_picture_is_read_by_ocr(read: Read) -> None:
    picture = Image.new("L", (800, 240), 255)
    font = ImageFont.load_default(30)
    ImageDraw.Draw(picture).text((60, 60), "Received on Tuesday", 0, font)
    ImageDraw.Draw(picture).text((60, 110), "by the front office.", 0, font)
    packed = zlib.compress(picture.tobytes())
    image = (
        b"<< /Type /XObject /Subtype /Image /Width 800 /Height 240 /ColorSpace /DeviceGray /BitsPerComponent 8"
        b" /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(packed), packed)
    )
    page = Page(400, 120, resources=b"/XObject << /I 10000 0 R >>").draw("400 0 0 120 0 0 cm /I Do")
    document = read(pdf([page], objects=[image]), "a.pdf")
    assert document.text == "Received on Tuesday by the front office."
    assert [finding.kind for finding in document.findings] == ["text_by_ocr"]
    left, top, right, bottom = document.lines[0].box
    assert 0.05 < left < 0.08
    assert 0.2 < top < 0.3
    assert 0.4 < right < 0.5
    assert 0.35 < bottom < 0.45


def test_json_and_back(read: Read) -> None:
    document = read(pdf([Page().text(72, 700, "Hello").text(72, 600, "white", before="1 g")]), "a.pdf")
    stored = json.loads(json.dumps(document.to_json()))
    assert Document.from_json(stored).to_json() == stored
    stored["blocks"][0][3] = 10_000
    with pytest.raises(ValueError, match="outside of the text"):
        Document.from_json(stored)


def test_a_page_as_a_picture(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf([Page().text(72, 700, "Hello"), Page(300, 100).draw("1 0 0 rg 0 0 300 100 re f")]))
    picture = Image.open(io.BytesIO(reader.page(path, "application/pdf", 2, 600)))
    assert (picture.format, picture.size) == ("JPEG", (600, 200))
    red, green, blue = picture.getpixel((300, 100))
    assert red > 250
    assert max(green, blue) < 5
    with pytest.raises(ValueError, match="no page 3"):
        reader.page(path, "application/pdf", 3, 600)
    with pytest.raises(DocumentError, match="only pages of a PDF"):
        reader.page(path, "text/html", 1, 600)
