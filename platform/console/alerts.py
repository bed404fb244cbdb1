"""Alerts: what met standing queries, who is told and how often; a search becomes a standing query from here."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Count, Max
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console import problems
from console.access import Request, came_from, needs, page
from console.audits import labels
from console.paging import Page, page_of, parse_id
from console.presenters import AssetCard, actor_names, asset_card, is_veiled
from console.search import kept
from console.search.forms import MAX_ADDRESS, form_of
from ml.media import MediaError
from tenants.accounts.permissions import MODERATE, SEARCH
from tenants.accounts.watchers import by_session
from tenants.datasets import selectors
from tenants.datasets.models import Dataset
from tenants.errors import Invalid
from tenants.moderation.audits import standing as audits
from tenants.moderation.rules.document import DECISIONS
from tenants.retrieval import saved, standing
from tenants.retrieval.models import StandingAlert, StandingQuery

PAGE, QUERIES = 24, 50
# Characters of a passage in a line; standing queries in the list to choose from.
PASSAGE, IN_CHOICE = 240, 200
IDS = 200


@dataclass(frozen=True)
class AlertLine:
    """An alert in the inbox: `passage` is what was found in a text, or said at the moment that fits."""

    row: StandingAlert
    card: AssetCard
    passage: str


@dataclass(frozen=True)
class QueryLine:
    """A standing query in the list. `address`: "" where the search page cannot show what it asks."""

    row: StandingQuery
    words: str
    notes: str
    address: str
    may_change: bool
    made_by: str
    alerts: int = 0
    last: dt.datetime | None = None


# --- The inbox -------------------------------------------------------------------------------------------


@needs(SEARCH, narrowable=("GET",))
def show(request: Request) -> HttpResponse:
    """`?standing_query=` and `?unread=1` narrow it down, `?before=` goes on. A part for the script."""
    who, asked = kept.who_of(request), request.GET
    unread = asked.get("unread") == "1"
    with request.workspace.open():
        chosen = None
        if named := asked.get("standing_query"):
            chosen = standing.get_standing(parse_id(named), who)
        rows = standing.list_alerts(
            who, standing_id=chosen.pk if chosen else None, read=False if unread else None
        )
        if chosen is None:
            rows = rows.filter(standing_query__inbox=True)
        found = page_of(rows.select_related("asset__blob"), asked.get("before", ""), PAGE)
        queries = list(standing.list_standing(who).only("id", "name")[:IN_CHOICE])
        waiting = standing.count_unread(who, 1)
    pairs = [("standing_query", str(chosen.pk))] if chosen else []
    shown = {
        "lines": _lines(request, found),
        "next": found.next,
        "unread": unread,
        "chosen": chosen,
        "queries": queries,
        "waiting": bool(waiting),
        "filters": urlencode([*pairs, *([("unread", "1")] if unread else [])]),
        "first": not asked.get("before"),
    }
    return page(request, "parts/alert_list.html" if problems.wants_part(request) else "alerts.html", shown)


def _lines(request: Request, found: Page) -> list[AlertLine]:
    rows: Sequence[StandingAlert] = found.items
    quoted = [row for row in rows if row.modality and not is_veiled(row.asset)]
    said = standing.passages_of(request.workspace.tenant.id, quoted)
    texts = {row.pk: text for row, text in zip(quoted, said, strict=True)}
    return [
        AlertLine(
            row,
            asset_card(
                row.asset,
                score=row.score,
                relevance=row.relevance,
                matched=row.modality,
                segment=row.segment,
            ),
            Truncator(texts.get(row.pk, "")).chars(PASSAGE),
        )
        for row in rows
    ]


@needs(SEARCH, narrowable=("GET",))
def unread(request: Request) -> HttpResponse:
    """The number in the navigation, for the script."""
    return page(request, "parts/alert_count.html", {"count": count_of(request)})


@needs(SEARCH)
def events(request: Request) -> HttpResponse:
    """Server-Sent Events; the server's edge goes on from this answer (config.edge). Who is narrowed asks instead."""
    watcher = by_session(request.session.session_key or "", request.META.get("REMOTE_ADDR", ""))
    with request.workspace.open():
        body, headers = standing.open_stream(watcher)
    return HttpResponse(body, headers=headers)


def count_of(request: Request) -> str:
    """How many alerts nobody has read, as text; empty for none, and for whom it does not concern."""
    with request.workspace.open():
        return count_here(request)


def count_here(request: Request) -> str:
    """The same, in the tenant's scope."""
    if SEARCH not in request.workspace.scopes:
        return ""
    number = standing.count_unread(kept.who_of(request), MANY + 1)
    return "" if not number else f"{MANY}+" if number > MANY else str(number)


MANY = 99


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def mark(request: Request) -> HttpResponse:
    """These alerts (`alert`, several), or `all`, also of one standing query, as read, or with `read=off` as unread."""
    who, sent = kept.who_of(request), request.POST
    read = sent.get("read") != "off"
    with request.workspace.open():
        if "all" in sent:
            named = sent.get("standing_query")
            only = standing.get_standing(parse_id(named), who).pk if named else None
            number = standing.mark_read(who, standing_id=only)
            told = ngettext("%(n)s alert was marked as read.", "%(n)s alerts were marked as read.", number)
            messages.success(request, told % {"n": number})
        else:
            ids = [found for value in sent.getlist("alert")[:IDS] if (found := parse_id(value))]
            standing.mark_read(who, alert_ids=ids, read=read)
    return redirect(came_from(request, reverse("console:alerts")))


# --- Standing queries ------------------------------------------------------------------------------------


@needs(SEARCH, narrowable=("GET",))
def queries(request: Request) -> HttpResponse:
    """The standing queries: what they ask, what they found, who is told."""
    who = kept.who_of(request)
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
        found = page_of(standing.list_standing(who), request.GET.get("before", ""), QUERIES)
        alerts = standing.list_alerts(who).filter(standing_query__in=found.items).order_by()
        figures = {
            query_id: (number, last)
            for query_id, number, last in alerts.values_list("standing_query")
            .annotate(number=Count("id"), last=Max("created_at"))
            .order_by()
        }
        names = actor_names(row.created_by for row in found.items)
    lines = [_query_line(row, datasets, who, names, *figures.get(row.pk, ())) for row in found.items]
    shown = {"lines": lines, "next": found.next, "decisions": DECISIONS}
    return page(request, "alert_queries.html", shown)


def _query_line(
    row: StandingQuery,
    datasets: list[Dataset],
    who: saved.Who,
    names: dict[str, str],
    alerts: int = 0,
    last: dt.datetime | None = None,
) -> QueryLine:
    words = _("Everything that arrives") if row.filter_only else kept.words_of(row.query)
    notes = kept.notes_of(row.query, datasets)
    if row.of_audits:
        wanted = row.query["audit"]
        words = Truncator(wanted.get("when", "") or _("Audits")).chars(kept.MAX_WORDS)
        decisions = (str(labels.DECISIONS.get(one, one)) for one in wanted.get("decision", ()))
        notes = " · ".join(filter(None, (*decisions, *wanted.get("rules", ()), notes)))
    return QueryLine(
        row,
        words,
        notes,
        "" if row.filter_only else kept.address_of_query(row.query),
        saved.may_change(row, who),
        names.get(row.created_by, ""),
        alerts,
        last,
    )


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def create(request: Request) -> HttpResponse:
    """Of the search of an address, as the results show it, or of a saved search."""
    sent = request.POST
    who = kept.who_of(request)
    if named := sent.get("saved"):
        with request.workspace.open():
            row = saved.get_saved(parse_id(named), who)
        query, name = row.query, row.name
    else:
        address = sent.get("address", "")
        asked = address.partition("?")[2]
        if not asked or len(address) > MAX_ADDRESS:
            raise Invalid(_("This search has no link, so it cannot be kept."), pointer="/address")
        with request.workspace.open():
            datasets = list(selectors.list_datasets())
            query = kept.query_of(form_of(QueryDict(asked)), datasets, None)
        name = sent.get("name", "") or kept.words_of(query)
    try:
        prepared = standing.prepare(tenant_id=request.workspace.tenant.id, query=query)
    except MediaError as error:
        return problems.answer(request, problems.of_media(error))
    except Invalid as error:
        if any(one["pointer"] == "/min_score" for one in error.errors):
            raise Invalid(
                _(
                    "There are too few assets yet to tell what is alike enough. Add some first, or describe it in "
                    "words."
                )
            ) from None
        raise
    with request.workspace.open():
        made = standing.create_standing(who=who, name=name, prepared=prepared)
    told = _("From now on, what arrives and fits “%(name)s” is listed under Alerts.") % {"name": made.name}
    messages.success(request, told, extra_tags=reverse("console:standing-delete", args=[made.pk]))
    return redirect(came_from(request, reverse("console:alerts-queries")))


@needs(MODERATE, methods=("POST",), narrowable=("POST",))
def create_of_audits(request: Request) -> HttpResponse:
    """Of audits with one of these decisions (`decision`, several) by which an expression of policies (`when`) holds."""
    sent = request.POST
    decisions, when = sent.getlist("decision"), sent.get("when", "").strip()
    wanted = {**({"decision": decisions} if decisions else {}), **({"when": when} if when else {})}
    with request.workspace.open():
        prepared = audits.prepare({"audit": wanted})
        made = standing.create_standing(
            who=kept.who_of(request), name=sent.get("name", ""), prepared=prepared
        )
    told = _("From now on, audits that fit “%(name)s” are listed under Alerts.") % {"name": made.name}
    messages.success(request, told, extra_tags=reverse("console:standing-delete", args=[made.pk]))
    return redirect("console:alerts-queries")


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def change(request: Request, standing_id: uuid.UUID) -> HttpResponse:
    """What is sent of `name`, `state`, `muted` (on, off), and, with `delivery`, of who is told and how often."""
    sent = request.POST
    given: dict[str, Any] = {name: sent[name] for name in ("name", "state") if name in sent}
    if "muted" in sent:
        given["muted"] = sent["muted"] == "on"
    if "delivery" in sent:
        given |= {"muted": "webhook" not in sent, "inbox": "inbox" in sent}
        given["frequency"] = sent.get("frequency", "")
    if given.get("state", "active") not in StandingQuery.State.values:
        raise Invalid(_("A standing query is active or paused."), pointer="/state")
    if given.get("frequency", "at_once") not in StandingQuery.Frequency.values:
        raise Invalid(_("Webhooks are told at once or hourly."), pointer="/frequency")
    with request.workspace.open():
        row = standing.change_standing(who=kept.who_of(request), standing_id=standing_id, **given)
    messages.success(request, _("“%(name)s” was changed.") % {"name": row.name})
    return redirect("console:alerts-queries")


@needs(SEARCH, methods=("POST",), narrowable=("POST",))
def delete(request: Request, standing_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        standing.delete_standing(who=kept.who_of(request), standing_id=standing_id)
    messages.success(request, _("The standing query and its alerts were deleted."))
    gone = str(standing_id)
    back = came_from(request, reverse("console:alerts-queries"))
    return redirect(reverse("console:alerts-queries") if gone in back else back)
