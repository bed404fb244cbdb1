"""CSV and its kin: encoding and delimiter found out, a fault of one row kept to that row, memory flat."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.datasets.importers.content import Content
from tenants.datasets.importers.encodings import MARKING, encoding
from tenants.datasets.importers.records import MENDING, Columns, Record, blank, sampled, unreadable
from tenants.datasets.values import TYPES, read_number
from tenants.errors import Invalid

DELIMITERS = (",", ";", "\t", "|")

# Rows are limited before they are parsed; this limit of the module is for the whole process.
csv.field_size_limit(2 * limits.RECORD)


class Delimited:
    """A table with a header line. Raises Invalid where not even that can be read.

    Quotes are read strictly: after a closing quote only a delimiter may follow. So a lone quote is noticed where the
    next one stands or, at the latest, after ``limits.RECORD`` characters; then the row in which it began fails and
    reading goes on with the line after that. Lines are read again only as long as that costs no more than reading
    on: in a file made of such quotes a row fails with all the lines that it swallowed.
    """

    def __init__(self, content: Content, options: dict[str, Any]) -> None:
        self._content = content
        head = content.at(0, limits.ENCODING_SAMPLE * 4)
        self._encoding = encoding(head, options.get("encoding"))
        sample = head.decode(self._encoding, MARKING)
        self._delimiter = _delimiter(sample, options.get("delimiter"), cut=len(head) < content.size)
        self.options: dict[str, Any] = {"encoding": self._encoding, "delimiter": self._delimiter}
        self.total: int | None = None
        self.warnings: list[str] = []
        self.names = self._header()
        self._mended = set(MENDING) <= set(self.names)
        if self._mended:
            self.names = unique([unescape_formula(name) for name in self.names])
        self.options["types"] = self._types(options.get("types"))

    def records(self, file: str | None = None, after: int = 0, most: int | None = None) -> Iterator[Record]:
        last = after + most if most is not None else sys.maxsize
        rows = _Rows(self._content, self._encoding, self._delimiter)
        next(rows, None)
        for number, (line, cells, error) in enumerate(rows, 1):
            if number > last or (most is not None and rows.read > limits.SAMPLE_READ):
                return
            if number > after:
                yield self._record(number, line, cells, error)

    def close(self) -> None:
        """Nothing is held."""

    def _record(self, number: int, line: int, cells: list[str], error: str | None) -> Record:
        name = f"line {line}"
        if self._mended:
            cells = [unescape_formula(cell) for cell in cells]
        error = error or self._fault(cells)
        values = dict(zip(self.names, cells, strict=False))
        return Record(number, name, {}, error, values) if error else Record(number, name, values)

    def _fault(self, cells: list[str]) -> str | None:
        if len(cells) != len(self.names):
            return f"Expected {len(self.names)} cells as in the first line, found {len(cells)}."
        for name, cell in zip(self.names, cells, strict=True):
            if len(cell) > limits.CELL:
                return f'The cell of "{name[:60]}" holds more than {limits.CELL:,} characters.'
            if unreadable(cell):
                return f'The cell of "{name[:60]}" holds NUL or bytes that are not {self._encoding}.'
        return None

    def _header(self) -> list[str]:
        _, cells, error = next(_Rows(self._content, self._encoding, self._delimiter), (1, [], None))
        if error or not cells:
            raise Invalid(
                gettext("The first line must name the columns. %(value)s")
                % {"value": error or "It is empty."},
                pointer="/file",
            )
        if len(cells) > limits.COLUMNS:
            raise Invalid(
                gettext("More than %(columns)s columns.") % {"columns": limits.COLUMNS}, pointer="/file"
            )
        if any(unreadable(cell) for cell in cells):
            raise Invalid(
                gettext("The first line is not text in %(encoding)s; say the encoding in the options.")
                % {"encoding": self._encoding},
                pointer="/options/encoding",
            )
        names = unique([cell.strip()[: limits.EXCERPT] for cell in cells])
        if any(name.replace(".", "", 1).isdigit() for name in names):
            self.warnings.append("The first line is read as the names of the columns, but holds numbers.")
        return names

    def _types(self, given: Any) -> dict[str, str]:
        columns, size = Columns(self.names), 0
        for record in sampled(self):
            columns.add(record.values, written=True)
            size += sum(map(len, record.values.values()))
            if size > limits.SAMPLE_CHARS:
                break
        kinds = {column.name: column.guessed_type for column in columns.as_list()}
        return {name: kind for name, kind in kinds.items() if kind in TYPES} | _checked_types(
            given, self.names
        )


class _Rows:
    """Rows as (line where it begins, cells, error). Blank lines are passed over."""

    def __init__(self, content: Content, encoding_: str, delimiter: str) -> None:
        text = io.TextIOWrapper(content.stream(), encoding_, errors=MARKING, newline="")
        self._lines, self._delimiter = _Lines(text), delimiter
        self._reader = self._start()

    @property
    def read(self) -> int:
        """Characters of the file so far."""
        return self._lines.read

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> tuple[int, list[str], str | None]:
        for _round in range(limits.BLANK_LINES):
            self._lines.begin()
            try:
                cells = next(self._reader)
            except _Overlong as error:
                return self._resync(f"{error} A quote that is not closed?")
            except csv.Error as error:
                return self._resync(_describe_error(str(error)))
            if cells:
                return self._lines.first, cells, None
        return self._lines.first, [], blank()

    def _start(self) -> Iterator[list[str]]:
        return csv.reader(self._lines, delimiter=self._delimiter, strict=True)

    def _resync(self, error: str) -> tuple[int, list[str], str]:
        if not self._lines.rewind():
            error += " The lines after it are lost with it: too many before it were like this."
        self._reader = self._start()
        return self._lines.first, [], error


class _Overlong(Exception):
    """A row that outgrew ``limits.RECORD``."""


class _Lines:
    """Lines of a text, numbered, that can go back to the second line of the row in hand."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._size = self._number = self._repeated = self.read = 0
        self.first = 1

    def begin(self) -> None:
        self._row, self._size, self.first = [], 0, self._number + 1

    def rewind(self) -> bool:
        """Give the row's lines once more, but for its first; False if too many were given twice already."""
        lines = self._row[1:]
        size = sum(map(len, lines))
        if lines and self._repeated + size > self.read + limits.REREAD:
            return False
        self._repeated += size
        self._again.extendleft(reversed(lines))
        self._number -= len(lines)
        return True

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._number += 1
        self._row.append(line)
        self._size += len(line)
        if self._size > limits.RECORD:
            raise _Overlong(f"The row is longer than {limits.RECORD:,} characters.")
        return line

    def _read(self) -> str:
        line = self._text.readline(limits.RECORD + 1)
        rest = line
        while len(rest) > limits.RECORD and rest[-1] not in "\r\n":
            rest = self._text.readline(limits.RECORD + 1)
            self.read += len(rest)
        self.read += len(line)
        return line


def _describe_error(error: str) -> str:
    if "expected after" in error:
        return "A quote inside a quoted cell: double it, or remove the quotes around."
    if "unexpected end" in error:
        return "A quoted cell begins here and is never closed."
    return f"Not readable as CSV: {error}."


# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formula(cell: str) -> str:
    """The cell as it may stand in a file that people open in a spreadsheet; `unescape_formula` undoes it."""
    if cell.startswith("'"):
        return f"'{cell}"
    return f"'{cell}" if cell.startswith(_FORMULA) and read_number(cell) is None else cell


def unescape_formula(cell: str) -> str:
    """What `escape_formula` was given, also where a spreadsheet has dropped the apostrophe."""
    return cell[1:] if cell.startswith(("''", *(f"'{sign}" for sign in _FORMULA))) else cell


def unique(names: list[str]) -> list[str]:
    """Names for columns: empty ones numbered, repeated ones told apart."""
    found: list[str] = []
    taken, given = set(names), set[str]()
    tried: Counter[str] = (
        Counter()
    )  # of each name, so that a thousand equal ones are not counted through again
    for at, name in enumerate(names, 1):
        name = base = name or f"column {at}"
        while name in given or (name != names[at - 1] and name in taken):
            tried[base] += 1
            name = f"{base} {tried[base] + 1}"
        taken.add(name)
        given.add(name)
        found.append(name)
    return found


def _delimiter(sample: str, asked: object, *, cut: bool) -> str:
    """The delimiter by which the first rows have the most even number of cells; comma for a single column."""
    if asked:
        if asked not in DELIMITERS:
            raise Invalid(_("The delimiter is one of , ; tab |."), pointer="/options/delimiter")
        return str(asked)
    lines = sample.splitlines(keepends=True)
    lines = lines[:-1] if cut and len(lines) > 1 else lines
    return max(DELIMITERS, key=lambda delimiter: _evenness(lines[:500], delimiter))


def _evenness(lines: list[str], delimiter: str) -> tuple[float, int]:
    reader = csv.reader(lines, delimiter=delimiter)
    counts = []
    try:
        for row in reader:
            if row:
                counts.append(len(row))
            if len(counts) == 100:
                break
    except csv.Error:
        return 0.0, 0
    if not counts or counts[0] < 2:
        return 0.0, 0
    return Counter(counts)[counts[0]] / len(counts), counts[0]


def _checked_types(given: object, names: list[str]) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise Invalid(_("Types are an object from column to type."), pointer="/options/types")
    for name, kind in given.items():
        if name not in names or kind not in TYPES:
            raise Invalid(
                _("Columns map to one of %(names)s.") % {"names": ", ".join(TYPES)},
                pointer=f"/options/types/{name}",
            )
    return dict(given)
