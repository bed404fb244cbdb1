"""People, Roles: what each role may do, and roles of the workspace's own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import labels
from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from tenants.accounts.permissions import ADMIN, GRANTABLE
from tenants.accounts.roles import Role, list_roles
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.people import members, roles

REFUSALS = (Conflict, Invalid, NotAllowed)


class PermissionsForm(StyledForm):
    description = forms.CharField(
        label=gettext_lazy("Purpose of the role"), max_length=roles.MAX_DESCRIPTION, required=False
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Permissions"),
        choices=[(scope, labels.SCOPE_MEANINGS[scope]) for scope in GRANTABLE],
        widget=forms.CheckboxSelectMultiple,
    )


class NewRoleForm(PermissionsForm):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=39,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "night-shift"}),
    )
    field_order = ("name", "description", "scopes")


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def index(request: Request) -> HttpResponse:
    if request.method != "POST":
        return _index(request, {}, 200)
    form = NewRoleForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row = roles.create_role(actor=actor_of(request), **form.cleaned_data)
        except REFUSALS as error:
            form.refuse(error)
        else:
            messages.success(request, _("The role %(name)s was created.") % {"name": row.name})
            return redirect("console:roles")
    return _index(request, {"form": form, "open_dialog": True}, 422)


def _index(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        held: dict[str, int] = {}
        for member in members.list_members():
            held[member.role] = held.get(member.role, 0) + 1
        rows = [_row(role, held.get(role.name, 0)) for role in list_roles()]
    shown = {"rows": rows, "form": NewRoleForm(initial={"scopes": ["read", "search"]})}
    return page(request, "roles.html", {**shown, **context}, status=status)


def _row(role: Role, held: int) -> dict[str, object]:
    kept = {"description": role.description, "scopes": role.scopes}
    form = None if role.built_in else PermissionsForm(initial=kept, auto_id=f"{role.name}-%s")
    return {"role": role, "held": held, "form": form}


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def edit(request: Request, name: str) -> HttpResponse:
    form = PermissionsForm(request.POST)
    with request.workspace.open():
        roles.get_role(name)
    if not form.is_valid():
        messages.error(request, _("Choose at least one permission."))
        return redirect("console:roles")
    try:
        with request.workspace.open():
            roles.change_role_definition(actor=actor_of(request), name=name, **form.cleaned_data)
        messages.success(request, _("Saved. It applies immediately to everyone with this role."))
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:roles")


@needs(ADMIN, methods=("POST",), fresh=("POST",))
def delete(request: Request, name: str) -> HttpResponse:
    try:
        with request.workspace.open():
            roles.delete_role(actor=actor_of(request), name=name)
        messages.success(request, _("The role was deleted."))
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:roles")
