"""The receipt of an import as a table that people open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator

from django.http import StreamingHttpResponse

from tenants.datasets.models import ImportRow
from tenants.pipeline.imports import list_rows
from tenants.scope import tenant_scope

HEADER = ("row", "name", "outcome", "asset", "reason")
ROWS_AT_ONCE = 1000
# What a spreadsheet would take for a formula; names and reasons come from strangers' files.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def serve(*, tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str = "") -> StreamingHttpResponse:
    """The receipt as a download."""
    parts = csv_of(tenant_id=tenant_id, import_id=import_id, outcome=outcome)
    headers = {"Content-Disposition": f'attachment; filename="receipt-{import_id}.csv"'}
    return StreamingHttpResponse(parts, content_type="text/csv; charset=utf-8", headers=headers)


def csv_of(*, tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str = "") -> Iterator[bytes]:
    """The receipt as CSV in UTF-8, in parts; each is read in a scope of its own, so that a slow reader holds none."""
    yield _table([HEADER])
    last = -1
    while rows := _next_rows(tenant_id, import_id, outcome, last):
        last = rows[-1].row
        yield _table([_cells(row) for row in rows])


def _next_rows(tenant_id: uuid.UUID, import_id: uuid.UUID, outcome: str, last: int) -> list[ImportRow]:
    with tenant_scope(tenant_id):
        return list(list_rows(import_id=import_id, outcome=outcome).filter(row__gt=last)[:ROWS_AT_ONCE])


def _cells(row: ImportRow) -> tuple[str, ...]:
    return str(row.row), _plain(row.name), row.outcome, str(row.asset_id or ""), _plain(row.reason)


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _table(rows: list[tuple[str, ...]]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()
