"""Several assets of a dataset at once: delete, set a field, audit. One that is refused stops none of the others."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.access import Request, actor_of, needs
from console.asset_list import read_ids
from tenants.accounts.permissions import MODERATE, WRITE
from tenants.datasets import selectors
from tenants.datasets.metadata import expected
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.values import read_as
from tenants.errors import Invalid, ServiceError
from tenants.pipeline.assets import services
from tenants.pipeline.audits import audit_requests
from tenants.pipeline.care import erasure


@needs(WRITE, methods=("POST",))
def delete(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    done = _each(request, dataset_id, lambda one: erasure.erase_asset(asset_id=one, actor=actor))
    if done:
        words = ngettext("%(n)s asset was deleted.", "%(n)s assets were deleted.", done)
        messages.success(request, words % {"n": done})
    return redirect("console:dataset", dataset_id=dataset_id)


@needs(WRITE, methods=("POST",))
def describe(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    """Set one field of the metadata; an empty value takes it away."""
    with request.workspace.open():
        dataset = selectors.get_dataset(dataset_id)
    key, actor = request.POST.get("key", "").strip(), actor_of(request).label
    changes = {key: _value(dataset, key, request.POST.get("value", "").strip())}
    done = _each(
        request,
        dataset_id,
        lambda one: services.update_asset(asset_id=one, changes=changes, actor=actor),
    )
    if done:
        words = ngettext("%(n)s asset was changed.", "%(n)s assets were changed.", done)
        messages.success(request, words % {"n": done})
    return redirect("console:dataset", dataset_id=dataset_id)


def _value(dataset: Dataset, key: str, text: str) -> Any:
    """What was typed, as the type of the field. Raises Invalid."""
    if not key:
        raise Invalid(_("Name the field that is to be set."), pointer="/key")
    if not text:
        return None
    kind = dataset.metadata_schema.get(key, {}).get("type", "text")
    value = read_as(text, kind)
    if value is None:
        raise Invalid(f"“{text[:40]}”: {expected(kind)}", pointer="/value")
    return value


@needs(MODERATE, methods=("POST",))
def audit(request: Request, dataset_id: uuid.UUID) -> HttpResponse:
    actor = actor_of(request).label
    done = _each(request, dataset_id, lambda one: audit_requests.request_audit(asset_id=one, actor=actor))
    if done:
        words = ngettext("%(n)s asset is being audited.", "%(n)s assets are being audited.", done)
        messages.success(request, words % {"n": done})
    return redirect("console:dataset", dataset_id=dataset_id)


def _each(request: Request, dataset_id: uuid.UUID, act: Callable[[uuid.UUID], Any]) -> int:
    """Do it to each of the ticked assets, in a transaction of its own; how many it was done to."""
    with request.workspace.open():
        selectors.require_dataset(dataset_id)
        ticked = read_ids(request.POST)
        found = list(Asset.objects.filter(dataset_id=dataset_id, pk__in=ticked).values_list("pk", flat=True))
    if not found:
        messages.error(request, _("Tick the assets that are meant first."))
    refused: list[ServiceError] = []
    for asset_id in found:
        try:
            with request.workspace.open():
                act(asset_id)
        except ServiceError as error:
            refused.append(error)
    if refused:
        words = ngettext(
            "%(n)s asset was left as it is: %(why)s",
            "%(n)s assets were left as they are: %(why)s",
            len(refused),
        )
        messages.error(request, words % {"n": len(refused), "why": refused[0].detail})
    return len(found) - len(refused)
