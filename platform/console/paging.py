"""Pages of a list that is ordered by id, newest first: a page goes on below the last id that was shown."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet


@dataclass(frozen=True)
class Page:
    items: list[Any]
    next: str


def page_of(rows: QuerySet, before: str, size: int) -> Page:
    """`size` rows older than the id `before`; a value that is no id starts from the newest."""
    start = parse_id(before)
    if start is not None:
        rows = rows.filter(pk__lt=start)
    found = list(rows[: size + 1])
    more = len(found) > size
    return Page(found[:size], str(found[size - 1].pk) if more else "")


def parse_id(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
