"""What every template may use: the workspace and what its role allows."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest

from console.access import Workspace
from tenants.accounts.permissions import MODERATE
from tenants.moderation.cases import WAITING
from tenants.moderation.models import Review

NAVIGATION = (
    ("console:home", "Home", "house", "read"),
    ("console:search", "Search", "search", "search"),
    ("console:datasets", "Datasets", "collection", "read"),
    ("console:models", "Models", "cpu", "read"),
    ("console:audits", "Audits", "fingerprint", "moderate"),
    ("console:reviews", "Reviews", "inbox", "moderate"),
    ("console:policies", "Policies", "sliders", "moderate"),
    ("console:jobs", "Jobs", "list-task", "read"),
    ("console:keys", "API keys", "key", "admin"),
    ("console:people", "People", "people", "admin"),
    ("console:log", "Audit log", "clock-history", "admin"),
    ("console:data", "Data", "shield-check", "admin"),
)
# Which entry of the navigation a page belongs to, where its own name does not say.
SECTIONS = {
    "dataset": "datasets",
    "asset": "datasets",
    "import": "datasets",
    "model": "models",
    "golden": "models",
    "task": "models",
    "tasks": "models",
    "audit": "audits",
    "review": "reviews",
    "outcome": "reviews",
    "outcomes": "reviews",
    "batch": "reviews",
    "policy": "policies",
    "backtest": "policies",
    "hash": "policies",
    "hashes": "policies",
    "job": "jobs",
    "export": "data",
    "erasure": "data",
}


# More are not counted: the number only tells that there is work.
MANY_REVIEWS = 100


def console(request: HttpRequest) -> dict[str, Any]:
    workspace = getattr(request, "workspace", None)
    if workspace is None:
        return {}
    return {
        "workspace": workspace,
        "can": dict.fromkeys(workspace.scopes, True),
        "navigation": [entry for entry in NAVIGATION if entry[3] in workspace.scopes],
        "section": _section(request),
        # Called by the page's frame alone, not for parts of pages.
        "open_reviews": partial(_open_reviews, workspace),
    }


def _open_reviews(workspace: Workspace) -> str:
    """How many reviews wait, as text; empty for none and for whom it does not concern."""
    if MODERATE not in workspace.scopes:
        return ""
    with workspace.open():
        found = Review.objects.filter(state__in=WAITING).order_by()[: MANY_REVIEWS + 1].count()
    return f"{MANY_REVIEWS}+" if found > MANY_REVIEWS else str(found or "")


def _section(request: HttpRequest) -> str:
    name = request.resolver_match.url_name if request.resolver_match else ""
    name = (name or "").split("-")[0]
    return f"console:{SECTIONS.get(name, name)}"
