"""Office files as bytes, made by the libraries, and changed where they cannot make what is wanted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import docx
import openpyxl
import pptx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls


def word(fill: Callable[[Any], object]) -> bytes:
    document = docx.Document()
    fill(document)
    return saved(document)


def slides(fill: Callable[[Any], object]) -> bytes:
    presentation = pptx.Presentation()
    fill(presentation)
    return saved(presentation)


def sheets(fill: Callable[[Any], object]) -> bytes:
    book = openpyxl.Workbook()
    fill(book)
    return saved(book)


def saved(document: Any) -> bytes:
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def element(xml: str) -> Any:
    """An element of Word, its prefix declared: ``<w:del>…</w:del>``."""
    name, rest = xml[1:].split(">", 1)
    return parse_xml(f"<{name} {nsdecls('w')}>{rest}")


def changed(content: bytes, parts: Mapping[str, bytes | Callable[[bytes], bytes]]) -> bytes:
    """With parts replaced or added, or made of what they are."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    left = dict(parts)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in source.infolist():
            new = left.pop(member.filename, source.read(member))
            archive.writestr(member.filename, new(source.read(member)) if callable(new) else new)
        for name, new in left.items():
            archive.writestr(name, new(b"") if callable(new) else new)
    return target.getvalue()


def book(chapters: Mapping[str, str], **further: bytes) -> bytes:
    """An EPUB: chapters by name of file, in this order."""
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("mimetype"), "application/epub+zip")
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
            '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        )
        archive.writestr(
            "OPS/book.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/" version="3.0">'
            f"<metadata><dc:title>A book</dc:title></metadata><manifest>{items}</manifest><spine>{spine}</spine>"
            "</package>",
        )
        for name, text in chapters.items():
            if not name.startswith(".."):
                archive.writestr(
                    f"OPS/{name}",
                    f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{text}</body></html>',
                )
        for name, content in further.items():
            archive.writestr(name, content)
    return target.getvalue()
