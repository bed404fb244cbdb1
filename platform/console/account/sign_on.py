"""Signing in by single sign-on: an address leads to its provider, and the provider's answer back here."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext as _

from console.access import SESSION_KEY, Visit, connection_of, page, public, signed_in
from console.account.forms import AddressForm, ConfirmForm
from console.account.sign_in import start_session, too_many
from console.account.throttle import Attempt, TooManyAttempts
from tenants.accounts import second_factor, sessions, sign_on
from tenants.accounts.models import SignOnConnection, User
from tenants.errors import NotFound, ServiceError
from tenants.people.sign_on import flows, saml
from tenants.people.sign_on.assertions import Refused
from tenants.people.sign_on.connections import get_connection, service_of
from tenants.scope import tenant_scope

# Of a session: the questions that this browser has asked, each with its secret; and the one that waits for a password.
ASKED, MAX_ASKED = "sso", 5
WAITING = "sso_waiting"


@public(methods=("GET", "POST"))
def begin(request: HttpRequest) -> HttpResponse:
    """The address first; it leads to the provider of the workspace that has proved its domain."""
    next_page = request.POST.get("next", request.GET.get("next", ""))
    form = AddressForm(request.POST or None)
    context = {"form": form, "next": next_page}
    if not form.is_valid():
        return page(request, "sso_login.html", context, status=422 if form.is_bound else 200)
    try:
        # Each one makes a session and asks a provider.
        Attempt.of(request, "open").admit()
        route = sign_on.find_connection(form.cleaned_data["email"])
        if route is None:
            form.add_error(
                "email", _("Single sign-on is not set up for this address. Sign in with your password.")
            )
            return page(request, "sso_login.html", context, status=422)
        return leave(request, route, flows.Wish(email=form.cleaned_data["email"], next_page=next_page))
    except TooManyAttempts as refused:
        return too_many(page(request, "sso_login.html", {**context, "too_many": refused.detail}), refused)
    except ServiceError as error:
        return refusal(request, error)


def leave(request: HttpRequest, route: SignOnConnection, wish: flows.Wish) -> HttpResponse:
    """Send the browser to the provider. Raises Refused.

    By a page of its own: the policy of our forms lets none of them end up at another site.
    """
    question = flows.ask(route=route, wish=wish)
    kept = list(request.session.get(ASKED, {}).items())[1 - MAX_ASKED :]
    request.session[ASKED] = {**dict(kept), str(question.id): question.secret}
    with tenant_scope(route.tenant_id):
        name = get_connection(route.id).provider.name
    return page(request, "sso_leave.html", {"address": question.url, "name": name})


def refusal(request: HttpRequest, error: ServiceError) -> HttpResponse:
    return page(request, "sso_refused.html", {"detail": error.detail}, status=error.status)


# --- Coming back -----------------------------------------------------------------------------------------


@public()
def callback(request: HttpRequest, connection_id: uuid.UUID) -> HttpResponse:
    """Where an OpenID provider sends the browser."""
    answer = {name: str(value)[:4096] for name, value in request.GET.items()}
    try:
        route = flows.find_route(connection_id, enabled=False)
        return _finish(request, flows.finish_oidc(route=route, answer=answer, held=_held(request)))
    except (Refused, NotFound) as error:
        return refusal(request, error)


@public(methods=("POST",), from_elsewhere=True)
def acs(request: HttpRequest, connection_id: uuid.UUID) -> HttpResponse:
    """Where a SAML provider has the browser post its response (assertion consumer service).

    A form of another site comes without our cookies, so who asked is found out at the next address.
    """
    try:
        route = flows.find_route(connection_id, enabled=False)
        request_id = flows.receive_saml(route=route, encoded=request.POST.get("SAMLResponse", ""))
    except (Refused, NotFound) as error:
        return refusal(request, error)
    address = (
        f"{reverse('console:sso-finish', args=[connection_id])}?{urlencode({'request': str(request_id)})}"
    )
    response = redirect(address)
    response.status_code = 303
    return response


@public()
def finish(request: HttpRequest, connection_id: uuid.UUID) -> HttpResponse:
    """Where the browser takes up what a SAML provider has posted."""
    try:
        route = flows.find_route(connection_id, enabled=False)
        request_id = _id_of(request.GET.get("request", ""))
        return _finish(request, flows.finish_saml(route=route, request_id=request_id, held=_held(request)))
    except (Refused, NotFound) as error:
        return refusal(request, error)


def _id_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Refused(_("This sign-in has expired. Start again on the sign-in page.")) from error


def _held(request: HttpRequest) -> flows.Held:
    return dict(request.session.get(ASKED, {}))


def _finish(request: HttpRequest, outcome: flows.Outcome) -> HttpResponse:
    if outcome.row.purpose == flows.Purpose.TEST:
        return _show_test(request, outcome)
    if outcome.entry is None:
        return _go_on(request, outcome)
    if outcome.entry.confirm:
        request.session[WAITING] = str(outcome.row.id)
        return redirect("console:sso-confirm", connection_id=outcome.route.id)
    return _enter(request, outcome, outcome.entry.user)


def _show_test(request: HttpRequest, outcome: flows.Outcome) -> HttpResponse:
    """What a test found, for the admin who began it."""
    _drop(request, outcome)
    if not request.user.is_authenticated or request.user.pk != outcome.row.user_id:
        raise Refused(_("This test was started by someone else."))
    context = {"outcome": outcome, "person": outcome.person, "connection_id": outcome.route.id}
    return page(request, "sso_tested.html", context)


@signed_in(by_sign_on=True)
def prove(request: Visit, connection_id: uuid.UUID) -> HttpResponse:
    """Have the person sign in at the provider once more, before what a borrowed browser must not do."""
    if connection_of(request) != connection_id:
        return redirect("console:verify")
    try:
        wish = flows.Wish(flows.Purpose.PROVE, email=request.user.email, user=request.user)
        return leave(request, flows.find_route(connection_id), wish)
    except ServiceError as error:
        return refusal(request, error)


def _go_on(request: HttpRequest, outcome: flows.Outcome) -> HttpResponse:
    """Back to what waits for the proof."""
    _drop(request, outcome)
    same = request.user.is_authenticated and request.user.pk == outcome.row.user_id
    if not same or connection_of(request) != outcome.route.id:
        raise Refused(_("Another person is now signed in here."))
    sessions.mark_verified(request.session)
    return redirect("console:verify-go-on")


def _drop(request: HttpRequest, outcome: flows.Outcome) -> None:
    request.session[ASKED] = {k: v for k, v in _held(request).items() if k != str(outcome.row.id)}


def _enter(request: HttpRequest, outcome: flows.Outcome, user: User) -> HttpResponse:
    start_session(request, user, outcome.route.id)
    request.session[SESSION_KEY] = str(outcome.route.tenant_id)
    # Many people of one office come from one address: whoever gets in does not count.
    Attempt.of(request, "open").succeeded()
    return redirect(_safe(request, outcome.row.next))


def _safe(request: HttpRequest, address: str) -> str:
    ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if ours else reverse("console:home")


# --- Confirming with the account's own password ----------------------------------------------------------


@public(methods=("GET", "POST"))
def confirm(request: HttpRequest, connection_id: uuid.UUID) -> HttpResponse:
    """An account that could do anything elsewhere is linked by whoever knows its password, once."""
    try:
        route = flows.find_route(connection_id)
        request_id = _id_of(request.session.get(WAITING, ""))
        user = flows.waiting_for_password(route=route, request_id=request_id, held=_held(request))
        form = _confirm_form(request, user)
        context = {"form": form, "email": user.email, "name": route.tenant.name}
        if not form.is_valid():
            return page(request, "sso_confirm.html", context, status=422 if form.is_bound else 200)
        form.succeeded()
        outcome = flows.confirm(route=route, request_id=request_id, held=_held(request), user=user)
        messages.success(request, _("From now on you sign in to this workspace through single sign-on."))
        return _enter(request, outcome, user)
    except TooManyAttempts as refused:
        return too_many(refusal(request, refused), refused)
    except (Refused, NotFound) as error:
        return refusal(request, error)


def _confirm_form(request: HttpRequest, user: User) -> ConfirmForm:
    attempts = [Attempt.of(request, purpose, user.email) for purpose in ("proof", "code")]
    asks_code = second_factor.is_on(user)
    return ConfirmForm(user, request.POST or None, attempts=attempts, asks_code=asks_code)


@public()
def metadata(request: HttpRequest, connection_id: uuid.UUID) -> HttpResponse:
    """What a SAML provider reads to know this side of a connection."""
    route = flows.find_route(connection_id, enabled=False)
    if route.protocol != SignOnConnection.Protocol.SAML:
        raise NotFound(_("This single sign-on does not exist."))
    text = saml.service_metadata(service_of(connection_id))
    return HttpResponse(text, content_type="application/samlmetadata+xml")
