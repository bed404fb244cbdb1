"""What stands beside the operator's pages: where one can go, and where one is."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

# Groups with a heading, as the console's own: each entry is the page's name, its text, its icon.
_NAVIGATION = (
    (
        _("Installation"),
        (
            ("operator:index", _("Overview"), "house"),
            ("operator:tenants", _("Tenants"), "building"),
            ("operator:plans", _("Plans"), "layers"),
            ("operator:requests", _("Requests"), "inbox"),
            ("operator:usage", _("Usage"), "graph-up"),
        ),
    ),
    (
        _("Operation"),
        (
            ("operator:fleet", _("Workers"), "cpu"),
            ("operator:jobs", _("Jobs"), "list-task"),
            ("operator:canaries", _("Canaries"), "activity"),
        ),
    ),
    (
        _("Administration"),
        (
            ("operator:flags", _("Feature flags"), "flag"),
            ("operator:erasures", _("Erased tenants"), "trash"),
            ("operator:log", _("Operators' log"), "clock-history"),
        ),
    ),
)
# Which entry a page belongs to, where its own name does not say.
_SECTIONS = {
    "tenant": "tenants",
    "plan": "plans",
    "request": "requests",
    "erasure": "erasures",
    "job": "jobs",
    "flag": "flags",
}


def navigation() -> list[tuple[object, list[tuple[str, object, str, str]]]]:
    """The groups with their entries, in the shape that the console's template of the navigation takes."""
    return [(heading, [(*entry, "") for entry in entries]) for heading, entries in _NAVIGATION]


def section_of(request: HttpRequest) -> str:
    name = (request.resolver_match.url_name if request.resolver_match else "") or ""
    first = name.split("-")[0]
    return f"operator:{_SECTIONS.get(first, first)}"
