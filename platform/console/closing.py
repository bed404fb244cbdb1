"""Closing the workspace: its name typed, an export offered, a time to take it back."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm
from tenants.accounts.models import Tenant
from tenants.accounts.permissions import ADMIN
from tenants.errors import NotFound
from tenants.pipeline.care import closing
from tenants.pipeline.transfer import exports


def _require_on(tenant: Tenant) -> None:
    """What has begun can be taken back, also where it was turned off meanwhile."""
    if not closing.is_on() and tenant.closes_at is None:
        raise NotFound(_("On this installation workspaces are closed by their operator."))


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def show(request: Request) -> HttpResponse:
    """What it means and what to take along; then it begins."""
    tenant = request.workspace.tenant
    _require_on(tenant)
    form = ConfirmForm(tenant.name, request.POST or None)
    if form.is_valid() and closing.is_on():
        with request.workspace.open():
            closing.begin(actor=actor_of(request))
        messages.success(request, _("The workspace is being closed. Its members are told by e-mail."))
        return redirect("console:data-close")
    with request.workspace.open():
        made = [one for one in exports.list_exports()[:5] if one.finished_at]
    context = {
        "form": form,
        "export": made[0] if made else None,
        "closes_at": tenant.closes_at,
        "held": closing.is_held(tenant),
        "days": settings.SELF_SERVICE.closing_days,
        "decides": request.workspace.role == "owner" and not request.workspace.acting,
    }
    return page(request, "data_close.html", context, status=422 if form.is_bound else 200)


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def cancel(request: Request) -> HttpResponse:
    _require_on(request.workspace.tenant)
    with request.workspace.open():
        closing.cancel(actor=actor_of(request))
    messages.success(request, _("The workspace stays. Its members are told by e-mail."))
    return redirect("console:data")
