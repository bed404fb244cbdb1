"""Pages of lists without counting and without skipping: a page goes on after the last row that was shown."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

SIZE = 50


@dataclass(frozen=True)
class Page:
    items: list[Any]
    next: str


def newest_first(rows: QuerySet, before: str, size: int = SIZE) -> Page:
    """Of rows that are ordered by `-id`, those older than the id `before`; anything else starts at the newest."""
    with suppress(ValueError):
        rows = rows.filter(pk__lt=uuid.UUID(before))
    return page_of(rows, "pk", size)


def page_of(rows: QuerySet, key: str, size: int = SIZE) -> Page:
    """The first `size` rows, and the key of the last of them where more follow."""
    found = list(rows[: size + 1])
    more = len(found) > size
    return Page(found[:size], str(getattr(found[size - 1], key)) if more else "")
