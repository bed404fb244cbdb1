"""What members said of results: agreed, disputed, waiting for a second opinion; and what becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.access import Request, actor_of, needs, page
from console.datasets.assets import each_of
from console.paging import parse_id
from ml.alignment import relevance_fitting as fitting
from tenants.accounts.permissions import READ, SEARCH, TRAIN, WRITE
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.errors import Conflict, NotFound, NotReady
from tenants.learning import relevance_calibration, result_labels
from tenants.learning.result_labels import AgreedQuery, Labelled
from tenants.pipeline.assets import services

#: Of each list; a page more where somebody asks for it.
PAGE, MAX_PAGE = 25, 10_000

#: Of the right answers of a query in the list; the others are counted.
SHOWN_ANSWERS = 6


@needs(READ)
def index(request: Request) -> HttpResponse:
    """`?page=` goes on in the queries that are agreed."""
    typed = request.GET.get("page", "")
    number = min(int(typed), MAX_PAGE) if typed.isascii() and typed.isdigit() and len(typed) < 6 else 0
    with request.workspace.open():
        queries = result_labels.agreed_queries()
        shown = queries[number * PAGE : (number + 1) * PAGE]
        disputed = result_labels.disputed()
        waiting = result_labels.waiting_for(actor_of(request).label)
        context = {
            "queries": _query_lines(shown),
            "disputed": _lines(disputed[:PAGE]),
            "disputed_count": len(disputed),
            "waiting": _lines(waiting[:PAGE]),
            "waiting_count": len(waiting),
            "count": len(queries),
            "verdicts": result_labels.count_verdicts(),
            "correction": relevance_calibration.live_correction(),
            "calibration": relevance_calibration.newest_job(),
            "needed": fitting.LABELS,
            "next": number + 1 if len(queries) > (number + 1) * PAGE else None,
        }
    part = request.headers.get("HX-Request")
    return page(request, "parts/calibration.html" if part else "result_labels.html", context)


def _lines(found: Sequence[Labelled]) -> list[dict[str, Any]]:
    """In the tenant's scope."""
    assets = get_assets([one.asset_id for one in found])
    return [{"label": one, "asset": assets[one.asset_id]} for one in found if one.asset_id in assets]


def _query_lines(found: Sequence[AgreedQuery]) -> list[dict[str, Any]]:
    assets = get_assets([asset for one in found for asset in one.right[:SHOWN_ANSWERS]])
    return [
        {
            "query": one,
            "answers": [assets[asset] for asset in one.right[:SHOWN_ANSWERS] if asset in assets],
        }
        for one in found
    ]


@needs(SEARCH, methods=("POST",))
def label(request: Request) -> HttpResponse:
    """Say right or wrong of an asset for words, or take back what was said."""
    asset_id, verdict = parse_id(request.POST.get("asset", "")), request.POST.get("verdict", "")
    if asset_id is None or verdict not in ("right", "wrong", "none"):
        raise NotFound(_("This result does not exist."))
    about: dict[str, Any] = {
        "text": request.POST.get("text", ""),
        "asset_id": asset_id,
        "actor": actor_of(request).label,
    }
    try:
        with request.workspace.open():
            if verdict == "none":
                result_labels.take_back(**about)
            else:
                result_labels.label_result(**about, right=verdict == "right")
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:models-labels")


@needs(TRAIN, methods=("POST",))
def judge_by(request: Request) -> HttpResponse:
    """Make a golden query of one that is agreed."""
    try:
        with request.workspace.open():
            result_labels.make_golden(key=request.POST.get("key", ""), actor=actor_of(request).label)
        messages.success(request, _("The golden query was added."))
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:models-labels")


@needs(WRITE, methods=("POST",))
def teach(request: Request) -> HttpResponse:
    """Give the right pictures of a query that is agreed its words as a caption: training pairs."""
    actor = actor_of(request).label
    try:
        with request.workspace.open():
            query = result_labels.agreed_query(request.POST.get("key", ""))
            pictures = result_labels.to_be_taught(query)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("console:models-labels")
    ids = [asset.id for asset in pictures]
    done = each_of(request, ids, lambda asset_id: _add_caption(asset_id, query.text, actor)) if ids else 0
    if done:
        words = ngettext("%(n)s training pair was added.", "%(n)s training pairs were added.", done)
        messages.success(request, words % {"n": done})
    return redirect("console:models-labels")


def _add_caption(asset_id: uuid.UUID, words: str, actor: str) -> None:
    row = Asset.objects.filter(pk=asset_id).first()
    captions = row.captions if row else []
    services.update_asset(asset_id=asset_id, captions=[*captions, words], actor=actor)


@needs(TRAIN, methods=("POST",))
def calibrate(request: Request) -> HttpResponse:
    """Learn from what is agreed how likely results are; taken only if it does better on queries kept aside."""
    try:
        with request.workspace.open():
            relevance_calibration.start_calibration(actor=actor_of(request).label)
        messages.success(request, _("Relevance is being calibrated."))
    except (Conflict, NotReady) as error:
        messages.error(request, error.detail)
    return redirect("console:models-labels")


@needs(TRAIN, methods=("POST",))
def retire(request: Request) -> HttpResponse:
    """Back to what the model itself says."""
    with request.workspace.open():
        relevance_calibration.retire_correction(actor=actor_of(request).label)
    messages.success(request, _("Chances come from the model again."))
    return redirect("console:models-labels")


@needs(TRAIN, methods=("POST",))
def forget(request: Request) -> HttpResponse:
    """Delete all labels of a query."""
    with request.workspace.open():
        result_labels.delete_query(key=request.POST.get("key", ""), actor=actor_of(request).label)
    messages.success(request, _("The labels of the query were deleted."))
    return redirect("console:models-labels")
