"""Retention: assets that are older than their dataset keeps them are erased, by upkeep, in small transactions."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable

from django.db.models import QuerySet
from django.utils import timezone

from tenants.datasets import holds
from tenants.datasets.models import Asset, Dataset
from tenants.events.models import Erasure
from tenants.events.services import record
from tenants.pipeline.care import erasure_receipts as receipts
from tenants.pipeline.care.erasure import BATCH, add_to_receipt, erase_batch, locked
from tenants.scope import tenant_scope

ACTOR = "retention"
# A run of upkeep passes all tenants: what does not fit waits for the next one, five minutes later.
BUDGET_S = 20.0


def expire_assets(
    tenant_id: uuid.UUID, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic
) -> int:
    """Erase a tenant's assets that are past their dataset's retention, oldest first; returns how many.

    Opens its own scopes, one a batch. Each dataset of which something went gets one receipt and one audit event a run.
    """
    end, expired = clock() + budget_s, 0
    with tenant_scope(tenant_id):
        limited = Dataset.objects.filter(deleted_at=None).exclude(retention_days=None)
        dataset_ids = list(limited.order_by("id").values_list("pk", flat=True))
    for dataset_id in dataset_ids:
        expired += _expire_dataset(tenant_id, dataset_id, lambda: clock() < end)
    return expired


def _expire_dataset(tenant_id: uuid.UUID, dataset_id: uuid.UUID, in_time: Callable[[], bool]) -> int:
    erasure_id, expired = None, 0
    while in_time():
        with tenant_scope(tenant_id):
            # Held while the batch goes: whoever prolongs the retention keeps what is left from then on.
            dataset = Dataset.objects.select_for_update().filter(pk=dataset_id, deleted_at=None).first()
            if dataset is None or not (assets := _oldest(dataset)):
                break
            erasure = _receipt(dataset, erasure_id)
            erasure_id = erasure.id
            add_to_receipt(erasure, *erase_batch(assets, _past(dataset)))
            expired += len(assets)
            erasure.matched = expired
            erasure.save(update_fields=["matched"])
    if erasure_id is not None:
        with tenant_scope(tenant_id):
            details = {"assets": expired, "erasure": str(erasure_id)}
            record(actor=ACTOR, verb="dataset.expired", target=str(dataset_id), details=details)
    return expired


def _past(dataset: Dataset) -> QuerySet[Asset]:
    limit = timezone.now() - dt.timedelta(days=dataset.retention_days or 0)
    # What is held stays; the first run after its release takes it.
    if dataset.retention_days is None or holds.is_held(dataset.pk):
        return Asset.objects.none()
    return Asset.objects.filter(dataset=dataset, created_at__lt=limit)


def _oldest(dataset: Dataset) -> list[Asset]:
    ids = _past(dataset).order_by("id").values_list("pk", flat=True)[:BATCH]
    return locked(Asset.objects.filter(pk__in=list(ids)))


def _receipt(dataset: Dataset, erasure_id: uuid.UUID | None) -> Erasure:
    """This run's receipt, begun with its first batch."""
    if erasure_id is not None:
        return receipts.get_erasure(erasure_id)
    return Erasure.objects.create(kind=Erasure.Kind.RETENTION, target=dataset.id, requested_by=ACTOR)
