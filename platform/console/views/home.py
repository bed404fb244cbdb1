"""The first page: what came in lately, what needs attention, what is running, what to do next."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _

from console import overview
from console.access import Request, needs, page
from console.cards import job_lines
from tenants.accounts import quotas
from tenants.accounts.permissions import READ
from tenants.datasets import selectors as datasets
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job

RECENT = 6


@needs(READ)
def show(request: Request) -> HttpResponse:
    """`?days=` says how far back the charts reach."""
    days = 30 if request.GET.get("days") == "30" else 7
    with request.workspace.open():
        rows = list(datasets.counted_datasets())
        usage = quotas.summary()
        series = overview.series_of(days)
        context = {
            "datasets": rows[:RECENT],
            "counts": _counts(rows, usage),
            "quotas": [_bar(name, entry) for name, entry in usage.items() if _worth_showing(entry)],
            "jobs": job_lines(list(jobs.list_jobs()[:RECENT])),
            "queue": _queue(),
            "concerns": overview.concerns(request.workspace.scopes, rows, usage),
            "days": days,
            "spans": overview.DAYS,
            "series": series,
            "table": overview.table_of(series),
            "box": (overview.WIDTH, overview.HEIGHT),
        }
    return page(request, "home.html", context)


def _counts(rows: list[Any], usage: dict[str, Any]) -> dict[str, float]:
    assets, ready = sum(row.asset_count for row in rows), sum(row.ready_count for row in rows)
    return {
        _("Datasets"): len(rows),
        _("Assets"): assets,
        _("Ready to be found"): ready,
        _("Vectors"): usage["vectors"]["used"],
    }


def _queue() -> dict[str, str]:
    """How many jobs wait and run, up to a number that only says "many"."""
    return {state: overview.count_up_to(Job.objects.filter(state=state)) for state in ("queued", "running")}


def _worth_showing(entry: dict[str, Any]) -> bool:
    return bool(entry["limit"] or entry["used"])


def _bar(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    used, limit = entry["used"] + entry["reserved"], entry["limit"]
    return {"name": name, "used": used, "limit": limit, "share": min(1, used / limit) if limit else None}
