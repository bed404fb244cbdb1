"""What every template may use: the workspace and what its role allows."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.urls import resolve, reverse
from django.utils.translation import gettext_lazy as _

from console.access import Request, Workspace
from console.alerts import count_here
from console.home import count_up_to
from tenants.accounts import trials
from tenants.accounts.models import Tenant
from tenants.accounts.permissions import MODERATE, SEARCH
from tenants.moderation.models import Review
from tenants.moderation.reviews.cases import WAITING

# Groups with a heading; each entry: the page's name, its text, its icon, and the permission that it needs.
NAVIGATION = (
    (
        _("Work"),
        (
            ("console:home", _("Home"), "house", "read"),
            ("console:search", _("Search"), "search", "search"),
            ("console:alerts", _("Alerts"), "bell", "search"),
            ("console:datasets", _("Datasets"), "collection", "read"),
            ("console:map", _("Map"), "map", "read"),
            ("console:generate", _("Generate"), "magic", "read"),
            ("console:models", _("Models"), "cpu", "read"),
        ),
    ),
    (
        _("Moderation"),
        (
            ("console:audits", _("Audits"), "fingerprint", "moderate"),
            ("console:reviews", _("Reviews"), "inbox", "moderate"),
            ("console:appeals", _("Appeals"), "chat-left-text", "read"),
            ("console:policies", _("Policies"), "sliders", "moderate"),
        ),
    ),
    (
        _("Operation"),
        (
            ("console:jobs", _("Jobs"), "list-task", "read"),
            ("console:usage", _("Usage"), "graph-up", "read"),
        ),
    ),
    (
        _("Administration"),
        (
            ("console:keys", _("API keys"), "key", "admin"),
            ("console:webhooks", _("Webhooks"), "broadcast", "admin"),
            ("console:people", _("People"), "people", "admin"),
            ("console:security", _("Security"), "shield-lock", "admin"),
            ("console:log", _("Audit log"), "clock-history", "admin"),
            ("console:data", _("Data"), "shield-check", "admin"),
        ),
    ),
)
# Which entry of the navigation a page belongs to, where its own name does not say.
SECTIONS = {
    "standing": "alerts",
    "dataset": "datasets",
    "asset": "datasets",
    "holds": "data",
    "plan": "usage",
    "data-processing": "data",
    "import": "datasets",
    "model": "models",
    "golden": "models",
    "classifier": "models",
    "classifiers": "models",
    "generation": "generate",
    "task": "models",
    "tasks": "models",
    "audit": "audits",
    "appeal": "appeals",
    "review": "reviews",
    "outcome": "reviews",
    "outcomes": "reviews",
    "batch": "reviews",
    "policy": "policies",
    "backtest": "policies",
    "hash": "policies",
    "hashes": "policies",
    "job": "jobs",
    "webhook": "webhooks",
    "origins": "keys",
    "shortcuts": "account",
    "provisioning": "security",
    "operator": "security",
    "sso": "security",
    "connection": "security",
    "domain": "security",
    "member": "people",
    "roles": "people",
    "role": "people",
    "export": "data",
    "erasure": "data",
}


def console(request: HttpRequest) -> dict[str, Any]:
    workspace = getattr(request, "workspace", None)
    if workspace is None:
        return {}
    waiting = cache(partial(_waiting, cast(Request, request)))
    return {
        "workspace": workspace,
        "can": dict.fromkeys(workspace.scopes, True),
        "navigation": navigation_of(workspace),
        "trial": _trial(workspace.tenant),
        "self_service": dict.fromkeys(settings.SELF_SERVICE.parts, True),
        "section": _section(request),
        # Called by the page's frame alone, not for parts of pages.
        "open_reviews": lambda: waiting()[0],
        "unread_alerts": lambda: waiting()[1],
    }


def _trial(tenant: Tenant) -> dict[str, Any] | None:
    """What is said on every page of a trial that ends soon, or has ended."""
    days = trials.days_left(tenant)
    if days is None or days > trials.SHOWN_DAYS:
        return None
    return {"days": days, "over": trials.is_over(tenant), "ends_at": tenant.trial_ends_at}


def navigation_of(workspace: Workspace) -> list[tuple[Any, list[tuple[str, Any, str, str]]]]:
    """The groups that have an entry for the person's role, with those entries."""
    groups = (
        (
            heading,
            [entry for entry in entries if entry[3] in workspace.scopes and opens(workspace, entry[0])],
        )
        for heading, entries in NAVIGATION
    )
    return [(heading, entries) for heading, entries in groups if entries]


def opens(workspace: Workspace, name: str) -> bool:
    """Whether a page is for somebody who sees chosen datasets only, if this is one."""
    if workspace.narrowing is None:
        return True
    view: Any = resolve(reverse(name)).func
    return "GET" in view.narrowable


def _waiting(request: Request) -> tuple[str, str]:
    """How many reviews and alerts wait, as text, read together; empty for none and for whom they do not concern."""
    workspace = request.workspace
    if not workspace.scopes & {MODERATE, SEARCH}:
        return "", ""
    with workspace.open():
        return _open_reviews(workspace), count_here(request)


def _open_reviews(workspace: Workspace) -> str:
    """In the tenant's scope."""
    if MODERATE not in workspace.scopes:
        return ""
    found = count_up_to(Review.objects.filter(state__in=WAITING))
    return "" if found == "0" else found


def _section(request: HttpRequest) -> str:
    name = request.resolver_match.url_name if request.resolver_match else ""
    name = (name or "").split("-")[0]
    return f"console:{SECTIONS.get(name, name)}"
