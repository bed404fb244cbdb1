"""Lists: newest first, in pages by key, `{"results", "next"}`."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict

from api.rendering import to_json
from tenants.errors import Invalid

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
# Of a page of assets, whose metadata and captions may be long; about, as the last one is whole.
MAX_BYTES = 4 * 1024 * 1024
READ_AT_ONCE = 50
Reader = Callable[[uuid.UUID | None, int], list[Any]]
_LIMIT = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted: after the id `after`, at most `limit` rows."""

    after: uuid.UUID | None
    limit: int

    def of(self, rows: QuerySet, shape: Callable[[Any], object]) -> dict[str, object]:
        """This page of rows that are ordered by descending id."""
        return self.cut(self.fetch(rows), shape)

    def of_bounded(self, rows: QuerySet | Reader, shape: Callable[[Any], object]) -> dict[str, object]:
        """As `of`, for rows that may be large: the page ends early, with a cursor, once it has MAX_BYTES as JSON.

        Instead of rows what reads them: so many, by descending id, behind this one.
        """
        results: list[object] = []
        size, after = 0, self.after
        while True:
            part = Page(after, min(READ_AT_ONCE, self.limit - len(results))).fetch(rows)
            for row in part:
                if len(results) == self.limit or (results and size >= MAX_BYTES):
                    return {"results": results, "next": encode_cursor(after) if after else None}
                shaped = shape(row)
                results.append(shaped)
                size, after = size + len(to_json(shaped)), row.pk
            if len(part) <= READ_AT_ONCE:
                return {"results": results, "next": None}

    def fetch(self, rows: QuerySet | Reader) -> list[Any]:
        """The rows of this page, and one more if there is one."""
        if not isinstance(rows, QuerySet):
            return rows(self.after, self.limit + 1)
        if self.after is not None:
            rows = rows.filter(pk__lt=self.after)
        return list(rows[: self.limit + 1])

    def cut(self, found: list[Any], shape: Callable[[Any], object]) -> dict[str, object]:
        """The answer for rows of which one more than a page may be there."""
        page = found[: self.limit]
        more = len(found) > self.limit
        return {"results": [shape(row) for row in page], "next": encode_cursor(page[-1].id) if more else None}


def read_page(query: QueryDict) -> Page:
    """Raises Invalid for a cursor or limit that cannot be used."""
    limit, cursor = read_limit(query), query.get("cursor")
    return Page(None if cursor is None else decode_cursor(cursor), limit)


def read_limit(query: QueryDict) -> int:
    """How many rows are wanted. Raises Invalid."""
    limit = query.get("limit", str(DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise Invalid(f"limit is a number from 1 to {MAX_LIMIT}.", pointer="/limit")
    return int(limit)


def read_choice(query: QueryDict, name: str, choices: Iterable[str]) -> str:
    """The value of a filter, empty if it is not given. Raises Invalid for one that is not a choice."""
    value = query.get(name)
    if value is None:
        return ""
    if value not in choices:
        raise Invalid(f"{name} is one of {', '.join(choices)}.", pointer=f"/{name}")
    return value


def refuse_unknown(query: QueryDict, *known: str) -> None:
    """A misspelt filter must not answer with everything. Raises Invalid."""
    for name in query:
        if name not in (*known, "cursor", "limit"):
            raise Invalid("There is no such query parameter.", pointer=f"/{name}")


def encode_cursor(row_id: uuid.UUID) -> str:
    return base64.urlsafe_b64encode(row_id.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> uuid.UUID:
    try:
        row_id = uuid.UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
    except (ValueError, binascii.Error) as error:
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor") from error
    if encode_cursor(row_id) != cursor:
        raise Invalid("This is not a cursor from an earlier answer.", pointer="/cursor")
    return row_id
