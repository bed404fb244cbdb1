"""Who may open the operator's pages: staff, who signed in on the console's page, with a second factor if it is asked.

Asked anew at every request, before the body is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from backoffice.navigation import navigation, section_of
from tenants.accounts import reauthentication, second_factor, sessions
from tenants.accounts.models import User
from tenants.accounts.operators import Operator, label_of
from tenants.accounts.security import strictest_limits
from tenants.errors import NotFound, ServiceError

# Rows of a page of a list.
SIZE = 50

View = Callable[..., HttpResponseBase]


class Request(HttpRequest):
    """A request that `operators` has let through."""

    user: User
    operator: Operator


def acting_operator(request: Request) -> dict[str, Any]:
    """Who acts, in the words of services: for the operators' log, and for the tenant's own."""
    return {"by": request.operator, "label": label_of(request.user)}


def operators(methods: Iterable[str] = ("GET",), *, fresh: bool = False) -> Callable[[View], View]:
    """Let a view be called by operators only, with one of these methods.

    `fresh`: only by who proved a short while ago who they are; others are asked for it first.
    """
    allowed = tuple(methods)

    def decorate(view: View) -> View:
        protected = csrf_protect(_proved_first(view) if fresh else view)

        @csrf_exempt
        @wraps(view)
        def guarded(request: Any, *args: object, **kwargs: object) -> HttpResponseBase:
            if request.method not in allowed and not (request.method == "HEAD" and "GET" in allowed):
                return HttpResponseNotAllowed(allowed)
            response = _authorize(request) or _call_view(protected, request, *args, **kwargs)
            # Not kept: after signing out, the back button must not show it.
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        guarded.methods = allowed  # type: ignore[attr-defined]  # for the test that walks all addresses
        guarded.fresh = fresh  # type: ignore[attr-defined]
        return guarded

    return decorate


def _proved_first(view: View) -> View:
    @wraps(view)
    def checked(request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        if reauthentication.is_verified(request.session):
            return view(request, *args, **kwargs)
        reauthentication.interrupt(request, otherwise="/operator/")
        return redirect("console:verify")

    return checked


def _authorize(request: Request) -> HttpResponseBase | None:
    """Set `request.operator`, or say where to go instead."""
    user = request.user
    if not user.is_authenticated:
        return redirect_to_login(request.get_full_path() if request.method == "GET" else "/operator/")
    # No tenant's provider makes an operator.
    if not user.is_staff or sessions.connection_of(request.session) is not None:
        return render(request, "403.html", {"needed_scope": "operator"}, status=403)
    if ended := sessions.over(request.session, strictest_limits(user)):
        request.session.flush()
        here = request.get_full_path() if request.method == "GET" else "/operator/"
        return redirect_to_login(here, f"{reverse(settings.LOGIN_URL)}?ended={ended}")
    sessions.touch(request.session)
    if settings.OPERATOR_SECOND_FACTOR and not second_factor.is_on(user):
        return redirect("console:second-factor")
    request.operator = Operator(user.email, request.META.get("REMOTE_ADDR", ""))
    return None


def _call_view(view: View, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
    try:
        return view(request, *args, **kwargs)
    except NotFound as error:
        raise Http404(error.detail) from error
    except ServiceError as error:
        return page(request, "problem.html", {"title": _(error.title), "problem": error}, status=error.status)


def form_data(request: HttpRequest) -> QueryDict | None:
    """What a form sent, also if it is empty; None if none was sent."""
    return request.POST if request.method == "POST" else None


def page(
    request: HttpRequest, template: str, context: Mapping[str, object], status: int = 200
) -> HttpResponse:
    """A page under backoffice/, with the navigation beside it."""
    frame = {"navigation": navigation(), "section": section_of(request)}
    return render(request, f"backoffice/{template}", {**frame, **context}, status=status)
