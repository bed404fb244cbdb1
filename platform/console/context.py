"""What every template may use: the workspace and what its role allows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

NAVIGATION = (
    ("console:home", "Home", "house", "read"),
    ("console:search", "Search", "search", "search"),
    ("console:datasets", "Datasets", "collection", "read"),
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
    "job": "jobs",
    "export": "data",
    "erasure": "data",
}


def console(request: HttpRequest) -> dict[str, Any]:
    workspace = getattr(request, "workspace", None)
    if workspace is None:
        return {}
    return {
        "workspace": workspace,
        "can": dict.fromkeys(workspace.scopes, True),
        "navigation": [entry for entry in NAVIGATION if entry[3] in workspace.scopes],
        "section": _section(request),
    }


def _section(request: HttpRequest) -> str:
    name = request.resolver_match.url_name if request.resolver_match else ""
    name = (name or "").split("-")[0]
    return f"console:{SECTIONS.get(name, name)}"
