"""Who may open which page: membership and scope are checked anew on every request, before its body is read."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from console import problems
from tenants import observe
from tenants.accounts import reauthentication, second_factor, sessions, sign_on, trials
from tenants.accounts.models import Membership, Tenant, User
from tenants.accounts.networks import admits
from tenants.accounts.operators import label_of
from tenants.accounts.permissions import ADDS, MODERATE, NARROWABLE, READ, SEARCH, Actor, scopes_of
from tenants.accounts.roles import narrowing_of, scopes_in
from tenants.accounts.security import networks_of, session_limits
from tenants.errors import NotAllowed, NotFound, ServiceError
from tenants.events import access_log
from tenants.people import impersonation
from tenants.people.shortcuts import DEFAULT, Shortcuts, read_shortcuts
from tenants.people.sign_on import break_glass
from tenants.scope import Narrowing, narrowed, tenant_scope

SESSION_KEY = "tenant"
# Tells a proxy which host has this workspace's caches warm, and nobody anything else: it is never read here.
PLACEMENT = "tenant"
# What looks only, although a form sends it.
READ_ONLY_POSTS = frozenset({"search-results"})
# Where people begin who cannot open the first page, by what their role allows.
BEGINNINGS = ((READ, "console:datasets"), (MODERATE, "console:reviews"), (SEARCH, "console:search"))
# Words in the names of addresses that stop, delete or only look: they open after a trial, too.
AFTER_TRIAL = frozenset({"delete", "remove", "forget", "cancel", "release", "retire", "check"})
WHOLE_WORKSPACE = gettext_noop(
    "This shows or changes the whole workspace, and you have access to chosen datasets and review queues only. "
    "Ask an owner or admin for more."
)
OTHERS_ACCOUNT = gettext_noop(
    "You came by single sign-on, which opens one workspace and not your account. "
    "Sign out and in again with your own password or passkey for this."
)
View = Callable[..., HttpResponseBase]


@dataclass(frozen=True)
class Workspace:
    """The tenant that a person works in now, and what their role there allows.

    `acting` is the e-mail address of an operator who acts in it, and empty for its members.
    """

    tenant: Tenant
    role: str
    scopes: frozenset[str]
    has_others: bool
    acting: str = ""
    acting_id: uuid.UUID | None = None
    looks_only: bool = False
    # The datasets and queues that the member sees; None: all of them.
    narrowing: Narrowing | None = None
    # The member is one of those who may use the password although single sign-on is enforced, and came by it.
    break_glass: bool = False
    # Whether the member is told how to begin, until that is dismissed. Operators who act are not.
    shows_checklist: bool = False
    # The single keys that the member chose.
    shortcuts: Shortcuts = DEFAULT
    # None for an operator who acts.
    member_id: int | None = None

    def admits(self, request: HttpRequest) -> bool:
        """Whether it may be opened from where the request comes. Its networks bind no operator who acts in it."""
        return bool(self.acting) or admits(networks_of(self.tenant), request.META.get("REMOTE_ADDR", ""))

    @contextmanager
    def open(self) -> Iterator[None]:
        """A scope of the tenant, in which its rows are those that the person may see."""
        with narrowed(self.narrowing), tenant_scope(self.tenant.id):
            yield


class Visit(HttpRequest):
    """A request that `signed_in` has let through, with the workspace where there is one."""

    user: User
    workspace: Workspace | None


class Request(Visit):
    """A request that `needs` has let through."""

    workspace: Workspace


def actor_of(request: Request) -> Actor:
    """The person, for services that ask who acts. An operator who acts is named as such, and is nobody's member."""
    if request.workspace.acting:
        return Actor(label_of(request.user), request.workspace.role, acting_id=request.workspace.acting_id)
    return Actor(str(request.user.pk), request.workspace.role, request.user.pk)


def connection_of(request: HttpRequest) -> uuid.UUID | None:
    """The single sign-on by which the person came; None for who came by a password or passkey of their own."""
    return sessions.connection_of(request.session)


def memberships_of(user: User, connection_id: uuid.UUID | None) -> list[Membership]:
    """The person's roles in active tenants that a session by this single sign-on, or by password, opens; by name."""
    rows = sign_on.open_memberships(user, connection_id).select_related("tenant__security")
    return list(rows.order_by("tenant__name", "tenant_id"))


def find_workspace(user: User, connection_id: uuid.UUID | None, chosen: str | None) -> Workspace | None:
    """The chosen tenant if the session opens it, or the only one there is; else None."""
    memberships = memberships_of(user, connection_id)
    picked = [m for m in memberships if str(m.tenant_id) == chosen]
    if not picked and len(memberships) == 1:
        picked = memberships
    if not picked:
        return None
    member = picked[0]
    scopes, narrowing = scopes_in(member.tenant_id, member.role), narrowing_of(member)
    # Of who is narrowed, what the pages that they open let them do.
    scopes = scopes if narrowing is None else scopes & NARROWABLE
    return Workspace(
        member.tenant,
        member.role,
        scopes,
        len(memberships) > 1,
        narrowing=narrowing,
        break_glass=member.break_glass and connection_id is None,
        shows_checklist=not member.checklist_dismissed,
        shortcuts=read_shortcuts(member.shortcuts),
        member_id=member.pk,
    )


def workspace_of(request: Visit) -> Workspace | None:
    """Where this session works: an operator who acts, there alone; everybody else, where they belong."""
    connection_id = connection_of(request)
    # An operator works here by what is theirs: no tenant's provider speaks for one.
    row = impersonation.current(request.user, request.session.session_key) if connection_id is None else None
    if row is None:
        return find_workspace(request.user, connection_id, request.session.get(SESSION_KEY))
    role = impersonation.role_of(row)
    return Workspace(
        tenant=row.tenant,
        role=role,
        scopes=scopes_of(role),
        has_others=False,
        acting=row.operator.email,
        acting_id=row.id,
        looks_only=row.access == row.Access.READ,
    )


def needs(
    scope: str,
    methods: Iterable[str] = ("GET",),
    *,
    fresh: Iterable[str] = (),
    narrowable: Iterable[str] = (),
) -> Callable[[View], View]:
    """Let a view be called only by signed-in people whose role has `scope`, with one of these methods.

    With those in `fresh`, only by who proved a short while ago who they are; others are asked for it first.
    Who sees chosen datasets and queues only is let in with the methods in `narrowable`: of these the view shows and
    does nothing but what stands in rows that the database narrows. CSRF is checked after that, as the check reads the
    body: who may not come in uploads nothing.
    """
    allowed, proved, narrow = tuple(methods), tuple(fresh), frozenset(narrowable)

    def decorate(view: View) -> View:
        protected = csrf_protect(_proved_first(view, proved))

        @csrf_exempt
        @wraps(view)
        def guarded(request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
            if not _allows_method(allowed, request):
                return HttpResponseNotAllowed(allowed)
            refusal = _authorize(request, scope, narrow) or _refuse_after_trial(request, scope)
            if refusal is not None:
                return _set_headers(refusal)
            named = label_of(request.user) if request.workspace.acting else ""
            with (
                observe.bound(observe.acting, named),
                observe.bound(observe.requester, actor_of(request).label),
                narrowed(request.workspace.narrowing),
            ):
                response = _set_headers(_call_view(protected, request, *args, **kwargs))
            return _tell_placement(request, response)

        guarded.needs = scope  # type: ignore[attr-defined]  # for the test that walks all URLs
        guarded.methods = allowed  # type: ignore[attr-defined]
        guarded.fresh = proved  # type: ignore[attr-defined]
        guarded.narrowable = narrow  # type: ignore[attr-defined]
        return guarded

    return decorate


def _proved_first(view: View, methods: tuple[str, ...]) -> View:
    """The view, which with these methods is called only for who proved a short while ago who they are."""

    @wraps(view)
    def checked(request: Visit, *args: object, **kwargs: object) -> HttpResponseBase:
        method = "GET" if request.method == "HEAD" else request.method
        if method in methods and not reauthentication.is_verified(request.session):
            return _verify_first(request)
        return view(request, *args, **kwargs)

    return checked


def _verify_first(request: Visit) -> HttpResponseBase:
    """The page that asks for the proof; the request is kept, and goes on after it."""
    if problems.wants_part(request):
        return problems.answer(
            request,
            NotAllowed(_("You signed in too long ago for this. Sign out and in again, then try once more.")),
        )
    workspace = str(request.workspace.tenant.id) if request.workspace else ""
    reauthentication.interrupt(request, otherwise="/", workspace=workspace)
    return redirect("console:verify")


def _allows_method(allowed: tuple[str, ...], request: HttpRequest) -> bool:
    return request.method in allowed or (request.method == "HEAD" and "GET" in allowed)


def _authorize(request: Request, scope: str, narrowable: frozenset[str]) -> HttpResponseBase | None:
    """Set `request.workspace`, or say where to go instead."""
    refusal = _enter(request)
    if refusal is not None:
        return refusal
    workspace = request.workspace
    if workspace is None:
        return redirect("console:choose")
    if not workspace.admits(request):
        return problems.network_not_allowed(request, workspace.tenant.name)
    if _lacks_second_factor(request, workspace):
        return _second_factor_first(request)
    if workspace.break_glass:
        break_glass.note_use(request.user, workspace.tenant, request.session)
    observe.tenant_id.set(str(workspace.tenant.id))
    if workspace.narrowing is not None and not _allows_method(tuple(narrowable), request):
        return _another_beginning(request) or _refused(
            request, scope, problems.answer(request, NotAllowed(_(WHOLE_WORKSPACE)))
        )
    if scope not in workspace.scopes or (workspace.looks_only and not _is_read_only(request, scope)):
        return _another_beginning(request) or _refused(request, scope, problems.forbidden(request, scope))
    return None


def _refused(request: Request, scope: str, answer: HttpResponseBase) -> HttpResponseBase:
    """The answer, once the refusal stands in the workspace's log."""
    match = request.resolver_match
    access_log.note_refusal(
        request.workspace.tenant.id,
        actor=actor_of(request).label,
        scope=scope,
        method=str(request.method),
        route=f"console:{match.url_name}" if match else "",
        address=str(request.META.get("REMOTE_ADDR", "")),
    )
    return answer


def _refuse_after_trial(request: Request, scope: str) -> HttpResponseBase | None:
    """Of a workspace whose trial is over, whatever would add to it."""
    tenant = request.workspace.tenant
    if tenant.trial_ends_at is None or scope not in ADDS or not trials.is_over(tenant):
        return None
    match = request.resolver_match
    name = (match.url_name if match else None) or ""
    if request.method in ("GET", "HEAD", "DELETE") or AFTER_TRIAL & set(name.split("-")):
        return None
    return problems.answer(request, trials.ended(tenant.trial_ends_at))


def _enter(request: Visit) -> HttpResponseBase | None:
    """Set `request.workspace` of somebody whose session still counts, or say where to go instead."""
    if not request.user.is_authenticated:
        return _sign_in_first(request)
    request.workspace = workspace_of(request)
    if ended := _why_over(request, request.workspace):
        return _sign_in_first(request, ended)
    if _is_used(request):
        sessions.touch(request.session)
    return None


def _why_over(request: Visit, workspace: Workspace | None) -> str:
    return sessions.over(request.session, session_limits(workspace.tenant if workspace else None))


def _is_used(request: HttpRequest) -> bool:
    """Whether a person opens a page or sends a form. What pages ask for by themselves is no use of a session."""
    if request.method not in ("GET", "HEAD"):
        return True
    by_script = not _is_opened(request) or "text/event-stream" in request.headers.get("Accept", "")
    return not by_script and not problems.wants_part(request)


def _is_opened(request: HttpRequest) -> bool:
    """Whether the browser opens an address as a page, and not what a page shows or asks for."""
    return request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"


def _another_beginning(request: Request) -> HttpResponseBase | None:
    """Who is refused the first page, which shows the whole workspace to readers, is led to one that they open."""
    if request.resolver_match is None or request.resolver_match.url_name != "home":
        return None
    opened = (name for scope, name in BEGINNINGS if scope in request.workspace.scopes)
    name = next(opened, None)
    return redirect(name) if name else None


def _is_read_only(request: HttpRequest, scope: str) -> bool:
    """Whether a request changes nothing."""
    match = request.resolver_match
    by_post = scope == SEARCH and match is not None and match.url_name in READ_ONLY_POSTS
    return by_post or request.method in ("GET", "HEAD")


def _lacks_second_factor(request: Request, workspace: Workspace) -> bool:
    """Who came by single sign-on has shown whatever the tenant's own provider asks for."""
    asked = workspace.tenant.requires_second_factor and connection_of(request) is None
    return asked and not second_factor.is_on(request.user)


def _second_factor_first(request: HttpRequest) -> HttpResponseBase:
    if problems.wants_part(request):
        detail = _("This workspace requires two-factor sign-in. Set it up on your account page.")
        return JsonResponse(
            {"title": _("Second factor required"), "status": 403, "detail": detail}, status=403
        )
    return redirect("console:second-factor")


def _sign_in_first(request: HttpRequest, ended: str = "") -> HttpResponseBase:
    """The sign-in page, which leads back; a session that is over goes with it, and the page says why (`ended`)."""
    if problems.wants_part(request) or (ended and not _is_opened(request)):
        # The session stays, so that the page that asked learns why when it is loaded again.
        return JsonResponse({"title": _("Sign in first"), "status": 401}, status=401)
    if not ended:
        return redirect_to_login(_page_of(request))
    request.session.flush()
    return redirect_to_login(_page_of(request), f"{reverse('console:login')}?ended={ended}")


def _page_of(request: HttpRequest) -> str:
    """The page that is asked for, or the one whose form was sent."""
    if request.method == "GET":
        return request.get_full_path()
    return reauthentication.page_before(request) or "/"


def _call_view(view: View, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
    try:
        return view(request, *args, **kwargs)
    except NotFound as error:
        if not problems.wants_part(request):
            raise Http404(error.detail) from error
        return problems.answer(request, error)
    except ServiceError as error:
        return problems.answer(request, error)


def _set_headers(response: HttpResponseBase) -> HttpResponseBase:
    # Not kept: after signing out, the back button must not show a tenant's data.
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
    return response


def _tell_placement(request: Request, response: HttpResponseBase) -> HttpResponseBase:
    """Sent where it changes, so that the one workspace is asked for at one host, whoever works in it."""
    tenant_id = str(request.workspace.tenant.id)
    if request.COOKIES.get(PLACEMENT) != tenant_id:
        response.set_cookie(
            PLACEMENT, tenant_id, secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Lax"
        )
    return response


def signed_in(
    methods: Iterable[str] = ("GET",), fresh: Iterable[str] = (), *, by_sign_on: bool = False
) -> Callable[[View], View]:
    """For pages about the person, which need no tenant; where there is one, its navigation is shown. `fresh`: as of
    `needs`.

    An account is the person's, and a single sign-on speaks for one workspace: only pages that say `by_sign_on` open
    for a session that came by one.
    """

    def admit(request: Visit) -> HttpResponseBase | None:
        refusal = _enter(request)
        if refusal is None and connection_of(request) is not None and not by_sign_on:
            return problems.answer(request, NotAllowed(_(OTHERS_ACCOUNT)))
        if refusal is None and request.workspace is not None and not request.workspace.admits(request):
            # From elsewhere the page tells nothing of the workspace, not even in its navigation.
            request.workspace = None
        return refusal

    return _open_to(admit, tuple(methods), tuple(fresh))


def public(methods: Iterable[str] = ("GET",), *, from_elsewhere: bool = False) -> Callable[[View], View]:
    """For pages before signing in. What they show may hold a token, so no other site learns where one came from.

    `from_elsewhere`: other sites post there, without a token of ours; what they send proves itself.
    """
    return _open_to(_forget_ended, tuple(methods), protect=not from_elsewhere)


def _forget_ended(request: Visit) -> None:
    """Somebody whose session is over is nobody."""
    if request.user.is_authenticated and _why_over(request, workspace_of(request)):
        request.session.flush()
        request.user = AnonymousUser()  # type: ignore[assignment]


def _open_to(
    admit: Callable[[Visit], HttpResponseBase | None],
    allowed: tuple[str, ...],
    fresh: tuple[str, ...] = (),
    *,
    protect: bool = True,
) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        checked = _proved_first(view, fresh)
        protected = csrf_protect(checked) if protect else checked

        @csrf_exempt
        @wraps(view)
        def guarded(request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
            if not _allows_method(allowed, request):
                return HttpResponseNotAllowed(allowed)
            return _set_headers(admit(request) or _call_view(protected, request, *args, **kwargs))

        guarded.methods = allowed  # type: ignore[attr-defined]
        guarded.fresh = fresh  # type: ignore[attr-defined]
        return guarded

    return decorate


def own_address(request: HttpRequest, address: str) -> str:
    """The address, if it is one of our pages; else the first page."""
    ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if ours else "/"


def page(
    request: HttpRequest, template: str, context: Mapping[str, object], status: int = 200
) -> HttpResponse:
    """A page or part of one, under console/."""
    return render(request, f"console/{template}", context, status=status)


def came_from(request: HttpRequest, otherwise: str) -> str:
    """The page of ours that the person came from, where the browser says so; else `otherwise`."""
    address = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, request.is_secure())
    return address if address and is_ours else otherwise
