"""The reading process: ``python -m ml.documents.child MEMORY_BYTES``, limited as the decoder's (`ml.media.child`).

What libraries print goes nowhere, what they raise becomes a refusal, and what breaks them breaks this process only.
"""

from __future__ import annotations

import importlib
import json
import mimetypes
import pkgutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ml import sandbox
from ml.documents.model import Builder, Document, DocumentError, Full, Limits
from ml.documents.sniffing import (
    EMAIL,
    EPUB,
    FORMATS,
    HEAD_BYTES,
    HTML,
    MARKDOWN,
    OLE,
    PDF,
    SHEETS,
    SLIDES,
    WORD,
    sniff,
)
from ml.media.child import Piece, serve
from ml.media.model import File

#: Parsers of nested elements call themselves; beyond this Python stops them before the stack ends.
DEEP = 3_000
#: Where PDFium looks for fonts that a document names and does not bring, as Chinese ones often are.
FONTS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/usr/share/X11/fonts"))
#: After ``Limits.cpu_s``, for putting together what was read until then.
SPARE_S = 30.0


def read(file: File, media_type: str, limits: Limits, ocr: bool = True) -> Document:
    """Read one document in this process. Raises DocumentError, MemoryError."""
    with file.open("rb") as opened:
        _check(opened.read(HEAD_BYTES), media_type)
    builder = Builder(limits)
    try:
        with _stopped_after(limits.cpu_s + SPARE_S, builder):
            _parser(media_type, ocr)(file, builder)
    except Full:
        pass
    except (DocumentError, MemoryError):
        raise
    except RecursionError:
        raise _too_deep() from None
    except Exception as error:
        if "depth" in str(error).lower():  # libxml2's word
            raise _too_deep() from error
        name = FORMATS[media_type].upper()
        raise DocumentError(
            "damaged",
            f"the file cannot be read as {name} ({type(error).__name__}): open it, and save it again",
        ) from error
    document = builder.document(FORMATS[media_type])
    if not document.text.strip():
        raise DocumentError("no_text", _no_text(document, ocr))
    return document


def _too_deep() -> DocumentError:
    return DocumentError("too_large", "the document is nested too deeply: flatten it, or send a PDF")


def _no_text(document: Document, ocr: bool) -> str:
    if document.truncated:
        return f"no text was found. {document.truncated}"
    if any(finding.kind == "hidden_text" for finding in document.findings):
        return "all text of the document is hidden: make it visible, and send it again"
    if document.format == "pdf" and not ocr:
        return "the pages have no text, only pictures, and reading those (OCR) is switched off"
    return "there is no text in the document: send one with text, or its pictures as pictures"


def _check(head: bytes, media_type: str) -> None:
    """The content decides; the type that was told has to be its."""
    if media_type == OLE:
        if "EncryptedPackage".encode("utf-16-le") in head or b"E\0n\0c\0r\0y\0p\0t" in head:
            raise DocumentError(
                "encrypted", "the document needs a password: save it without one, and send it again"
            )
        raise DocumentError(
            "unsupported",
            "office files of before 2007 (.doc, .xls, .ppt) and encrypted ones are not read: save it as .docx, .xlsx or"
            " .pptx without a password",
        )
    if media_type in (HTML, MARKDOWN, EMAIL):
        binary = b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))
        if binary or head.startswith((b"%PDF-", b"PK\x03\x04")):
            raise DocumentError(
                "unsupported", f"the file is not text, so it is no {FORMATS[media_type]} document"
            )
        return
    # A name that fits: of a zip with little in its head only the name tells.
    suffix = {PDF: ".pdf"}.get(media_type, f".{FORMATS[media_type]}")
    found = sniff(head, f"document{suffix}")
    if found == OLE:
        _check(head, OLE)
    if found == media_type:
        return
    if media_type == PDF or found is None:
        what = FORMATS[media_type].upper()
        raise DocumentError("damaged", f"the file does not begin as {what} does: open it, and save it again")
    right = FORMATS.get(found, found)
    raise DocumentError(
        "unsupported", f"the file is {right}, not {FORMATS[media_type]}: send it under its right name"
    )


@contextmanager
def _stopped_after(cpu_s: float, builder: Builder) -> Iterator[None]:
    """What is not read after so much processor time is left out."""

    def stop(*_: object) -> None:
        builder.full(f"reading took more than {cpu_s:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _parser(media_type: str, ocr: bool) -> Callable[[File, Builder], None]:
    """Imported on demand: reading Markdown needs no library of PDF."""
    if media_type == PDF:
        from ml.documents import pdf

        return partial(pdf.read, ocr=ocr)
    if media_type in (HTML, MARKDOWN, EMAIL, EPUB):
        from ml.documents import markup

        return {
            HTML: markup.read_html,
            MARKDOWN: markup.read_markdown,
            EMAIL: markup.read_email,
            EPUB: markup.read_epub,
        }[media_type]
    from ml.documents import office

    return {WORD: office.read_word, SLIDES: office.read_slides, SHEETS: office.read_sheets}[media_type]


def _pieces(request: dict[str, Any]) -> Iterator[Piece]:
    limits = Limits(**request["limits"])
    try:
        if request["kind"] == "page":
            from ml.documents import pdf

            picture = pdf.draw(request["file"], request["page"], request["width"])
            yield ({}, [picture]) if picture else ({"absent": True}, [])
        else:
            document = read(request["file"], request["media_type"], limits, request["ocr"])
            content = json.dumps(document.to_json(), ensure_ascii=False, separators=(",", ":")).encode()
            yield {}, [content]
    except DocumentError as error:
        yield {"refused": error.code, "detail": error.detail}, []


def load() -> None:
    """Import whatever any request may need: afterwards no file has to be opened."""
    from ml.documents import markup, office, pdf

    for package in (markup, office, pdf):
        package.load()
    import encodings

    for module in pkgutil.iter_modules(encodings.__path__):
        if module.name not in ("mbcs", "oem"):
            importlib.import_module(f"encodings.{module.name}")


def main(memory_bytes: str) -> None:
    """Read what is asked for."""
    sys.setrecursionlimit(DEEP)
    # openpyxl asks for media types, which Python would read from files that this process may not open.
    mimetypes.knownfiles.clear()
    serve(int(memory_bytes), _pieces, lambda: sandbox.confine("document", read=FONTS, load=load))


if __name__ == "__main__":
    main(*sys.argv[1:])
