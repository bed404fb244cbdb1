"""Signing in and out, the second step, and choosing the tenant to work in."""

from __future__ import annotations

import time
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST

from console import problems
from console.access import SESSION_KEY, memberships_of, page, public, signed_in
from console.forms import SignInForm
from console.people_forms import CodeForm
from console.throttle import Attempt, TooManyAttempts, remember_device
from tenants.accounts import second_factor, sessions
from tenants.accounts.models import User
from tenants.accounts.operators import Operator
from tenants.errors import ServiceError
from tenants.people import acting

BACKEND = "django.contrib.auth.backends.ModelBackend"
# The session of somebody whose password was right and whose code is still to come.
HALF_WAY, HALF_WAY_S = "half_way", 600


def enter(request: HttpRequest, user: User) -> None:
    """Sign the person in: a new session key, and what the list of sessions shows."""
    login(request, user, backend=BACKEND)
    device, address = request.headers.get("User-Agent", ""), request.META.get("REMOTE_ADDR", "")
    sessions.note_client(request.session, device=device, address=address)


def too_many(response: HttpResponse, refused: TooManyAttempts) -> HttpResponse:
    response.status_code, response["Retry-After"] = refused.status, str(refused.wait_s)
    return response


# The CSRF check reads the body, which may be refused as too large; so it runs where that is answered.
@method_decorator(csrf_exempt, name="dispatch")
class SignIn(LoginView):
    template_name = "console/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return csrf_protect(super().dispatch)(request, *args, **kwargs)
        except ServiceError as error:
            return problems.answer(request, error)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "invited": "invitation" in self.request.session}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().post(request, *args, **kwargs)
        except TooManyAttempts as refused:
            # The password was not even looked at.
            form = SignInForm(request, initial={"username": request.POST.get("username", "")})
            context = self.get_context_data(form=form, too_many=refused.detail)
            return too_many(cast(HttpResponse, self.render_to_response(context)), refused)

    def form_valid(self, form: Any) -> HttpResponse:
        form.attempt.succeeded()
        user = form.get_user()
        if not second_factor.is_on(user):
            enter(self.request, user)
            response = redirect(self.get_success_url())
            remember_device(response, user.email)
            return response
        _wait_for_code(self.request, user, self.get_success_url())
        return redirect("console:login-code")


def _wait_for_code(request: HttpRequest, user: User, then: str) -> None:
    request.session.cycle_key()
    request.session[HALF_WAY] = {
        "user": str(user.pk),
        # A password that changes meanwhile ends this, too.
        "hash": user.get_session_auth_hash(),
        "at": time.time(),
        "next": then,
    }


@public(methods=("GET", "POST"))
def enter_code(request: HttpRequest) -> HttpResponse:
    """The second step: a code of the app, or a recovery code."""
    user = _half_way(request)
    if user is None:
        request.session.pop(HALF_WAY, None)
        return redirect("console:login")
    form = CodeForm(request.POST or None)
    if not form.is_valid():
        return page(request, "login_code.html", {"form": form})
    attempt = Attempt.of(request, "code", user.email)
    try:
        attempt.admit()
    except TooManyAttempts as refused:
        context = {"form": CodeForm(), "too_many": refused.detail}
        return too_many(page(request, "login_code.html", context), refused)
    if not second_factor.verify(user=user, code=form.cleaned_data["code"]):
        form.add_error("code", gettext(second_factor.WRONG))
        return page(request, "login_code.html", {"form": form})
    attempt.succeeded()
    then = request.session.pop(HALF_WAY)["next"]
    enter(request, user)
    response = redirect(then)
    remember_device(response, user.email)
    return response


def _half_way(request: HttpRequest) -> User | None:
    waiting = request.session.get(HALF_WAY)
    if waiting is None or time.time() - waiting["at"] > HALF_WAY_S:
        return None
    user = User.objects.filter(pk=waiting["user"], is_active=True).first()
    if user is None or not constant_time_compare(waiting["hash"], user.get_session_auth_hash()):
        return None
    return user


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated and request.user.is_staff:
        by = Operator(request.user.email, request.META.get("REMOTE_ADDR", ""))
        acting.end(user=request.user, session_key=request.session.session_key, by=by)
    logout(request)
    return redirect("console:login")


@signed_in(methods=("GET", "POST"))
def choose(request: Any) -> HttpResponse:
    """The tenants that this person belongs to; the choice is kept in the session."""
    memberships = memberships_of(request.user)
    if request.method == "POST":
        chosen = request.POST.get("tenant", "")
        if any(str(m.tenant_id) == chosen for m in memberships):
            request.session[SESSION_KEY] = chosen
            # What was left to be said is about the workspace that is left.
            list(messages.get_messages(request))
            return redirect("console:home")
    elif request.workspace is not None and (request.workspace.acting or len(memberships) == 1):
        return redirect("console:home")
    elif not memberships and request.user.is_staff:
        return redirect("operator:index")
    status = 200 if memberships else 403
    return page(request, "choose.html", {"memberships": memberships}, status=status)
