"""Signing in and out, and choosing the tenant to work in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST

from console import problems
from console.access import SESSION_KEY, memberships_of, page, signed_in
from console.forms import SignInForm
from console.throttle import WINDOW_S, Attempt
from tenants.errors import ServiceError

TOO_MANY = f"Too many attempts to sign in. Wait {WINDOW_S // 60} minutes, then try again."


# The CSRF check reads the body, which may be refused as too large; so it runs where that is answered.
@method_decorator(csrf_exempt, name="dispatch")
class SignIn(LoginView):
    template_name = "console/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True
    attempt: Attempt

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return csrf_protect(super().dispatch)(request, *args, **kwargs)
        except ServiceError as error:
            return problems.answer(request, error)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.attempt = Attempt(request.POST.get("username", ""), request.META.get("REMOTE_ADDR", ""))
        if self.attempt.allowed():
            return super().post(request, *args, **kwargs)
        # The password is not even looked at.
        context = self.get_context_data(form=SignInForm(request), too_many=TOO_MANY)
        response = self.render_to_response(context, status=429)
        response["Retry-After"] = str(WINDOW_S)
        return response

    def form_valid(self, form: Any) -> HttpResponse:
        self.attempt.succeeded()
        return super().form_valid(form)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("console:login")


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in
def choose(request: Any) -> HttpResponse:
    """The tenants that this person belongs to; the choice is kept in the session."""
    memberships = memberships_of(request.user)
    if request.method == "POST":
        chosen = request.POST.get("tenant", "")
        if any(str(m.tenant_id) == chosen for m in memberships):
            request.session[SESSION_KEY] = chosen
            return redirect("console:home")
    elif len(memberships) == 1:
        return redirect("console:home")
    status = 200 if memberships else 403
    return page(request, "choose.html", {"memberships": memberships}, status=status)
