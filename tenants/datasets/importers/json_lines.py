"""JSON Lines: one object a line, in UTF-8."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.datasets.importers.content import Content
from tenants.datasets.importers.records import Record, blank
from tenants.errors import Invalid


class JsonLines:
    """A table of objects; a line that is none is a failed record. Raises Invalid for what is no JSON Lines at all."""

    def __init__(self, content: Content, options: dict[str, Any]) -> None:
        self._content = content
        self.options: dict[str, Any] = {}
        self.total: int | None = None
        self.warnings: list[str] = []
        check_head(content.at(0, limits.ENCODING_SAMPLE))

    def records(self, file: str | None = None, after: int = 0, most: int | None = None) -> Iterator[Record]:
        last = after + most if most is not None else sys.maxsize
        row = blanks = 0
        for number, line in enumerate(self._lines(), 1):
            empty = line is not None and not line.strip()
            blanks = blanks + 1 if empty else 0
            if empty and blanks % limits.BLANK_LINES:
                continue
            row += 1
            if row > last:
                return
            if row > after:
                name = f"line {number}"
                yield Record(row, name, error=blank()) if empty else _record(row, name, line)

    def close(self) -> None:
        """Nothing is held."""

    def _lines(self) -> Iterator[bytes | None]:
        """Lines without the byte order mark; None for one that is too long."""
        stream = self._content.stream()
        if self._content.at(0, 3) == codecs.BOM_UTF8:
            stream.read(3)
        while line := stream.readline(limits.CELL + 1):
            rest = line
            while len(rest) > limits.CELL and not rest.endswith(b"\n"):
                rest = stream.readline(limits.CELL + 1)
            yield line if len(line) <= limits.CELL else None


def check_head(head: bytes) -> None:
    """Raises Invalid for one JSON array or one object over several lines."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Invalid(_("JSON Lines must be UTF-8, and this file is UTF-16."), pointer="/file")
    if start.startswith(b"["):
        raise Invalid(
            _(
                "This is one JSON array. Use JSON Lines, one object a line: jq -c '.[]' file.json > file.jsonl"
            ),
            pointer="/file",
        )
    if start.split(b"\n", 1)[0].strip() == b"{":
        raise Invalid(
            _(
                "This is JSON over several lines. Use JSON Lines, one object a line: jq -c . file.json > file.jsonl"
            ),
            pointer="/file",
        )


def _record(row: int, name: str, line: bytes | None) -> Record:
    if line is None:
        return Record(row, name, error=f"The line is longer than {limits.CELL:,} bytes.")
    try:
        return Record(row, name, parse_object(line))
    except ValueError as error:
        return Record(row, name, error=str(error))


def parse_object(line: bytes) -> dict[str, object]:
    """A JSON object from UTF-8. Raises ValueError in words for people."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("Not UTF-8.") from None
    except RecursionError:
        raise ValueError("Nested too deep.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"Not valid JSON at character {error.pos + 1}: {error.msg}.") from None
    if not isinstance(value, dict):
        raise ValueError("Not a JSON object.")
    _check_writable(value)
    return value


def _check_writable(value: dict[str, object]) -> None:
    """Escapes and exponents spell what no answer and no database can hold. Raises ValueError."""
    if any("\x00" in key for key in value):
        raise ValueError("A key holds a NUL character.")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("Text must not contain unpaired surrogates.") from None
    except RecursionError:
        raise ValueError("Nested too deep.") from None
    except ValueError:
        raise ValueError("Numbers must be finite.") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON.")
