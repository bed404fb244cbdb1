"""Models: the list, one with its training, figures and promotion, and what is done with it."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console import curves
from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm
from console.learning_forms import PromoteForm
from console.model_sheet import (
    builtin_lines,
    headline_of,
    name_of,
    names_of_spaces,
    own_lines,
    quality_of,
    state_of,
    tables_of,
)
from console.model_words import FIGURE_MEANS
from console.paging import page_of
from console.people_names import names_of
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import Conflict, NotReady, ServiceError
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import promotions, selectors, services
from tenants.learning.models import LearntModel, Promotion
from tenants.retrieval import spaces

PAGE = 25
PENDING = (*Promotion.UNDER_WAY, Promotion.State.FAILED)
CANCELLED = {
    "training": gettext_lazy("The training was cancelled."),
    "promotion": gettext_lazy("The promotion was cancelled."),
}
FAREWELLS = {
    "training": gettext_lazy("The training stops at its next step."),
    "promotion": gettext_lazy("The promotion stops at its next step; searches stay as they are."),
}


@needs(READ)
def index(request: Request) -> HttpResponse:
    before = request.GET.get("before", "")
    with request.workspace.open():
        found = page_of(selectors.list_models().defer("curves"), before, PAGE)
        lines = [*([] if before else builtin_lines()), *own_lines(found.items)]
    context = {
        "lines": lines,
        "next": found.next,
        "before": before,
        "live": any(line.job for line in lines),
        "has_own": bool(found.items or before),
    }
    template = "parts/model_table.html" if request.headers.get("HX-Request") else "models.html"
    return page(request, template, context)


# --- One model -------------------------------------------------------------------------------------------


@needs(READ)
def show(request: Request, model_id: str) -> HttpResponse:
    """Its page, or the part that changes while it is trained or promoted."""
    return _show(request, model_id, {}, 200)


def _show(request: Request, model_id: str, forms: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        model = selectors.find_model(model_id)
        context = _sheet(request, model)
    context |= {"promote_form": PromoteForm(), "confirm_form": ConfirmForm(context["name"]), **forms}
    context["reasons"] = context.get("worse") or _reasons(context["promotion"])
    template = "parts/model_panel.html" if request.headers.get("HX-Request") else "model.html"
    return page(request, template, context, status=status)


def _reasons(promotion: Promotion | None) -> list[str]:
    """Why a promotion waits for a decision."""
    waits = promotion is not None and promotion.state == Promotion.State.READY
    return list((promotion.report or {}).get("worse", [])) if promotion and waits else []


def _sheet(request: Request, model: selectors.Named) -> dict[str, Any]:
    written = spaces.written(request.workspace.tenant.id)
    promotion = selectors.newest_promotion(model)
    is_live = model.space == written.live
    own = _own(model) if isinstance(model, LearntModel) else _builtin(model, is_live)
    promoting = _job(promotion.job_id) if promotion else None
    running = next((job for job in (own["training"], promoting) if job and not job.finished), None)
    return {
        "model": model,
        "name": name_of(model),
        "key": selectors.public_name(model.space),
        "is_live": is_live,
        "promotion": promotion,
        "promoting": promoting,
        # What asks for attention stands first, what is over after the figures.
        "is_pending": promotion is not None and promotion.state in PENDING,
        "running": running,
        "is_ready": own["state"] in ("candidate", "retired") and not is_live,
        "previous": written.previous if is_live else "",
        "named": names_of_spaces(_spaces(model, promotion, written.previous, written.live)),
        "live_space": written.live,
        **own,
    }


def _spaces(model: selectors.Named, promotion: Promotion | None, *others: str) -> list[str]:
    base = [model.base] if isinstance(model, LearntModel) else []
    return [*base, *([promotion.replaces] if promotion else []), *(one for one in others if one)]


def _own(model: LearntModel) -> dict[str, Any]:
    training = _job(model.job_id)
    head, rows = curves.rows_of(model.curves)
    return {
        "built_in": False,
        "training": training,
        "state": state_of(model, training),
        "charts": curves.charts_of(model.curves),
        "curve_head": head,
        "curve_rows": rows,
        "headline": headline_of(model.metrics),
        "tables": tables_of(model.metrics),
        "means": FIGURE_MEANS,
        "reports": quality_of(model.data.get("quality")),
        "warnings": model.data.get("warnings", []),
        "who": names_of([model.created_by]).get(model.created_by, ""),
    }


def _builtin(model: Any, is_live: bool) -> dict[str, Any]:
    state = LearntModel.State.LIVE if is_live else LearntModel.State.CANDIDATE
    return {"built_in": True, "training": None, "state": state.value, "manifest": model.manifest}


def _job(job_id: uuid.UUID | None) -> Job | None:
    return Job.objects.filter(pk=job_id).first() if job_id else None


# --- What is done with it --------------------------------------------------------------------------------


@needs(TRAIN, methods=("POST",))
def promote(request: Request, model_id: str) -> HttpResponse:
    """Begin, or decide about a promotion that waits; a model that is worse needs a reason."""
    form = PromoteForm(request.POST)
    if not form.is_valid():
        return _show(request, model_id, {"promote_form": form, "open_promote": True}, 422)
    try:
        with request.workspace.open():
            model = selectors.find_model(model_id)
            row = promotions.promote(
                model=model, override_reason=form.override_reason, actor=actor_of(request).label
            )
    except promotions.WorseModel as error:
        refused = {"promote_form": form, "open_promote": True, "worse": error.extra.get("reasons", [])}
        return _show(request, model_id, refused, error.status)
    except (Conflict, NotReady) as error:
        messages.error(request, error.detail)
        return redirect("console:model", model_id=model_id)
    switched = row.state == Promotion.State.SWITCHED
    messages.success(
        request, _("It answers searches from now on.") if switched else _("The promotion has begun.")
    )
    return redirect("console:model", model_id=model_id)


@needs(TRAIN, methods=("POST",))
def roll_back(request: Request, model_id: str) -> HttpResponse:
    with request.workspace.open():
        model = selectors.find_model(model_id)
        was_live = model.space == spaces.live()
    try:
        with request.workspace.open():
            now = promotions.roll_back(model=model, actor=actor_of(request).label)
        name = name_of(now) if now else _("The model before")
        back = _("Rolled back: %(name)s answers searches again.") % {"name": name}
        said = back if was_live else _("The promotion was given up.")
        messages.success(request, said)
    except ServiceError as error:
        # Nothing to go back to reads the same, whatever its status.
        messages.error(request, error.detail)
    return redirect("console:model", model_id=model_id)


@needs(TRAIN, methods=("POST",))
def cancel(request: Request, model_id: str) -> HttpResponse:
    """Stop what goes on: the training, or the embedding of a promotion."""
    try:
        with request.workspace.open():
            sheet = _sheet(request, selectors.find_model(model_id))
            if sheet["running"] is None:
                raise Conflict(_("Nothing goes on that could be cancelled."))
            job = jobs.cancel(job_id=sheet["running"].id)
        what = "training" if job.kind == services.JOB else "promotion"
        messages.success(request, (CANCELLED if job.finished else FAREWELLS)[what])
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:model", model_id=model_id)


@needs(TRAIN, methods=("POST",))
def retry(request: Request, model_id: str) -> HttpResponse:
    """Queue a training again that failed or was cancelled: it goes on from its last checkpoint."""
    with request.workspace.open():
        model = selectors.find_model(model_id)
    try:
        if not isinstance(model, LearntModel) or model.job_id is None:
            raise Conflict(_("A built-in space is not trained."))
        with request.workspace.open():
            jobs.retry(job_id=model.job_id)
        messages.success(request, _("The training is queued again."))
    except ServiceError as error:
        messages.error(request, error.detail)
    return redirect("console:model", model_id=model_id)


@needs(TRAIN, methods=("POST",))
def delete(request: Request, model_id: str) -> HttpResponse:
    with request.workspace.open():
        model = selectors.find_model(model_id)
    form = ConfirmForm(name_of(model), request.POST)
    if not form.is_valid():
        return _show(request, model_id, {"confirm_form": form, "open_delete": True}, 422)
    try:
        if not isinstance(model, LearntModel):
            raise Conflict(_("A built-in space cannot be deleted."))
        with request.workspace.open():
            services.delete_model(model=model, actor=actor_of(request).label)
    except Conflict as error:
        messages.error(request, error.detail)
        return redirect("console:model", model_id=model_id)
    messages.success(request, _("The model was deleted."))
    return redirect("console:models")
