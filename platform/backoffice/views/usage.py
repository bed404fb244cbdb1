"""What tenants used in a month, by plan and by tenant, and the lines of an invoice as a file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, operators, page
from console.paging import first_of
from console.usage import csv_response, exact_amount
from tenants.accounts.models import RESOURCES, Plan, Tenant
from tenants.pipeline.upkeep import tenant_figures

# Months that can be chosen.
MONTHS = 13


@operators()
def index(request: Request) -> HttpResponse:
    months = _months()
    month = _chosen(request, months)
    wanted = {name: request.GET.get(name, "").replace("\0", "") for name in ("plan", "after")}
    found = first_of(tenant_figures.list_tenants(**wanted), "slug", SIZE)
    context = {
        "title": _("Usage"),
        "months": [(dt.datetime.strptime(one, "%Y-%m").replace(tzinfo=dt.UTC), one) for one in months],
        "month": month,
        "is_current": month == months[0],
        "resources": RESOURCES,
        "by_plan": tenant_figures.usage_by_plan(month),
        "tenants": [
            (tenant, _bars(tenant, used))
            for tenant, used in tenant_figures.usage_in_month(found.items, month)
        ],
        "next": found.next,
        "wanted": wanted,
        "plans": list(Plan.objects.order_by("name", "slug")),
    }
    return page(request, "usage.html", context)


def _months() -> list[str]:
    """This month and those before it, the newest first."""
    day = timezone.now().date().replace(day=1)
    months = []
    for _n in range(MONTHS):
        months.append(day.strftime("%Y-%m"))
        day = (day - dt.timedelta(days=1)).replace(day=1)
    return months


def _chosen(request: Request, months: list[str]) -> str:
    month = request.GET.get("month", "")
    return month if month in months else months[0]


def _bars(tenant: Tenant, used: dict[str, float]) -> list[dict[str, Any]]:
    return [
        tenant_figures.bar(name, used[name], tenant.limits.get(name)) if name in used else {"name": name}
        for name in RESOURCES
    ]


@operators()
def export(request: Request) -> StreamingHttpResponse:
    """A line for each tenant and resource that it used, as CSV, sent while it is written."""
    month = _chosen(request, _months())
    rows = tenant_figures.all_usage_in_month(month, request.GET.get("plan", "").replace("\0", ""))
    head = ["month", "tenant", "name", "plan", "resource", "used", "included", "over"]
    return csv_response(f"usage-{month}.csv", head, _lines(month, rows))


def _lines(month: str, rows: Iterable[tuple[Tenant, dict[str, float]]]) -> Iterator[list[str]]:
    for tenant, used in rows:
        for name in RESOURCES:
            if not used.get(name):
                continue
            ceiling = tenant.limits.get(name)
            bounds = ["", ""]
            if ceiling is not None:
                bounds = [exact_amount(ceiling), exact_amount(max(0.0, used[name] - ceiling))]
            yield [month, tenant.slug, tenant.name, tenant.plan_id, name, exact_amount(used[name]), *bounds]
