"""The receipt of an import as a table that people open in a spreadsheet, and its failed rows as one to mend."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.http import content_disposition_header

from tenants.datasets.importers import escape_formula
from tenants.datasets.importers.records import MENDING
from tenants.datasets.models import ImportRow
from tenants.pipeline.transfer.imports import get_import, list_rows
from tenants.scope import tenant_scope

HEADER = ("row", "name", "outcome", "asset", "reason")
ROWS_AT_ONCE = 1000
# Failed rows are kept as they were read: of each so much (bytes of JSON), of an import so many, and for so long.
MAX_KEPT, MAX_KEPT_ROWS = 256 << 10, 10_000
KEEP_ROWS = dt.timedelta(days=30)


def serve(*, tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str = "") -> StreamingHttpResponse:
    """The receipt as a download; of the failed rows one that can be mended and imported again."""
    if outcome == ImportRow.Outcome.FAILED:
        with tenant_scope(tenant_id):
            source = PurePosixPath(get_import(import_id).location.replace("\\", "/")).stem
        parts, name = (
            failed_rows(tenant_id=tenant_id, import_id=import_id),
            f"{source or 'import'}-failed.csv",
        )
    else:
        parts, name = (
            csv_of(tenant_id=tenant_id, import_id=import_id, outcome=outcome),
            f"receipt-{import_id}.csv",
        )
    headers = {"Content-Disposition": content_disposition_header(True, name) or "attachment"}
    return StreamingHttpResponse(parts, content_type="text/csv; charset=utf-8", headers=headers)


def csv_of(*, tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str = "") -> Iterator[bytes]:
    """The receipt as CSV in UTF-8, in parts; each is read in a scope of its own, so that a slow reader holds none."""
    yield _table([HEADER])
    for rows in _pieces(tenant_id, import_id, outcome):
        yield _table([_cells(row) for row in rows])


def failed_rows(*, tenant_id: uuid.UUID, import_id: uuid.UUID) -> Iterator[bytes]:
    """The failed rows with the columns of their source, as CSV in UTF-8 with a byte order mark (for Excel).

    The columns that the readers pass over stand in front: where the row stood, and what is wrong with it.
    """
    failed = ImportRow.Outcome.FAILED
    with tenant_scope(tenant_id):
        captions = get_import(import_id).mapping.get("captions") or ""
    columns: dict[str, None] = {}
    for rows in _pieces(tenant_id, import_id, failed):
        columns.update((name, None) for row in rows for name, _ in row.record or ())
    yield b"\xef\xbb\xbf" + _table([[escape_formula(name) for name in (*MENDING, *columns)]])
    for rows in _pieces(tenant_id, import_id, failed):
        yield _table([_editable_cells(row, columns, captions) for row in rows])


def kept(record: Mapping[str, Any]) -> list[list[Any]] | None:
    """A row of a table as a receipt keeps it: pairs of column and value. None for no row, or too large a one."""
    pairs = [[_storable(column), _storable(value)] for column, value in record.items()]
    try:
        written = json.dumps(pairs, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    if not pairs or len(written) > MAX_KEPT:
        return None
    found: list[list[Any]] = json.loads(written.replace("\\u0000", "\\ufffd"))
    return found


def forget_rows() -> int:
    """Drop what is kept of failed rows of this tenant's older imports; the receipt stays. Returns how many."""
    old = ImportRow.objects.filter(
        job_import__created_at__lt=timezone.now() - KEEP_ROWS, record__isnull=False
    )
    return old.update(record=None)


def _pieces(tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str) -> Iterator[list[ImportRow]]:
    last = -1
    while rows := _next_rows(tenant_id, import_id, outcome, last):
        last = rows[-1].row
        yield rows


def _next_rows(tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str, last: int) -> list[ImportRow]:
    with tenant_scope(tenant_id):
        return list(list_rows(import_id=import_id, outcome=outcome).filter(row__gt=last)[:ROWS_AT_ONCE])


def _cells(row: ImportRow) -> tuple[str, ...]:
    return (
        str(row.row),
        escape_formula(row.name),
        row.outcome,
        str(row.asset_id or ""),
        escape_formula(row.reason),
    )


def _editable_cells(row: ImportRow, columns: Iterable[str], captions: str) -> list[str]:
    values = dict(row.record or ())
    cells = (_format_cell(values.get(name), as_json=name == captions) for name in columns)
    return [escape_formula(cell) for cell in (row.name, row.reason, *cells)]


def _format_cell(value: object, *, as_json: bool = False) -> str:
    """A value as a cell that the readers understand: tags between semicolons, other lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if (
        not as_json
        and isinstance(value, list)
        and all(isinstance(tag, str) and not set(tag) & set(";|,") for tag in value)
    ):
        return ";".join(value)
    return json.dumps(value, ensure_ascii=False)


def _storable(value: object) -> object:
    """Without what no database holds: bytes that are no text in the file's encoding."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _table(rows: Iterable[Iterable[str]]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()
