"""Classifiers: listed, defined, labelled, trained, promoted and deleted."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.access import Request, actor_of, needs, page
from console.forms import ConfirmForm, StyledForm
from console.paging import page_of, parse_id
from tenants.accounts.permissions import READ, TRAIN
from tenants.datasets.selectors import get_assets
from tenants.errors import NotFound, NotReady, ServiceError
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning.classifiers import selectors, services, suggestions
from tenants.learning.models import Classifier, ClassifierVersion
from tenants.learning.selectors import public_name
from tenants.retrieval import model_routing

PAGE, SUGGESTED = 25, 12

FIGURES = {
    "precision": gettext_lazy("Precision"),
    "recall": gettext_lazy("Recall"),
    "f1": "F1",
    "auc": "AUC",
    "brier": gettext_lazy("Brier score"),
    "ece": gettext_lazy("Calibration error"),
}
STATES = {
    "draft": gettext_lazy("draft"),
    "candidate": gettext_lazy("candidate"),
    "promoting": gettext_lazy("being applied"),
    "live": gettext_lazy("live"),
    "retired": gettext_lazy("retired"),
    "stale": gettext_lazy("stale"),
    "failed": gettext_lazy("failed"),
}
SOURCES = {
    "words": gettext_lazy("words"),
    "examples": gettext_lazy("examples"),
    "metadata": gettext_lazy("metadata"),
    "decisions": gettext_lazy("reviewers’ decisions"),
}
WARNINGS = {
    "few_examples": gettext_lazy(
        "Fewer than 30 examples, or than ten of one answer: its figures and its probabilities are estimates."
    ),
    "not_told_apart": gettext_lazy(
        "It barely tells yes from no: label more examples, or ask about something visible."
    ),
    "near_duplicates_disagree": gettext_lazy("Some near-identical examples have conflicting labels."),
    "decided_both_ways": gettext_lazy(
        "Reviewers made conflicting decisions about the same content; the newest decision counts."
    ),
    "not_measured": gettext_lazy("Built from words only: it ranks, but its accuracy has not been measured."),
}


class ClassifierForm(StyledForm):
    name = forms.CharField(
        max_length=services.MAX_NAME,
        label=gettext_lazy("Name"),
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    words = forms.CharField(
        required=False,
        max_length=services.MAX_WORDS,
        label=gettext_lazy("What it looks for, in words"),
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    key = forms.CharField(
        required=False,
        max_length=100,
        label=gettext_lazy("Or a key of metadata"),
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    value = forms.CharField(
        required=False,
        max_length=200,
        label=gettext_lazy("whose value for yes is"),
        widget=forms.TextInput({"autocomplete": "off", "placeholder": "true"}),
    )
    rule = forms.CharField(
        required=False,
        max_length=services.MAX_DECIDED,
        label=gettext_lazy("Or reviewers’ decisions about a rule"),
        widget=forms.TextInput({"autocomplete": "off"}),
    )
    label = forms.CharField(
        required=False,
        max_length=services.MAX_DECIDED,
        label=gettext_lazy("that applied the label"),
        widget=forms.TextInput({"autocomplete": "off"}),
    )


@needs(READ, methods=("GET",))
def index(request: Request) -> HttpResponse:
    return _index(request, ClassifierForm(), 200)


def _index(request: Request, form: ClassifierForm, status: int) -> HttpResponse:
    with request.workspace.open():
        found = page_of(selectors.list_classifiers(), request.GET.get("before", ""), PAGE)
        rows = selectors.describe_all(found.items)
    lines = [{"row": row, "state": STATES[row.state]} for row in rows]
    context = {"lines": lines, "next": found.next, "form": form}
    return page(request, "classifiers.html", context, status=status)


@needs(TRAIN, methods=("POST",))
def add(request: Request) -> HttpResponse:
    form = ClassifierForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                row = services.create_classifier(
                    name=form.cleaned_data["name"].strip(),
                    words=form.cleaned_data["words"],
                    metadata_key=form.cleaned_data["key"],
                    metadata_value=_value(form.cleaned_data["value"]),
                    decisions_rule=form.cleaned_data["rule"],
                    decisions_label=form.cleaned_data["label"],
                    actor=actor_of(request).label,
                )
            return redirect("console:classifier", classifier_id=row.id)
        except ServiceError as error:
            form.refuse(error)
    return _index(request, form, 422)


def _value(typed: str) -> object:
    """True for nothing, and for the words of JSON; else the text as it is typed, or the number."""
    known: dict[str, object] = {"": True, "true": True, "false": False}
    if typed.strip().lower() in known:
        return known[typed.strip().lower()]
    try:
        return float(typed)
    except ValueError:
        return typed


# --- One of them -----------------------------------------------------------------------------------------


@needs(READ, methods=("GET",))
def show(request: Request, classifier_id: uuid.UUID) -> HttpResponse:
    return _show(request, classifier_id, {}, 200)


def _show(request: Request, classifier_id: uuid.UUID, more: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        row = selectors.get_classifier(classifier_id)
        shape = selectors.describe(row)
        under_way = _under_way(row)
        model = model_routing.live()
        cards = _cards(row)
    context = {
        "row": row,
        "shape": shape,
        "state": STATES[shape.state],
        "versions": [_version(one) for one in shape.versions],
        "under_way": under_way,
        "model": public_name(model),
        "cards": cards,
        "confirm_form": ConfirmForm(row.name),
        **more,
    }
    return page(request, "classifier.html", context, status=status)


def _under_way(row: Classifier) -> Job | None:
    states = (ClassifierVersion.State.DRAFT, ClassifierVersion.State.PROMOTING)
    ids = list(row.versions.filter(state__in=states).values_list("job_id", flat=True))
    return Job.objects.filter(jobs.UNFINISHED, pk__in=ids).first()


def _cards(row: Classifier) -> list[dict[str, Any]]:
    """Assets to label next; none where no version is trained."""
    try:
        found = suggestions.suggest(row, SUGGESTED)
    except NotReady:
        return []
    assets = get_assets([one.asset_id for one in found])
    return [
        {"asset": assets[one.asset_id], "probability": one.probability, "margin": one.margin}
        for one in found
        if one.asset_id in assets
    ]


def _version(shape: Any) -> dict[str, Any]:
    figures = shape.report.get("figures", {})
    return {
        "shape": shape,
        "state": STATES["failed" if shape.error and shape.state == "draft" else shape.state],
        "source": SOURCES[shape.source],
        "is_calibrated": shape.tier == "calibrated",
        "figures": [(FIGURES[name], part) for name, part in figures.items() if name in FIGURES],
        "warnings": [WARNINGS[one] for one in shape.report.get("warnings", ()) if one in WARNINGS],
    }


@needs(TRAIN, methods=("POST",))
def label(request: Request, classifier_id: uuid.UUID) -> HttpResponse:
    """One asset by its button, or several by their ids, one a line."""
    said = {"yes": True, "no": False, "none": None}
    answer = request.POST.get("label", "")
    ids = [parse_id(one) for one in request.POST.get("assets", "").split()]
    try:
        if answer not in said or not ids or None in ids:
            raise NotFound(_("This asset does not exist."))
        labels = {one: said[answer] for one in ids if one is not None}
        with request.workspace.open():
            services.label_assets(classifier_id=classifier_id, labels=labels, actor=actor_of(request).label)
    except ServiceError as error:
        with request.workspace.open():
            selectors.get_classifier(classifier_id)
        messages.error(request, error.detail)
    return redirect("console:classifier", classifier_id=classifier_id)


@needs(TRAIN, methods=("POST",))
def train(request: Request, classifier_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.get_classifier(classifier_id)
    source = request.POST.get("source", "")
    try:
        with request.workspace.open():
            services.train(
                classifier_id=classifier_id,
                source=source if source in SOURCES else "",
                actor=actor_of(request).label,
            )
        messages.success(request, _("Training has started; it takes a few seconds."))
    except ServiceError as error:
        messages.error(request, error.detail)
    return redirect("console:classifier", classifier_id=classifier_id)


@needs(TRAIN, methods=("POST",))
def promote(request: Request, classifier_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.get_classifier(classifier_id)
    named = request.POST.get("version", "")
    number = int(named) if named.isascii() and named.isdigit() and len(named) < 10 else 0
    try:
        with request.workspace.open():
            services.promote(classifier_id=classifier_id, number=number, actor=actor_of(request).label)
        messages.success(request, _("Every asset is being scored; then this version answers."))
    except ServiceError as error:
        messages.error(request, error.detail)
    return redirect("console:classifier", classifier_id=classifier_id)


@needs(TRAIN, methods=("POST",))
def delete(request: Request, classifier_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        row = selectors.get_classifier(classifier_id)
    form = ConfirmForm(row.name, request.POST)
    if not form.is_valid():
        return _show(request, classifier_id, {"confirm_form": form, "open_delete": True}, 422)
    with request.workspace.open():
        services.delete_classifier(classifier_id=classifier_id, actor=actor_of(request).label)
    messages.success(request, _("The classifier was deleted."))
    return redirect("console:classifiers")
