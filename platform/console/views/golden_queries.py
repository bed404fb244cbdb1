"""Golden queries: what a tenant knows the right answers to, and what a search finds for a new one."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.cards import Card, card_of
from console.learning_forms import GoldenForm
from console.paging import page_of, parse_id
from tenants.accounts.permissions import READ, TRAIN
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.errors import ServiceError
from tenants.learning import golden, selectors
from tenants.learning.models import GoldenQuery
from tenants.retrieval.search import Query, search

PAGE = 25
FOUND = 12
# Of the right answers of a query in the list; the others are counted.
SHOWN_ANSWERS = 6


@needs(READ)
def index(request: Request) -> HttpResponse:
    """All of them; with `?q=` or `?asset=` also what is found for a new one, to be ticked."""
    typed = {"text": request.GET.get("q", "").strip(), "asset": request.GET.get("asset", "").strip()}
    form = GoldenForm(initial=typed)
    return _index(request, form, is_open=any(typed.values()))


def _index(request: Request, form: GoldenForm, status: int = 200, *, is_open: bool = False) -> HttpResponse:
    with request.workspace.open():
        found = page_of(selectors.list_golden(), request.GET.get("before", ""), PAGE)
        lines = _lines(found.items)
    cards, problem = _cards(request, form) if is_open and _may_add(request) else ([], None)
    context = {
        "lines": lines,
        "next": found.next,
        "form": form,
        "is_open": is_open,
        "cards": cards,
        "problem": problem,
        "asked": bool(form["text"].value() or form["asset"].value()),
        "ticked": form.ticked,
    }
    return page(request, "golden_queries.html", context, status=status)


def _lines(rows: list[GoldenQuery]) -> list[dict[str, Any]]:
    answers = selectors.answers_of(row.id for row in rows)
    first = [one for found in answers.values() for one in found[:SHOWN_ANSWERS]]
    assets = get_assets([*first, *(row.asset_id for row in rows if row.asset_id)])
    return [
        {
            "row": row,
            "asset": assets.get(row.asset_id) if row.asset_id else None,
            "answers": [assets[one] for one in answers[row.id][:SHOWN_ANSWERS] if one in assets],
            "count": len(answers[row.id]),
        }
        for row in rows
    ]


def _may_add(request: Request) -> bool:
    return {"train", "search"} <= request.workspace.scopes


def _cards(request: Request, form: GoldenForm) -> tuple[list[Card], ServiceError | None]:
    """What is found now for the words or the picture of the form; why nothing, where that is refused."""
    text, picture = str(form["text"].value() or ""), parse_id(str(form["asset"].value() or ""))
    if not text and picture is None:
        return [], None
    query = Query(text="" if picture else text[: golden.MAX_TEXT], image_asset=picture, top_k=FOUND)
    try:
        answer = search(tenant_id=request.workspace.tenant.id, query=query)
    except ServiceError as error:
        return [], error
    return [_card(asset, hit) for asset, hit in answer.results if asset.id != picture], None


def _card(asset: Asset, hit: Any) -> Card:
    return card_of(asset, score=hit.score, matched=hit.modality, segment=hit.segment)


@needs(TRAIN, methods=("POST",))
def add(request: Request) -> HttpResponse:
    form = GoldenForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        try:
            with request.workspace.open():
                golden.add_golden_query(
                    text=given["text"],
                    asset_id=given["asset"],
                    relevant=given["relevant"],
                    actor=actor_of(request).label,
                )
            messages.success(request, _("The golden query was added."))
            return redirect("console:models-golden")
        except ServiceError as error:
            form.refuse(error)
    return _index(request, form, 422, is_open=True)


@needs(TRAIN, methods=("POST",))
def remove(request: Request, golden_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.get_golden(golden_id)
        golden.delete_golden_query(golden_id=golden_id, actor=actor_of(request).label)
    messages.success(request, _("The golden query was removed."))
    return redirect("console:models-golden")
