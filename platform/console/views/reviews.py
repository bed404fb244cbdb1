"""Reviews: the queue, one flag with its item, what people decide, and taking that back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.audit_sheet import rules_of, sheet_of
from console.audit_words import DECISIONS
from console.moderation_forms import DecideForm, UndoForm
from console.paging import page_of
from console.people_names import names_of
from console.views.audits import kept_content
from tenants.accounts.permissions import MODERATE
from tenants.datasets import serving, storage
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, ServiceError
from tenants.moderation import agreement, queue, reviews, selectors, showing, undoing
from tenants.moderation.cases import read_cases
from tenants.moderation.models import Outcome, Review

PAGE = 25
REFUSALS = (Conflict, NotAllowed)
SHOWN = ("waiting", "mine", "late")
MAX_WORDS = 20_000


@needs(MODERATE)
def index(request: Request) -> HttpResponse:
    """The queue, the worst first; `show` narrows it to what one holds or what is late."""
    shown, actor = request.GET.get("show", ""), actor_of(request).label
    shown = shown if shown in SHOWN else "waiting"
    number = request.GET.get("page", "")
    start = int(number) * PAGE if number.isascii() and number.isdecimal() and len(number) < 5 else 0
    with request.workspace.open():
        rows = queue.list_reviews(actor=actor, mine=shown == "mine", overdue=shown == "late")
        rows = rows.filter(state__in=queue.WAITING)
        found = list(rows[start : start + PAGE + 1])
        context = {
            "lines": _lines(found[:PAGE], actor),
            "ages": queue.ages(),
            "shown": shown,
            "next": start // PAGE + 1 if len(found) > PAGE else None,
        }
    return page(request, "reviews.html", context)


def _lines(rows: Sequence[Review], actor: str) -> list[dict[str, Any]]:
    names = names_of({review.claimed_by for review in rows})
    return [
        {
            "review": review,
            "held": queue.is_held(review),
            "mine": queue.is_held(review) and review.claimed_by == actor,
            "holder": names.get(review.claimed_by, review.claimed_by),
        }
        for review in rows
    ]


@needs(MODERATE, methods=("POST",))
def claim_next(request: Request) -> HttpResponse:
    return _claim_next(request)


def _claim_next(request: Request) -> HttpResponse:
    with request.workspace.open():
        review = queue.claim_next(actor=actor_of(request).label)
    if review is None:
        messages.success(request, _("Nothing in the queue is free for you now."))
        return redirect("console:reviews")
    return redirect("console:review", review_id=review.id)


@needs(MODERATE, methods=("POST",))
def claim(request: Request, review_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            queue.claim(review_id=review_id, actor=actor_of(request).label)
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:review", review_id=review_id)


@needs(MODERATE, methods=("POST",))
def release(request: Request, review_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            queue.release(review_id=review_id, actor=actor_of(request).label)
        messages.success(request, _("The review is back in the queue."))
    except REFUSALS as error:
        messages.error(request, error.detail)
    return redirect("console:reviews")


# --- One flag --------------------------------------------------------------------------------------------


@needs(MODERATE)
def show(request: Request, review_id: uuid.UUID) -> HttpResponse:
    return _show(request, review_id, None, 200)


def _show(request: Request, review_id: uuid.UUID, form: DecideForm | None, status: int) -> HttpResponse:
    actor = actor_of(request).label
    with request.workspace.open():
        review = queue.get_review(review_id=review_id, actor=actor)
        audit = review.audit
        shape = selectors.as_dict(audit)
        case = read_cases([audit.id])[audit.id]
        # A second opinion is asked for unbiased: it does not show the first.
        blind = review.kind == Review.Kind.SECOND and review.state in queue.WAITING
        rules = rules_of(audit)
        context = {
            **_lines([review], actor)[0],
            "audit": audit,
            "shape": shape,
            "asset": review.asset,
            "item": _item(review),
            "sheet": sheet_of(audit, shape, review.asset),
            "rule": next((rule for rule in rules if rule.id == review.rule), None),
            "blind": blind,
            "standing": None if blind else case.standing(),
            "others": [] if blind else [other for other in case.reviews if other.id != review.id],
            "outcomes": [] if blind else _outcome_lines([o for o in case.outcomes if o.review == review.id]),
        }
    if review.asset is not None:
        context["asset_address"] = reverse("console:asset-content", args=[review.asset_id])
    context["kept_address"] = reverse("console:audit-content", args=[review.audit_id])
    context["form"] = form or DecideForm()
    return page(request, "review.html", context, status=status)


def _item(review: Review) -> dict[str, Any]:
    """What is to be looked at: the asset, or the content that is kept for this."""
    if review.asset is not None:
        return {"words": serving.read_text(review.asset, MAX_WORDS)}
    asked = kept_content(review.audit_id)
    if asked is None or asked.blob is None:
        return {"gone": True}
    if asked.modality != Asset.Modality.TEXT:
        return {"kept": asked}
    path = storage.path_of(asked.blob.tenant_id, asked.blob.sha256)
    with storage.open_blob(path) as stream:
        return {"kept": asked, "words": stream.read(MAX_WORDS).decode("utf-8", "ignore")}


@needs(MODERATE, methods=("POST",))
def decide(request: Request, review_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    with request.workspace.open():
        queue.get_review(review_id=review_id, actor=actor)
    form = DecideForm(request.POST)
    if not form.is_valid():
        return _show(request, review_id, form, 422)
    try:
        with request.workspace.open():
            outcome = reviews.decide(review_id=review_id, actor=actor, **form.cleaned_data)
    except NotFound:
        raise
    except ServiceError as error:
        form.refuse(error)
        return _show(request, review_id, form, error.status)
    _tell(request, outcome)
    return _claim_next(request) if "next" in request.POST else redirect("console:reviews")


def _tell(request: Request, outcome: Outcome) -> None:
    done = DECISIONS[outcome.decision]
    address = reverse("console:outcome-undo", args=[outcome.id])
    messages.success(request, _("{done}. The reason is on record.").format(done=done), extra_tags=address)


# --- Taking back -----------------------------------------------------------------------------------------


@needs(MODERATE, methods=("POST",))
def undo(request: Request, outcome_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    form = UndoForm(request.POST)
    with request.workspace.open():
        undoing.get_outcome(outcome_id=outcome_id, actor=actor)
    if not form.is_valid():
        messages.error(request, _("Say why it is undone."))
        return redirect("console:outcomes")
    try:
        with request.workspace.open():
            undone = undoing.undo(outcome_id=outcome_id, actor=actor, reason=form.cleaned_data["reason"])
    except (Conflict, Invalid) as error:
        messages.error(request, error.detail)
        return redirect("console:outcomes")
    messages.success(request, _("Undone. The review is in the queue again, and the item stands as before."))
    return redirect("console:review", review_id=undone.review)


@needs(MODERATE)
def outcomes(request: Request) -> HttpResponse:
    """What was decided last, with what can be taken back."""
    with request.workspace.open():
        rows = showing.list_outcomes(actor=actor_of(request).label)
        found = page_of(rows, request.GET.get("before", ""), PAGE)
        lines = _outcome_lines(found.items)
    return page(request, "outcomes.html", {"lines": lines, "next": found.next})


def _outcome_lines(rows: Sequence[Outcome]) -> list[dict[str, Any]]:
    names = names_of({outcome.reviewer for outcome in rows})
    undone = set(Outcome.objects.filter(undoes__in=[row.id for row in rows]).values_list("undoes", flat=True))
    there = set(Review.objects.filter(pk__in=[row.review for row in rows]).values_list("pk", flat=True))
    return [
        {
            "outcome": outcome,
            "who": names.get(outcome.reviewer, outcome.reviewer),
            "undone": outcome.id in undone,
            "open": outcome.review in there,
            "can_undo": outcome.undoes is None and outcome.id not in undone and outcome.review in there,
        }
        for outcome in rows
    ]


# --- Figures ---------------------------------------------------------------------------------------------


@needs(MODERATE)
def figures(request: Request) -> HttpResponse:
    with request.workspace.open():
        found = agreement.agreements()
        names = names_of({name for pair in found.pairs for name in pair})
        context = {
            "ages": queue.ages(),
            "overall": found.overall,
            "pairs": [
                (_(" and ").join(names.get(name, name) for name in pair), agreed)
                for pair, agreed in found.pairs.items()
            ],
            "precisions": agreement.precisions(),
        }
    return page(request, "review_figures.html", context)
