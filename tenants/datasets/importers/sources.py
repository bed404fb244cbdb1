"""Opening a source: from location and format to a stream of items, or to a preview."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.datasets.importers import limits
from tenants.datasets.importers.content import Content, open_content
from tenants.datasets.importers.delimited import Delimited
from tenants.datasets.importers.entries import Files
from tenants.datasets.importers.folders import Disk, Folder, LocalDisk
from tenants.datasets.importers.json_lines import JsonLines
from tenants.datasets.importers.manifests import Manifest, find_manifest, plain_items, spooled
from tenants.datasets.importers.mapping import Mapping, guess
from tenants.datasets.importers.model import Column, Item, Preview, preview_row
from tenants.datasets.importers.parquet import Parquet
from tenants.datasets.importers.records import Columns, MixedColumn, Rules, Table, item_of, sampled
from tenants.datasets.importers.tars import Tar
from tenants.datasets.importers.zips import Zip
from tenants.datasets.metadata import Schema
from tenants.errors import Invalid, Unavailable
from tenants.long_requests import PREVIEWING

FORMATS = ("zip", "tar", "csv", "jsonl", "parquet", "files")

# What an import of a bucket has to be told again when it goes on.
_BUCKET = ("region", "endpoint")

_TABLES: dict[str, Callable[[Content, dict[str, object]], Table]] = {
    "csv": Delimited,
    "jsonl": JsonLines,
    "parquet": Parquet,
}


@dataclass
class Source:
    """An open source. ``read(rules, after)`` gives its items; ``columns`` is empty where there is no table."""

    read: Callable[[Rules, int], Iterator[Item]]
    columns: list[Column] = field(default_factory=list)
    guessed: Mapping = field(default_factory=Mapping)
    total: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    mixed: list[MixedColumn] = field(default_factory=list)
    sparse: bool = False

    def rules(self, given: Mapping | dict[str, Any] | None, schema: Schema | None) -> Rules:
        """With the given mapping, checked, or the guess. Raises Invalid."""
        mapping = self.guessed
        if given and self.columns:
            value = given.as_dict() if isinstance(given, Mapping) else given
            mapping = Mapping.parse(value, [column.name for column in self.columns], more=self.sparse)
        return Rules(mapping, self.options.get("types"), schema or {})


@contextmanager
def open_items(
    location: str | Path,
    format: str,
    *,
    mapping: Mapping | dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    after: int = 0,
    secret: dict[str, Any] | None = None,
    schema: Schema | None = None,
    allowed_endpoints: tuple[str, ...] | None = None,
) -> Iterator[Iterator[Item]]:
    """The items of a source with ``row`` > ``after``, in the same order at every opening, read as they are taken.

    For ``files``, a Path is a folder of this machine and a str is ``s3://bucket/prefix``: what a tenant wrote never
    becomes a path. ``schema`` is the dataset's: cells of CSV are read as the types that it declares. Raises Invalid
    where the source as a whole cannot be read (also for mapping and options); what is wrong with one row is that
    item's ``error``. Unavailable may come at any time and means: try again.
    """
    with _open_source(location, format, options or {}, secret, allowed_endpoints) as source:
        yield source.read(source.rules(mapping, schema), after)


def preview(
    location: str | Path,
    format: str,
    *,
    mapping: Mapping | dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    secret: dict[str, Any] | None = None,
    schema: Schema | None = None,
    allowed_endpoints: tuple[str, ...] | None = None,
) -> Preview:
    """The source at a glance, in seconds however large it is. Raises as ``open_items``; Unavailable while many look."""
    with _preview_slot(), _open_source(location, format, options or {}, secret, allowed_endpoints) as source:
        rules = source.rules(mapping, schema)
        twice = DuplicateIds()
        rows, counted = _first_rows(source.read(rules, 0), twice)
        total = source.total if counted is None else counted
        warnings = [
            *source.warnings,
            *twice.warnings(),
            *map(_mixed_warning, _only_metadata(source.mixed, rules.mapping)),
        ]
        return Preview(format, source.columns, rules.mapping, rows, total, source.options, warnings)


class DuplicateIds:
    """Ids that more than one of the rows has that a preview read."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._again: dict[str, str] = {}

    def add(self, item: Item) -> None:
        if item.external_id and self._first.setdefault(item.external_id, item.name) != item.name:
            self._again.setdefault(item.external_id, item.name)

    def warnings(self) -> list[str]:
        if not self._again:
            return []
        named = [
            _("“%(id)s” in %(first)s and %(again)s")
            % {"id": one[: limits.EXCERPT], "first": self._first[one], "again": again}
            for one, again in list(self._again.items())[: limits.EXAMPLES]
        ]
        more = len(self._again) - len(named)
        return [
            _("Ids that more than one row has: %(count)s (%(named)s%(more)s).")
            % {"count": f"{len(self._again):,}", "named": "; ".join(named), "more": "; …" if more else ""}
        ]


def _only_metadata(mixed: list[MixedColumn], mapping: Mapping) -> list[MixedColumn]:
    """Ids, texts and names of files are text anyway."""
    kept = [one for one in mixed if one.column not in mapping.roles]
    return [one for one in kept if mapping.metadata == "*" or one.column in mapping.metadata]


def _mixed_warning(one: MixedColumn) -> str:
    kinds = {"number": _("a number"), "bool": _("true or false"), "time": _("a time")}
    return _(
        "Column “%(column)s” is read as text: %(count)s of the first %(total)s values are %(kind)s, "
        "but “%(odd)s” (%(at)s) is not."
    ) % {
        "column": one.column[:60],
        "count": f"{one.count:,}",
        "total": f"{one.total:,}",
        "kind": kinds.get(one.kind, one.kind),
        "odd": one.odd[:60],
        "at": one.at,
    }


@contextmanager
def _preview_slot() -> Iterator[None]:
    """A bucket may let wait and a file be a bomb: those who look must not take every thread from those who search."""
    with PREVIEWING.taken() as there:
        if not there:
            raise Unavailable(_("Too many sources are being previewed right now. Try again soon."))
        yield


def _first_rows(items: Iterator[Item], twice: DuplicateIds) -> tuple[list[dict[str, object]], int | None]:
    """The first rows, and how many there are if the end comes soon."""
    rows: list[dict[str, object]] = []
    until = time.monotonic() + limits.PREVIEW_S
    row = 0
    for item in items:
        row = item.row
        twice.add(item)
        if len(rows) < limits.PREVIEW_ROWS:
            rows.append(preview_row(item))
        if time.monotonic() > until:
            return rows, None
    return rows, row


@contextmanager
def _open_source(
    location: str | Path,
    format: str,
    options: dict[str, object],
    secret: dict[str, object] | None,
    allowed: tuple[str, ...] | None,
) -> Iterator[Source]:
    if format not in FORMATS:
        raise Invalid(_("The format is one of %(names)s.") % {"names": ", ".join(FORMATS)}, pointer="/format")
    with ExitStack() as stack:
        if format == "files":
            source = _tree(Folder(_disk(location, options, secret, allowed)), options, stack)
            source.options |= {key: options[key] for key in _BUCKET if options.get(key)}
        else:
            source = _from_file(stack.enter_context(open_content(Path(location))), format, options, stack)
        yield source


def _from_file(content: Content, format: str, options: dict[str, object], stack: ExitStack) -> Source:
    if format == "zip":
        return _tree(Zip(content), options, stack)
    if format == "tar":
        tar = Tar(content)
        return Source(lambda rules, after: tar.items(after))
    return _table(_opened_table(content, format, options, stack))


def _opened_table(content: Content, format: str, options: dict[str, object], stack: ExitStack) -> Table:
    table = _TABLES[format](content, options)
    stack.callback(table.close)
    return table


def _disk(
    location: str | Path,
    options: dict[str, object],
    secret: dict[str, object] | None,
    allowed: tuple[str, ...] | None,
) -> Disk:
    if isinstance(location, Path):
        return LocalDisk(location)
    from tenants.datasets.importers.buckets import Bucket  # loads Arrow's C++ libraries

    return Bucket(location, options, secret, settings.IMPORT_S3_ENDPOINTS if allowed is None else allowed)


def _table(table: Table) -> Source:
    def read(rules: Rules, after: int) -> Iterator[Item]:
        return (item_of(record, rules) for record in table.records(rules.mapping.file, after))

    return _table_source(table, read, files=False)


def _tree(files: Files, options: dict[str, object], stack: ExitStack) -> Source:
    entry = find_manifest(files)
    if entry is None:
        return Source(lambda rules, after: plain_items(files, after), total=files.rows)
    content = spooled(entry, str(settings.SPOOL_DIR), stack)
    table = _opened_table(content, entry.name.rpartition(".")[2], options, stack)
    return _table_source(table, Manifest(table, entry, files).items, files=True)


def _table_source(table: Table, read: Callable[[Rules, int], Iterator[Item]], *, files: bool) -> Source:
    """Columns, types and mapping from the first records."""
    columns, size, written = Columns(getattr(table, "names", None)), 0, isinstance(table, Delimited)
    for record in sampled(table):
        columns.add(record.values, written=written, at=record.name)
        size += sum(len(str(value)) for value in record.values.values())
        if size > limits.SAMPLE_CHARS:
            break
    found = columns.as_list()
    return Source(
        read=read,
        columns=found,
        guessed=guess(
            {column.name: column.guessed_type for column in found}, files=files, lists=columns.lists()
        ),
        total=table.total,
        options=table.options,
        warnings=table.warnings,
        mixed=columns.mixed(),
        sparse=isinstance(table, JsonLines),
    )
