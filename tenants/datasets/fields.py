"""The fields of a dataset's metadata: declaring them, what stands in them, and what does not fit."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable

from django.db.models import Count, F, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext as _

from tenants.datasets.metadata import Schema, check_schema, guess_batch, misfits
from tenants.datasets.models import Asset, Dataset, Facet
from tenants.errors import NotFound
from tenants.jobs.models import Job
from tenants.jobs.services import enqueue
from tenants.scope import current_tenant_id, tenant_scope

# Counts are over the newest assets of a dataset: exact for most, and quick for all.
SAMPLE = 5_000


def declare_field(*, dataset_id: uuid.UUID, key: str, entry: dict[str, object]) -> Job | None:
    """Declare one field and keep the others as they are. Raises NotFound, Invalid."""
    with tenant_scope(current_tenant_id()):
        dataset = _locked(dataset_id)
        return change_schema(dataset, check_schema({**dataset.metadata_schema, key: entry}))


def forget_field(*, dataset_id: uuid.UUID, key: str) -> Job | None:
    """Take a declaration back: the type is guessed again, and a field that no asset has is gone. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        dataset = _locked(dataset_id)
        others = {name: entry for name, entry in dataset.metadata_schema.items() if name != key}
        rows = _newest(dataset_id).values_list("metadata", flat=True)
        return change_schema(dataset, guess_batch(others, ({key: row.get(key)} for row in rows)))


def change_schema(dataset: Dataset, schema: Schema) -> Job | None:
    """Store a checked schema on a locked dataset; the job that makes filters follow, if some type has changed.

    What does not fit the new schema stays as it is; `count_misfits` says how much that is.
    """
    changed = _types(schema) != _types(dataset.metadata_schema)
    dataset.metadata_schema = schema
    dataset.save(update_fields=["metadata_schema"])
    assets = Asset.objects.filter(dataset=dataset).count() if changed else 0
    if not assets:
        return None
    return enqueue(kind="reindex_metadata", arguments={"dataset": str(dataset.id)}, total=assets, reserve={})


def _types(schema: Schema) -> dict[str, str]:
    return {key: entry["type"] for key, entry in schema.items()}


def _locked(dataset_id: uuid.UUID) -> Dataset:
    dataset = Dataset.objects.select_for_update().filter(pk=dataset_id, deleted_at=None).first()
    if dataset is None:
        raise NotFound(_("This dataset does not exist."))
    return dataset


def _newest(dataset_id: uuid.UUID) -> QuerySet[Asset]:
    return Asset.objects.filter(dataset_id=dataset_id).order_by("-id")[:SAMPLE]


def facet_counts(
    dataset_id: uuid.UUID, keys: Iterable[str] | None = None, limit: int = 20
) -> dict[str, list[tuple[str, int]]]:
    """The most frequent values of each key, as text, with how many of the newest assets have them."""
    facets = Facet.objects.filter(asset_id__in=_newest(dataset_id).values("pk"), text__isnull=False)
    if keys is not None:
        facets = facets.filter(key__in=list(keys))
    place = Window(RowNumber(), partition_by=F("key"), order_by=[F("assets").desc(), F("text")])
    ranked = facets.values("key", "text").annotate(assets=Count("pk")).annotate(place=place)
    found: dict[str, list[tuple[str, int]]] = {}
    for row in ranked.filter(place__lte=limit).order_by("key", "place"):
        found.setdefault(row["key"], []).append((row["text"], row["assets"]))
    return found


def count_misfits(dataset_id: uuid.UUID, schema: Schema) -> dict[str, int]:
    """Of the newest assets, how many do not fit each declared field; fields that all fit are absent."""
    declared = {key: entry for key, entry in schema.items() if not entry.get("guessed")}
    if not declared:
        return {}
    rows = _newest(dataset_id).values_list("metadata", flat=True)
    return dict(Counter(key for row in rows for key, _ in misfits(row, declared)))
