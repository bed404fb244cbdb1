"""The overview: what is wrong now, and how much there is of everything."""

from __future__ import annotations

from django.db.models import Count
from django.http import HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice.access import Request, operators, page
from tenants.accounts.models import Tenant
from tenants.pipeline.upkeep import health


@operators()
def index(request: Request) -> HttpResponse:
    counts = dict(Tenant.objects.order_by().values_list("state").annotate(n=Count("id")))
    context = {
        "title": _("Overview"),
        "troubles": [{"it": one, "link": _link(one)} for one in health.health_problems()],
        "queues": health.queues(),
        "active": counts.get(Tenant.State.ACTIVE, 0),
        "suspended": counts.get(Tenant.State.SUSPENDED, 0),
    }
    return page(request, "dashboard.html", context)


def _link(trouble: health.HealthProblem) -> str:
    if not trouble.page:
        return ""
    return reverse(f"operator:{trouble.page}", kwargs={"slug": trouble.slug} if trouble.slug else {})
