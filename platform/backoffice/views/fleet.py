"""The fleet: workers and what they do, queues, caches, indexes; and the canaries' history."""

from __future__ import annotations

from django.http import HttpResponse
from django.utils.translation import gettext as _

from backoffice.access import Request, operators, page
from tenants.pipeline import health


@operators()
def index(request: Request) -> HttpResponse:
    context = {"title": _("Fleet"), "queues": health.queues()}
    return page(request, "fleet.html", context)


@operators()
def canaries(request: Request) -> HttpResponse:
    context = {"title": _("Canaries"), "queues": health.queues()}
    return page(request, "canaries.html", context)
