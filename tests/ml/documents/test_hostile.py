"""Files that are broken or meant to break: each gets a code and a sentence that says what to do."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ml.documents import DocumentError, Limits, Reader, sniff
from ml.documents.sniffing import EMAIL, EPUB, HTML, MARKDOWN, OLE, PDF, SHEETS, WORD
from tests.ml.documents.conftest import Read
from tests.ml.documents.office_files import book, changed, sheets, word
from tests.ml.documents.pdf_files import Page, pdf

LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
    b"<w:t>&b;</w:t></w:r></w:p></w:body></w:document>"
)
OUTSIDE = LAUGHS.replace(
    b'<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">', b'<!ENTITY b SYSTEM "file:///etc/passwd">'
)


def plain(words: str = "Hello") -> bytes:
    return word(lambda document: document.add_paragraph(words))


def bomb() -> bytes:
    """A part of 60 MB in 60 kB."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w", force_zip64=True) as member:
            for _ in range(60):
                member.write(bytes(1 << 20))
    return target.getvalue()


def locked_zip() -> bytes:
    """A zip whose members say that they are encrypted."""
    content = bytearray(plain())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(mark, place + 4)
    return bytes(content)


def locked_pdf() -> bytes:
    """Under a password that is not given: its check cannot succeed."""
    key = b"<" + b"41" * 32 + b">"
    entries = (
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O " + key + b" /U " + key + b" /P -4 >> /ID [<00> <00>]"
    )
    return pdf([Page().text(72, 700, "Hello")], trailer=entries)


def looped_pdf() -> bytes:
    """A tree of pages that contains itself."""
    content = pdf([Page().text(72, 700, "Hello")])
    return content.replace(b"/Kids [10 0 R]", b"/Kids [2 0 R ]").replace(b"/Count 1 ", b"/Count 9 ")


def deep_table() -> bytes:
    inner = "<w:p><w:r><w:t>x</w:t></w:r></w:p>"
    for _ in range(120):
        inner = f"<w:tbl><w:tr><w:tc>{inner}<w:p/></w:tc></w:tr></w:tbl>"
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    text = f'<w:document xmlns:w="{space}"><w:body>{inner}<w:p/></w:body></w:document>'
    return changed(plain(), {"word/document.xml": text.encode()})


def leading_outside() -> bytes:
    return book({"one.xhtml": "<p>x</p>"}, **{"../../etc/cron.d/evil": b"x"})


OFFICE_LOCK = (
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1_000) + "EncryptedPackage".encode("utf-16-le") + bytes(1_000)
)
OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2_000)
PLAIN_PDF = pdf([Page().text(72, 700, "Hello")])

CASES: tuple[tuple[str, Callable[[], bytes], str, str, str], ...] = (
    ("zip bomb", bomb, WORD, "too_large", "unpacks to more than 200 times its size"),
    (
        "billion laughs",
        lambda: changed(plain(), {"word/document.xml": LAUGHS}),
        WORD,
        "too_large",
        "XML entities",
    ),
    (
        "outside entity",
        lambda: changed(plain(), {"word/document.xml": OUTSIDE}),
        WORD,
        "too_large",
        "XML entities",
    ),
    (
        "entities in UTF-16",
        lambda: changed(plain(), {"word/document.xml": LAUGHS.decode().encode("utf-16")}),
        WORD,
        "too_large",
        "XML entities",
    ),
    (
        "entities in HTML",
        lambda: b"<!DOCTYPE html [<!ENTITY a 'b'>]><p>&a;",
        HTML,
        "too_large",
        "XML entities",
    ),
    ("locked PDF", locked_pdf, PDF, "encrypted", "needs a password: save it without one"),
    ("locked office file", lambda: OFFICE_LOCK, OLE, "encrypted", "needs a password: save it without one"),
    (
        "locked office file as told",
        lambda: OFFICE_LOCK,
        WORD,
        "encrypted",
        "needs a password: save it without one",
    ),
    ("locked zip", locked_zip, WORD, "encrypted", "needs a password: save it without one"),
    ("old office file", lambda: OLD_OFFICE, OLE, "unsupported", "save it as .docx"),
    ("cut PDF", lambda: b"%PDF-1.7\n" + PLAIN_PDF[400:600], PDF, "damaged", "open it, and save it again"),
    ("cut zip", lambda: plain()[:5_000], WORD, "damaged", "send the whole file again"),
    ("PDF called .docx", lambda: PLAIN_PDF, WORD, "unsupported", "the file is pdf, not docx"),
    (
        "workbook called .docx",
        lambda: sheets(lambda b: b.active.append(["x"])),
        WORD,
        "unsupported",
        "is xlsx, not docx",
    ),
    ("PDF called .md", lambda: PLAIN_PDF, MARKDOWN, "unsupported", "not text"),
    ("bytes called .eml", lambda: bytes(range(256)), EMAIL, "unsupported", "not text"),
    ("text called .pdf", lambda: b"only text", PDF, "damaged", "does not begin as PDF does"),
    ("deep tables", deep_table, WORD, "too_large", "nested too deeply"),
    ("deep HTML", lambda: b"<html><body>" + b"<div>" * 5_000 + b"x", HTML, "too_large", "nested too deeply"),
    ("deep lists", lambda: b"> " * 3_000 + b"x", MARKDOWN, "no_text", "no text"),
    ("looped pages", looped_pdf, PDF, "damaged", "none of the pages can be read"),
    ("no pages", lambda: pdf([]), PDF, "damaged", "open it, and save it again"),
    ("names that lead outside", leading_outside, EPUB, "damaged", "leads outside"),
    ("a chapter outside", lambda: book({"../../../etc/passwd": ""}), EPUB, "no_text", "no text"),
    ("no text", lambda: pdf([Page()]), PDF, "no_text", "no text"),
    (
        "only hidden text",
        lambda: pdf([Page().text(72, 700, "Hello", before="1 g")]),
        PDF,
        "no_text",
        "all text of the document is hidden",
    ),
    ("no head", lambda: b"\n\nHello", EMAIL, "damaged", "has no head"),
    ("nothing", lambda: b"", PDF, "empty", "not uploaded completely"),
)


@pytest.mark.parametrize(
    ("make", "media_type", "code", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_hostile(
    reader: Reader, tmp_path: Path, make: Callable[[], bytes], media_type: str, code: str, words: str
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(make())
    with pytest.raises(DocumentError) as caught:
        reader.read(path, media_type)
    assert (caught.value.code, words in caught.value.detail) == (code, True), caught.value.detail


def test_limits_leave_out_and_say_so(read: Read) -> None:
    limits = Limits(pages=3, chars=40, cells=5, bytes=1 << 20)
    with Reader(limits=limits) as reader:
        pages = [Page().text(72, 700, f"Page {number}") for number in range(200)]
        document = read(pdf(pages), "a.pdf", reader)
        assert (document.page_count, document.text) == (200, "Page 0\n\nPage 1\n\nPage 2")
        assert document.truncated == "Only the first 3 of 200 pages were read."
        document = read("字".encode() * 100, "a.md", reader)
        assert document.text == "字" * 40
        assert document.truncated == "What follows was left out: more than 40 characters."
        document = read(sheets(lambda b: [b.active.append([1, 2]) for _ in range(9)]), "a.xlsx", reader)
        assert document.text == "Sheet\n\n1 | 2"
        assert document.truncated == "What follows was left out: more than 5 cells."
        with pytest.raises(DocumentError, match="more than 1 MB"):
            read(b"x" * (2 << 20), "a.md", reader)


def test_ten_thousand_pages(read: Read) -> None:
    page = Page().text(72, 700, "The same.")
    document = read(pdf([page] * 10_000), "a.pdf")
    assert document.page_count == 10_000
    assert len(document.page_sizes) == 2_000
    assert document.truncated == "Only the first 2,000 of 10,000 pages were read."


def test_a_page_of_gigantic_size(read: Read, reader: Reader, tmp_path: Path) -> None:
    content = pdf([Page(14_400.0, 14_400.0).text(72, 700, "Big"), Page(14_400.0, 3.0).draw("0 0 9 9 re f")])
    document = read(content, "a.pdf")
    assert (document.text, document.page_sizes) == ("Big", ((14_400.0, 14_400.0), (14_400.0, 3.0)))
    path = tmp_path / "big.pdf"
    path.write_bytes(content)
    assert Image.open(io.BytesIO(reader.page(path, PDF, 1, 9_999))).size == (4_000, 4_000)
    with pytest.raises(DocumentError, match="too long and narrow"):
        reader.page(path, PDF, 2, 100)


def test_memory_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(PLAIN_PDF)
    with Reader(memory_bytes=20 << 20) as reader, pytest.raises(DocumentError) as caught:
        reader.read(path, PDF)
    assert (caught.value.code, caught.value.detail) == (
        "too_large",
        "reading needs more memory than allowed: split the document",
    )


def test_kinds_are_told_by_content() -> None:
    fields = b"From: a@example\nTo: b@example\nSubject: x\n\nHello"
    assert sniff(PLAIN_PDF, "a.docx") == PDF
    assert sniff(plain(), "a.bin") == WORD
    assert sniff(sheets(lambda b: b.active.append(["x"])), "a.zip") == SHEETS
    assert sniff(book({"a.xhtml": ""}), "a.zip") == EPUB
    assert sniff(fields, "a.txt") == EMAIL
    assert sniff(b"Subject: x\n\nHello", "a.eml") == EMAIL
    assert sniff(b"Subject: x\n\nHello", "a.txt") is None
    assert sniff(b"# Head", "a.md") == MARKDOWN
    assert sniff(b"# Head", "a.txt") is None
    assert sniff(b"<!doctype html><p>x", "a.txt") == HTML
    assert sniff(b"<p>gr\xfc\xdfe", "a.htm") == HTML
    assert sniff(OFFICE_LOCK, "a") == OLE
    assert sniff(OLD_OFFICE, "a.doc") == OLE
    assert sniff(OLD_OFFICE, "a.msi") is None
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.txt", "x")
    assert sniff(target.getvalue(), "a.docx") is None
