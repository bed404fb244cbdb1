"""Datasets: all of them, one with its assets, and their making, renaming and deleting."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from console.access import Request, actor_of, needs, page
from console.cards import card_of
from console.forms import ConfirmForm, DatasetEditForm, DatasetForm
from console.paging import page_of
from tenants.accounts.permissions import READ, WRITE
from tenants.datasets import selectors, services
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Conflict, Invalid
from tenants.pipeline import services as pipeline

PAGE = 24


@needs(READ, methods=("GET",))
def index(request: Request) -> HttpResponse:
    return _index(request, DatasetForm(), 200)


def _index(request: Request, form: DatasetForm, status: int) -> HttpResponse:
    with request.workspace.open():
        datasets = list(selectors.list_datasets())
    context = {"datasets": datasets, "form": form, "open_dialog": form.is_bound}
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
            selectors.require_dataset(dataset_id)
            return page(request, "parts/asset_tiles.html", _tiles(request, dataset_id))
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
            **_tiles(request, dataset_id),
            **forms,
        }
    return page(request, "dataset.html", context, status=status)


def _tiles(request: Request, dataset_id: uuid.UUID) -> dict[str, Any]:
    status = request.GET.get("status", "")
    status = status if status in Asset.State.values else ""
    found = page_of(
        selectors.list_assets(dataset_id=dataset_id, status=status), request.GET.get("before", ""), PAGE
    )
    cards = [card_of(asset) for asset in found.items]
    return {"cards": cards, "next": found.next, "status": status, "dataset_id": dataset_id}


@needs(WRITE, methods=("POST",))
def edit(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    form = DatasetEditForm(request.POST)
    if form.is_valid():
        try:
            with request.workspace.open():
                services.update_dataset(dataset_id=dataset_id, **form.cleaned_data)
            messages.success(request, "The dataset was changed.")
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
    messages.success(request, f"“{form.expected}” is gone. Its files are being erased in the background.")
    return redirect("console:datasets")


def _name_of(request: Request, dataset_id: uuid.UUID) -> str:
    with request.workspace.open():
        dataset: Dataset = selectors.get_dataset(dataset_id)
    return dataset.name
