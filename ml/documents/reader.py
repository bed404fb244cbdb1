"""The parent's side: documents are read in a limited child process."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from ml.documents.model import CODES, Document, DocumentError, Limits
from ml.documents.sniffing import FORMATS, OLE, PDF
from ml.media.decoder import Pool
from ml.media.fair_queue import FairQueue
from ml.media.model import MediaError

#: Address space of a child; OCR alone needs half of it.
DEFAULT_MEMORY = 2 << 30
#: Of a document. The child's own limits of processor time (``Limits``) end reading earlier, with what was read.
DEFAULT_TIMEOUT_S = 900.0
PAGE_TIMEOUT_S = 30.0
MAX_WIDTH = 4_000
#: Of the answer: what ``Limits`` lets a document have, in JSON.
MAX_ANSWER = 256 << 20

PathLike = str | os.PathLike[str]


class Reader:
    """Reads documents of unknown origin in child processes. Thread-safe; survives fork and a child's death.

    ``memory_bytes`` limits a child's address space; ``turns`` makes what says how many are at work and whose turn it
    is; ``ocr``: whether pages without text are read by OCR. All methods raise DocumentError, OSError for a file that is
    not there, and Crowded where ``turns`` lets no more wait.
    """

    #: For whom it reads: those who wait are served in turn.
    owner: Hashable = None

    def __init__(
        self,
        memory_bytes: int = DEFAULT_MEMORY,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        turns: Callable[[], FairQueue] = lambda: FairQueue(1),
        limits: Limits | None = None,
        ocr: bool = True,
    ) -> None:
        self.timeout_s, self.limits, self.ocr = timeout_s, limits or Limits(), ocr
        self.pool = Pool(memory_bytes, turns, "ml.documents.child")

    def of(self, owner: Hashable) -> Reader:
        """The same reader and children, for an owner (a tenant)."""
        other = copy(self)
        other.owner = owner
        return other

    def read(self, file: PathLike, media_type: str) -> Document:
        """What a document says, where, and what to know about it. ``media_type``: as ``sniff`` gave it."""
        request = {"kind": "read", "limits": asdict(self.limits), "ocr": self.ocr}
        header, parts = self._ask(file, media_type, request, self.timeout_s)
        try:
            if len(parts[0]) > MAX_ANSWER:
                raise ValueError("more than a document can have")
            document = Document.from_json(json.loads(parts[0]))
            return replace(document, cpu_s=float(header["cpu_s"]))
        except (ValueError, KeyError, IndexError, RecursionError):
            raise _died() from None

    def page(self, file: PathLike, media_type: str, page: int, width: int) -> bytes:
        """A page of a PDF as JPEG, ``width`` pixels wide (at most 4,000), fewer where it is very high.

        Raises ValueError for a page that there is not, or a width of less than 16.
        """
        if media_type != PDF:
            raise DocumentError("unsupported", "only pages of a PDF can be drawn: show the text instead")
        if width < 16:
            raise ValueError("a page is at least 16 pixels wide")
        request = {
            "kind": "page",
            "page": page,
            "width": min(width, MAX_WIDTH),
            "limits": asdict(self.limits),
        }
        header, parts = self._ask(file, media_type, request, min(self.timeout_s, PAGE_TIMEOUT_S))
        if header.get("absent"):
            raise ValueError(f"the document has no page {page}")
        if not parts or not parts[0].startswith(b"\xff\xd8\xff"):
            raise _died()
        return bytes(parts[0])

    def close(self) -> None:
        """End the idle children. A closed reader starts new ones when it is used again."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(
        self, file: PathLike, media_type: str, request: dict[str, Any], timeout_s: float
    ) -> tuple[dict[str, Any], list[bytearray]]:
        self._check(file, media_type)
        request |= {"media_type": media_type}
        try:
            answer = self.pool.ask_once(file, request, timeout_s, self.owner)
        except MediaError as error:
            raise _translated(error, timeout_s) from None
        if len(answer) != 1:
            raise _died()
        header, parts = answer[0]
        if "refused" in header:
            code, detail = header["refused"], header.get("detail")
            if code not in CODES or not isinstance(detail, str):
                raise _died()
            raise DocumentError(code, detail[:500], header["cpu_s"])
        return header, parts

    def _check(self, file: PathLike, media_type: str) -> None:
        status = Path(file).stat()
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError("unsupported", "not a regular file")
        if status.st_size == 0:
            raise DocumentError("empty", "the file is empty: it was not uploaded completely")
        if status.st_size > self.limits.bytes:
            most = self.limits.bytes >> 20
            raise DocumentError(
                "too_large", f"the document has more than {most} MB: split it, or send it smaller"
            )
        if media_type not in FORMATS and media_type != OLE:
            known = ", ".join(FORMATS.values())
            raise DocumentError("unsupported", f"{media_type} is not read: send one of {known}")


def _died() -> DocumentError:
    return DocumentError(
        "reader_died", "the document could not be read, because the process that reads it ended: try again"
    )


def _translated(error: MediaError, timeout_s: float) -> DocumentError:
    """What the pool says about children, as it is told of documents."""
    told = _died()
    if error.code == "timeout":
        detail = f"reading took longer than {timeout_s:g} s: try again, or split the document"
        told = DocumentError("timeout", detail)
    elif error.code == "too-large":
        told = DocumentError("too_large", "reading needs more memory than allowed: split the document")
    told.cpu_s = error.cpu_s
    return told
