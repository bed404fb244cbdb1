"""Signing in and out, links of invitations and forgotten passwords, and which workspace to work in."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.translation import get_language, gettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST

from console import problems
from console.access import (
    PLACEMENT,
    SESSION_KEY,
    Visit,
    connection_of,
    memberships_of,
    own_address,
    page,
    public,
    signed_in,
)
from console.account import ceremony
from console.account.forms import AddressForm, CodeForm, JoinForm, NewPasswordForm, SignInForm
from console.account.throttle import Attempt, TooManyAttempts, remember_device
from tenants.accounts import links, mail, passwords, second_factor, sessions, sign_on
from tenants.accounts.models import Invitation, Membership, User
from tenants.accounts.operators import Operator
from tenants.accounts.passkeys import relying_party
from tenants.accounts.second_factor import Factors
from tenants.errors import Conflict, Invalid, NotFound, ServiceError
from tenants.events import access_log
from tenants.people import impersonation, invitations, sign_up

BACKEND = "django.contrib.auth.backends.ModelBackend"

# The session of somebody whose password was right and whose code is still to come.
AWAITING_CODE, AWAITING_CODE_S = "half_way", 600


def start_session(
    request: HttpRequest,
    user: User,
    connection_id: uuid.UUID | None = None,
    *,
    second_factor_shown: bool = False,
) -> None:
    """Sign the person in: a new session, what the list of sessions shows, and a line of the audit log.

    `connection_id`: by single sign-on; `second_factor_shown`: by a code or a passkey.
    """
    if connection_id is not None or connection_of(request) is not None:
        # Nothing of another way in stays.
        request.session.flush()
    login(request, user, backend=BACKEND)
    if connection_id is not None:
        sessions.bind(request.session, connection_id)
    mail.remember_language(user, get_language() or "")
    address = address_of(request)
    access_log.note_sign_in(
        user, address=address, second_factor=second_factor_shown, connection_id=connection_id
    )
    sessions.note_client(request.session, device=request.headers.get("User-Agent", ""), address=address)


def address_of(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def too_many(response: HttpResponse, refused: TooManyAttempts) -> HttpResponse:
    response.status_code, response["Retry-After"] = refused.status, str(refused.wait_s)
    return response


# The CSRF check reads the body, which may be refused as too large; so it runs where that is answered.
@method_decorator(csrf_exempt, name="dispatch")
class SignIn(LoginView):
    template_name = "console/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        try:
            return csrf_protect(super().dispatch)(request, *args, **kwargs)
        except ServiceError as error:
            return problems.answer(request, error)

    def get_context_data(self, **kwargs: object) -> dict[str, object]:
        shown = {
            "invited": "invitation" in self.request.session,
            "ended": self.request.GET.get("ended", ""),
            "passkeys": relying_party() is not None,
            "sign_on": sign_on.is_offered(),
            "public_check": settings.PUBLIC_CHECK,
            "sign_up": sign_up.is_on(),
        }
        return {**super().get_context_data(**kwargs), **shown}

    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return super().post(request, *args, **kwargs)
        except TooManyAttempts as refused:
            # The password was not even looked at.
            self._note_failure("waiting")
            form = SignInForm(request, initial={"username": request.POST.get("username", "")})
            context = self.get_context_data(form=form, too_many=refused.detail)
            return too_many(self.render_to_response(context), refused)

    def form_invalid(self, form: Any) -> HttpResponse:
        if self.request.POST.get("username") and self.request.POST.get("password"):
            self._note_failure("password")
        return super().form_invalid(form)

    def _note_failure(self, why: str) -> None:
        email = self.request.POST.get("username", "").replace("\0", "")[:254]
        access_log.note_failed_sign_in(email, address=address_of(self.request), why=why)

    def form_valid(self, form: Any) -> HttpResponse:
        form.attempt.succeeded()
        user = form.get_user()
        factors = second_factor.factors_of(user)
        if not factors.any:
            return _signed_in(self.request, user, self.get_success_url(), second_factor_shown=False)
        _wait_for_code(self.request, user, factors, self.get_success_url())
        return redirect("console:login-code")


def _signed_in(
    request: HttpRequest, user: User, then: str, *, second_factor_shown: bool = True
) -> HttpResponse:
    request.session.pop(AWAITING_CODE, None)
    start_session(request, user, second_factor_shown=second_factor_shown)
    response = redirect(then)
    remember_device(response, user.email)
    return response


def _wait_for_code(request: HttpRequest, user: User, factors: Factors, then: str) -> None:
    request.session.cycle_key()
    request.session[AWAITING_CODE] = {
        "user": str(user.pk),
        # A password that changes meanwhile ends this, too.
        "hash": user.get_session_auth_hash(),
        "at": time.time(),
        "next": then,
        "app": factors.app,
        "passkey": factors.passkey,
    }


@public(methods=("GET", "POST"))
def enter_code(request: HttpRequest) -> HttpResponse:
    """The second step: a passkey, a code of the app, or a recovery code."""
    user = _user_awaiting_code(request)
    if user is None:
        request.session.pop(AWAITING_CODE, None)
        return redirect("console:login")
    if "credential" in request.POST:
        return _step_by_passkey(request, user)
    form = CodeForm(request.POST or None)
    if not form.is_valid():
        return _ask_code(request, user, form)
    attempt = Attempt.of(request, "code", user.email)
    try:
        attempt.admit()
    except TooManyAttempts as refused:
        return too_many(_ask_code(request, user, CodeForm(), refused.detail), refused)
    if not second_factor.verify(user=user, code=form.cleaned_data["code"]):
        access_log.note_failed_sign_in(user.email, address=address_of(request), why="code")
        form.add_error("code", gettext(second_factor.WRONG))
        return _ask_code(request, user, form)
    attempt.succeeded()
    return _signed_in(request, user, request.session[AWAITING_CODE]["next"])


def _ask_code(request: HttpRequest, user: User, form: CodeForm, problem: str = "") -> HttpResponse:
    waiting = request.session[AWAITING_CODE]
    context = {
        "form": form,
        "problem": problem,
        # Sign-ins that the release before began had nothing but an app.
        "has_app": waiting.get("app", True),
        "passkey": ceremony.offer(request, ceremony.SECOND_STEP, user) if waiting.get("passkey") else "",
        "party": relying_party(),
    }
    return page(request, "login_code.html", context)


def _step_by_passkey(request: HttpRequest, user: User) -> HttpResponse:
    try:
        ceremony.verified(request, ceremony.SECOND_STEP, user)
    except Invalid as error:
        response = _ask_code(request, user, CodeForm(), error.detail)
        response.status_code = 422
        return response
    return _signed_in(request, user, request.session[AWAITING_CODE]["next"])


@public(methods=("GET", "POST"))
def by_passkey(request: HttpRequest) -> HttpResponse:
    """Signing in with a passkey alone: whoever it belongs to. It stands for password and second factor."""
    then = own_address(request, request.POST.get("next") or request.GET.get("next") or "")
    if request.user.is_authenticated:
        return redirect(then)
    # Each offer counts, as it makes a session for anybody, until somebody signs in by it.
    attempt = Attempt.of(request, "open")
    try:
        if request.method == "POST":
            try:
                user = ceremony.verified(request, ceremony.SIGN_IN)
            except Invalid as error:
                attempt.admit()
                return _offer_passkey(request, then, 422, error.detail)
            attempt.succeeded()
            return _signed_in(request, user, then)
        attempt.admit()
    except TooManyAttempts as refused:
        context = {"then": then, "problem": refused.detail}
        return too_many(page(request, "login_passkey.html", context), refused)
    return _offer_passkey(request, then, 200)


def _offer_passkey(request: HttpRequest, then: str, status: int, problem: str = "") -> HttpResponse:
    options = ceremony.offer(request, ceremony.SIGN_IN)
    context = {"then": then, "problem": problem, "passkey": options, "party": relying_party()}
    return page(request, "login_passkey.html", context, status=status)


def _user_awaiting_code(request: HttpRequest) -> User | None:
    waiting = request.session.get(AWAITING_CODE)
    if waiting is None or time.time() - waiting["at"] > AWAITING_CODE_S:
        return None
    user = User.objects.filter(pk=waiting["user"], is_active=True).first()
    if user is None or not constant_time_compare(waiting["hash"], user.get_session_auth_hash()):
        return None
    return user


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated and request.user.is_staff:
        by = Operator(request.user.email, request.META.get("REMOTE_ADDR", ""))
        impersonation.end(user=request.user, session_key=request.session.session_key, by=by)
    if request.user.is_authenticated:
        connection_id = connection_of(request)
        access_log.note_sign_out(request.user, address=address_of(request), connection_id=connection_id)
    logout(request)
    response = redirect("console:login")
    response.delete_cookie(PLACEMENT, samesite="Lax")
    return response


@signed_in(methods=("GET", "POST"), by_sign_on=True)
def choose(request: Visit) -> HttpResponse:
    """The tenants that this session opens; the choice is kept in it."""
    connection_id = connection_of(request)
    memberships = memberships_of(request.user, connection_id)
    if request.method == "POST":
        chosen = request.POST.get("tenant", "")
        if any(str(m.tenant_id) == chosen for m in memberships):
            request.session[SESSION_KEY] = chosen
            # What was left to be said is about the workspace that is left.
            list(messages.get_messages(request))
            return redirect("console:home")
    elif request.workspace is not None and (request.workspace.acting or len(memberships) == 1):
        return redirect("console:home")
    elif not memberships and request.user.is_staff and connection_id is None:
        return redirect("operator:index")
    status = 200 if memberships else 403
    context = {"memberships": memberships, "enforced": _enforced(request.user, connection_id)}
    return page(request, "choose.html", context, status=status)


def _enforced(user: User, connection_id: uuid.UUID | None) -> list[Membership]:
    """The person's roles in tenants that ask for their single sign-on, of who did not come by one."""
    if connection_id is not None:
        return []
    return list(sign_on.enforced_memberships(user).select_related("tenant").order_by("tenant__name"))


INVITATION, RESET = "invitation", "reset"


def store_token(request: HttpRequest, kind: str, value: str, page_name: str) -> HttpResponse:
    """Take the token out of the address. Counted, as it makes a session for anybody."""
    try:
        Attempt.of(request, "open").admit()
    except TooManyAttempts as refused:
        return throttled(request, refused)
    request.session[kind] = value
    return redirect(page_name)


# --- An invitation ---


@public(methods=("GET", "POST"))
def invitation(request: HttpRequest) -> HttpResponse:
    """Joining: a new person makes an account, one with an account signs in as the invited address."""
    if (token := request.GET.get("token")) is not None:
        return store_token(request, INVITATION, links.digest(token).hex(), "console:invitation")
    digest = bytes.fromhex(request.session.get(INVITATION, ""))
    attempt = Attempt.of(request, "link")
    try:
        attempt.admit()
        found = invitations.find_by_digest(digest)
        attempt.succeeded()
        return _answer_invitation(request, digest, found)
    except TooManyAttempts as refused:
        return throttled(request, refused)
    except NotFound as error:
        return link_expired(request, INVITATION, error.detail)


def _answer_invitation(request: HttpRequest, digest: bytes, found: Invitation) -> HttpResponse:
    if request.user.is_authenticated:
        if connection_of(request) is not None:
            # A tenant's provider speaks for nobody in another tenant.
            return page(request, "invitation.html", {"invitation": found, "by_sign_on": True})
        if request.method == "POST" and request.user.email == found.email:
            return _enter_workspace(request, invitations.accept(digest=digest, user=request.user))
        return page(request, "invitation.html", {"invitation": found})
    form = JoinForm(request.POST or None)
    if form.is_valid():
        fields = {name: form.cleaned_data[name] for name in ("name", "password")}
        try:
            user, found = invitations.accept_as_new(digest=digest, **fields)
            start_session(request, user)
            response = _enter_workspace(request, found)
            remember_device(response, user.email)
            return response
        except (Invalid, Conflict) as error:
            form.refuse(error)
    context = {"invitation": found, "form": form}
    return page(request, "invitation.html", context, status=422 if form.is_bound else 200)


def _enter_workspace(request: HttpRequest, found: Invitation) -> HttpResponse:
    request.session.pop(INVITATION, None)
    request.session[SESSION_KEY] = str(found.tenant_id)
    messages.success(request, gettext("Welcome to %(name)s.") % {"name": found.tenant.name})
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
def reset(request: HttpRequest) -> HttpResponse:
    """Choosing a new password with the token of a link."""
    if (token := request.GET.get("token")) is not None:
        return store_token(request, RESET, token[:200], "console:reset-new")
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
        return throttled(request, refused)
    except NotFound as error:
        return link_expired(request, RESET, error.detail)
    context = {"form": form, "email": user.email}
    return page(request, "reset_new.html", context, status=422 if form.is_bound else 200)


def _reset_to(form: NewPasswordForm, token: str) -> bool:
    try:
        passwords.use_token(token=token, password=form.cleaned_data["password"])
    except Invalid as error:
        form.refuse(error)
        return False
    return True


def _reset_done(request: HttpRequest, user: User) -> HttpResponse:
    # Whoever was signed in here is not any more, if it was this person; so nothing of the session stays.
    request.session.flush()
    request.user = AnonymousUser()
    response = page(request, "reset_done.html", {})
    # Who holds the link is the account's owner, whom guesses of others must not keep waiting. With a second factor that
    # is not shown yet, and each link would allow some guesses at it.
    if not second_factor.is_on(user):
        remember_device(response, user.email)
    return response


def link_expired(request: HttpRequest, kind: str, detail: str) -> HttpResponse:
    request.session.pop(kind, None)
    return page(request, "link_over.html", {"detail": detail}, status=410)


def throttled(request: HttpRequest, refused: TooManyAttempts) -> HttpResponse:
    return too_many(page(request, "link_over.html", {"detail": refused.detail}), refused)
