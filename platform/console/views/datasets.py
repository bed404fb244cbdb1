"""Datasets: all of them, one with its assets, and their making, renaming and deleting."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from console import asset_list
from console.access import Request, actor_of, needs, page
from console.cards import card_of
from console.forms import ConfirmForm, DatasetEditForm, DatasetForm
from console.paging import page_of
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import selectors, services
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Conflict, Invalid
from tenants.pipeline.assets import services as pipeline

PAGE = 50


@needs(READ, methods=("GET",))
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


@needs(READ)
def show(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    if request.headers.get("HX-Request"):
        with request.workspace.open():
            context = _listed(request, selectors.get_dataset(dataset_id))
        return page(request, f"parts/asset_{context['shape'].view}.html", context)
    return _show(request, dataset_id, {}, 200)


def _show(request: Request, dataset_id: uuid.UUID, forms: dict[str, Any], status: int) -> HttpResponse:
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
        context = {
            "dataset": dataset,
            "edit_form": DatasetEditForm(initial=vars(dataset)),
            "confirm_form": ConfirmForm(dataset.name),
            "statuses": Asset.State.values,
            "max_upload": settings.MAX_UPLOAD_BYTES,
            **_listed(request, dataset),
            **forms,
        }
    return page(request, "dataset.html", context, status=status)


def _listed(request: Request, dataset: Dataset) -> dict[str, Any]:
    """A page of its assets, as the address asks for it or as the person left it."""
    shape = asset_list.shape_of(request.GET, request.session, dataset)
    assets = selectors.list_assets(dataset_id=dataset.id, status=shape.status)
    found, following = asset_list.page_of(assets, shape.sort, request.GET.get("before", ""), shape.size)
    table = shape.view == asset_list.TABLE
    return {
        "cards": [] if table else [card_of(asset) for asset in found],
        "rows": asset_list.rows_of(found, shape.columns) if table else [],
        "any": bool(found),
        "next": following,
        "shape": shape,
        "sorts": asset_list.SORTS,
        "status": shape.status,
        "keys": list(dataset.metadata_schema),
        "most_columns": asset_list.MAX_COLUMNS,
        "dataset_id": dataset.id,
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
    return _show(request, dataset_id, {"edit_form": form}, 422)


@needs(WRITE, methods=("POST",))
def delete(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    form = ConfirmForm(_name_of(request, dataset_id), request.POST)
    if not form.is_valid():
        return _show(request, dataset_id, {"confirm_form": form}, 422)
    with request.workspace.open():
        pipeline.delete_dataset(dataset_id=dataset_id, actor=actor_of(request).label)
    words = _("“%(name)s” is gone. Its files are being erased in the background.")
    messages.success(request, words % {"name": form.expected})
    return redirect("console:datasets")


def _name_of(request: Request, dataset_id: uuid.UUID) -> str:
    with request.workspace.open():
        dataset: Dataset = selectors.get_dataset(dataset_id)
    return dataset.name
