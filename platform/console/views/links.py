"""What opens with a link: joining by invitation, and choosing a new password.

The token comes as a query parameter. It is put into the session at once, and the page that is shown has an address
without it: no log, history or Referer holds it for long. Opening a link uses nothing up; sending its form does.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import SESSION_KEY, page, public
from console.people_forms import AddressForm, JoinForm, NewPasswordForm
from console.throttle import Attempt, TooManyAttempts, remember_device
from console.views.accounts import enter, too_many
from tenants.accounts import links, mail, passwords, second_factor
from tenants.accounts.models import Invitation, User
from tenants.errors import Conflict, Invalid, NotFound
from tenants.people import invitations

INVITATION, RESET = "invitation", "reset"


def _keep(request: Any, kind: str, value: str, page_name: str) -> HttpResponse:
    """Take the token out of the address. Counted, as it makes a session for anybody."""
    try:
        Attempt.of(request, "open").admit()
    except TooManyAttempts as refused:
        return _throttled(request, refused)
    request.session[kind] = value
    return redirect(page_name)


# --- An invitation ---


@public(methods=("GET", "POST"))
def invitation(request: Any) -> HttpResponse:
    """Joining: a new person makes an account, one with an account signs in as the invited address."""
    if (token := request.GET.get("token")) is not None:
        return _keep(request, INVITATION, links.digest(token).hex(), "console:invitation")
    digest = bytes.fromhex(request.session.get(INVITATION, ""))
    attempt = Attempt.of(request, "link")
    try:
        attempt.admit()
        found = invitations.find_by_digest(digest)
        attempt.succeeded()
        return _answer_invitation(request, digest, found)
    except TooManyAttempts as refused:
        return _throttled(request, refused)
    except NotFound as error:
        return _over(request, INVITATION, error.detail)


def _answer_invitation(request: Any, digest: bytes, found: Invitation) -> HttpResponse:
    if request.user.is_authenticated:
        if request.method == "POST" and request.user.email == found.email:
            return _joined(request, invitations.accept(digest=digest, user=request.user))
        return page(request, "invitation.html", {"invitation": found})
    form = JoinForm(request.POST or None)
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in ("name", "password")}
        try:
            user, found = invitations.accept_as_new(digest=digest, **fields)
            enter(request, user)
            response = _joined(request, found)
            remember_device(response, user.email)
            return response
        except (Invalid, Conflict) as error:
            form.refuse(error)
    context = {"invitation": found, "form": form}
    return page(request, "invitation.html", context, status=422 if form.is_bound else 200)


def _joined(request: Any, found: Invitation) -> HttpResponse:
    request.session.pop(INVITATION, None)
    request.session[SESSION_KEY] = str(found.tenant_id)
    messages.success(request, _("Welcome to %(name)s.") % {"name": found.tenant.name})
    return redirect("console:home")


# --- A new password ---


@public(methods=("GET", "POST"))
def ask_reset(request: HttpRequest) -> HttpResponse:
    """Asking for a link by e-mail; the answer is the same whoever asks for whom."""
    if not mail.configured():
        return page(request, "reset.html", {"by_mail": False})
    if request.method == "GET":
        return page(request, "reset.html", {"by_mail": True, "form": AddressForm()})
    form = AddressForm(request.POST)
    if not form.is_valid():
        return page(request, "reset.html", {"by_mail": True, "form": form}, status=422)
    email = form.cleaned_data["email"]
    try:
        # Each one counts, not only those that fail: it is a letter.
        Attempt.of(request, "reset", email).admit()
    except TooManyAttempts as refused:
        context = {"by_mail": True, "form": form, "too_many": refused.detail}
        return too_many(page(request, "reset.html", context), refused)
    mail.post_reset(email)
    return page(request, "reset.html", {"sent_to": email})


@public(methods=("GET", "POST"))
def reset(request: Any) -> HttpResponse:
    """Choosing a new password with the token of a link."""
    if (token := request.GET.get("token")) is not None:
        return _keep(request, RESET, token[:200], "console:reset-new")
    token = request.session.get(RESET, "")
    attempt = Attempt.of(request, "link")
    try:
        attempt.admit()
        user = passwords.find_by_token(token)
        attempt.succeeded()
        form = NewPasswordForm(request.POST or None)
        if form.is_valid() and _reset_to(form, token):
            return _reset_done(request, user)
    except TooManyAttempts as refused:
        return _throttled(request, refused)
    except NotFound as error:
        return _over(request, RESET, error.detail)
    context = {"form": form, "email": user.email}
    return page(request, "reset_new.html", context, status=422 if form.is_bound else 200)


def _reset_to(form: NewPasswordForm, token: str) -> bool:
    try:
        passwords.use_token(token=token, password=form.cleaned_data["password"])
    except Invalid as error:
        form.refuse(error)
        return False
    return True


def _reset_done(request: Any, user: User) -> HttpResponse:
    # Whoever was signed in here is not any more, if it was this person; so nothing of the session stays.
    request.session.flush()
    request.user = AnonymousUser()
    response = page(request, "reset_done.html", {})
    # Who holds the link is the account's owner, whom guesses of others must not keep waiting. With a second factor that
    # is not shown yet, and each link would allow some guesses at it.
    if not second_factor.is_on(user):
        remember_device(response, user.email)
    return response


def _over(request: Any, kind: str, detail: str) -> HttpResponse:
    request.session.pop(kind, None)
    return page(request, "link_over.html", {"detail": detail}, status=410)


def _throttled(request: Any, refused: TooManyAttempts) -> HttpResponse:
    return too_many(page(request, "link_over.html", {"detail": refused.detail}), refused)
