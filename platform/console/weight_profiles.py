"""Weight profiles of searches ("tasks" in addresses): weights of parts, rules that change them, the gate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm, StyledForm
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import Conflict, NotFound, NotReady, QuotaExceeded, ServiceError
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.retrieval import query
from tenants.retrieval.models import SearchTask

#: Those that a person weighs; vectors and examples keep what they have.
SHOWN_PARTS = ("text", "image", "audio", "video")

# Rows for rules that are still empty.
SPARE = 2


Row = dict[str, str]


@dataclass
class RuleRow:
    """One rule as it was typed, with what is wrong with it."""

    number: int
    words: str = ""
    weights: Row = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """Part, name of the field, and what was typed in it."""
        return [(part, f"rule-{self.number}-{part}", self.weights.get(part, "")) for part in SHOWN_PARTS]

    @property
    def is_empty(self) -> bool:
        return not self.words.strip() and not any(self.weights.values())


class WeightProfileForm(StyledForm):
    """Weights and rules are read from fields of their own names: `weight-PART`, `rule-N-when`, `rule-N-PART`."""

    slug = forms.CharField(
        max_length=query.MAX_SLUG,
        label=gettext_lazy("Name"),
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "furniture", "class": "mono"}),
    )
    description = forms.CharField(
        required=False,
        max_length=query.MAX_DESCRIPTION,
        label=gettext_lazy("Description"),
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    dynamic = forms.BooleanField(
        required=False, label=gettext_lazy("The gate may correct them for each query")
    )

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        task: SearchTask | query.Task | None = None,
        **kwargs: Any,
    ) -> None:
        typed = _fields_of(task) if data is None else data
        self.kept = dict(task.weights) if task else {}
        self.weights: Row = {part: str(typed.get(f"weight-{part}", "")) for part in SHOWN_PARTS}
        self.weight_errors: list[str] = []
        self.rules = _rows(typed)
        # Cleans at once where something was sent.
        super().__init__(data, **kwargs)

    @property
    def weight_cells(self) -> list[tuple[str, str, str]]:
        return [(part, f"weight-{part}", self.weights[part]) for part in SHOWN_PARTS]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        own = _numbers(self.weights, self.weight_errors)
        given["weights"] = {**{part: self.kept[part] for part in self.kept if part not in SHOWN_PARTS}, **own}
        given["rules"] = [_rule(row) for row in self.rules if not row.is_empty]
        if self.weight_errors or any(row.errors for row in self.rules):
            self.add_error(None, _("Some weights or rules are not valid."))
        return given

    def refuse(self, error: ServiceError) -> None:
        """A taken name at the name, weights at the weights, rules at their row."""
        if isinstance(error, Conflict):
            self.add_error("slug", error.detail)
            return
        for entry in getattr(error, "errors", None) or [{"pointer": "", "detail": error.detail}]:
            name, *rest = entry["pointer"].strip("/").split("/")
            if name == "weights":
                self.weight_errors.append(entry["detail"])
            elif name == "rules" and rest and rest[0].isdecimal():
                filled = [row for row in self.rules if not row.is_empty]
                filled[int(rest[0])].errors.append(entry["detail"])
            else:
                self.add_error(name if name in self.fields else None, entry["detail"])


def _fields_of(task: SearchTask | query.Task | None) -> dict[str, str]:
    """What a form that was not sent shows."""
    if task is None:
        return {f"weight-{part}": "1" for part in SHOWN_PARTS}
    shown = {
        f"weight-{part}": _format_weight(task.weights[part]) for part in SHOWN_PARTS if part in task.weights
    }
    for number, (words, weights) in enumerate(rules_of(task)):
        shown[f"rule-{number}-when"] = ", ".join(words)
        shown |= {
            f"rule-{number}-{part}": _format_weight(weights[part]) for part in SHOWN_PARTS if part in weights
        }
    return shown


def rules_of(
    task: SearchTask | query.Task,
) -> Iterator[tuple[tuple[str, ...], Mapping[str, float]]]:
    """Words and weights of each rule, of a row or of a built-in task."""
    for rule in (query.profile_of(task) if isinstance(task, SearchTask) else task).rules:
        yield rule.words, rule.weights


def _format_weight(weight: float) -> str:
    return f"{weight:g}"


def _rows(data: Mapping[str, object]) -> list[RuleRow]:
    """Rules as typed, then some empty rows."""
    rows = [_row(data, number) for number in range(query.MAX_RULES)]
    filled = [row for row in rows if not row.is_empty]
    empty = [row for row in rows if row.is_empty]
    return [*filled, *empty[:SPARE]]


def _row(data: Mapping[str, object], number: int) -> RuleRow:
    weights = {part: str(data.get(f"rule-{number}-{part}", "")) for part in SHOWN_PARTS}
    return RuleRow(number, str(data.get(f"rule-{number}-when", "")), weights)


def _rule(row: RuleRow) -> dict[str, object]:
    words = [word for one in row.words.split(",") if (word := one.strip())]
    if not words:
        row.errors.append(_("Name the words that it is about."))
    if len(words) > query.MAX_WORDS or any(len(word) > query.MAX_WORD or "\0" in word for word in words):
        row.errors.append(
            _("At most %(words)d words of %(length)d characters.")
            % {"words": query.MAX_WORDS, "length": query.MAX_WORD}
        )
    return {"when": words, "weights": _numbers(row.weights, row.errors)}


def _numbers(typed: Row, errors: list[str]) -> dict[str, float]:
    """Weights of the parts that were filled in."""
    found: dict[str, float] = {}
    for part, text in typed.items():
        if not text.strip():
            continue
        try:
            value = float(text.strip())
        except ValueError:
            value = math.nan
        if not 0 <= value <= query.MAX_WEIGHT:
            errors.append(_("A weight is a number from 0 to %(most)g.") % {"most": query.MAX_WEIGHT})
            break
        found[part] = value
    return found


TRAINING_JOB = "train_gate"


@needs(READ)
def index(request: Request) -> HttpResponse:
    """All of them with the gate; only the gate where htmx asks, while one is trained."""
    with request.workspace.open():
        context: dict[str, Any] = {"gate": query.fusion_as_dict(), "job": _training_job()}
        if request.headers.get("HX-Request"):
            return page(request, "parts/gate.html", context)
        context["own"] = [_profile_line(row) for row in query.list_tasks()[: query.MAX_TASKS]]
    context["built_in"] = [_profile_line(task) for task in query.BUILT_IN.values()]
    return page(request, "tasks.html", context)


def _training_job() -> Job | None:
    """The newest job that trains or trained a gate. In the tenant's scope."""
    return jobs.list_jobs(kind=TRAINING_JOB).first()


def _profile_line(task: SearchTask | query.Task) -> dict[str, Any]:
    total = sum(task.weights.get(part, 0) for part in SHOWN_PARTS) or 1
    return {
        "task": task,
        "shares": [(part, task.weights[part] / total) for part in SHOWN_PARTS if part in task.weights],
        "rules": [(words, list(weights.items())) for words, weights in rules_of(task)],
    }


@needs(TRAIN, methods=("GET", "POST"))
def create(request: Request) -> HttpResponse:
    """A new task, with `?from=` as a copy of another one."""
    if request.method != "POST":
        source = _source(request, request.GET.get("from", ""))
        initial = (
            {"description": source.description, "dynamic": source.dynamic} if source else {"dynamic": True}
        )
        return _form(request, WeightProfileForm(task=source, initial=initial))
    form = WeightProfileForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row = query.create_task(**form.cleaned_data, actor=actor_of(request).label)
            messages.success(request, _("The task %(name)s was created.") % {"name": row.slug})
            return redirect("console:tasks")
        except ServiceError as error:
            form.refuse(error)
    return _form(request, form, status=422)


def _source(request: Request, slug: str) -> SearchTask | query.Task | None:
    if slug in query.BUILT_IN:
        return query.BUILT_IN[slug]
    try:
        with request.workspace.open():
            return query.get_task(slug)
    except NotFound:
        return None


def _form(
    request: Request, form: WeightProfileForm, status: int = 200, slug: str = "", **more: Any
) -> HttpResponse:
    context = {"form": form, "slug": slug, "confirm_form": ConfirmForm(slug), **more}
    return page(request, "task.html", context, status=status)


@needs(TRAIN, methods=("GET", "POST"))
def edit(request: Request, slug: str) -> HttpResponse:
    with request.workspace.open():
        row = query.get_task(slug)
    if request.method != "POST":
        initial = {"slug": slug, "description": row.description, "dynamic": row.dynamic}
        return _form(request, WeightProfileForm(task=row, initial=initial), slug=slug)
    # The name stays: searches ask by it.
    form = WeightProfileForm({**request.POST.dict(), "slug": slug}, task=row)
    if form.is_valid():
        changes = {name: value for name, value in form.cleaned_data.items() if name != "slug"}
        try:
            with request.workspace.open():
                query.update_task(slug=slug, changes=changes, actor=actor_of(request).label)
            messages.success(request, _("Saved. Searches use it from now on."))
            return redirect("console:tasks")
        except ServiceError as error:
            form.refuse(error)
    return _form(request, form, status=422, slug=slug)


@needs(TRAIN, methods=("POST",))
def delete(request: Request, slug: str) -> HttpResponse:
    with request.workspace.open():
        row = query.get_task(slug)
    confirm = ConfirmForm(slug, request.POST)
    if not confirm.is_valid():
        initial = {"slug": slug, "description": row.description, "dynamic": row.dynamic}
        form = WeightProfileForm(task=row, initial=initial)
        return _form(request, form, status=422, slug=slug, confirm_form=confirm, open_delete=True)
    with request.workspace.open():
        query.delete_task(slug=slug, actor=actor_of(request).label)
    messages.success(request, _("The task was deleted."))
    return redirect("console:tasks")


# --- The gate --------------------------------------------------------------------------------------------


@needs(TRAIN, methods=("POST",))
def train_fusion_weights(request: Request) -> HttpResponse:
    try:
        with request.workspace.open():
            query.start_training(actor=actor_of(request).label)
        messages.success(request, _("The gate is being trained."))
    except (NotReady, Conflict, QuotaExceeded) as error:
        messages.error(request, error.detail)
    return redirect("console:tasks")


@needs(TRAIN, methods=("POST",))
def reset_fusion_weights(request: Request) -> HttpResponse:
    with request.workspace.open():
        query.retire_gate(actor=actor_of(request).label)
    messages.success(request, _("The built-in gate corrects the weights again."))
    return redirect("console:tasks")
