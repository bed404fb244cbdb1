"""Datasets: their list, one with its assets, and the fields of metadata."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console import labels
from console.access import Request, actor_of, needs, page
from console.datasets import presenters
from console.datasets.forms import DatasetEditForm, DatasetForm, FieldForm
from console.datasets.presenters import FEW, FieldSummary
from console.forms import ConfirmForm
from console.paging import page_of
from console.presenters import asset_card
from tenants.accounts import quotas
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import fields, selectors, services
from tenants.datasets.metadata import TAGS
from tenants.datasets.models import Asset, Dataset, DatasetVersion, Import
from tenants.errors import Conflict, Invalid
from tenants.jobs.models import Job
from tenants.pipeline.assets import services as pipeline
from tenants.retrieval import dataset_health

PAGE = 50


@needs(READ, methods=("GET",), narrowable=("GET",))
def index(request: Request) -> HttpResponse:
    return _index(request, DatasetForm(), 200)


def _index(request: Request, form: DatasetForm, status: int) -> HttpResponse:
    with request.workspace.open():
        found = page_of(selectors.counted_datasets(), request.GET.get("before", ""), PAGE)
    context = {"datasets": found.items, "next": found.next, "form": form, "open_dialog": form.is_bound}
    return page(request, "datasets.html", context, status=status)


@needs(WRITE, methods=("POST",))
def create(request: Request) -> HttpResponse:
    form = DatasetForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                dataset = services.create_dataset(**form.cleaned_data)
            return redirect("console:dataset", dataset_id=dataset.id)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    return _index(request, form, 422)


@needs(READ, narrowable=("GET",))
def show(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    if request.headers.get("HX-Request"):
        with request.workspace.open():
            dataset = selectors.get_dataset(dataset_id)
            if "tabs" in request.GET:
                return page(request, "parts/asset_tabs.html", _settled(request, dataset))
            context = _asset_page(request, dataset)
        return page(request, f"parts/asset_{context['shape'].view}.html", context)
    return dataset_page(request, dataset_id, {}, 200)


def dataset_page(request: Request, dataset_id: uuid.UUID, more: dict[str, Any], status: int) -> HttpResponse:
    """The page of a dataset with `more` in its context: forms that were sent, or what became of uploads."""
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        context = {
            "dataset": dataset,
            "edit_form": DatasetEditForm(initial=vars(dataset)),
            "confirm_form": ConfirmForm(dataset.name),
            "max_upload": settings.MAX_UPLOAD_BYTES,
            "room": quotas.room() if WRITE in request.workspace.scopes else {},
            "tags": offered_tags(dataset.id, request.GET.get("tag", "")),
            "advice": list(labels.ADVICE.items()),
            **_asset_page(request, dataset),
            **more,
        }
    return page(request, "dataset.html", context, status=status)


def offered_tags(dataset_id: uuid.UUID, chosen: str) -> list[tuple[str, int]]:
    """The frequent tags with how many of the newest assets have them, and the one that the list is narrowed to."""
    counted = fields.facet_counts(dataset_id, [TAGS], limit=presenters.OFFERED_TAGS).get(TAGS, [])
    return counted if not chosen or chosen in dict(counted) else [*counted, (chosen, 0)]


def _asset_page(request: Request, dataset: Dataset) -> dict[str, Any]:
    """A page of its assets, as the address asks for it or as the person left it."""
    shape = presenters.list_layout(request.GET, request.session, dataset)
    before = request.GET.get("before", "")
    if shape.finding in dataset_health.MOST_KEPT:
        found, following = presenters.page_of_finding(dataset.id, shape.finding, before, shape.size)
    else:
        assets = selectors.list_assets(dataset_id=dataset.id, status=shape.status, tag=shape.tag)
        if shape.finding:
            assets = assets.filter(pk__in=dataset_health.uncaptioned(dataset.id).values("pk"))
        found, following = presenters.page_of(assets, shape.sort, before, shape.size)
    table = shape.view == presenters.TABLE
    return {
        "cards": [] if table else [asset_card(asset) for asset in found],
        "rows": presenters.rows_of(found, shape.columns) if table else [],
        "any": bool(found),
        "finding": presenters.FINDINGS.get(shape.finding),
        "tick_copies": "copies" in request.GET,
        "next": following,
        "shape": shape,
        "sorts": presenters.SORTS,
        "status": shape.status,
        "dataset": dataset,
        "tabs": presenters.tabs_of(dataset),
        "imports": Import.objects.filter(dataset_id=dataset.id).count(),
        "versions": DatasetVersion.objects.filter(dataset_id=dataset.id).count(),
        "keys": list(dataset.metadata_schema),
        "most_columns": presenters.MAX_COLUMNS,
        "dataset_id": dataset.id,
    }


def _settled(request: Request, dataset: Dataset) -> dict[str, Any]:
    """The tabs as they stand now, and those of the assets that the page shows as being processed that no longer are:
    only these are drawn anew, so that nothing else moves."""
    shape = presenters.list_layout(request.GET, request.session, dataset)
    ids = presenters.read_ids(request.GET, "unsettled")
    found = selectors.list_assets(dataset_id=dataset.id).filter(pk__in=ids) if ids else Asset.objects.none()
    settled = list(found.exclude(status=Asset.State.PENDING))
    return {
        "dataset": dataset,
        "dataset_id": dataset.id,
        "shape": shape,
        "status": shape.status,
        "tabs": presenters.tabs_of(dataset),
        "imports": Import.objects.filter(dataset_id=dataset.id).count(),
        "versions": DatasetVersion.objects.filter(dataset_id=dataset.id).count(),
        "cards": [asset_card(asset) for asset in settled] if shape.view == presenters.GRID else [],
        "rows": settled if shape.view == presenters.TABLE else [],
        "drawn_anew": True,
    }


@needs(WRITE, methods=("POST",))
def edit(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    form = DatasetEditForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                services.update_dataset(dataset_id=dataset_id, **form.changes)
            messages.success(request, _("The dataset was changed."))
            return redirect("console:dataset", dataset_id=dataset_id)
        except (Invalid, Conflict) as error:
            form.refuse(error)
    return dataset_page(request, dataset_id, {"edit_form": form}, 422)


@needs(WRITE, methods=("POST",))
def delete(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    form = ConfirmForm(_name_of(request, dataset_id), request.POST)
    if not form.is_valid():
        return dataset_page(request, dataset_id, {"confirm_form": form}, 422)
    with request.workspace.open():
        pipeline.delete_dataset(dataset_id=dataset_id, actor=actor_of(request).label)
    words = _("“%(name)s” is gone. Its files are being erased in the background.")
    messages.success(request, words % {"name": form.expected})
    return redirect("console:datasets")


def _name_of(request: Request, dataset_id: uuid.UUID) -> str:
    with request.workspace.open():
        dataset: Dataset = selectors.get_dataset(dataset_id)
    return dataset.name


# Fields whose values are counted, and values of each.
MOST_BALANCED, MOST_VALUES = 4, 6


@needs(READ)
def health(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """What an examination found, each with the way to the assets, and how values are spread."""
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        report = dataset_health.report_of(dataset_id)
        context = {
            "dataset": dataset,
            "report": report,
            "findings": _findings(dataset, report),
            "kinds": sorted(report.figures.get("kinds", {}).items(), key=lambda one: -one[1]),
            "balance": _balance(dataset),
            "sample": fields.SAMPLE,
        }
    part = request.headers.get("HX-Request")
    return page(request, "parts/dataset_health.html" if part else "dataset_health.html", context)


def _findings(dataset: Dataset, report: dataset_health.Report) -> list[dict[str, Any]]:
    counts = report.figures.get("counts", {})
    now = {**report.left, dataset_health.UNCAPTIONED: counts.get(dataset_health.UNCAPTIONED, 0)}
    return [
        {"name": name, "words": words, "found": counts.get(name, 0), "now": now[name]}
        for name, words in presenters.FINDINGS.items()
    ]


def _balance(dataset: Dataset) -> list[dict[str, Any]]:
    """The most frequent values of the tags and of some fields, with their share of the newest assets."""
    keys = [
        key for key, entry in dataset.metadata_schema.items() if entry["type"] in {"text", "tags", "bool"}
    ]
    keys = sorted(keys, key=lambda key: key != TAGS)[:MOST_BALANCED]
    counted: Any = dataset
    looked_at = min(counted.asset_count, fields.SAMPLE)
    found = fields.facet_counts(dataset.id, keys, limit=MOST_VALUES)
    return [{"key": key, "values": found[key], "of": looked_at} for key in keys if key in found]


@needs(WRITE, methods=("POST",))
def examine(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    try:
        with request.workspace.open():
            dataset_health.examine(dataset_id=dataset_id)
        messages.success(request, _("The dataset is being examined."))
    except Conflict as error:
        messages.error(request, error.detail)
    return redirect("console:dataset-health", dataset_id=dataset_id)


@needs(READ, narrowable=("GET",))
def show_fields(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """`?field=<key>` opens the form of one, `?field=` an empty one."""
    return _show_fields(request, dataset_id, None, 200)


def _show_fields(
    request: Request, dataset_id: uuid.UUID, form: FieldForm | None, status: int
) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        listed = _fields_of(dataset)
    key = form.data.get("key") if form else request.GET.get("field")
    chosen = next((shown for shown in listed if shown.key == key), None)
    if form is None and key is not None and "write" in request.workspace.scopes:
        form = FieldForm.of(chosen) if chosen else FieldForm(initial={"key": key})
    context = {"dataset": dataset, "listed": listed, "form": form, "chosen": chosen, "sample": fields.SAMPLE}
    return page(request, "schema.html", context, status=status)


def _fields_of(dataset: Dataset) -> list[FieldSummary]:
    schema = dataset.metadata_schema
    counts = fields.facet_counts(dataset.id, list(schema), limit=FEW + 1)
    misfits = fields.count_misfits(dataset.id, schema)
    return [
        FieldSummary(key, entry, counts.get(key, []), misfits.get(key, 0))
        for key, entry in sorted(schema.items())
    ]


@needs(WRITE, methods=("POST",))
def save_fields(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
    form = FieldForm(request.POST)
    if "forget" in request.POST:
        return _remove_field(request, dataset_id, request.POST.get("key", ""))
    if form.is_valid():
        key = form.cleaned_data["key"]
        try:
            with request.workspace.open():
                job = fields.declare_field(dataset_id=dataset_id, key=key, entry=form.entry)
                misfits = fields.count_misfits(dataset_id, {key: form.entry}).get(key, 0)
        except Invalid as error:
            form.refuse(error)
            return _show_fields(request, dataset_id, form, 422)
        words = _("“%(key)s” is declared.") % {"key": key}
        messages.success(request, f"{words} {_consequences(job, misfits)}".strip())
        return redirect("console:dataset-fields", dataset_id=dataset_id)
    return _show_fields(request, dataset_id, form, 422)


def _consequences(job: Job | None, misfits: int) -> str:
    said = []
    if misfits:
        words = ngettext(
            "%(n)s asset does not fit; they stay as they are.",
            "%(n)s assets do not fit; they stay as they are.",
            misfits,
        )
        said.append(words % {"n": f"{misfits:,}"})
    if job:
        said.append(_("Filters and search follow in a moment."))
    return " ".join(said)


def _remove_field(request: Request, dataset_id: uuid.UUID, key: str) -> HttpResponse:
    with request.workspace.open():
        job = fields.forget_field(dataset_id=dataset_id, key=key)
    words = _("“%(key)s” is guessed from the values again.") % {"key": key}
    messages.success(request, f"{words} {_consequences(job, 0)}".strip())
    return redirect("console:dataset-fields", dataset_id=dataset_id)
