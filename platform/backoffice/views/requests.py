"""What tenants ask for, to be granted or declined, and those that their owners are closing."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from backoffice.access import SIZE, Request, acting_operator, operators, page
from backoffice.forms import DeclineForm, GrantForm
from tenants.accounts.models import PlanRequest
from tenants.errors import Conflict, Invalid
from tenants.people import plan_requests
from tenants.pipeline.care import closing


@operators()
def index(request: Request) -> HttpResponse:
    context = {
        "title": _("Requests"),
        "waiting": list(plan_requests.list_all(is_open=True)[:SIZE]),
        "answered": list(plan_requests.list_all(is_open=False)[:SIZE]),
        "closing": [(one, closing.is_held(one)) for one in closing.list_closing()],
        "rules": settings.SELF_SERVICE,
    }
    return page(request, "requests.html", context)


@operators()
def show(request: Request, request_id: uuid.UUID) -> HttpResponse:
    return _show(request, plan_requests.get_request(request_id))


def _show(request: Request, row: PlanRequest, status: int = 200, **bound: object) -> HttpResponse:
    """The request, with the form that was refused where there is one."""
    forms: dict[str, Any] = {"grant": GrantForm(initial=_wanted(row)), "decline": DeclineForm(), **bound}
    context = {"title": row.tenant.name, "row": row, "forms": forms}
    return page(request, "request.html", context, status=status)


def _wanted(row: PlanRequest) -> dict[str, object]:
    """What is asked for, as the form has it; else as it is."""
    own = {name: "none" if value is None else value for name, value in row.tenant.exceptions.items()}
    wanted: dict[str, object] = {}
    if row.resource and row.amount is not None:
        wanted[row.resource] = int(row.amount) if row.amount.is_integer() else row.amount
    return {"plan": row.plan_id or row.tenant.plan_id, **own, **wanted}


@operators(methods=("POST",))
def grant(request: Request, request_id: uuid.UUID) -> HttpResponse:
    form = GrantForm(request.POST)

    def change() -> None:
        plan_requests.grant(
            **acting_operator(request),
            request_id=request_id,
            plan=form.cleaned_data["plan"],
            exceptions=form.exceptions,
            words=form.cleaned_data["words"],
        )

    return _answered(request, request_id, "grant", form, change, _("Granted; who asked is told."))


@operators(methods=("POST",))
def decline(request: Request, request_id: uuid.UUID) -> HttpResponse:
    form = DeclineForm(request.POST)

    def change() -> None:
        words = form.cleaned_data["words"]
        plan_requests.decline(**acting_operator(request), request_id=request_id, words=words)

    return _answered(request, request_id, "decline", form, change, _("Declined; who asked is told."))


def _answered(
    request: Request, request_id: uuid.UUID, name: str, form: Any, change: Any, done: str
) -> HttpResponse:
    row = plan_requests.get_request(request_id)
    if form.is_valid():
        try:
            change()
        except (Invalid, Conflict) as error:
            form.refuse(error)
        else:
            messages.success(request, done)
            return redirect("operator:requests")
    return _show(request, row, 422, **{name: form})
