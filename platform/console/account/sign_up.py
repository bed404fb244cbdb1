"""Signing up: asking for a link, and opening a workspace with it. 404 where the installation has it off."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _

from console.access import SESSION_KEY, page, public
from console.account.forms import AddressForm, NewPasswordForm, password_field
from console.account.sign_in import link_expired, start_session, store_token, throttled, too_many
from console.account.throttle import Attempt, TooManyAttempts, remember_device
from tenants.accounts.passkeys import relying_party
from tenants.errors import Conflict, Invalid, NotFound
from tenants.people import sign_up

# Where the session keeps the digest of the link.
OPENING = "sign_up"


class OpenForm(NewPasswordForm):
    """Who the person is, how the workspace is called, and how they will sign in."""

    name = forms.CharField(
        label=_("Your name"),
        max_length=sign_up.MAX_PERSON,
        widget=forms.TextInput(attrs={"autocomplete": "name", "autofocus": True}),
    )
    workspace = forms.CharField(
        label=_("Name of the workspace"),
        max_length=sign_up.MAX_WORKSPACE,
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    passkey = forms.BooleanField(required=False, label=_("Use a passkey instead of a password"))
    agreed = forms.BooleanField(label=_("I agree"))
    field_order = ("name", "workspace", "password", "again", "passkey", "agreed")

    def __init__(self, data: Any = None) -> None:
        rules = settings.SELF_SERVICE
        left_out = set() if relying_party() is not None else {"passkey"}
        if not (rules.terms_url or rules.privacy_url):
            left_out.add("agreed")
        # Known before the form begins to check what was typed.
        fields = {name: field for name, field in self.base_fields.items() if name not in left_out}
        self.by_passkey = "passkey" in fields and bool(data and data.get("passkey"))
        if self.by_passkey:
            fields |= {
                "password": password_field(_("New password"), fresh=True, required=False),
                "again": password_field(_("Repeat it"), fresh=True, required=False),
            }
        self.base_fields = fields  # type: ignore[misc]  # Django reads it from the form itself
        super().__init__(data)


def _require_on() -> None:
    if not sign_up.is_on():
        raise NotFound(gettext("This installation opens no workspaces by itself."))


@public(methods=("GET", "POST"))
def ask(request: HttpRequest) -> HttpResponse:
    """The answer is the same whoever asks for whom; so is what is done for it."""
    _require_on()
    if request.user.is_authenticated:
        return redirect("console:home")
    form = AddressForm(request.POST or None)
    if not form.is_valid():
        return _ask(request, form, 422 if form.is_bound else 200)
    try:
        email = sign_up.checked_address(form.cleaned_data["email"])
        # Each one counts, not only those that fail: it is a letter. By mailbox, however its address is spelt.
        Attempt.of(request, "sign-up", sign_up.mailbox_of(email)).admit()
        sign_up.request_sign_up(email=email, language=get_language() or "en")
    except (TooManyAttempts, sign_up.TooMany) as refused:
        response = _ask(request, form, refused.status, refused.detail)
        return too_many(response, refused) if isinstance(refused, TooManyAttempts) else response
    except Invalid as error:
        form.refuse(error)
        return _ask(request, form, 422)
    hours = settings.SELF_SERVICE.link_hours
    return page(request, "sign_up.html", {"sent_to": email, "hours": hours, "rules": settings.SELF_SERVICE})


def _ask(request: HttpRequest, form: AddressForm, status: int, refused: str = "") -> HttpResponse:
    context = {"form": form, "too_many": refused, "rules": settings.SELF_SERVICE}
    return page(request, "sign_up.html", context, status=status)


@public(methods=("GET", "POST"))
def open_workspace(request: HttpRequest) -> HttpResponse:
    """Looking uses nothing up, as programs that read mail look, too; sending the form does."""
    _require_on()
    attempt = Attempt.of(request, "link")
    try:
        if (token := request.GET.get("token")) is not None:
            digest = sign_up.read_token(token[:400])
            return store_token(request, OPENING, digest.hex(), "console:sign-up-open")
        attempt.admit()
        digest = bytes.fromhex(request.session.get(OPENING, ""))
        found = sign_up.find_by_digest(digest)
        attempt.succeeded()
        return _answer(request, digest, found)
    except TooManyAttempts as refused:
        return throttled(request, refused)
    except NotFound as error:
        return link_expired(request, OPENING, error.detail)


def _answer(request: HttpRequest, digest: bytes, found: Any) -> HttpResponse:
    form = OpenForm(request.POST or None)
    status = 422 if form.is_bound else 200
    if form.is_valid():
        given = form.cleaned_data
        try:
            user, tenant = sign_up.open_workspace(
                digest=digest,
                name=given["name"],
                workspace=given["workspace"],
                password=None if form.by_passkey else given["password"],
            )
        except (Invalid, Conflict, sign_up.TooMany) as error:
            form.refuse(error)
            status = error.status
        else:
            return _enter(request, user, tenant, form)
    context = {"form": form, "email": found.email, "rules": settings.SELF_SERVICE}
    return page(request, "sign_up_open.html", context, status=status)


def _enter(request: HttpRequest, user: Any, tenant: Any, form: OpenForm) -> HttpResponse:
    request.session.pop(OPENING, None)
    start_session(request, user)
    request.session[SESSION_KEY] = str(tenant.id)
    messages.success(request, gettext("Welcome to %(name)s.") % {"name": tenant.name})
    response = redirect("console:passkeys-new" if form.by_passkey else "console:home")
    remember_device(response, user.email)
    return response
