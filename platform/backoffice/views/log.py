"""The operators' log: who did what to whom, and why. It is only added to."""

from __future__ import annotations

import json

from django.http import HttpResponse
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, operators, page
from console.paging import page_of
from tenants.accounts.models import OperatorAct
from tenants.accounts.operators import list_acts


@operators()
def index(request: Request) -> HttpResponse:
    wanted = {name: request.GET.get(name, "").replace("\0", "") for name in ("target", "actor", "verb")}
    found = page_of(list_acts(**wanted), request.GET.get("before", ""), SIZE)
    context = {
        "title": _("Operators' log"),
        "lines": [{"act": act, "said": format_details(act)} for act in found.items],
        "next": found.next,
        "wanted": wanted,
    }
    return page(request, "log.html", context)


def format_details(act: OperatorAct) -> str:
    """The details of an act on one line."""
    return " · ".join(f"{name}: {_format_value(value)}" for name, value in act.details.items())


def _format_value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
