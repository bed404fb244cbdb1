"""What the workspace used, by day and kind; what of the plan is taken; what jobs have cost; all of it as a file."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone

from console.access import Request, needs, page
from console.charts import bar_charts_of
from tenants.accounts import metering, quotas
from tenants.accounts.permissions import READ
from tenants.datasets.importers import escape_formula
from tenants.jobs import costs

PERIODS = (7, 30, 90, 365)

DEFAULT = 30


@dataclass(frozen=True)
class Period:
    """Days of UTC, both ends included."""

    first: dt.date
    last: dt.date

    @property
    def days(self) -> list[dt.date]:
        count = (self.last - self.first).days + 1
        return [self.first + dt.timedelta(days=place) for place in range(count)]


@needs(READ)
def show(request: Request) -> HttpResponse:
    period = _period(request)
    with request.workspace.open():
        rows = metering.usage(first=period.first, last=period.last)
        context = {
            "quotas": [_quota(name, row) for name, row in quotas.summary().items()],
            "costs": costs.by_kind(first=period.first, last=period.last),
        }
    charts = bar_charts_of(rows, period.days)
    table = [
        (day, [chart.amounts[place] for chart in charts])
        for place, day in reversed(list(enumerate(period.days)))
        if any(chart.amounts[place] for chart in charts)
    ]
    shown = {
        "period": period,
        "charts": charts,
        "table": table,
        "periods": PERIODS,
        "chosen": _chosen_days(request),
    }
    return page(request, "usage.html", {**context, **shown})


def _quota(resource: str, row: dict[str, Any]) -> dict[str, Any]:
    """What is used and reserved, as shares of the limit that fit beside each other into a bar of 100."""
    limit = row["limit"]
    used = min(1.0, row["used"] / limit) if limit else 0.0
    reserved = min(1.0 - used, row["reserved"] / limit) if limit else 0.0
    shares = {
        "share": used + reserved,
        "used_width": round(100 * used, 2),
        "reserved_width": round(100 * reserved, 2),
    }
    return {"resource": resource, **row, **shares}


def _chosen_days(request: Request) -> int:
    """The length of the period, or 0 for one whose ends were named."""
    if request.GET.get("from") or request.GET.get("to"):
        return 0
    days = request.GET.get("days", "")
    return int(days) if days in map(str, PERIODS) else DEFAULT


def _period(request: Request) -> Period:
    """What was asked for; ends that are no days, in the wrong order or too far apart give the default."""
    today = timezone.now().date()
    last, first = _day(request.GET.get("to", "")) or today, _day(request.GET.get("from", ""))
    last = min(last, today)
    if first is None or not 0 <= (last - first).days <= max(PERIODS):
        first = last - dt.timedelta(days=(_chosen_days(request) or DEFAULT) - 1)
    return Period(first, last)


def _day(text: str) -> dt.date | None:
    try:
        day = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None
    return day if day.year >= 2000 else None


@needs(READ)
def export(request: Request) -> StreamingHttpResponse:
    """Day, kind and amount as CSV, sent while it is written."""
    period = _period(request)
    with request.workspace.open():
        rows = metering.usage(first=period.first, last=period.last)
    lines = ([day.isoformat(), kind, exact_amount(amount)] for day, kind, amount in rows)
    name = f"usage-{request.workspace.tenant.slug}-{period.first}-{period.last}.csv"
    return csv_response(name, ["day", "kind", "amount"], lines)


def exact_amount(amount: float) -> str:
    """As files have it, to a millionth of its unit."""
    return f"{amount:.6f}".rstrip("0").rstrip(".")


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> StreamingHttpResponse:
    """A table as a file, sent while it is written; no spreadsheet takes anything in it for a formula."""
    writer = csv.writer(_Echo())
    lines = (writer.writerow([escape_formula(cell) for cell in row]) for row in chain([head], rows))
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)


class _Echo:
    """What the writer of CSV takes for a file: each line is handed back."""

    def write(self, line: str) -> str:
        return line
