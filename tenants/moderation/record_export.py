"""The record as files: CSV for people, JSON lines for machines. Streamed in parts, each read in a scope of its own."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tenants.moderation.models import Record
from tenants.moderation.record import as_dict
from tenants.scope import tenant_scope

AT_ONCE = 1_000
COLUMNS = (
    "sequence",
    "created_at",
    "kind",
    "audit",
    "item",
    "subject",
    "policy_version",
    "decision",
    "actor",
    "payload_digest",
    "digest",
)
# What a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Span:
    """From the day `since` to the day `until`, both included, in UTC; None leaves an end open."""

    since: dt.date | None = None
    until: dt.date | None = None

    def conditions(self, field: str = "created_at") -> dict[str, dt.datetime]:
        found = {}
        if self.since is not None:
            found[f"{field}__gte"] = _midnight(self.since)
        if self.until is not None:
            found[f"{field}__lt"] = _midnight(self.until) + dt.timedelta(days=1)
        return found


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def csv_of(tenant_id: uuid.UUID, span: Span) -> Iterator[bytes]:
    yield _table([COLUMNS])
    for rows in _batches(tenant_id, span):
        yield _table([[_cell(shown[name]) for name in COLUMNS] for shown in map(as_dict, rows)])


def json_lines_of(tenant_id: uuid.UUID, span: Span) -> Iterator[bytes]:
    for rows in _batches(tenant_id, span):
        yield "".join(json_line(as_dict(row)) for row in rows).encode()


def json_line(shown: dict[str, Any]) -> str:
    return json.dumps(shown, ensure_ascii=False, default=_text) + "\n"


def _batches(tenant_id: uuid.UUID, span: Span) -> Iterator[list[Record]]:
    last = 0
    while True:
        with tenant_scope(tenant_id):
            rows = Record.objects.filter(sequence__gt=last, **span.conditions())
            found = list(rows.order_by("sequence")[:AT_ONCE])
        if not found:
            return
        last = found[-1].sequence
        yield found


def _cell(value: Any) -> str:
    text = "" if value is None else _text(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _table(rows: Any) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()
