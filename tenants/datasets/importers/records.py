"""From a record of a table to an item, by the mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenants.datasets.importers import limits
from tenants.datasets.importers.encodings import UNREADABLE
from tenants.datasets.importers.entries import Entry, save_bytes
from tenants.datasets.importers.mapping import Mapping
from tenants.datasets.importers.model import Column, Item, Save, is_text_list
from tenants.datasets.metadata import TAGS, Schema, coerce
from tenants.datasets.values import guess_type, read_cell
from tenants.errors import Invalid

#: Columns of "Failed rows as CSV" beside those of the source. An import of the mended file passes over them.
LINE, REASON = MENDING = ("import_line", "import_reason")

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]+://|data:", re.ASCII)


@dataclass(frozen=True)
class Record:
    """A row of a table by column, or why it could not be read."""

    row: int
    name: str
    values: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    #: Of a record that could not be read: its cells as far as they are known, to be shown and mended.
    cells: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileCell:
    """A file that stands inside a cell (Parquet). Empty where only its presence was asked for."""

    content: bytes
    name: str = ""


class Table(Protocol):
    """A source of records. ``total`` is None where only reading tells; ``options`` are what was detected or given."""

    options: dict[str, Any]
    total: int | None
    warnings: list[str]

    def records(self, file: str | None = None, after: int = 0, most: int | None = None) -> Iterator[Record]:
        """At most ``most`` records with a row above ``after``; the bytes of FileCells only of the column ``file``."""
        ...

    def close(self) -> None: ...


#: The file of an archive or folder that a cell names. Raises Invalid where there is none.
Resolve = Callable[[str], Entry]


class RowError(Exception):
    """Why a row cannot become an item."""


@dataclass(frozen=True)
class Rules:
    """How records become items. ``types``: the guessed types of columns whose cells are all text, as in CSV; None
    where values have types of their own. ``schema``: the dataset's, whose declared types go before guesses."""

    mapping: Mapping
    types: dict[str, str] | None = None
    schema: Schema = field(default_factory=dict)
    resolve: Resolve | None = None


def item_of(record: Record, rules: Rules) -> Item:
    """The item of one record; faults of the record become its ``error``."""
    name = record.name[: limits.ROW_NAME]
    kept = {
        column: value.name if isinstance(value, FileCell) else value
        for column, value in (record.values or record.cells).items()
        if column not in MENDING
    }
    try:
        if record.error:
            raise RowError(record.error)
        return _item(record, name, rules, kept)
    except RowError as error:
        return Item(record.row, name, error=str(error), record=kept)


def _item(record: Record, name: str, rules: Rules, kept: dict[str, object]) -> Item:
    values, mapping = record.values, rules.mapping
    external_id = _cell_text(values, mapping.id).strip()
    text, *captions = [_cell_text(values, mapping.text), *_captions(values, rules)]
    save, file_name = _file(values, rules)
    if save is None and not text.strip():
        # One caption without a file is a text.
        text, *captions = captions or [""]
    if save is None and not text.strip():
        raise RowError("The row has neither a text nor a file.")
    metadata = _metadata(values, rules)
    return Item(
        record.row,
        name,
        external_id or None,
        text,
        metadata,
        save,
        file_name,
        captions=tuple(captions),
        record=kept,
    )


def _captions(values: dict[str, object], rules: Rules) -> list[str]:
    """A list of texts, or one text; in CSV a list is written as JSON."""
    column = rules.mapping.captions
    value = values.get(column) if column else None
    if isinstance(value, str) and rules.types is not None and value.lstrip().startswith("["):
        value = _json_list(value)
    if isinstance(value, list):
        if value and not is_text_list(value):
            raise RowError(f'Column "{(column or "")[:60]}" must hold a text or a list of texts.')
        return [one for one in value if one.strip()]
    word = _cell_text(values, column)
    return [word] if word.strip() else []


def _json_list(cell: str) -> object:
    """The list that a cell writes as JSON; the cell itself where it only begins like one."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _cell_text(values: dict[str, object], column: str | None) -> str:
    """A cell as text: numbers as they are written, nothing for null."""
    value = values.get(column) if column else None
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f'Column "{(column or "")[:60]}" must hold text here, not {_kind_name(value)}.')
    return str(value)


def _kind_name(value: object) -> str:
    kinds = {bool: "true or false", list: "a list", dict: "an object", FileCell: "bytes"}
    return kinds.get(type(value), type(value).__name__)


def _file(values: dict[str, object], rules: Rules) -> tuple[Save | None, str]:
    cell = values.get(rules.mapping.file) if rules.mapping.file else None
    if isinstance(cell, FileCell):
        return (save_bytes(cell.content), cell.name) if cell.content else (None, cell.name)
    named = _cell_text(values, rules.mapping.file).strip()
    if not named:
        return None, ""
    if _URL.match(named):
        raise RowError(
            "The file is a web address; addresses are not fetched. Put the file itself into a zip."
        )
    if rules.resolve is None:
        raise RowError("This format carries no files. Put this table as manifest into a zip with the files.")
    entry = _resolved(named, rules.resolve)
    return entry.save, entry.name


def _resolved(named: str, resolve: Resolve) -> Entry:
    try:
        entry = resolve(named)
    except Invalid as error:
        raise RowError(error.detail) from None
    if entry.error:
        raise RowError(entry.error)
    return entry


def _metadata(values: dict[str, Any], rules: Rules) -> dict[str, Any]:
    mapping, found = rules.mapping, {}
    everything = [(name, name) for name in values if name not in MENDING]
    pairs = everything if mapping.metadata == "*" else mapping.metadata.items()
    for column, key in pairs:
        value = values.get(column)
        if (
            value is None
            or isinstance(value, FileCell)
            or (mapping.metadata == "*" and column in (*mapping.roles, mapping.captions))
        ):
            continue
        if rules.types is not None:
            value = _coerced(value, column, key, rules.types, rules.schema)
        if value != "":
            found[key] = value
    return found


def _coerced(cell: str, column: str, key: str, types: dict[str, str], schema: Schema) -> Any:
    entry = schema.get(key) or {"type": types.get(column, "text"), "guessed": True}
    if key == TAGS and entry.get("guessed"):
        entry = {"type": "tags", "guessed": True}
    if not cell or cell.isspace():
        return ""
    try:
        return coerce(cell, entry)
    except Invalid as error:
        raise RowError(f'The cell of "{column[:60]}" does not fit: {error.detail}') from None


def sampled(table: Table) -> Iterator[Record]:
    """The first records, to guess from: fewer where many fail, as each may take long to read."""
    faults = 0
    for record in table.records(most=limits.SAMPLE_ROWS):
        yield record
        faults += record.error is not None
        if faults >= limits.SAMPLE_FAULTS:
            return


def blank() -> str:
    return f"{limits.BLANK_LINES:,} empty lines."


def unreadable(cell: str) -> bool:
    """The cell holds bytes that are not of the file's encoding, or a NUL."""
    return UNREADABLE in cell or "\x00" in cell


@dataclass(frozen=True)
class MixedColumn:
    """A column that is read as text, as `odd` (in the row `at`) is no `kind`, which `count` of `total` values are."""

    column: str
    kind: str
    count: int
    total: int
    odd: str
    at: str


class Columns:
    """Names, examples and types of columns, gathered from the first records without keeping them."""

    def __init__(self, names: list[str] | None = None) -> None:
        self._examples: dict[str, list[str]] = {name: [] for name in names or [] if name not in MENDING}
        self._kinds: dict[str, dict[str, _Example]] = {name: {} for name in self._examples}
        self._lists: dict[str, bool] = {}

    def add(self, values: dict[str, Any], *, written: bool, at: str = "") -> None:
        """``written``: the cells are text, as in CSV, and their types are read from it. ``at``: the record's name."""
        for name, value in values.items():
            if name in MENDING:
                continue
            if name not in self._examples and len(self._examples) >= limits.COLUMNS:
                continue
            examples = self._examples.setdefault(name, [])
            kinds = self._kinds.setdefault(name, {})
            if value is None or value == "":
                continue
            self._lists[name] = self._lists.get(name, True) and is_text_list(value)
            kind = _written_kind(value) if written else _kind(value)
            shown = _example(value)
            kinds.setdefault(kind, _Example(shown, at)).count += 1
            if len(examples) < limits.EXAMPLES and shown not in examples:
                examples.append(shown)

    def as_list(self) -> list[Column]:
        return [
            Column(name, examples, _one(set(self._kinds[name]))) for name, examples in self._examples.items()
        ]

    def mixed(self) -> list[MixedColumn]:
        """Columns that would be of another type but for a few values."""
        found = []
        for name, kinds in self._kinds.items():
            kind = max(kinds, key=lambda one: kinds[one].count, default="text")
            if len(kinds) < 2 or "nested" in kinds or kind in ("text", "file"):
                continue
            odd = next(seen for other, seen in kinds.items() if other != kind)
            total = sum(seen.count for seen in kinds.values())
            found.append(MixedColumn(name, kind, kinds[kind].count, total, odd.example, odd.at))
        return found

    def lists(self) -> list[str]:
        """The columns that hold nothing but lists of texts."""
        return [name for name, whole in self._lists.items() if whole]


@dataclass
class _Example:
    example: str
    at: str
    count: int = 0


def _one(kinds: set[str]) -> str:
    if not kinds:
        return "empty"
    return next(iter(kinds)) if len(kinds) == 1 else "nested" if "nested" in kinds else "text"


def _written_kind(value: str) -> str:
    return guess_type(read_cell(value.strip()))


def _kind(value: Any) -> str:
    if isinstance(value, FileCell):
        return "file"
    kind = "" if isinstance(value, list | dict) else guess_type(value)
    return kind or "nested"


def _example(value: object) -> str:
    if isinstance(value, FileCell):
        return value.name or "(bytes)"
    return str(value)[: limits.EXCERPT]
