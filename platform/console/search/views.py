"""Searching: the page, its results, and what people say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console import problems
from console.access import Request, actor_of, came_from, needs, page
from console.datasets.presenters import rows_of
from console.paging import parse_id
from console.presenters import AssetCard, asset_card, is_veiled
from console.search import kept, snippets
from console.search.forms import (
    FOLD,
    OPERATORS,
    SORTS,
    TASK,
    WEIGHED,
    Schema,
    address_of,
    form_of,
    is_asked,
    labels_of,
    read_filter,
    read_query,
    read_rows,
    read_weights,
    schema_of,
    shows_weak,
)
from console.search.refinements import Chip, Refinements, chips_of, groups_of, read_refinements
from ml.media import MediaError
from tenants.accounts.permissions import SEARCH, WRITE
from tenants.datasets import selectors
from tenants.datasets.metadata import MAX_KEY
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.learning import result_labels
from tenants.retrieval import Answer, Query, computed_fields, search
from tenants.retrieval import query as retrieval_query
from tenants.retrieval.models import Feedback

SHOWN_MODALITIES = tuple(Asset.Modality)

# Of a result's duplicates; the others are counted.
SHOWN_DUPLICATES = 6

GRID, LIST = "grid", "list"

VIEWS = (GRID, LIST)

# Of metadata in the list, and those that are shown before anybody chose.
MAX_COLUMNS, USUAL_COLUMNS = 6, 3

SESSION_KEY = "search_list"


@dataclass(frozen=True)
class Layout:
    """How results are looked at: as tiles or lines, close together or not, and keys of metadata as columns.

    `columns` is None until somebody chose some.
    """

    view: str = GRID
    dense: bool = False
    columns: tuple[str, ...] | None = None

    def shown(self, schema: Schema) -> list[str]:
        """The columns of these that results can have."""
        usual = list(schema)[:USUAL_COLUMNS]
        return usual if self.columns is None else [key for key in self.columns if key in schema]


@dataclass(frozen=True)
class Line:
    """A result as a line of the list: with the name of its dataset, and the columns with its values."""

    card: AssetCard
    dataset: str
    cells: list[tuple[str, str]]


@needs(SEARCH, narrowable=("GET",))
def show(request: Request) -> HttpResponse:
    """The form, with what is found for the address: `?q=`, `?asset=`, `?like=`, and what narrows it down."""
    _layout(request, request.GET)
    return _full_page(request, form_of(request.GET))


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def results(request: Request) -> HttpResponse:
    """A part for the script; without one the address of the search, or the whole page for what has none."""
    form = request.POST
    _layout(request, form)
    if not problems.wants_part(request):
        return _without_script(request, form)
    refined = read_refinements(form)
    try:
        found = _results_context(request, form, refined)
    except MediaError as error:
        return problems.answer(request, problems.of_media(error))
    if not form.get("cursor"):
        return page(request, "parts/results.html", found)
    more = "parts/more_rows.html" if found["layout"].view == LIST else "parts/more_results.html"
    return page(request, more, found)


def _layout(request: Request, form: QueryDict) -> Layout:
    """As the form says, else as it was left; what it says is remembered."""
    kept = request.session.get(SESSION_KEY) or {}
    view, dense, columns = kept.get("view"), kept.get("dense", False), kept.get("columns")
    if form.get("view") in VIEWS:
        view = form["view"]
    if form.get("dense") in ("on", "off"):
        dense = form["dense"] == "on"
    if "choose" in form:
        columns = [key for key in form.getlist("column") if len(key) <= MAX_KEY][:MAX_COLUMNS]
    now = {"view": view if view in VIEWS else GRID, "dense": dense, "columns": columns}
    # Only a change: a session that is written ends up in the database.
    if now != {"view": GRID, "dense": False, "columns": None, **kept}:
        request.session[SESSION_KEY] = now
    return Layout(now["view"], dense, None if columns is None else tuple(columns))


def _without_script(request: Request, form: QueryDict) -> HttpResponse:
    if not request.FILES and not form.get("cursor"):
        address = address_of(form, read_refinements(form), form.get("text", "").strip())
        if address:
            return redirect(address)
    return _full_page(request, form)


def _full_page(request: Request, form: QueryDict) -> HttpResponse:
    """The page; what is wrong with a search stands above its form."""
    refined, problem = Refinements(), None
    found: dict[str, Any] = {"idle": True}
    try:
        refined = read_refinements(form)
        if is_asked(form, request.FILES, refined):
            found = _results_context(request, form, refined)
    except MediaError as error:
        problem = problems.of_media(error)
    except ServiceError as error:
        problem = error
    if request.FILES and found.get("file") and found["address"]:
        # Reloaded, the page sends no picture again.
        return redirect(found["address"])
    context = {**_form_context(request, form, refined), **found, "whole": True, "problem": problem}
    if "menu" not in context:
        context |= _kept_context(request, context["datasets"], whole=True)
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
        "nothing_here": not datasets,
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
        "file": parse_id(form.get("file", "")),
        "chips": chips,
    }


def _kept_context(request: Request, datasets: list[Dataset], *, whole: bool) -> dict[str, Any]:
    """Searches to come back to: `whole`, all of them where nothing is searched; else some, for the menu."""
    with request.workspace.open():
        lines = kept.lines_of(request, datasets, *(() if whole else (2 * kept.IN_MENU,)))
    return {**(lines if whole else {}), "menu": kept.menu_of(lines)}


def _chips(refined: Refinements, datasets: list[Dataset]) -> list[Chip]:
    return chips_of(refined, selectors.get_assets(refined.asset_ids), labels_of(datasets))


# --- What was found --------------------------------------------------------------------------------------


def _results_context(request: Request, form: QueryDict, refined: Refinements) -> dict[str, Any]:
    """Raises Invalid, NotFound, CursorExpired, IndexRebuilding and MediaError."""
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        chips = _chips(refined, datasets)
    if "drop" in form and not is_asked(form, request.FILES, refined):
        idle = {"idle": True, "chips": chips, "address": address_of(form, refined, "")}
        return {**idle, **_kept_context(request, datasets, whole=True)}
    _require_examples(chips)
    searched = [one for one in datasets if str(one.id) in form.getlist("dataset")] or datasets
    schema = schema_of(searched)
    query = read_query(form, request.FILES, schema, refined)
    # Opens its own short scopes: none is held while models run.
    answer = search(tenant_id=request.workspace.tenant.id, query=query)
    meta = answer.meta
    total = meta["total_candidates"] if answer.counted is None else answer.counted
    counted = groups_of(meta.get("facets", {}), labels_of(datasets), refined.only, total)
    line = meta.get("relevance_line")
    if query.worth_showing:
        query = replace(query, min_relevance=line)
    # What was heard becomes words in the box.
    words = " ".join(filter(None, (query.text, meta.get("transcript", ""))))
    sent = query.image is not None
    if query.image is not None:
        query.image_file = kept.keep_picture(request, query.image)
        form = form.copy()
        form["file"] = str(query.image_file or "")
    unlinked = sent and query.image_file is None
    body = None if query.cursor else _body(query, words, [read_filter(form, schema), *refined.filters()])
    if not unlinked:
        kept.note(request, body)
    layout = _layout(request, QueryDict())
    columns = layout.shown(schema)
    cards = _cards(request, answer)
    return {
        **({} if query.cursor else _kept_context(request, datasets, whole=False)),
        "layout": layout,
        "columns": columns,
        "column_labels": [labels_of(datasets).get(key, key) for key in columns],
        "keys": schema,
        "lines": _lines(cards, datasets, columns) if layout.view == LIST else [],
        "sorts": SORTS,
        "sort": query.sort,
        "most_columns": MAX_COLUMNS,
        "line": line,
        "name": kept.words_of(body) if body else "",
        "cards": cards,
        "next": answer.next,
        "meta": meta,
        "search_id": answer.search_id,
        "left_out": answer.left_out,
        "named": any(hit.by for _asset, hit in answer.results),
        **_labels(request, answer, _labelled_words(form, query)),
        "why": answer.why if len(meta.get("weights", ())) > 1 else None,
        "groups": counted,
        "fused": query.hybrid or bool(query.cursor and "hybrid" in form),
        "chips": chips,
        "address": "" if unlinked or query.cursor else address_of(form, refined, words),
        "file": query.image_file,
        # Of further pages nothing is said: what they leave out was told on the first.
        "weak": shows_weak(form) and line is not None,
        "hides_weak": query.worth_showing and line is not None and not query.cursor,
        "sliders": _sliders(meta.get("weights", {})),
        "weigh": bool(read_weights(form)),
        "code": _code(request, query, body),
        "unlinked": unlinked,
        "keep_in": datasets if (sent or query.image_file) and WRITE in request.workspace.scopes else [],
        "origin": request.build_absolute_uri("/")[:-1],
    }


def _lines(cards: Sequence[AssetCard], datasets: list[Dataset], columns: Sequence[str]) -> list[Line]:
    names = {one.id: one.name for one in datasets}
    rows = rows_of([card.asset for card in cards], columns)
    return [
        Line(card, names.get(card.asset.dataset_id, ""), [] if is_veiled(card.asset) else row.cells)
        for card, row in zip(cards, rows, strict=True)
    ]


def _labelled_words(form: QueryDict, query: Query) -> str:
    """The words for which results are labelled; none where something else asked as well, or they are too long."""
    if query.cursor:
        return form.get(LABELLED, "")[: result_labels.MAX_TEXT]
    pictures = (query.image, query.image_file, query.image_asset)
    asks = (*pictures, query.audio, query.like, query.unlike, query.unlike_text)
    return query.text if not any(asks) and len(query.text) <= result_labels.MAX_TEXT else ""


def _labels(request: Request, answer: Answer, words: str) -> dict[str, Any]:
    """What this person and others said of what is shown. In no scope."""
    if "\x00" in words:
        words = ""
    with request.workspace.open():
        shown = [asset.id for asset, _hit in answer.results]
        standings = result_labels.standings_of(words, shown, actor_of(request).label)
    return {"labelled": words, "standings": standings}


def _sliders(weights: dict[str, float]) -> list[tuple[str, int]]:
    """The parts that can be weighed against each other, with their weights in per cent."""
    if "audio" in weights:
        weights = {**weights, "text": weights.get("text", 0) + weights["audio"]}
    found = [(part, round(100 * weights[part])) for part in WEIGHED if part in weights]
    return found if len(found) > 1 else []


def _body(query: Query, words: str, given: list[snippets.Filter]) -> dict[str, Any] | None:
    """The search as the API takes it; None where it cannot say the same."""
    merged = snippets.merge(given)
    return None if merged is None else snippets.body_of(query, words, merged)


def _code(request: Request, query: Query, body: dict[str, Any] | None) -> snippets.Snippets | None:
    if body is None:
        return None
    url = request.build_absolute_uri(snippets.PATH)
    with_file = query.image is not None or query.image_file is not None
    # A program outlives what is kept here of the picture.
    asked = {name: value for name, value in body.items() if name != "image" or not with_file}
    return snippets.snippets_of(url=url, body=asked, with_file=with_file)


def _require_examples(chips: Sequence[Chip]) -> None:
    if any(chip.asset is None for chip in chips if chip.name in ("like", "unlike")):
        raise NotFound(_("An example no longer exists. Remove it and search again."))


def _cards(request: Request, answer: Answer) -> list[AssetCard]:
    folded = answer.duplicates or {}
    first = [hit.asset_id for hits in folded.values() for hit in hits[:SHOWN_DUPLICATES]]
    with request.workspace.open():
        others = selectors.get_assets(first)
    return [
        asset_card(
            asset,
            score=hit.score,
            relevance=hit.relevance,
            matched=hit.modality,
            by=hit.by,
            segment=hit.segment,
            highlights=(answer.highlights or {}).get(hit.asset_id, []),
            folded=[others[one.asset_id] for one in folded.get(hit.asset_id, ()) if one.asset_id in others],
            folded_count=len(folded.get(hit.asset_id, ())),
            passage=answer.passages.get(hit.asset_id, ""),
        )
        for asset, hit in answer.results
    ]


MAX_WORDS = 200

#: The words of a search on its further pages, and with a judgement.
LABELLED = "labelled"


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def give_feedback(request: Request) -> HttpResponse:
    """Keep it; answers the judgement as the tile shows it, and nothing for a click."""
    search_id, asset_id = (parse_id(request.POST.get(name, "")) for name in ("search", "asset"))
    kind = request.POST.get("kind", "")
    if search_id is None or asset_id is None:
        raise NotFound(_("This result does not exist."))
    if kind not in Feedback.Kind.values:
        raise Invalid(_("A result is relevant, irrelevant, or was opened."), pointer="/kind")
    # In no scope, as it asks Valkey.
    trace = retrieval_query.trace_of_search(request.workspace.tenant.id, search_id)
    actor, asked = actor_of(request).label, request.POST.get(LABELLED, "").strip()
    with request.workspace.open():
        retrieval_query.record_feedback(
            search_id=search_id, trace=trace, asset_id=asset_id, kind=kind, actor=actor
        )
        if asked and kind != Feedback.Kind.CLICK:
            right = kind == Feedback.Kind.RELEVANT
            result_labels.label_result(text=asked, asset_id=asset_id, right=right, actor=actor)
        standing = result_labels.standings_of(asked, [asset_id], actor).get(asset_id)
    if kind == Feedback.Kind.CLICK:
        return HttpResponse(status=204)
    if not problems.wants_part(request):
        messages.success(request, _("Thank you. Your feedback was saved."))
        return redirect(came_from(request, "console:search"))
    words = request.POST.get("words", "")[:MAX_WORDS]
    shown = {"search_id": search_id, "asset_id": asset_id, "kind": kind, "words": words}
    shown |= {"labelled": asked, "standing": standing}
    return page(request, "parts/judged.html", shown)
