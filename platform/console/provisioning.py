"""Security, Provisioning: tokens for the workspace's identity provider, and which roles its people get."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from console.keys import OVERLAPS, RotateForm
from tenants.accounts.permissions import ADMIN, may_manage
from tenants.accounts.roles import list_roles
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people.models import ProvisioningToken
from tenants.people.provisioning import directory, tokens

REFUSALS = (Conflict, Invalid, NotAllowed)
# Lines for groups that are not named yet.
SPARE = 3


class TokenForm(StyledForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Entra ID"}),
    )


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    if request.method != "POST":
        return _index(request, {}, 200)
    form = TokenForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row, token = tokens.create_token(actor=actor_of(request), name=form.cleaned_data["name"])
            return _index(request, {"token": token, "created": row}, 201)
        except REFUSALS as error:
            form.refuse(error)
    return _index(request, {"form": form, "open_dialog": True}, 422)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        listed = [_line(row) for row in tokens.list_tokens()[: tokens.MAX_LISTED]]
        row = directory.settings()
        known = list_roles()
    offered = [
        (role.name, labels.label_of(labels.ROLES, role.name)) for role in known if role.name != "owner"
    ]
    shown = {
        "form": TokenForm(),
        "tokens": listed,
        "overlaps": OVERLAPS,
        "address": f"{settings.BASE_URL}/scim/v2",
        "roles": [one for one in offered if may_manage(request.workspace.role, one[0])],
        "default_role": row.default_role,
        "lines": [*row.group_roles, *([{"group": "", "role": "viewer"}] * SPARE)],
    }
    return page(request, "security/provisioning.html", {**shown, **context}, status=status)


def _line(row: ProvisioningToken) -> dict[str, object]:
    state = "active" if tokens.is_live(row) else "revoked" if row.revoked_at else "expired"
    return {
        "token": row,
        "state": state,
        "maker_left": state == "active" and tokens.made_by_somebody_gone(row),
    }


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def rotate(request: Request, prefix: str) -> HttpResponse:
    """Not redirected, as the new token exists only in this answer."""
    form = RotateForm(request.POST)
    overlap_s = form.cleaned_data["overlap"] if form.is_valid() else -1
    try:
        with request.workspace.open():
            row, token = tokens.rotate_token(actor=actor_of(request), prefix=prefix, overlap_s=overlap_s)
    except REFUSALS as error:
        messages.error(request, error.detail)
        return redirect("console:provisioning")
    return _index(request, {"token": token, "created": row}, 201)


@needs(ADMIN, methods=("POST",))
def revoke(request: Request, prefix: str) -> HttpResponse:
    with request.workspace.open():
        tokens.revoke_token(actor=actor_of(request), prefix=prefix)
    messages.success(request, _("The token was revoked. Your provider is refused from now on."))
    return redirect("console:provisioning")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def save_roles(request: Request) -> HttpResponse:
    groups, roles = request.POST.getlist("group"), request.POST.getlist("role")
    lines = [{"group": g, "role": r} for g, r in zip(groups, roles, strict=False) if g.strip()]
    default = request.POST.get("default_role", "")
    try:
        with request.workspace.open():
            directory.change_settings(actor=actor_of(request), default_role=default, group_roles=lines)
    except REFUSALS as error:
        context = {"refusal": error.detail, "lines": lines, "default_role": default}
        return _index(request, context, 422)
    messages.success(request, _("Saved. People in these groups have their roles now."))
    return redirect("console:provisioning")
