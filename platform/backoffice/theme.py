"""How unfold shows the operator's pages: their navigation, and their own style and script."""

from __future__ import annotations

from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

# Name of the address, title, icon; by group.
_NAVIGATION: tuple[tuple[object, tuple[tuple[str, object, str], ...]], ...] = (
    (
        "",
        (
            ("index", _("Overview"), "monitoring"),
            ("tenants", _("Tenants"), "apartment"),
            ("plans", _("Plans"), "sell"),
        ),
    ),
    (
        _("Work"),
        (
            ("fleet", _("Fleet"), "dns"),
            ("jobs", _("Jobs"), "checklist"),
            ("canaries", _("Canaries"), "timeline"),
        ),
    ),
    (
        _("Installation"),
        (
            ("flags", _("Feature flags"), "flag"),
            ("erasures", _("Erased tenants"), "delete_history"),
            ("log", _("Operators' log"), "history"),
        ),
    ),
)


def _group(title: object, items: tuple[tuple[str, object, str], ...], *, spaced: bool) -> dict[str, object]:
    links = [
        {"title": name, "icon": icon, "link": reverse_lazy(f"operator:{address}")}
        for address, name, icon in items
    ]
    return {"title": title, "separator": spaced, "items": links}


UNFOLD: dict[str, object] = {
    "SITE_TITLE": "Crosslight",
    "SITE_HEADER": "Crosslight",
    "SITE_SUBHEADER": _("Operator"),
    "SITE_SYMBOL": "hub",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("dist/favicon.svg")}
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("backoffice/operator.css")],
    "SCRIPTS": [lambda request: static("backoffice/operator.js")],
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [_group(*group, spaced=n > 0) for n, group in enumerate(_NAVIGATION)],
    },
}
