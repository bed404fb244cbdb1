"""One's own account: name, password, sessions, and its end."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth import logout, update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.access import Request, page, signed_in
from console.people_forms import ChangePasswordForm, PersonForm, ProofForm, SecondFactorProofForm
from console.throttle import Attempt, TooManyAttempts
from console.views.accounts import too_many
from tenants.accounts import passwords, second_factor, sessions
from tenants.accounts.models import User
from tenants.errors import Conflict, Invalid
from tenants.people import members
from tenants.people.erasure import erase_user


@signed_in()
def show(request: Request) -> HttpResponse:
    return show_account(request, {}, 200)


def show_account(request: Request, context: dict[str, Any], status: int) -> HttpResponse:
    """The page; views that refuse a form put it into `context`."""
    user = request.user
    shown = {
        "person_form": PersonForm(initial={"name": user.name}),
        "password_form": ChangePasswordForm(user),
        "off_form": SecondFactorProofForm(user, prefix="off"),
        "delete_form": ProofForm(user, prefix="delete"),
        "second_factor": second_factor.is_on(user),
        "codes_left": user.recovery_codes.count(),
        "required_by": second_factor.required_by(user),
        "sessions": list(sessions.list_sessions(user)),
        "this_session": sessions.handle_of(request.session.session_key or ""),
        "owns_alone": members.owns_alone(user),
    }
    return page(request, "account.html", {**shown, **context}, status=status)


def proofs(request: Request, *purposes: str) -> list[Attempt]:
    return [Attempt.of(request, purpose, request.user.email) for purpose in purposes]


def throttled(request: Request, refused: TooManyAttempts) -> HttpResponse:
    return too_many(show_account(request, {"too_many": refused.detail}, refused.status), refused)


@signed_in(methods=("POST",))
def rename(request: Request) -> HttpResponse:
    form = PersonForm(request.POST)
    if not form.is_valid():
        return show_account(request, {"person_form": form}, 422)
    User.objects.filter(pk=request.user.pk).update(name=form.cleaned_data["name"])
    messages.success(request, _("Your name was changed."))
    return redirect("console:account")


@signed_in(methods=("POST",))
def change_password(request: Request) -> HttpResponse:
    try:
        form = ChangePasswordForm(request.user, request.POST, attempts=proofs(request, "proof"))
    except TooManyAttempts as refused:
        return throttled(request, refused)
    if form.is_valid():
        form.succeeded()
        try:
            passwords.change_password(user=request.user, password=form.cleaned_data["password"])
            _go_on_alone(request)
            messages.success(request, _("Your password was changed. All other sessions have ended."))
            return redirect("console:account")
        except Invalid as error:
            form.refuse(error)
    return show_account(request, {"password_form": form}, 422)


def _go_on_alone(request: Request) -> None:
    """A new key for this session, which belongs to the new password, and no others."""
    update_session_auth_hash(request, request.user)
    request.session.save()
    sessions.end_sessions(user=request.user, keep=request.session.session_key)


@signed_in(methods=("POST",))
def end_session(request: Request, handle: uuid.UUID) -> HttpResponse:
    sessions.end_session(user=request.user, handle=handle)
    messages.success(request, _("The session has ended."))
    return redirect("console:account")


@signed_in(methods=("POST",))
def end_others(request: Request) -> HttpResponse:
    ended = sessions.end_sessions(user=request.user, keep=request.session.session_key)
    said = ngettext("%(count)s other session ended.", "%(count)s other sessions ended.", ended)
    messages.success(request, said % {"count": ended})
    return redirect("console:account")


@signed_in(methods=("POST",))
def delete(request: Request) -> HttpResponse:
    try:
        form = ProofForm(request.user, request.POST, prefix="delete", attempts=proofs(request, "proof"))
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
