"""Searching by words, picture, voice or examples, and narrowing down what was found."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse

from console import problems
from console.access import Request, needs, page
from console.asking import OPERATORS, is_asked, labels_of, read_query, read_rows, schema_of
from console.cards import Card, card_of
from console.paging import parse_id
from console.refining import Refinements, chips_of, groups_of, read_refinements
from ml.media import MediaError
from tenants.accounts.permissions import SEARCH
from tenants.datasets import selectors
from tenants.datasets.models import Asset, Dataset
from tenants.retrieval.search import Answer, Query, search

SHOWN_MODALITIES = tuple(Asset.Modality)
# Of a result's duplicates; the others are counted.
SHOWN_DUPLICATES = 6


@needs(SEARCH)
def show(request: Request) -> HttpResponse:
    """The form; `?q=`, `?asset=`, `?like=` and `?unlike=` fill it in and search at once."""
    given = request.GET
    refined = read_refinements(given)
    asset_id = parse_id(given.get("asset", ""))
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        context = _form(datasets, refined, given, asset_id)
        selectors.require_assets(refined.named)
    context |= {"text": given.get("q", ""), "fold": True, "hybrid": "hybrid" in given}
    context["at_once"] = bool(context["text"] or context["asset"] or refined.like)
    return page(request, "search.html", context)


@needs(SEARCH, methods=("POST",))
def results(request: Request) -> HttpResponse:
    """A part for the script; without one the whole page, with the form as it was sent."""
    form, refined = request.POST, read_refinements(request.POST)
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
    if "drop" in form and not _is_anything_left(request, refined):
        return _answered(request, refined, datasets, {"cards": [], "idle": True})
    query = read_query(request, schema_of(datasets), refined)
    try:
        # Opens its own short scopes: none is held while models run.
        answer = search(tenant_id=request.workspace.tenant.id, query=query)
    except MediaError as error:
        return problems.answer(request, problems.of_media(error))
    shown = _shown(request, answer, query, refined, datasets)
    if query.cursor and problems.wants_part(request):
        return page(request, "parts/more_results.html", shown)
    return _answered(request, refined, datasets, shown)


def _is_anything_left(request: Request, refined: Refinements) -> bool:
    form = request.POST
    return bool(form.get("text", "").strip() or form.get("image_asset") or request.FILES or refined.like)


def _answered(
    request: Request, refined: Refinements, datasets: list[Dataset], shown: dict[str, Any]
) -> HttpResponse:
    form = request.POST
    whole = not problems.wants_part(request)
    with request.workspace.open():
        asset_id = parse_id(form.get("image_asset", ""))
        context = shown | _form(datasets, refined, form, asset_id)
    context |= {
        "text": form.get("text", ""),
        "fold": "group" in form,
        "hybrid": "hybrid" in form,
        "answered": True,
        "whole": whole,
    }
    return page(request, "search.html" if whole else "parts/results.html", context)


def _form(
    datasets: list[Dataset], refined: Refinements, given: Any, asset_id: uuid.UUID | None
) -> dict[str, Any]:
    """What the form shows, but for the words. In the tenant's scope. Raises NotFound."""
    named = selectors.get_assets(refined.named)
    return {
        "datasets": datasets,
        "schema": schema_of(datasets),
        "operators": OPERATORS,
        "modalities": SHOWN_MODALITIES,
        "chosen": given.getlist("dataset"),
        "kinds": given.getlist("modality"),
        "rows": read_rows(given) or [("", "", "")],
        "unlike_text": given.get("unlike_text", ""),
        "asset": selectors.get_asset(asset_id) if asset_id else None,
        "chips": chips_of(refined, named, labels_of(datasets)),
    }


def _shown(
    request: Request, answer: Answer, query: Query, refined: Refinements, datasets: list[Dataset]
) -> dict[str, Any]:
    return {
        "cards": _cards(request, answer),
        "next": answer.next,
        "meta": answer.meta,
        "groups": groups_of(answer.meta.get("facets", {}), labels_of(datasets), refined.only),
        "fused": query.hybrid,
        "asked": is_asked(query),
    }


def _cards(request: Request, answer: Answer) -> list[Card]:
    folded = answer.duplicates or {}
    first = [hit.asset_id for hits in folded.values() for hit in hits[:SHOWN_DUPLICATES]]
    with request.workspace.open():
        others = selectors.get_assets(first)
    return [
        card_of(
            asset,
            score=hit.score,
            matched=hit.modality,
            segment=hit.segment,
            highlights=(answer.highlights or {}).get(hit.asset_id, []),
            folded=[others[one.asset_id] for one in folded.get(hit.asset_id, ()) if one.asset_id in others],
            folded_count=len(folded.get(hit.asset_id, ())),
        )
        for asset, hit in answer.results
    ]
