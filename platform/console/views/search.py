"""Searching by words, picture or voice."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from console import problems
from console.access import Request, needs, page
from console.asking import OPERATORS, read_query, schema_of
from console.cards import card_of
from console.paging import parse_id
from ml.media import MediaError
from tenants.accounts.permissions import SEARCH
from tenants.datasets import selectors
from tenants.datasets.models import Asset
from tenants.retrieval.search import Answer, search

SHOWN_MODALITIES = tuple(Asset.Modality)


@needs(SEARCH)
def show(request: Request) -> HttpResponse:
    """The form; `?q=` and `?asset=` fill it in and search at once."""
    asset_id = parse_id(request.GET.get("asset", ""))
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        asset = selectors.get_asset(asset_id) if asset_id else None
    context = {
        "datasets": datasets,
        "schema": schema_of(datasets),
        "operators": OPERATORS,
        "modalities": SHOWN_MODALITIES,
        "chosen": request.GET.getlist("dataset"),
        "text": request.GET.get("q", ""),
        "asset": asset,
    }
    return page(request, "search.html", context)


@needs(SEARCH, methods=("POST",))
def results(request: Request) -> HttpResponse:
    with request.workspace.open():
        schema = schema_of(list(selectors.list_datasets()))
    query = read_query(request, schema)
    try:
        # Opens its own short scopes: none is held while models run.
        answer = search(tenant_id=request.workspace.tenant.id, query=query)
    except MediaError as error:
        return problems.answer(request, problems.of_media(error))
    template = "parts/more_results.html" if query.cursor else "parts/results.html"
    return page(request, template, _shown(answer))


def _shown(answer: Answer) -> dict[str, Any]:
    cards = [
        card_of(asset, score=hit.score, matched=hit.modality, segment=hit.segment)
        for asset, hit in answer.results
    ]
    return {"cards": cards, "next": answer.next, "meta": answer.meta}
