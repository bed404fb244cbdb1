"""Two versions of a document beside each other, clause by clause."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy

from console.access import Request, needs, page
from console.paging import parse_id
from console.presenters import asset_name
from tenants.accounts.permissions import READ
from tenants.datasets import document_comparison, selectors
from tenants.datasets.models import Asset
from tenants.datasets.shapes import CHANGES
from tenants.errors import Conflict, Invalid

# Texts and documents to choose from, the newest.
MOST_OFFERED = 100
CLAUSES = 50

KINDS = {
    "changed": gettext_lazy("Changed"),
    "added": gettext_lazy("Added"),
    "removed": gettext_lazy("Removed"),
    "moved": gettext_lazy("Moved"),
    "same": gettext_lazy("Unchanged"),
}


@needs(READ, narrowable=("GET",))
def show(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """`?to=` is the later version, `?all=1` lists what stayed as well, `?from=` is where the list goes on."""
    with request.workspace.open():
        before = selectors.get_asset(asset_id)
        after = selectors.get_asset(parse_id(request.GET["to"])) if request.GET.get("to") else None
        for one in filter(None, (before, after)):
            selectors.require_shown(one, request.workspace.scopes)
        context: dict[str, Any] = {
            "asset": before,
            "other": after,
            "other_id": str(after.pk) if after else "",
            "dataset": before.dataset,
            "name": asset_name(before, 120),
            "other_name": asset_name(after, 120) if after else "",
            "offered": _offered(before, request.workspace.scopes),
        }
    unchanged = request.GET.get("all") == "1"
    if after is not None:
        context |= _compared(before, after, unchanged, request.GET.get("from", ""))
    return page(request, "asset_comparison.html", context)


def _compared(before: Asset, after: Asset, unchanged: bool, start: str) -> dict[str, Any]:
    first = int(start) if start.isascii() and start.isdigit() and len(start) <= 4 else 0
    try:
        found = document_comparison.compare_assets(
            before, after, unchanged=unchanged, start=first, limit=CLAUSES
        )
    except (Invalid, Conflict) as error:
        return {"refused": error.detail}
    asked = {"to": str(after.pk), **({"all": "1"} if unchanged else {})}
    return {
        "found": found,
        "figures": [(kind, KINDS[kind], getattr(found.counts, kind)) for kind in CHANGES],
        "all": unchanged,
        # Of a text or a document without pages, all stands on the first.
        "paged": any(
            clause.page > 1 for one in found.results for clause in (one.before, one.after) if clause
        ),
        "next": f"?{urlencode({**asked, 'from': found.next})}" if found.next else "",
        "changes": [(one, KINDS[one.kind]) for one in found.results],
    }


def _offered(asset: Asset, scopes: Any) -> list[tuple[str, str]]:
    """(id, name) of the newest texts and documents beside it."""
    rows = selectors.visible_assets().filter(
        dataset=asset.dataset_id, modality=Asset.Modality.TEXT, status=Asset.State.READY
    )
    others = rows.exclude(pk=asset.pk).order_by("-id")[:MOST_OFFERED]
    return [(str(one.pk), asset_name(one, 80)) for one in others if selectors.is_shown(one, scopes)]
