"""Searches that are kept: saved under a name, and recent ones: their links, and the forms that change them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib import messages
from django.db.models.functions import Lower
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.http import urlencode
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from console import labels
from console.access import Request, actor_of, needs
from console.search import snippets
from console.search.forms import (
    MAX_ADDRESS,
    SORTS,
    TASK,
    UNFOLDED,
    WEAK,
    WEIGH,
    WEIGHED,
    form_of,
    labels_of,
    read_filter,
    read_query,
    schema_of,
)
from console.search.refinements import GENERATED_WORDS, MAX_ONLY, label_of_filter, read_refinements
from ml.media import MediaError
from tenants.accounts.permissions import MODERATE, SEARCH
from tenants.datasets import selectors
from tenants.datasets.models import Dataset
from tenants.errors import Busy, Invalid
from tenants.retrieval import query_pictures, saved
from tenants.retrieval.models import SavedSearch

# In the menu beside the words; and characters of a query's words in a line.
IN_MENU, MAX_WORDS = 8, 80

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A search in a list. `notes`: what it is narrowed to; `address`: "" where only the API can ask it.

    `row` where it is saved, and whether who looks `may_change` it. `picture`: the id of one that was sent.
    """

    label: str
    notes: str
    address: str
    row: SavedSearch | None = None
    may_change: bool = False
    picture: str = ""


def who_of(request: Request) -> saved.Who:
    """Whoever looks. An operator who acts is no member: what they save is shared."""
    workspace = request.workspace
    return saved.Who(
        actor_of(request).label,
        workspace.member_id,
        workspace.role == "owner" and not workspace.acting,
        MODERATE in workspace.scopes,
    )


def lines_of(
    request: Request, datasets: list[Dataset], most: int = saved.MOST_SAVED
) -> dict[str, list[Line]]:
    """Saved searches by name and recent ones, the latest first; `most` of each. In the tenant's scope."""
    who = who_of(request)
    rows = saved.list_saved(who).order_by(Lower("name"), "id")[:most]
    recent = saved.list_recent(who.member_id) if who.member_id is not None else []
    return {
        "saved": [_line(row.name, row.query, datasets, row, saved.may_change(row, who)) for row in rows],
        "recent": [_line(words_of(row.query), row.query, datasets) for row in recent[:most]],
    }


def _line(
    label: str,
    query: Body,
    datasets: list[Dataset],
    row: SavedSearch | None = None,
    may_change: bool = False,
) -> Line:
    picture = (query.get("image") or {}).get("file", "")
    return Line(label, notes_of(query, datasets), address_of_query(query), row, may_change, str(picture))


def find_saved(who: saved.Who, typed: str, most: int) -> list[SavedSearch]:
    """Those that have these words in their name. In the tenant's scope."""
    return list(saved.list_saved(who).filter(name__icontains=typed)[:most])


def words_of(query: Body) -> str:
    """What is looked for, in a few words."""
    if text := query.get("text", "").strip():
        return Truncator(text).chars(MAX_WORDS)
    return str(
        _("A picture") if query.get("image") else _("Like an asset") if query.get("like") else _("Search")
    )


def notes_of(query: Body, datasets: list[Dataset]) -> str:
    """What a search is narrowed to, in words."""
    names = {str(one.id): one.name for one in datasets}
    keys = labels_of(datasets)
    unlike = query.get("unlike") or {}
    parts = [
        *(names.get(str(one), _("a deleted dataset")) for one in query.get("datasets") or ()),
        *(str(labels.MODALITIES.get(one, one)) for one in query.get("modalities") or ()),
        *(label_of_filter(one, keys) for one in _choices(query)),
        *([_("not “%(words)s”") % {"words": unlike["text"]}] if unlike.get("text") else []),
        *([GENERATED_WORDS[query["generated"]]] if query.get("generated") in GENERATED_WORDS else []),
        *([dict(SORTS)[query["sort"]]] if query.get("sort") in dict(SORTS) else []),
        *([_("weaker matches, too")] if query.get("min_relevance") == 0 else []),
    ]
    return Truncator(" · ".join(map(str, parts))).chars(2 * MAX_WORDS)


# --- As an address ---------------------------------------------------------------------------------------

# What the page has no place for.
ONLY_API = ("vector", "audio", "video", "exact")


def address_of_query(query: Body) -> str:
    """Where the search page shows it; "" for what only the API can ask.

    The page asks for what is likely or for everything: another `min_relevance` than 0 is the line there.
    """
    if any(query.get(part) for part in ONLY_API):
        return ""
    return f"{reverse('console:search')}?{urlencode(list(_pairs(query)))}"


def _pairs(query: Body) -> Iterator[tuple[str, str]]:
    like, unlike = query.get("like") or {}, query.get("unlike") or {}
    image = query.get("image") or {}
    single = (("q", query.get("text")), ("asset", image.get("asset")), ("file", image.get("file")))
    yield from ((name, value) for name, value in single if value)
    weights = {part: value for part, value in (query.get("weights") or {}).items() if part in WEIGHED}
    if weights:
        yield WEIGH, "on"
        most = max(1.0, *weights.values())
        yield from ((f"weight_{part}", str(round(100 * value / most))) for part, value in weights.items())
    yield from (("like", str(one)) for one in like.get("assets") or ())
    yield from (("unlike", str(one)) for one in unlike.get("assets") or ())
    yield from (("only", one) for one in _choices(query))
    if query.get("generated") in GENERATED_WORDS:
        yield "generated", query["generated"]
    if unlike.get("text"):
        yield "unlike_text", unlike["text"]
    yield from (("modality", one) for one in query.get("modalities") or ())
    yield from (("dataset", str(one)) for one in query.get("datasets") or ())
    if query.get("task", TASK) != TASK:
        yield "task", query["task"]
    if query.get("hybrid"):
        yield "hybrid", "on"
    if query.get("group") != "duplicates":
        yield "group", UNFOLDED
    if query.get("min_relevance") == 0:
        yield WEAK, "on"
    if query.get("sort") in dict(SORTS):
        yield "sort", query["sort"]


def _choices(query: Body) -> list[str]:
    """The filter as the choices of the page, one key each. Several values of a key are chosen one by one."""
    given = query.get("filter") or {}
    conditions = {key: one if isinstance(one, dict) else {"eq": one} for key, one in given.items()}
    whole = [{key: one} for key, one in conditions.items()]
    single = [
        {key: {"eq": value}} if set(one) == {"in"} else {key: one}
        for key, one in conditions.items()
        for value in (one["in"] if set(one) == {"in"} else [None])
    ]
    return [
        json.dumps(one, sort_keys=True, ensure_ascii=False)
        for one in (single if len(single) <= MAX_ONLY else whole)
    ]


# --- Changing them ---------------------------------------------------------------------------------------


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def save(request: Request) -> HttpResponse:
    """Keep the search of an address under a name, and show it again."""
    address = request.POST.get("address", "")
    asked = address.partition("?")[2]
    if not asked or len(address) > MAX_ADDRESS:
        raise Invalid(_("This search has no link, so it cannot be saved."), pointer="/address")
    with request.workspace.open():
        query = query_of(form_of(QueryDict(asked)), list(selectors.list_datasets()), _read_line(request.POST))
        row = saved.save_search(
            who=who_of(request),
            name=request.POST.get("name", ""),
            query=query,
            shared=request.POST.get("shared") == "on",
        )
    messages.success(request, _("Saved as “%(name)s”.") % {"name": row.name})
    return redirect(f"{reverse('console:search')}?{asked}")


def query_of(form: QueryDict, datasets: list[Dataset], line: float | None) -> dict[str, Any]:
    """What the form asks for as a body of the API. Raises Invalid, NotFound."""
    refined = read_refinements(form)
    searched = [one for one in datasets if str(one.id) in form.getlist("dataset")] or datasets
    schema = schema_of(searched)
    query = read_query(form, MultiValueDict(), schema, refined)
    if query.worth_showing:
        query.min_relevance = line
    merged = snippets.merge([read_filter(form, schema), *refined.filters()])
    if merged is None:
        raise Invalid(_("Two conditions on the same field contradict each other: remove one."), "/key")
    return snippets.body_of(query, query.text, merged)


def _read_line(form: QueryDict) -> float | None:
    """The relevance from which on the results were shown, as the page of them says."""
    try:
        value = float(form.get("line", ""))
    except ValueError:
        return None
    return value if 0 < value <= 1 else None


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def rename(request: Request, saved_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = saved.change_saved(
            who=who_of(request),
            saved_id=saved_id,
            name=request.POST.get("name", ""),
            shared=request.POST.get("shared") == "on",
        )
    messages.success(request, _("Saved as “%(name)s”.") % {"name": row.name})
    return redirect("console:search")


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def delete(request: Request, saved_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        saved.delete_saved(who=who_of(request), saved_id=saved_id)
    messages.success(request, _("The saved search was deleted."))
    return redirect("console:search")


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def clear_recent(request: Request) -> HttpResponse:
    member = request.workspace.member_id
    with request.workspace.open():
        if member is not None:
            saved.clear_recent(member)
    messages.success(request, _("Your recent searches were cleared."))
    return redirect("console:search")


def note(request: Request, query: Body | None) -> None:
    """Keep it as the latest search of who looks, where that is a member."""
    member = request.workspace.member_id
    if member is not None and query:
        with request.workspace.open():
            saved.note_recent(member_id=member, query=query)


def keep_picture(request: Request, path: Path) -> uuid.UUID | None:
    """The id under which a picture that was sent is kept, of members; None where it is not."""
    if request.workspace.member_id is None:
        return None
    # It was searched by already, which is what was asked for.
    with suppress(Busy, MediaError):
        return query_pictures.keep(request.workspace.tenant.id, path, actor=actor_of(request).label)
    return None


@needs(SEARCH, narrowable=("GET",))
def picture(request: Request, query_id: uuid.UUID) -> HttpResponse:
    """A picture that is searched by, small."""
    content = query_pictures.small_of(request.workspace.tenant.id, query_id)
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache",
    }
    return HttpResponse(content, content_type="image/jpeg", headers=headers)


def menu_of(lines: Mapping[str, list[Line]]) -> dict[str, list[Line]]:
    """What the menu has room for, of what can be opened."""
    return {name: [line for line in some if line.address][:IN_MENU] for name, some in lines.items()}
