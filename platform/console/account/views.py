"""The pages of one's own account: name, password, sessions, second factor and language."""

from __future__ import annotations

import uuid

import qrcode
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language_from_request, ngettext
from django.utils.translation import gettext as _
from qrcode.image.svg import SvgPathImage

from console.access import Request, connection_of, own_address, page, public, signed_in
from console.account.forms import (
    ChangePasswordForm,
    PersonForm,
    ProofForm,
    SecondFactorForm,
    SecondFactorProofForm,
)
from console.account.sign_in import too_many
from console.account.throttle import Attempt, TooManyAttempts
from tenants.accounts import mail, names, passwords, second_factor, sessions
from tenants.accounts.models import User
from tenants.accounts.passkeys import relying_party
from tenants.errors import Conflict, Invalid
from tenants.people import members
from tenants.people.erasure import erase_user


@signed_in(by_sign_on=True)
def show(request: Request) -> HttpResponse:
    return show_account(request, {}, 200)


def show_account(request: Request, context: dict[str, object], status: int) -> HttpResponse:
    """The page; views that refuse a form put it into `context`. By single sign-on it shows only what came by it."""
    user, factors = request.user, second_factor.factors_of(request.user)
    connection_id = connection_of(request)
    shown = {
        "person_form": PersonForm(initial={"name": user.name}),
        "password_form": ChangePasswordForm(user),
        "off_form": SecondFactorProofForm(user, prefix="off"),
        "delete_form": ProofForm(user, prefix="delete"),
        "second_factor": factors.app,
        "codes_left": factors.codes,
        "passkeys": list(user.passkeys.order_by("created_at")),
        "passkeys_possible": relying_party() is not None,
        "required_by": second_factor.required_by(user),
        "sessions": list(sessions.list_sessions(user, connection_id)),
        "by_sign_on": connection_id is not None,
        "this_session": sessions.handle_of(request.session.session_key or ""),
        "owns_alone": members.owns_alone(user),
    }
    return page(request, "account.html", {**shown, **context}, status=status)


def proof_attempts(request: Request, *purposes: str) -> list[Attempt]:
    return [Attempt.of(request, purpose, request.user.email) for purpose in purposes]


def throttled(request: Request, refused: TooManyAttempts) -> HttpResponse:
    return too_many(show_account(request, {"too_many": refused.detail}, refused.status), refused)


@signed_in(methods=("POST",))
def rename(request: Request) -> HttpResponse:
    form = PersonForm(request.POST)
    if not form.is_valid():
        return show_account(request, {"person_form": form}, 422)
    name = form.cleaned_data["name"]
    try:
        name = names.check_name(name, "/name", 150) if name else ""
    except Invalid as error:
        form.refuse(error)
        return show_account(request, {"person_form": form}, 422)
    User.objects.filter(pk=request.user.pk).update(name=name)
    messages.success(request, _("Your name was changed."))
    return redirect("console:account")


@signed_in(methods=("POST",))
def change_password(request: Request) -> HttpResponse:
    try:
        form = ChangePasswordForm(request.user, request.POST, attempts=proof_attempts(request, "proof"))
    except TooManyAttempts as refused:
        return throttled(request, refused)
    if form.is_valid():
        form.succeeded()
        try:
            passwords.change_password(user=request.user, password=form.cleaned_data["password"])
            _end_other_sessions(request)
            messages.success(request, _("Your password was changed. All other sessions have ended."))
            return redirect("console:account")
        except Invalid as error:
            form.refuse(error)
    return show_account(request, {"password_form": form}, 422)


def _end_other_sessions(request: Request) -> None:
    """A new key for this session, which belongs to the new password, and no others."""
    update_session_auth_hash(request, request.user)
    request.session.save()
    sessions.end_sessions(user=request.user, keep=request.session.session_key)


@signed_in(methods=("POST",), by_sign_on=True)
def end_session(request: Request, handle: uuid.UUID) -> HttpResponse:
    sessions.end_session(user=request.user, handle=handle, connection_id=connection_of(request))
    messages.success(request, _("The session has ended."))
    return redirect("console:account")


@signed_in(methods=("POST",), by_sign_on=True)
def end_others(request: Request) -> HttpResponse:
    ended = sessions.end_sessions(
        user=request.user, keep=request.session.session_key, connection_id=connection_of(request)
    )
    said = ngettext("%(count)s other session ended.", "%(count)s other sessions ended.", ended)
    messages.success(request, said % {"count": ended})
    return redirect("console:account")


@signed_in(methods=("POST",))
def delete(request: Request) -> HttpResponse:
    try:
        form = ProofForm(
            request.user, request.POST, prefix="delete", attempts=proof_attempts(request, "proof")
        )
    except TooManyAttempts as refused:
        return throttled(request, refused)
    if not form.is_valid():
        return show_account(request, {"delete_form": form, "open_delete": True}, 422)
    form.succeeded()
    try:
        receipt = erase_user(user=request.user)
    except Conflict as error:
        form.refuse(error)
        return show_account(request, {"delete_form": form, "open_delete": True}, 409)
    logout(request)
    return page(request, "account_gone.html", {"receipt": receipt})


@signed_in(methods=("GET", "POST"))
def set_up(request: Request) -> HttpResponse:
    """Show the secret for an app, and turn two-factor sign-in on with the app's first code."""
    if second_factor.app_is_on(request.user):
        return redirect("console:account")
    if request.method == "GET":
        second_factor.forget_begun(request.user)
        return _set_up(request, {}, 200)
    # Both the code and the password could be tried here, so each form counts for both.
    try:
        form = SecondFactorForm(request.user, request.POST, attempts=proof_attempts(request, "code", "proof"))
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


def _set_up(request: Request, context: dict[str, object], status: int) -> HttpResponse:
    address = second_factor.begin(request.user)
    secret = address.partition("secret=")[2].partition("&")[0]
    shown = {
        "form": SecondFactorForm(request.user),
        "qr": _qr_svg(address),
        "secret": " ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        "required_by": second_factor.required_by(request.user),
        "passkeys_possible": relying_party() is not None,
    }
    return page(request, "second_factor.html", {**shown, **context}, status=status)


def _qr_svg(address: str) -> SafeString:
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
    asking = second_factor.required_by(request.user)
    if asking and not request.user.passkeys.exists():
        # Nothing is compared, as a code would be used up.
        return _refuse_turn_off(request, ", ".join(asking))
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
    attempts = proof_attempts(request, "code", "proof")
    return SecondFactorProofForm(request.user, request.POST, prefix="off", attempts=attempts)


def _refuse_turn_off(request: Request, names: str) -> HttpResponse:
    said = _("%(names)s requires two-factor sign-in for all members.") % {"names": names}
    return show_account(request, {"off_refused": said, "open_off": True}, 422)


@public(methods=("POST",))
def choose_language(request: HttpRequest) -> HttpResponse:
    """An empty choice, or one that there is not, leaves it to the browser again."""
    response = redirect(own_address(request, request.POST.get("next", "")))
    language = request.POST.get("language", "")
    if language not in dict(settings.LANGUAGES):
        response.delete_cookie(settings.LANGUAGE_COOKIE_NAME, samesite="Lax")
        request.COOKIES.pop(settings.LANGUAGE_COOKIE_NAME, None)
        _remember_language(request, get_language_from_request(request))
        return response
    _remember_language(request, language)
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME,
        language,
        max_age=settings.LANGUAGE_COOKIE_AGE,
        secure=settings.LANGUAGE_COOKIE_SECURE,
        httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
        samesite="Lax",
    )
    return response


def _remember_language(request: HttpRequest, language: str) -> None:
    """Letters come in the language of the pages."""
    if isinstance(request.user, User):
        mail.remember_language(request.user, language)
