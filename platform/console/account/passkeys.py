"""One's own passkeys: adding one, and removing it."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Visit, page, signed_in
from console.account import ceremony
from console.account.forms import PasskeyForm
from tenants.accounts import passkeys, second_factor, sessions
from tenants.errors import Conflict, Invalid


@signed_in(methods=("GET", "POST"), fresh=("GET", "POST"))
def add(request: Visit) -> HttpResponse:
    """The browser makes one with the person; the first one comes with recovery codes, shown once."""
    form = PasskeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return _register(request, form.cleaned_data["name"])
        except (Conflict, Invalid) as error:
            form.refuse(error)
    try:
        options = ceremony.begin(request, ceremony.REGISTER, passkeys.begin_registration(request.user))
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
        return redirect("console:account")
    context = {"form": form, "passkey": options}
    return page(request, "passkey_new.html", context, status=422 if form.is_bound else 200)


def _register(request: Visit, name: str) -> HttpResponse:
    challenge = ceremony.take(request, ceremony.REGISTER)
    had_one = second_factor.is_on(request.user)
    response = request.POST.get("credential", "")
    _passkey, codes = passkeys.register(user=request.user, name=name, response=response, challenge=challenge)
    if not had_one:
        # Sessions from before have not shown a second factor.
        sessions.end_sessions(user=request.user, keep=request.session.session_key)
    if codes:
        return page(request, "recovery_codes.html", {"codes": codes, "fresh": True})
    messages.success(request, _("The passkey was added."))
    return redirect("console:account")


@signed_in(methods=("POST",), fresh=("POST",))
def remove(request: Visit, passkey_id: uuid.UUID) -> HttpResponse:
    try:
        passkeys.remove(user=request.user, passkey_id=passkey_id)
        messages.success(request, _("The passkey was removed. It no longer opens this account."))
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:account")
