"""What a workspace asks of those who come in. A tab each: sessions and networks here; others beside their subject."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from tenants.accounts.networks import MAX_LENGTH, MOST
from tenants.accounts.permissions import ADMIN
from tenants.accounts.security import installation_limits, session_limits
from tenants.errors import Invalid
from tenants.people.security import Changes, change_security, get_security

MAX_TEXT = MOST * (MAX_LENGTH + 2)


def _minutes(label: Any) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"inputmode": "numeric", "autocomplete": "off"})
    return forms.IntegerField(label=label, required=False, min_value=1, max_value=1_000_000, widget=widget)


class SessionsForm(StyledForm):
    """Empty: as the installation has it."""

    session_idle_minutes = _minutes(gettext_lazy("Minutes without use"))
    session_max_minutes = _minutes(gettext_lazy("Minutes in total"))


class NetworksForm(StyledForm):
    """One network a line. What is one is for the service to say, and whether the person stays inside."""

    allowed_networks = forms.CharField(
        required=False,
        max_length=MAX_TEXT,
        label=gettext_lazy("Networks, one a line"),
        widget=forms.Textarea(
            attrs={
                "rows": 6,
                "class": "mono",
                "spellcheck": "false",
                "placeholder": "192.0.2.0/24\n2001:db8::/48",
            }
        ),
    )
    shut_myself_out = forms.BooleanField(
        required=False, label=gettext_lazy("Save even if my own address is not included and I lose access")
    )


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def networks(request: Request) -> HttpResponse:
    address = request.META.get("REMOTE_ADDR", "")
    if request.method != "POST":
        with request.workspace.open():
            kept = get_security().allowed_networks or []
        return _networks(request, NetworksForm(initial={"allowed_networks": "\n".join(kept)}), 200)
    form = NetworksForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                change_security(
                    actor=actor_of(request).label,
                    changes={"allowed_networks": form.cleaned_data["allowed_networks"].split()},
                    # Its networks do not bind an operator who acts in it.
                    address=None if request.workspace.acting else address,
                    confirmed=form.cleaned_data["shut_myself_out"],
                )
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(request, _("Saved. It applies to pages and keys within a second."))
            return redirect("console:security-networks")
    return _networks(request, form, 422)


def _networks(request: Request, form: NetworksForm, status: int) -> HttpResponse:
    context = {"form": form, "address": request.META.get("REMOTE_ADDR", ""), "most": MOST}
    return page(request, "security/networks.html", context, status=status)


@needs(ADMIN, methods=("GET", "POST"), fresh=("POST",))
def sessions(request: Request) -> HttpResponse:
    if request.method != "POST":
        return _sessions(request, None, 200)
    form = SessionsForm(request.POST)
    if form.is_valid():
        changes: Changes = {
            "session_idle_minutes": form.cleaned_data["session_idle_minutes"],
            "session_max_minutes": form.cleaned_data["session_max_minutes"],
        }
        try:
            with request.workspace.open():
                change_security(actor=actor_of(request).label, changes=changes)
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(request, _("Saved. It applies to every session of this workspace from now on."))
            return redirect("console:security")
    return _sessions(request, form, 422)


def _sessions(request: Request, form: SessionsForm | None, status: int) -> HttpResponse:
    with request.workspace.open():
        row = get_security()
    kept = {name: getattr(row, name) for name in SessionsForm.base_fields}
    context = {
        "form": form or SessionsForm(initial=kept),
        "in_force": session_limits(row.tenant),
        "installation": installation_limits(),
    }
    return page(request, "security/sessions.html", context, status=status)
