"""Two-factor sign-in: setting the app up, recovery codes (shown once), turning it off."""

from __future__ import annotations

from typing import Any

import qrcode
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from qrcode.image.svg import SvgPathImage

from console.access import Request, page, signed_in
from console.people_forms import SecondFactorForm, SecondFactorProofForm
from console.throttle import TooManyAttempts
from console.views.account import proofs, show_account, throttled
from console.views.accounts import too_many
from tenants.accounts import second_factor, sessions
from tenants.errors import Invalid


@signed_in(methods=("GET", "POST"))
def set_up(request: Request) -> HttpResponse:
    """Show the secret for an app, and turn two-factor sign-in on with the app's first code."""
    if second_factor.is_on(request.user):
        return redirect("console:account")
    if request.method == "GET":
        second_factor.forget_begun(request.user)
        return _set_up(request, {}, 200)
    # Both the code and the password could be tried here, so each form counts for both.
    try:
        form = SecondFactorForm(request.user, request.POST, attempts=proofs(request, "code", "proof"))
    except TooManyAttempts as refused:
        return too_many(_set_up(request, {"too_many": refused.detail}, refused.status), refused)
    if form.is_valid():
        try:
            codes = second_factor.confirm(user=request.user, code=form.cleaned_data["code"])
        except Invalid as error:
            form.refuse(error)
            return _set_up(request, {"form": form}, 422)
        form.succeeded()
        # Sessions from before have not shown the second factor.
        sessions.end_sessions(user=request.user, keep=request.session.session_key)
        return page(request, "recovery_codes.html", {"codes": codes, "fresh": True})
    return _set_up(request, {"form": form}, 422)


def _set_up(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    address = second_factor.begin(request.user)
    secret = address.partition("secret=")[2].partition("&")[0]
    shown = {
        "form": SecondFactorForm(request.user),
        "qr": _drawn(address),
        "secret": " ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        "required_by": second_factor.required_by(request.user),
    }
    return page(request, "second_factor.html", {**shown, **context}, status=status)


def _drawn(address: str) -> SafeString:
    """A QR code as an SVG element: a path, no style, so that the strict policy lets it through."""
    drawing = qrcode.make(address, image_factory=SvgPathImage, box_size=10, border=2)
    return mark_safe(drawing.to_string(encoding="unicode"))  # noqa: S308  # made here, of numbers only


@signed_in(methods=("POST",))
def renew_codes(request: Request) -> HttpResponse:
    try:
        form = _proof(request)
    except TooManyAttempts as refused:
        return throttled(request, refused)
    if not form.is_valid():
        return show_account(request, {"off_form": form, "open_off": True}, 422)
    form.succeeded()
    codes = second_factor.renew_recovery_codes(user=request.user)
    return page(request, "recovery_codes.html", {"codes": codes})


@signed_in(methods=("POST",))
def turn_off(request: Request) -> HttpResponse:
    if asking := second_factor.required_by(request.user):
        # Nothing is compared, as a code would be used up.
        return _kept_on(request, ", ".join(asking))
    try:
        form = _proof(request)
    except TooManyAttempts as refused:
        return throttled(request, refused)
    if not form.is_valid():
        return show_account(request, {"off_form": form, "open_off": True}, 422)
    form.succeeded()
    second_factor.turn_off(user=request.user)
    messages.success(request, _("Two-factor sign-in is off."))
    return redirect("console:account")


def _proof(request: Request) -> SecondFactorProofForm:
    attempts = proofs(request, "code", "proof")
    return SecondFactorProofForm(request.user, request.POST, prefix="off", attempts=attempts)


def _kept_on(request: Request, names: str) -> HttpResponse:
    said = _("%(names)s asks all members for two-factor sign-in.") % {"names": names}
    return show_account(request, {"off_refused": said, "open_off": True}, 422)
