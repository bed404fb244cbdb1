"""Generating: the form, the gallery, one generation while it is made and afterwards, and what is done with it."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console import problems
from console.access import Request, actor_of, needs, page
from console.audits.labels import RULES
from console.generations.forms import DisclosureForm, GenerateForm
from console.generations.labels import KINDS, output_options, reason_of, remedy_of
from console.generations.presenters import estimate_of, generation_cards, output_lines, score_width
from console.paging import page_of, parse_id
from console.presenters import actor_names
from tenants.accounts.permissions import ADMIN, GENERATE, READ, WRITE
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.generation import disclosure as marks
from tenants.generation import previews, selectors, services
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.moderation.models import Audit
from tenants.pipeline.care import erasure

PAGE = 24

MAX_DATASETS = 200

RETRIED = (Generation.State.FAILED, Generation.State.CANCELLED, Generation.State.BLOCKED)


@needs(READ)
def index(request: Request) -> HttpResponse:
    """The form and the gallery; the gallery alone, or what it would take, where htmx asks for that."""
    target = request.headers.get("HX-Target", "")
    if target == "gallery":
        return page(request, "parts/generation_gallery.html", _gallery_context(request))
    if target == "generation-estimate":
        with request.workspace.open():
            estimate = estimate_of(_selected_outputs(request))
        return page(request, "parts/generation_estimate.html", {"estimate": estimate})
    return _index(request, None, 200)


def _selected_outputs(request: Request) -> list[str]:
    return [kind for kind in KINDS if kind in request.GET.getlist("outputs")]


def _index(request: Request, form: GenerateForm | None, status: int) -> HttpResponse:
    context = _gallery_context(request)
    if GENERATE in request.workspace.scopes:
        context |= _form_context(request, form)
    return page(request, "generate.html", context, status=status)


def _gallery_context(request: Request) -> dict[str, Any]:
    state, kind, before = (request.GET.get(name, "") for name in ("state", "kind", "before"))
    state = state if state in Generation.State.values else ""
    kind = kind if kind in KINDS else ""
    with request.workspace.open():
        rows = selectors.list_generations(state=state)
        found = page_of(rows.filter(outputs__contains=[kind]) if kind else rows, before, PAGE)
        cards = generation_cards(found.items)
    return {
        "cards": cards,
        "next": found.next,
        "before": before,
        "state": state,
        "kind": kind,
        "states": Generation.State.values,
        "kinds": KINDS,
        "live": any(card.waits or card.generation.state in Generation.UNDER_WAY for card in cards),
    }


def _form_context(request: Request, form: GenerateForm | None) -> dict[str, Any]:
    """What the form needs. Raises NotFound for a picture to begin with that is not there."""
    with request.workspace.open():
        form = form or GenerateForm(_datasets(), initial=_initial(request))
        return {
            "form": form,
            "offers": output_options(),
            "small_pictures": settings.GENERATORS.get("image") == "small-picture",
            "source": _source(form),
            "estimate": estimate_of(form.chosen),
        }


def _datasets() -> list[tuple[str, str]]:
    return [(str(one.id), one.name) for one in datasets.list_datasets()[:MAX_DATASETS]]


def _initial(request: Request) -> dict[str, object]:
    """Of a remix the words and the picture; else nothing but the defaults."""
    remix = request.GET.get("remix", "")
    if not remix:
        return {}
    found = parse_id(remix)
    if found is None:
        raise NotFound(_("This asset does not exist."))
    asset = datasets.get_asset(found)
    datasets.require_shown(asset, request.workspace.scopes)
    return {"remix_of": asset.id, "prompt": asset.caption or asset.prompt, "outputs": ["video"]}


def _source(form: GenerateForm) -> Asset | None:
    found = parse_id(str(form["remix_of"].value() or ""))
    return datasets.get_asset(found) if found else None


@needs(GENERATE, methods=("POST",))
def create(request: Request) -> HttpResponse:
    with request.workspace.open():
        form = GenerateForm(_datasets(), request.POST)
    if not form.is_valid():
        return _index(request, form, 422)
    try:
        with request.workspace.open():
            row, _job = services.request_generation(
                wanted=form.wanted,
                dataset_id=form.cleaned_data["dataset"],
                remix_of=form.cleaned_data["remix_of"],
                anyway=form.cleaned_data["anyway"],
                actor=actor_of(request).label,
            )
    except NotFound:
        raise
    except ServiceError as error:
        form.refuse(error)
        return _index(request, form, error.status)
    return redirect("console:generation", generation_id=row.id)


# --- One generation --------------------------------------------------------------------------------------


@needs(READ)
def show(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    """Its page, or the part that changes while it is made."""
    with request.workspace.open():
        context = _generation_context(request, selectors.get_generation(generation_id))
    template = "parts/generation_panel.html" if request.headers.get("HX-Request") else "generation.html"
    return page(request, template, context)


def _generation_context(request: Request, row: Generation) -> dict[str, Any]:
    job = Job.objects.filter(pk=row.job_id).first() if row.job_id else None
    made = selectors.outputs_of([row])[row.id]
    lines = output_lines(made, request.workspace.scopes)
    # The job ends in the same transaction as the generation.
    running = job is not None and not job.finished and row.state in Generation.UNDER_WAY
    kept = [line.asset.id for line in lines if line.asset]
    pictures = [line.asset for line in lines if line.kind == "image" and line.is_shown and line.is_served]
    return {
        "generation": row,
        "job": job,
        "running": running,
        "lines": lines,
        "kept": len(kept),
        "began_here": Generation.objects.filter(remix_of_id__in=kept).exists(),
        "gone": _deleted_outputs(row, [line.kind for line in lines]),
        "picture": pictures[0] if pictures else None,
        "waits": any(line.is_shown and line.waits for line in lines),
        "dataset": row.dataset,
        "who": actor_names([row.created_by]).get(row.created_by, ""),
        "can_retry": job is not None and row.state in RETRIED,
        "reason": reason_of(row.error),
        "remedy": remedy_of(row.error),
        "rules": _rules(row, made),
        "score_width": score_width(row.score),
    }


def _rules(row: Generation, made: list[GenerationOutput]) -> list[str]:
    """The rules by which the policy kept out the prompt, or all that was made of it; none for any other end."""
    kind = (row.error or {}).get("type")
    audits = {
        Generation.PROMPT_BLOCKED: [row.prompt_audit_id],
        Generation.OUTPUT_BLOCKED: [one.audit_id for one in made],
    }
    if kind not in audits:
        return []
    found = Audit.objects.filter(pk__in=[one for one in audits[kind] if one]).values_list("rules", flat=True)
    return sorted({str(RULES.get(rule, rule)) for rules in found for rule in rules})


def _deleted_outputs(row: Generation, kinds: list[str]) -> list[Any]:
    """What was made and has been deleted since."""
    if row.state != Generation.State.SUCCEEDED:
        return []
    return [KINDS[kind] for kind in KINDS if kind in row.outputs and kind not in kinds]


@needs(ADMIN, methods=("GET", "POST"))
def disclosure(request: Request) -> HttpResponse:
    """Whether people see and hear that a file was generated."""
    with request.workspace.open():
        kept = marks.get_disclosure()
    if request.method != "POST":
        return _disclosure(request, kept, DisclosureForm(kept), 200)
    form = DisclosureForm(kept, request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                marks.change_disclosure(actor=actor_of(request).label, changes=form.changes)
        except Invalid as error:
            form.refuse(error)
        else:
            messages.success(request, _("Saved. It applies to everything generated from now on."))
            return redirect("console:generate-disclosure")
    return _disclosure(request, kept, form, 422)


def _disclosure(request: Request, kept: marks.Disclosure, form: DisclosureForm, status: int) -> HttpResponse:
    context = {
        "form": form,
        "kept": kept,
        "enforced": [form[name].label for name in form.fields if form.fields[name].disabled],
        "text": settings.GENERATION_ICON_TEXT,
    }
    return page(request, "generate_disclosure.html", context, status=status)


@needs(READ)
def preview(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    """The picture that it has reached, as PNG; nothing (204) where there is none."""
    with request.workspace.open():
        selectors.get_generation(generation_id)
    png = previews.newest(request.workspace.tenant.id, generation_id)
    if png is None:
        return HttpResponse(status=204)
    return HttpResponse(png, content_type="image/png", headers={"X-Content-Type-Options": "nosniff"})


@needs(GENERATE, methods=("POST",))
def vary(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    return _call_and_redirect(
        request, generation_id, services.vary_generation, _("Another variation is being generated.")
    )


@needs(GENERATE, methods=("POST",))
def cancel(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    return _call_and_redirect(request, generation_id, services.cancel, _("It stops at its next step."))


@needs(GENERATE, methods=("POST",))
def retry(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    return _call_and_redirect(request, generation_id, services.retry, _("Queued again."))


def _call_and_redirect(request: Request, generation_id: uuid.UUID, service: Any, said: str) -> HttpResponse:
    """Call a service, say so, and go to the page of what it answers."""
    try:
        with request.workspace.open():
            row, _job = service(generation_id=generation_id, actor=actor_of(request).label)
        messages.success(request, said)
    except NotFound:
        raise
    except ServiceError as error:
        messages.error(request, error.detail)
        return redirect("console:generation", generation_id=generation_id)
    return redirect("console:generation", generation_id=row.id)


@needs(GENERATE, methods=("POST",))
def delete(request: Request, generation_id: uuid.UUID) -> HttpResponse:
    """Delete it; what it made too only where that was ticked, by those who may delete assets."""
    actor = actor_of(request).label
    if request.POST.get("assets") != "true":
        with request.workspace.open():
            services.delete_generation(generation_id=generation_id, actor=actor)
        messages.success(request, _("The generation was deleted."))
        return redirect("console:generate")
    if WRITE not in request.workspace.scopes:
        return problems.forbidden(request, WRITE)
    with request.workspace.open():
        erased = len(erasure.erase_generation(generation_id=generation_id, actor=actor))
    words = _("The generation was deleted.")
    if erased:
        words = ngettext(
            "The generation and %(n)s asset were deleted.",
            "The generation and %(n)s assets were deleted.",
            erased,
        )
    messages.success(request, words % {"n": erased})
    return redirect("console:generate")
