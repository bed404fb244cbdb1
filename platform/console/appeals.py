"""Appeals: disagreeing with a decision, and following what becomes of it. Reviewers decide them in the queue."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import StyledForm
from console.paging import page_of
from console.presenters import actor_names
from tenants.accounts.permissions import MODERATE, READ
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation import reviews
from tenants.moderation.audits import selectors as audits
from tenants.moderation.models import Appeal, Audit, Review
from tenants.moderation.reviews import MAX_REASON
from tenants.moderation.reviews.cases import read_cases
from tenants.scope import whole_tenant

PAGE = 25


class AppealForm(StyledForm):
    reason = forms.CharField(
        label=gettext_lazy("Why the decision is wrong"),
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 5}),
    )


@needs(READ, narrowable=("GET",))
def index(request: Request) -> HttpResponse:
    """One's own appeals; who may moderate sees all, and chooses by `own=1`. `state` narrows to one state."""
    moderates = MODERATE in request.workspace.scopes
    own = not moderates or request.GET.get("own") == "1"
    state = request.GET.get("state", "")
    state = state if state in Appeal.State.values else ""
    with request.workspace.open():
        rows = reviews.list_appeals(actor=actor_of(request).label, state=state, own=own)
        found = page_of(rows.select_related("audit", "asset__blob"), request.GET.get("before", ""), PAGE)
        lines = _lines(found.items)
    context = {"lines": lines, "next": found.next, "state": state, "own": own, "states": Appeal.State.values}
    return page(request, "appeals.html", context)


def _lines(appeals: Sequence[Appeal]) -> list[dict[str, Any]]:
    answers = reviews.answers_to(appeals)
    names = actor_names(
        {*(one.created_by for one in appeals), *(answer.reviewer for answer in answers.values())}
    )
    return [
        {
            "appeal": appeal,
            "who": names.get(appeal.created_by, appeal.created_by),
            "answer": answer,
            "by": names.get(answer.reviewer, answer.reviewer) if answer else "",
        }
        for appeal in appeals
        for answer in (answers.get(appeal.id),)
    ]


@needs(READ, narrowable=("GET",))
def show(request: Request, appeal_id: uuid.UUID) -> HttpResponse:
    """One appeal with its answer, for who made it and for who may moderate."""
    actor = actor_of(request).label
    moderates = MODERATE in request.workspace.scopes
    with request.workspace.open():
        appeal = _get(request, appeal_id)
        own = appeal.created_by == actor
        if own:
            reviews.mark_answer_read(appeal, actor=actor)
        with whole_tenant():
            # By all flags of the item, also those of queues that the person does not see.
            standing = read_cases([appeal.audit_id])[appeal.audit_id].standing()
        review = Review.objects.filter(pk=appeal.review_id).first() if moderates else None
        context = {
            **_lines([appeal])[0],
            "own": own,
            "standing": standing,
            "review": review,
            "barred": reviews.queue.why_barred(actor, review) if review else "",
            "due_at": review.due_at if review else None,
        }
    return page(request, "appeal.html", context)


def _get(request: Request, appeal_id: uuid.UUID) -> Appeal:
    """Raises NotFound, also for who neither made it nor may moderate."""
    actor = actor_of(request).label
    # One's own, also where the queue it is in is not seen.
    for own in (True, False) if MODERATE in request.workspace.scopes else (True,):
        rows = reviews.list_appeals(actor=actor, own=own).select_related("audit", "asset__blob")
        if (found := rows.filter(pk=appeal_id).first()) is not None:
            return found
    raise NotFound(_("This appeal does not exist."))


@needs(READ, methods=("GET", "POST"), narrowable=("GET", "POST"))
def of_asset(request: Request, asset_id: uuid.UUID) -> HttpResponse:
    """Appeal against what an asset stands at: whoever sees the asset may."""
    with request.workspace.open():
        asset = datasets.get_asset(asset_id)
        audit_id = reviews.newest_audit(asset_id)
        audit = Audit.objects.filter(pk=audit_id).first() if audit_id else None
    if audit is None:
        raise NotFound(_("Nothing was decided about this asset."))
    return _new(request, audit, asset)


@needs(MODERATE, methods=("GET", "POST"), narrowable=("GET", "POST"))
def of_audit(request: Request, audit_id: uuid.UUID) -> HttpResponse:
    """The same by an audit, also of an item that is no asset."""
    with request.workspace.open():
        audit = audits.get_request(audit_id)
        if not isinstance(audit, Audit):
            raise NotFound(_("Nothing was decided about this item yet."))
        asset = datasets.get_assets([audit.item]).get(audit.item) if audit.item else None
    return _new(request, audit, asset)


def _new(request: Request, audit: Audit, asset: Asset | None) -> HttpResponse:
    form = AppealForm(request.POST) if request.method == "POST" else AppealForm()
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                with request.workspace.open():
                    appeal = reviews.open_appeal(
                        audit_id=audit.id, actor=actor_of(request).label, **form.cleaned_data
                    )
            except (Conflict, Invalid) as error:
                form.refuse(error)
                status = error.status
            else:
                messages.success(request, _("Your appeal is in the queue. What becomes of it stands here."))
                return redirect("console:appeal", appeal_id=appeal.id)
    with request.workspace.open(), whole_tenant():
        standing = read_cases([audit.id])[audit.id].standing()
        window = reviews.appeal_window(audit.id)
    context = {"audit": audit, "asset": asset, "standing": standing, "form": form, "window": window}
    return page(request, "appeal_new.html", context, status=status)


def about_asset(request: Request, asset: Asset) -> dict[str, Any]:
    """For the page of an asset: one's newest appeal about it, and until when one can appeal. In its scope."""
    if asset.moderation not in ("label", "block"):
        return {"appeal": None, "window": None}
    own = reviews.list_appeals(actor=actor_of(request).label, own=True).filter(asset=asset.id)
    return {"appeal": own.first(), "window": reviews.appeal_window(reviews.newest_audit(asset.id))}
