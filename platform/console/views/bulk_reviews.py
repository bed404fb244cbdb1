"""Deciding many flags at once: a filter, a preview of what would change, the decision, and undoing it as a whole."""

from __future__ import annotations

import time
import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.moderation_forms import BulkForm, UndoForm
from tenants.accounts.permissions import MODERATE
from tenants.datasets.selectors import list_datasets
from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation import bulk, showing, undoing

# One request decides as many as fit into this; then the person says whether to go on.
PATIENCE_S = 10.0


@needs(MODERATE)
def show(request: Request) -> HttpResponse:
    """The filter; with one the preview, which changes nothing."""
    with request.workspace.open():
        datasets = list(list_datasets())
    if "decision" not in request.GET:
        return page(request, "reviews_bulk.html", {"form": BulkForm(datasets)})
    form, status, seen = BulkForm(datasets, request.GET), 200, None
    if form.is_valid():
        seen = _preview(request, form)
    if seen is None:
        status = 422
    return page(request, "reviews_bulk.html", {"form": form, "seen": seen}, status=status)


def _preview(request: Request, form: BulkForm) -> dict[str, Any] | None:
    try:
        with request.workspace.open():
            found = bulk.preview(
                wanted=bulk.Filter(**form.wanted),
                decision=form.cleaned_data["decision"],
                actor=actor_of(request).label,
            )
    except Invalid as error:
        form.add_error(None, error.detail)
        return None
    changes = [(before, after, count) for (before, after), count in sorted(found.changes.items())]
    return {"found": found, "changes": changes}


@needs(MODERATE, methods=("POST",))
def apply(request: Request) -> HttpResponse:
    with request.workspace.open():
        form = BulkForm(list(list_datasets()), request.POST)
    if not form.is_valid():
        return page(request, "reviews_bulk.html", {"form": form}, status=422)
    try:
        decided, last = _apply(request, form)
    except (Invalid, Conflict) as error:
        form.refuse(error)
        return page(request, "reviews_bulk.html", {"form": form, "seen": _preview(request, form)}, status=422)
    if not decided:
        messages.error(request, _("No review fits any more; nothing was decided."))
        return redirect("console:reviews-bulk")
    left = f" {last.left} are left: press the button again to go on." if last.left else ""
    said = f"{decided} review{'s' if decided != 1 else ''} decided.{left}"
    messages.success(request, said, extra_tags=reverse("console:batch-undo", args=[last.batch]))
    if last.left:
        data = request.POST.copy()
        data["batch"] = str(last.batch)
        again = BulkForm([], data)
        again.is_valid()
        return page(request, "reviews_bulk.html", {"form": again, "seen": _preview(request, again)})
    return redirect("console:outcomes")


def _apply(request: Request, form: BulkForm) -> tuple[int, bulk.Applied]:
    """How many were decided, and the last call's answer."""
    given, until, decided = form.cleaned_data, time.monotonic() + PATIENCE_S, 0
    batch: uuid.UUID | None = given["batch"]
    while True:
        with request.workspace.open():
            done = bulk.apply(
                wanted=bulk.Filter(**form.wanted),
                decision=given["decision"],
                reason=given["reason"],
                labels=given["labels"],
                actor=actor_of(request).label,
                as_of=given["as_of"],
                batch=batch,
            )
        batch, decided = done.batch, decided + done.decided
        if not done.left or not done.decided or time.monotonic() > until:
            return decided, done


@needs(MODERATE, methods=("POST",))
def undo(request: Request, batch_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        if not showing.list_outcomes(actor=actor_of(request).label, batch=batch_id).exists():
            raise NotFound(_("There is no such bulk decision."))
    form = UndoForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    try:
        # Opens its own scopes, one for each part.
        undone = undoing.undo_batch(
            tenant_id=request.workspace.tenant.id,
            batch=batch_id,
            actor=actor_of(request).label,
            reason=reason,
        )
    except Invalid:
        messages.error(request, _("Say why it is undone."))
        return redirect("console:outcomes")
    said = f"{undone.undone} decision{'s' if undone.undone != 1 else ''} undone."
    if undone.left:
        said += f" {len(undone.left)} could not be: {undone.left[0][1]}"
    messages.success(request, said)
    return redirect("console:reviews")
