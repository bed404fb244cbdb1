"""What a workspace asks of those who come in."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import NetworksField, StyledForm
from tenants.accounts.networks import MOST
from tenants.accounts.permissions import ADMIN
from tenants.errors import Invalid
from tenants.people.security import allow_networks, get_security


class SecurityForm(StyledForm):
    """Whether the person stays inside is for the service to say."""

    allowed_networks = NetworksField(rows=6, placeholder="192.0.2.0/24\n2001:db8::/48")
    shut_myself_out = forms.BooleanField(
        required=False, label=gettext_lazy("Save even if my own address is not included and I lose access")
    )


@needs(ADMIN, methods=("GET", "POST"))
def index(request: Request) -> HttpResponse:
    if request.method != "POST":
        with request.workspace.open():
            kept = get_security().allowed_networks or []
        return _index(request, SecurityForm(initial={"allowed_networks": "\n".join(kept)}), 200)
    form = SecurityForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                allow_networks(
                    actor=actor_of(request).label,
                    networks=form.cleaned_data["allowed_networks"],
                    # Its networks do not bind an operator who acts in it.
                    address=None if request.workspace.acting else request.META.get("REMOTE_ADDR", ""),
                    confirmed=form.cleaned_data["shut_myself_out"],
                )
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(request, _("Saved. It applies to pages and keys within a second."))
            return redirect("console:security")
    return _index(request, form, 422)


def _index(request: Request, form: SecurityForm, status: int) -> HttpResponse:
    context = {"form": form, "address": request.META.get("REMOTE_ADDR", ""), "most": MOST}
    return page(request, "security.html", context, status=status)
