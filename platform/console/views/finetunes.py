"""The form that starts a fine-tune, with what it would learn from and what it would cost."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console.access import Request, actor_of, needs, page
from console.learning_forms import FinetuneForm
from console.model_sheet import names_of_spaces
from console.model_words import METHOD_CHOICES, STAGE_CHOICES
from tenants.accounts.permissions import TRAIN
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Dataset
from tenants.errors import ServiceError
from tenants.learning import pairs, services
from tenants.learning.builtin import builtin_spaces
from tenants.learning.models import LearntModel
from tenants.retrieval import spaces

# In the lists; older ones can be named through the API.
MAX_DATASETS, MAX_BASES = 200, 100
#: Below, a training is refused or cannot be judged: a fifth is held out, and 16 have to be left to learn from.
FEW, ENOUGH = 20, 50


@needs(TRAIN, methods=("GET", "POST"))
def start(request: Request) -> HttpResponse:
    """The form; the part with the estimate where htmx asks; and the beginning of a training."""
    with request.workspace.open():
        known = _known()
    if request.method == "POST":
        return _start(request, known)
    form = _form(known, initial=_initial(request))
    if request.headers.get("HX-Request"):
        form = _form(known, request.GET)
        return page(request, "parts/finetune_estimate.html", _estimate(request, known, form))
    return _show(request, known, form)


def _known() -> dict[str, Any]:
    """What there is to choose from. In the tenant's scope."""
    found = list(datasets.list_datasets()[:MAX_DATASETS])
    live = spaces.live()
    pairs_of = pairs.counts(one.id for one in found)
    counted = [(one, pairs_of[one.id]) for one in found]
    return {
        # Those with most to learn from stand first.
        "datasets": sorted(counted, key=lambda pair: -pair[1]),
        "bases": _bases(live),
        "keys": sorted({key for one in found for key in one.metadata_schema}),
    }


def _bases(live: str) -> list[tuple[str, str]]:
    own = LearntModel.objects.exclude(state=LearntModel.State.DRAFT).only("id", "name").order_by("-id")
    serving = names_of_spaces([live]).get(live, ("", "the live model"))[1]
    return [
        ("", f"What answers searches now: {serving}"),
        *((one.slug, f"{one.slug} (built in)") for one in builtin_spaces()),
        *((str(row.id), row.name) for row in own[:MAX_BASES]),
    ]


def _initial(request: Request) -> dict[str, Any]:
    return {name: request.GET[name] for name in ("dataset", "base") if name in request.GET}


def _form(known: dict[str, Any], *args: Any, **kwargs: Any) -> FinetuneForm:
    labels = [(str(one.id), f"{one.name} ({_pairs(count)})") for one, count in known["datasets"]]
    return FinetuneForm(labels, known["bases"], *args, **kwargs)


def _pairs(count: int) -> str:
    return "no training pairs" if not count else f"{count:,} training pair{'' if count == 1 else 's'}"


def _show(request: Request, known: dict[str, Any], form: FinetuneForm, status: int = 200) -> HttpResponse:
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
    chosen = counts.get(str(form["dataset"].value() or ""))
    if chosen is None:
        return {"estimate": None, "few": FEW, "enough": ENOUGH}
    dataset, count = chosen
    general = counts.get(str(form["general_dataset"].value() or ""))
    is_full = form["stage"].value() == LearntModel.Stage.FULL
    beside: list[Dataset] = [general[0]] if general and is_full else []
    wanted = services.Settings(epochs=_epochs(form))
    with request.workspace.open():
        estimate = services.estimate(dataset, beside, wanted)
    return {"estimate": estimate, "count": count, "chosen": dataset, "few": FEW, "enough": ENOUGH}


def _epochs(form: FinetuneForm) -> int:
    typed = str(form["epochs"].value() or "")
    asked = int(typed) if typed.isdecimal() and len(typed) < 4 else services.Settings.epochs
    return min(max(asked, 1), services.MAX_EPOCHS)


def _start(request: Request, known: dict[str, Any]) -> HttpResponse:
    form = _form(known, request.POST)
    if not form.is_valid():
        return _show(request, known, form, 422)
    given = form.cleaned_data
    try:
        with request.workspace.open():
            model, _job = services.start_finetune(
                dataset_id=given["dataset"],
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
        return _show(request, known, form, error.status)
    messages.success(request, _("The fine-tune has been queued."))
    return redirect("console:model", model_id=model.id)
