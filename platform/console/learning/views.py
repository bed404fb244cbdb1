"""Models: the registry, promoting and rolling back, comparing, fine-tuning, and golden queries."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import Request, actor_of, needs, page
from console.charts import MAX_RUNS
from console.forms import ConfirmForm
from console.learning.forms import FinetuneForm, GoldenForm, PromoteForm, source_of
from console.learning.labels import FIGURE_MEANS, METHOD_CHOICES, STAGE_CHOICES
from console.learning.presenters import (
    builtin_model_lines,
    comparison_of,
    curves_of,
    headline_of,
    name_of,
    names_of_spaces,
    own_model_lines,
    quality_of,
    relevance_of,
    state_of,
    tables_of,
)
from console.paging import page_of, parse_id
from console.presenters import AssetCard, actor_names, asset_card
from tenants.accounts.permissions import READ, TRAIN
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Asset, Dataset, DatasetVersion
from tenants.datasets.selectors import get_assets
from tenants.errors import Conflict, NotReady, ServiceError
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.jobs.timing import timing_of
from tenants.learning import golden, pairs, promotions, selectors, services, training_progress
from tenants.learning.builtin import builtin_spaces
from tenants.learning.models import GoldenQuery, LearntModel, Promotion
from tenants.retrieval import Query, model_routing, search

PAGE = 25

PENDING = (*Promotion.UNDER_WAY, Promotion.State.FAILED)

CANCELLED = {
    "training": gettext_lazy("The training was cancelled."),
    "promotion": gettext_lazy("The promotion was cancelled."),
}

FAREWELLS = {
    "training": gettext_lazy("Training stops at its next step."),
    "promotion": gettext_lazy("The promotion stops at its next step; searches are unaffected."),
}


@needs(READ)
def index(request: Request) -> HttpResponse:
    before = request.GET.get("before", "")
    with request.workspace.open():
        found = page_of(selectors.list_models().defer("curves"), before, PAGE)
        lines = [*([] if before else builtin_model_lines()), *own_model_lines(found.items)]
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
        context = _model_context(request, model)
    context |= {"promote_form": PromoteForm(), "confirm_form": ConfirmForm(context["name"]), **forms}
    context["reasons"] = context.get("worse") or _reasons(context["promotion"])
    template = "parts/model_panel.html" if request.headers.get("HX-Request") else "model.html"
    return page(request, template, context, status=status)


def _reasons(promotion: Promotion | None) -> list[str]:
    """Why a promotion waits for a decision."""
    waits = promotion is not None and promotion.state == Promotion.State.READY
    return list((promotion.report or {}).get("worse", [])) if promotion and waits else []


def _model_context(request: Request, model: selectors.Named) -> dict[str, Any]:
    written = model_routing.written(request.workspace.tenant.id)
    promotion = selectors.newest_promotion(model)
    is_live = model.space == written.live
    own = (
        _own_model_context(model)
        if isinstance(model, LearntModel)
        else _builtin_model_context(model, is_live)
    )
    promoting = _job(promotion.job_id) if promotion else None
    running = next((job for job in (own["training"], promoting) if job and not job.finished), None)
    return {
        "model": model,
        "name": name_of(model),
        "curves": _curves(request, model) if isinstance(model, LearntModel) else None,
        "key": selectors.public_name(model.space),
        "is_live": is_live,
        "promotion": promotion,
        "promoting": promoting,
        "pace": timing_of(promoting) if promoting else None,
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


def _own_model_context(model: LearntModel) -> dict[str, Any]:
    training = _job(model.job_id)
    return {
        "built_in": False,
        "training": training,
        "state": state_of(model, training),
        "left_s": training_progress.time_left_s(model, training) if training else None,
        "headline": headline_of(model.metrics),
        "tables": tables_of(model.metrics),
        "means": FIGURE_MEANS,
        "reports": quality_of(model.data.get("quality")),
        "relevance": relevance_of(model) if model.state != LearntModel.State.DRAFT else None,
        "warnings": model.data.get("warnings", []),
        "who": actor_names([model.created_by]).get(model.created_by, ""),
        "versions_there": _versions_there(model),
    }


def _versions_there(model: LearntModel) -> set[str]:
    """Ids of the versions that it learnt from and that were not deleted since."""
    named = [one["version"]["id"] for one in model.data.get("datasets", []) if "version" in one]
    rows = DatasetVersion.objects.filter(pk__in=named, dataset__deleted_at=None)
    return {str(pk) for pk in rows.values_list("pk", flat=True)} if named else set()


#: Runs that can be chosen to be drawn in the same charts: the newest.
MAX_OFFERED = 20


def _curves(request: Request, model: LearntModel) -> dict[str, Any]:
    """The charts, with the runs of `?with=` beside this one. In the tenant's scope."""
    asked = list(dict.fromkeys(request.GET.getlist("with")))
    alike = selectors.list_runs(stage=model.stage, method=model.method).exclude(pk=model.pk)
    wanted = [found for one in asked[: MAX_RUNS - 1] if (found := parse_id(one))]
    beside = alike.in_bulk(wanted)
    others = list(alike.only("id", "name")[:MAX_OFFERED])
    problems = []
    if len(asked) >= MAX_RUNS:
        problems.append(_("At most three runs are drawn beside this one."))
    if len(beside) < len(asked[: MAX_RUNS - 1]):
        problems.append(
            _("A run that was asked for is gone, or was not trained by the same stage and method.")
        )
    return {
        **curves_of(
            [model, *(beside[one] for one in wanted if one in beside)], request.GET.get("smooth", "")
        ),
        "address": reverse("console:model", args=[model.id]),
        "others": [{"id": str(one.id), "name": one.name} for one in others],
        "chosen": [str(one) for one in beside],
        "problems": problems,
    }


def _builtin_model_context(model: Any, is_live: bool) -> dict[str, Any]:
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
    messages.success(request, _("It now answers searches.") if switched else _("The promotion has started."))
    return redirect("console:model", model_id=model_id)


@needs(TRAIN, methods=("POST",))
def roll_back(request: Request, model_id: str) -> HttpResponse:
    with request.workspace.open():
        model = selectors.find_model(model_id)
        was_live = model.space == model_routing.live()
    try:
        with request.workspace.open():
            now = promotions.roll_back(model=model, actor=actor_of(request).label)
        name = name_of(now) if now else _("The previous model")
        back = _("Rolled back: %(name)s answers searches again.") % {"name": name}
        said = back if was_live else _("The promotion was abandoned.")
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
            sheet = _model_context(request, selectors.find_model(model_id))
            if sheet["running"] is None:
                raise Conflict(_("There is nothing to cancel."))
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


FEWEST, MOST = 2, 4


@needs(READ)
def compare(request: Request) -> HttpResponse:
    """`?model=` names them; with fewer or more than may be the page asks to choose again. Raises NotFound."""
    wanted = list(dict.fromkeys(request.GET.getlist("model")))
    fits = FEWEST <= len(wanted) <= MOST
    context: dict[str, Any] = {"fits": fits, "count": len(wanted), "most": MOST}
    if fits:
        with request.workspace.open():
            models = [selectors.find_model(one) for one in wanted]
            promotions = {model.space: selectors.newest_promotion(model) for model in models}
        context |= comparison_of(models, promotions)
        own = [model for model in models if isinstance(model, LearntModel)]
        context["curves"] = {
            **curves_of([one for one in own if one.curves], request.GET.get("smooth", "")),
            "address": reverse("console:models-compare"),
            "kept": wanted,
        }
        context["tests_differ"] = len({_tested_on(model) for model in own}) > 1
    return page(request, "model_comparison.html", context)


def _tested_on(model: LearntModel) -> str:
    """What figures were judged on: of the same dataset two versions hold different pairs."""
    read = model.data.get("datasets", [])
    return ",".join(sorted(one["id"] + one.get("version", {}).get("digest", "") for one in read))


# In the lists; older ones can be named through the API.
MAX_DATASETS, MAX_BASES, MAX_VERSIONS = 200, 100, 200

#: Below, a training is refused or cannot be judged: a fifth is held out, and 16 have to be left to learn from.
FEW, ENOUGH = 20, 50


@needs(TRAIN, methods=("GET", "POST"))
def finetune(request: Request) -> HttpResponse:
    """The form; the part with the estimate where htmx asks; and the beginning of a training."""
    with request.workspace.open():
        known = _finetune_choices()
    if request.method == "POST":
        return _start(request, known)
    form = _form(known, initial=_initial(request))
    if request.headers.get("HX-Request"):
        form = _form(known, request.GET)
        return page(request, "parts/finetune_estimate.html", _estimate(request, known, form))
    return _show_finetune(request, known, form)


def _finetune_choices() -> dict[str, Any]:
    """What there is to choose from. In the tenant's scope."""
    found = list(datasets.list_datasets()[:MAX_DATASETS])
    live = model_routing.live()
    pairs_of = pairs.counts(one.id for one in found)
    counted = [(one, pairs_of[one.id]) for one in found]
    return {
        # Those with most to learn from stand first.
        "datasets": sorted(counted, key=lambda pair: -pair[1]),
        "versions": _versions_of(found),
        "bases": _bases(live),
        "keys": sorted({key for one in found for key in one.metadata_schema}),
    }


def _versions_of(found: list[Dataset]) -> dict[uuid.UUID, list[DatasetVersion]]:
    """The newest versions that are made, by dataset."""
    rows = DatasetVersion.objects.filter(
        state=DatasetVersion.State.READY, dataset_id__in=[d.pk for d in found]
    )
    versions: dict[uuid.UUID, list[DatasetVersion]] = {}
    for row in rows.order_by("-id")[:MAX_VERSIONS]:
        versions.setdefault(row.dataset_id, []).append(row)
    return versions


def _bases(live: str) -> list[tuple[str, str]]:
    own = LearntModel.objects.exclude(state=LearntModel.State.DRAFT).only("id", "name").order_by("-id")
    serving = names_of_spaces([live]).get(live, ("", _("the live model")))[1]
    return [
        ("", _("What answers searches now: %(model)s") % {"model": serving}),
        *(
            (one.slug, _("%(model)s (built in)") % {"model": one.slug})
            for one in builtin_spaces()
            if one.tunes and not one.missing_weights
        ),
        *((str(row.id), row.name) for row in own[:MAX_BASES]),
    ]


def _initial(request: Request) -> dict[str, Any]:
    asked = {name: request.GET[name] for name in ("dataset", "base") if name in request.GET}
    if "dataset" in asked and request.GET.get("version"):
        asked["dataset"] = f"{asked['dataset']}/{request.GET['version']}"
    return asked


def _form(known: dict[str, Any], *args: Any, **kwargs: Any) -> FinetuneForm:
    labels = [(str(one.id), f"{one.name} ({_pairs(count)})") for one, count in known["datasets"]]
    sources = []
    for (one, _count), label in zip(known["datasets"], labels, strict=True):
        sources.append(label)
        sources += [
            (f"{one.id}/{row.id}", _version_label(one, row)) for row in known["versions"].get(one.pk, ())
        ]
    return FinetuneForm(sources, labels, known["bases"], *args, **kwargs)


def _version_label(dataset: Dataset, row: DatasetVersion) -> str:
    words = ngettext(
        "%(dataset)s, version %(name)s (%(count)s asset)",
        "%(dataset)s, version %(name)s (%(count)s assets)",
        row.asset_count - row.gone,
    )
    return words % {"dataset": dataset.name, "name": row.name, "count": f"{row.asset_count - row.gone:,}"}


def _pairs(count: int) -> str:
    if not count:
        return _("no training pairs")
    return ngettext("%(count)s training pair", "%(count)s training pairs", count) % {"count": f"{count:,}"}


def _show_finetune(
    request: Request, known: dict[str, Any], form: FinetuneForm, status: int = 200
) -> HttpResponse:
    context = {
        "form": form,
        "keys": known["keys"],
        "most": max((count for _key, count in known["datasets"]), default=0),
        "has_datasets": bool(known["datasets"]),
        "stages": STAGE_CHOICES,
        "methods": METHOD_CHOICES,
        **_estimate(request, known, form),
    }
    return page(request, "finetune.html", context, status=status)


def _estimate(request: Request, known: dict[str, Any], form: FinetuneForm) -> dict[str, Any]:
    """What is known before anything ran, of the datasets that are chosen so far; nothing without one."""
    counts = {str(one.id): (one, count) for one, count in known["datasets"]}
    dataset_id, version_id = source_of(str(form["dataset"].value() or ""))
    chosen = counts.get(str(dataset_id))
    if chosen is None:
        return {"estimate": None, "few": FEW, "enough": ENOUGH}
    dataset, count = chosen
    general = counts.get(str(form["general_dataset"].value() or ""))
    is_full = form["stage"].value() == LearntModel.Stage.FULL
    beside: list[Dataset] = [general[0]] if general and is_full else []
    wanted = services.Settings(epochs=_epochs(form))
    with request.workspace.open():
        version = _version(dataset, version_id)
        if version:
            count = pairs.counts([dataset.id], version=version.id)[dataset.id]
        estimate = services.estimate(dataset, beside, wanted, version)
    return {"estimate": estimate, "count": count, "chosen": dataset, "few": FEW, "enough": ENOUGH}


def _version(dataset: Dataset, version_id: uuid.UUID | None) -> DatasetVersion | None:
    """That of this dataset; of another one, or of one that is gone, the form says so when it is sent."""
    return DatasetVersion.objects.filter(pk=version_id, dataset=dataset).first() if version_id else None


def _epochs(form: FinetuneForm) -> int:
    typed = str(form["epochs"].value() or "")
    asked = int(typed) if typed.isdecimal() and len(typed) < 4 else services.Settings.epochs
    return min(max(asked, 1), services.MAX_EPOCHS)


def _start(request: Request, known: dict[str, Any]) -> HttpResponse:
    form = _form(known, request.POST)
    if not form.is_valid():
        return _show_finetune(request, known, form, 422)
    given = form.cleaned_data
    try:
        with request.workspace.open():
            model, _job = services.start_finetune(
                dataset_id=given["dataset"],
                version_id=form.version,
                base=given["base"],
                stage=given["stage"],
                method=given["method"],
                wanted=form.settings,
                general_dataset_id=given["general_dataset"],
                name=given["name"].strip(),
                actor=actor_of(request).label,
            )
    except ServiceError as error:
        form.refuse(error)
        return _show_finetune(request, known, form, error.status)
    messages.success(request, _("The fine-tune has been queued."))
    return redirect("console:model", model_id=model.id)


GOLDEN_PAGE = 25

FOUND = 12

# Of the right answers of a query in the list; the others are counted.
SHOWN_ANSWERS = 6


@needs(READ)
def golden_queries(request: Request) -> HttpResponse:
    """All of them; with `?q=` or `?asset=` also what is found for a new one, to be ticked."""
    typed = {"text": request.GET.get("q", "").strip(), "asset": request.GET.get("asset", "").strip()}
    form = GoldenForm(initial=typed)
    return _golden_queries(request, form, is_open=any(typed.values()))


def _golden_queries(
    request: Request, form: GoldenForm, status: int = 200, *, is_open: bool = False
) -> HttpResponse:
    with request.workspace.open():
        found = page_of(selectors.list_golden(), request.GET.get("before", ""), GOLDEN_PAGE)
        lines = _golden_lines(found.items)
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


def _golden_lines(rows: list[GoldenQuery]) -> list[dict[str, Any]]:
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


def _cards(request: Request, form: GoldenForm) -> tuple[list[AssetCard], ServiceError | None]:
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


def _card(asset: Asset, hit: Any) -> AssetCard:
    return asset_card(asset, score=hit.score, matched=hit.modality, segment=hit.segment)


@needs(TRAIN, methods=("POST",))
def add_golden(request: Request) -> HttpResponse:
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
    return _golden_queries(request, form, 422, is_open=True)


@needs(TRAIN, methods=("POST",))
def remove_golden(request: Request, golden_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.get_golden(golden_id)
        golden.delete_golden_query(golden_id=golden_id, actor=actor_of(request).label)
    messages.success(request, _("The golden query was removed."))
    return redirect("console:models-golden")
