"""Searching: the page, its results, and what people say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from console import problems
from console.access import Request, actor_of, needs, page
from console.paging import parse_id
from console.presenters import AssetCard, asset_card
from console.search import snippets
from console.search.forms import (
    FOLD,
    OPERATORS,
    TASK,
    WEIGHED,
    address_of,
    form_of,
    is_asked,
    labels_of,
    read_filter,
    read_query,
    read_rows,
    read_weights,
    schema_of,
)
from console.search.refinements import Chip, Refinements, chips_of, groups_of, read_refinements
from ml.media import MediaError
from tenants.accounts.permissions import SEARCH, WRITE
from tenants.datasets import selectors
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.retrieval import Answer, Query, computed_fields, search
from tenants.retrieval import query as retrieval_query
from tenants.retrieval.models import Feedback

SHOWN_MODALITIES = tuple(Asset.Modality)

# Of a result's duplicates; the others are counted.
SHOWN_DUPLICATES = 6


@needs(SEARCH, narrowable=("GET",))
def show(request: Request) -> HttpResponse:
    """The form, with what is found for the address: `?q=`, `?asset=`, `?like=`, and what narrows it down."""
    return _full_page(request, form_of(request.GET))


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def results(request: Request) -> HttpResponse:
    """A part for the script; without one the address of the search, or the whole page for what has none."""
    form = request.POST
    if not problems.wants_part(request):
        return _without_script(request, form)
    refined = read_refinements(form)
    try:
        found = _results_context(request, form, refined)
    except MediaError as error:
        return problems.answer(request, problems.of_media(error))
    return page(request, "parts/more_results.html" if form.get("cursor") else "parts/results.html", found)


def _without_script(request: Request, form: QueryDict) -> HttpResponse:
    if not request.FILES and not form.get("cursor"):
        address = address_of(form, read_refinements(form), form.get("text", "").strip())
        if address:
            return redirect(address)
    return _full_page(request, form)


def _full_page(request: Request, form: QueryDict) -> HttpResponse:
    """The page; what is wrong with a search stands above its form."""
    refined, found, problem = Refinements(), {"idle": True}, None
    try:
        refined = read_refinements(form)
        if is_asked(form, request.FILES, refined):
            found = _results_context(request, form, refined)
    except MediaError as error:
        problem = problems.of_media(error)
    except ServiceError as error:
        problem = error
    context = {**_form_context(request, form, refined), **found, "whole": True, "problem": problem}
    return page(request, "search.html", context, status=problem.status if problem else 200)


def _form_context(request: Request, form: QueryDict, refined: Refinements) -> dict[str, Any]:
    """What the form shows."""
    picture = parse_id(form.get("image_asset", ""))
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        asset = selectors.get_assets([picture]).get(picture) if picture else None
        chips = _chips(refined, datasets)
        classifiers = computed_fields.answering()
        own = list(retrieval_query.list_tasks()[: retrieval_query.MAX_TASKS])
    return {
        "tasks": [*retrieval_query.BUILT_IN.values(), *own],
        "task": form.get("task", "") or TASK,
        "datasets": datasets,
        "schema": schema_of(datasets),
        "operators": OPERATORS,
        "modalities": SHOWN_MODALITIES,
        "text": form.get("text", ""),
        "unlike_text": form.get("unlike_text", ""),
        "chosen": form.getlist("dataset"),
        "kinds": form.getlist("modality"),
        "classifiers": [(one, f"{one}:yes", f"{one}:no") for one in classifiers],
        "answers": form.getlist("classifier"),
        "rows": read_rows(form) or [("", "", "")],
        "fold": form.get("group") == FOLD,
        "hybrid": "hybrid" in form,
        "asset": asset,
        "chips": chips,
    }


def _chips(refined: Refinements, datasets: list[Dataset]) -> list[Chip]:
    return chips_of(refined, selectors.get_assets(refined.asset_ids), labels_of(datasets))


# --- What was found --------------------------------------------------------------------------------------


def _results_context(request: Request, form: QueryDict, refined: Refinements) -> dict[str, Any]:
    """Raises Invalid, NotFound, CursorExpired, IndexRebuilding and MediaError."""
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        chips = _chips(refined, datasets)
    if "drop" in form and not is_asked(form, request.FILES, refined):
        return {"idle": True, "chips": chips, "address": address_of(form, refined, "")}
    _require_examples(chips)
    searched = [one for one in datasets if str(one.id) in form.getlist("dataset")] or datasets
    schema = schema_of(searched)
    query = read_query(form, request.FILES, schema, refined)
    # Opens its own short scopes: none is held while models run.
    answer = search(tenant_id=request.workspace.tenant.id, query=query)
    meta = answer.meta
    counted = groups_of(meta.get("facets", {}), labels_of(datasets), refined.only, meta["total_candidates"])
    # What was heard becomes words in the box.
    words = " ".join(filter(None, (query.text, meta.get("transcript", ""))))
    return {
        "cards": _cards(request, answer),
        "next": answer.next,
        "meta": meta,
        "search_id": answer.search_id,
        "left_out": answer.left_out,
        "named": any(hit.by for _asset, hit in answer.results),
        "why": answer.why if len(meta.get("weights", ())) > 1 else None,
        "groups": counted,
        "fused": query.hybrid or bool(query.cursor and "hybrid" in form),
        "chips": chips,
        "address": "" if query.image or query.cursor else address_of(form, refined, words),
        "sliders": _sliders(meta.get("weights", {})),
        "weigh": bool(read_weights(form)),
        "code": None
        if query.cursor
        else _code(request, query, words, [read_filter(form, schema), *refined.filters()]),
        "unlinked": bool(query.image),
        "keep_in": datasets if query.image and WRITE in request.workspace.scopes else [],
        "origin": request.build_absolute_uri("/")[:-1],
    }


def _sliders(weights: dict[str, float]) -> list[tuple[str, int]]:
    """The parts that can be weighed against each other, with their weights in per cent."""
    if "audio" in weights:
        weights = {**weights, "text": weights.get("text", 0) + weights["audio"]}
    found = [(part, round(100 * weights[part])) for part in WEIGHED if part in weights]
    return found if len(found) > 1 else []


def _code(request: Request, query: Query, words: str, given: list[Any]) -> snippets.Snippets | None:
    url = request.build_absolute_uri(snippets.PATH)
    return snippets.snippets_of(url=url, query=query, words=words, filters=given)


def _require_examples(chips: Sequence[Chip]) -> None:
    if any(chip.asset is None for chip in chips if chip.name in ("like", "unlike")):
        raise NotFound(_("An example is gone. Take it away and search again."))


def _cards(request: Request, answer: Answer) -> list[AssetCard]:
    folded = answer.duplicates or {}
    first = [hit.asset_id for hits in folded.values() for hit in hits[:SHOWN_DUPLICATES]]
    with request.workspace.open():
        others = selectors.get_assets(first)
    return [
        asset_card(
            asset,
            score=hit.score,
            matched=hit.modality,
            by=hit.by,
            segment=hit.segment,
            highlights=(answer.highlights or {}).get(hit.asset_id, []),
            folded=[others[one.asset_id] for one in folded.get(hit.asset_id, ()) if one.asset_id in others],
            folded_count=len(folded.get(hit.asset_id, ())),
        )
        for asset, hit in answer.results
    ]


MAX_WORDS = 200


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def give_feedback(request: Request) -> HttpResponse:
    """Keep it; answers the judgement as the tile shows it, and nothing for a click."""
    search_id, asset_id = (parse_id(request.POST.get(name, "")) for name in ("search", "asset"))
    kind = request.POST.get("kind", "")
    if search_id is None or asset_id is None:
        raise NotFound(_("There is no such result."))
    if kind not in Feedback.Kind.values:
        raise Invalid(_("A result is relevant, irrelevant, or was opened."), pointer="/kind")
    # In no scope, as it asks Valkey.
    trace = retrieval_query.trace_of_search(request.workspace.tenant.id, search_id)
    with request.workspace.open():
        retrieval_query.record_feedback(
            search_id=search_id, trace=trace, asset_id=asset_id, kind=kind, actor=actor_of(request).label
        )
    if kind == Feedback.Kind.CLICK:
        return HttpResponse(status=204)
    if not problems.wants_part(request):
        messages.success(request, _("Thank you: the judgement is kept."))
        return redirect(_back(request))
    words = request.POST.get("words", "")[:MAX_WORDS]
    shown = {"search_id": search_id, "asset_id": asset_id, "kind": kind, "words": words}
    return page(request, "parts/judged.html", shown)


def _back(request: Request) -> str:
    """To the results, where the browser says which page it came from."""
    came_from = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(came_from, {request.get_host()}, request.is_secure())
    return came_from if came_from and is_ours else "console:search"
