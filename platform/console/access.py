"""Who may open which page: membership and scope are checked anew on every request, before its body is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from console import problems
from tenants import observe
from tenants.accounts.models import Membership, Tenant, User
from tenants.accounts.permissions import scopes_of
from tenants.errors import NotFound, ServiceError
from tenants.scope import tenant_scope

SESSION_KEY = "tenant"
View = Callable[..., HttpResponseBase]


@dataclass(frozen=True)
class Workspace:
    """The tenant that a person works in now, and what their role there allows."""

    tenant: Tenant
    role: str
    scopes: frozenset[str]
    has_others: bool

    def open(self) -> AbstractContextManager[None]:
        return tenant_scope(self.tenant.id)


class Request(HttpRequest):
    """A request that `needs` has let through."""

    user: User
    workspace: Workspace


def memberships_of(user: User) -> list[Membership]:
    """The person's roles in tenants that are active, by name."""
    rows = Membership.objects.select_related("tenant").filter(user=user, tenant__state=Tenant.State.ACTIVE)
    return list(rows.order_by("tenant__name", "tenant_id"))


def find_workspace(user: User, chosen: str | None) -> Workspace | None:
    """The chosen tenant if the person still belongs to it, or the only one there is; else None."""
    memberships = memberships_of(user)
    picked = [m for m in memberships if str(m.tenant_id) == chosen]
    if not picked and len(memberships) == 1:
        picked = memberships
    if not picked:
        return None
    member = picked[0]
    return Workspace(member.tenant, member.role, scopes_of(member.role), len(memberships) > 1)


def needs(scope: str, methods: Iterable[str] = ("GET",)) -> Callable[[View], View]:
    """Let a view be called only by signed-in people whose role has `scope`, with one of these methods.

    CSRF is checked after that, as the check reads the body: who may not come in uploads nothing.
    """
    allowed = tuple(methods)

    def decorate(view: View) -> View:
        protected = csrf_protect(view)

        @csrf_exempt
        @wraps(view)
        def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method not in (*allowed, "HEAD" if "GET" in allowed else ""):
                return HttpResponseNotAllowed(allowed)
            refusal = _admit(request, scope)
            return _finish(refusal or _call(protected, request, *args, **kwargs))

        guarded.needs = scope  # type: ignore[attr-defined]  # for the test that walks all URLs
        guarded.methods = allowed  # type: ignore[attr-defined]
        return guarded

    return decorate


def _admit(request: Any, scope: str) -> HttpResponseBase | None:
    """Set `request.workspace`, or say where to go instead."""
    if not request.user.is_authenticated:
        return _sign_in_first(request)
    request.workspace = find_workspace(request.user, request.session.get(SESSION_KEY))
    if request.workspace is None:
        return redirect("console:choose")
    observe.tenant_id.set(str(request.workspace.tenant.id))
    if scope not in request.workspace.scopes:
        return problems.forbidden(request, scope)
    return None


def _sign_in_first(request: HttpRequest) -> HttpResponseBase:
    if problems.wants_part(request):
        return JsonResponse({"title": "Sign in first", "status": 401}, status=401)
    return redirect_to_login(request.get_full_path() if request.method == "GET" else "/")


def _call(view: View, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
    try:
        return view(request, *args, **kwargs)
    except NotFound as error:
        if not problems.wants_part(request):
            raise Http404(error.detail) from error
        return problems.answer(request, error)
    except ServiceError as error:
        return problems.answer(request, error)


def _finish(response: HttpResponseBase) -> HttpResponseBase:
    # Not kept: after signing out, the back button must not show a tenant's data.
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
    return response


def signed_in(view: View) -> View:
    """For the few pages that come before a tenant is chosen."""

    @wraps(view)
    def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if isinstance(request.user, AnonymousUser):
            return _sign_in_first(request)
        return _finish(view(request, *args, **kwargs))

    return guarded


def page(request: Any, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """A page or part of one, under console/."""
    return render(request, f"console/{template}", context, status=status)
