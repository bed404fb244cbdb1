"""Pages of lists without counting and without skipping: a page goes on after the last row that was shown."""

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
    """Of rows newest first, `size` older than the id `before`; a value that is no id starts from the newest."""
    start = parse_id(before)
    if start is not None:
        rows = rows.filter(pk__lt=start)
    return first_of(rows, "pk", size)


def first_of(rows: QuerySet, key: str, size: int) -> Page:
    """The first `size` rows, and the key of the last of them where more follow."""
    found = list(rows[: size + 1])
    more = len(found) > size
    return Page(found[:size], str(getattr(found[size - 1], key)) if more else "")


def parse_id(value: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
