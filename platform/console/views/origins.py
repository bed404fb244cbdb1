"""Origins of web pages whose scripts may call the API: the list, one more, one less."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.work_forms import OriginForm
from tenants.accounts import origins
from tenants.accounts.permissions import ADMIN
from tenants.errors import Invalid
from tenants.events.services import record


@needs(ADMIN, methods=("GET", "POST"))
def index(request: Request) -> HttpResponse:
    if request.method != "POST":
        return _index(request, OriginForm(), 200)
    form = OriginForm(request.POST)
    if form.is_valid():
        try:
            _change(request, add=form.cleaned_data["origin"])
        except Invalid as error:
            form.add_error("origin", error.detail)
        else:
            messages.success(request, _("Scripts of that origin may call the API now."))
            return redirect("console:origins")
    return _index(request, form, 422)


def _index(request: Request, form: OriginForm, status: int) -> HttpResponse:
    with request.workspace.open():
        known = origins.list_origins()
    context = {"origins": known, "form": form, "most": origins.MAX_ORIGINS}
    return page(request, "origins.html", context, status=status)


@needs(ADMIN, methods=("POST",))
def remove(request: Request) -> HttpResponse:
    _change(request, remove=request.POST.get("origin", ""))
    messages.success(request, _("Removed. Scripts of that origin are refused within seconds."))
    return redirect("console:origins")


def _change(request: Request, **change: Any) -> None:
    with request.workspace.open():
        kept = origins.change_origins(**change)
        record(actor=actor_of(request).label, verb="origins.changed", details={"origins": kept})
