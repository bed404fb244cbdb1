"""The assets of a dataset as a grid or a table: how they are ordered, which columns there are, and what is remembered.

Only orders that an index gives: a page costs the same wherever it lies in 100,000 assets.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from console.paging import parse_id
from tenants.datasets.models import Asset, Dataset

GRID, TABLE = "grid", "table"
VIEWS = (GRID, TABLE)
NEWEST, OLDEST, BY_ID = "newest", "oldest", "external_id"
SORTS = ((NEWEST, _("Newest first")), (OLDEST, _("Oldest first")), (BY_ID, _("By external id")))
PAGE = {GRID: 24, TABLE: 50}
MAX_COLUMNS = 6
# Of how many datasets a session remembers the columns.
MAX_REMEMBERED = 30
SESSION_KEY = "asset_list"


@dataclass(frozen=True)
class Shape:
    """How the list is looked at: grid or table, its order, the status it is narrowed to, the columns of metadata."""

    view: str
    sort: str
    status: str
    columns: tuple[str, ...]

    @property
    def size(self) -> int:
        return PAGE[self.view]


@dataclass(frozen=True)
class Row:
    """A line of the table: the asset, and the chosen keys with its values."""

    asset: Asset
    cells: list[tuple[str, str]]


def shape_of(given: QueryDict, session: Any, dataset: Dataset) -> Shape:
    """As the address says, else as it was left; what the address says is remembered."""
    kept = session.get(SESSION_KEY) or {}
    view, columns = kept.get("view", GRID), list(kept.get("columns", {}).get(str(dataset.id), ()))
    if given.get("view") in VIEWS:
        view = given["view"]
    if "choose" in given:
        columns = [key for key in given.getlist("column") if key in dataset.metadata_schema][:MAX_COLUMNS]
    _remember(session, kept, view, str(dataset.id), columns)
    status, sort = given.get("status", ""), given.get("sort", "")
    return Shape(
        view if view in VIEWS else GRID,
        sort if sort in dict(SORTS) else NEWEST,
        status if status in Asset.State.values else "",
        tuple(key for key in columns if key in dataset.metadata_schema),
    )


def _remember(session: Any, kept: dict[str, Any], view: str, dataset: str, columns: list[str]) -> None:
    known = {key: value for key, value in kept.get("columns", {}).items() if key != dataset}
    if columns:
        known = dict([*known.items(), (dataset, columns)][-MAX_REMEMBERED:])
    now = {"view": view, "columns": known}
    # Only a change: a session that is written ends up in the database.
    if now != {"view": kept.get("view", GRID), "columns": kept.get("columns", {})}:
        session[SESSION_KEY] = now


def page_of(assets: QuerySet[Asset], sort: str, after: str, size: int) -> tuple[list[Asset], str]:
    """So many assets behind the place `after`, and the place of the next ones; "" where there are none."""
    found = list(_from(assets, sort, after)[: size + 1])
    more = len(found) > size
    last = found[size - 1] if more else None
    return found[:size], "" if last is None else str(last.external_id if sort == BY_ID else last.pk)


def _from(assets: QuerySet[Asset], sort: str, after: str) -> QuerySet[Asset]:
    if sort == BY_ID:
        # Those that have none are in no order, so they are not shown.
        rows = assets.filter(external_id__isnull=False).order_by("external_id")
        return rows.filter(external_id__gt=after.replace("\0", "")) if after else rows
    start = parse_id(after)
    if sort == OLDEST:
        rows = assets.order_by("id")
        return rows.filter(pk__gt=start) if start else rows
    return assets.filter(pk__lt=start) if start else assets


def rows_of(assets: Sequence[Asset], columns: Sequence[str]) -> list[Row]:
    return [Row(asset, [(key, _cell(asset.metadata.get(key))) for key in columns]) for asset in assets]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(_("yes") if value else _("no"))
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


def read_ids(form: QueryDict) -> list[uuid.UUID]:
    """The assets that were ticked; what is no id is left out."""
    found = (parse_id(value) for value in dict.fromkeys(form.getlist("asset")))
    return [one for one in found if one is not None][: PAGE[TABLE] * 4]
