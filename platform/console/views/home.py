"""The first page: how much there is, what is running, what to do next."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from console.access import Request, needs, page
from console.cards import job_lines
from tenants.accounts import quotas
from tenants.accounts.permissions import READ
from tenants.datasets import selectors as datasets
from tenants.jobs import selectors as jobs

RECENT = 6


@needs(READ)
def show(request: Request) -> HttpResponse:
    with request.workspace.open():
        rows = list(datasets.list_datasets())
        usage = quotas.summary()
        recent = job_lines(list(jobs.list_jobs()[:RECENT]))
    context = {
        "datasets": rows[:RECENT],
        "counts": _counts(rows, usage),
        "quotas": [_bar(name, entry) for name, entry in usage.items() if _worth_showing(entry)],
        "jobs": recent,
    }
    return page(request, "home.html", context)


def _counts(rows: list[Any], usage: dict[str, Any]) -> dict[str, float]:
    assets, ready = sum(row.asset_count for row in rows), sum(row.ready_count for row in rows)
    return {
        "Datasets": len(rows),
        "Assets": assets,
        "Ready to be found": ready,
        "Vectors": usage["vectors"]["used"],
    }


def _worth_showing(entry: dict[str, Any]) -> bool:
    return bool(entry["limit"] or entry["used"])


def _bar(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    used, limit = entry["used"] + entry["reserved"], entry["limit"]
    return {"name": name, "used": used, "limit": limit, "share": min(1, used / limit) if limit else None}
