"""Reading datasets and assets of the active tenant."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.accounts.permissions import MODERATE, WRITE
from tenants.datasets.asset_counts import count_of_assets
from tenants.datasets.models import Asset, Blob, Dataset, TranscriptSegment
from tenants.errors import NotAllowed, NotFound

# Assets of one content that are looked through for a duplicate: a placeholder may stand for a whole catalogue.
MOST_COPIES = 1_000


def get_dataset(dataset_id: uuid.UUID | None) -> Dataset:
    dataset = counted_datasets().filter(pk=dataset_id).first()  # type: ignore[misc]  # None matches no row
    if dataset is None:
        raise NotFound(_("There is no such dataset."))
    return dataset


def require_dataset(dataset_id: uuid.UUID | None) -> None:
    """Raises NotFound; reads nothing more, unlike get_dataset."""
    if not Dataset.objects.filter(pk=dataset_id, deleted_at=None).exists():
        raise NotFound(_("There is no such dataset."))


def require_datasets(dataset_ids: Collection[uuid.UUID]) -> None:
    """Raises NotFound unless all of them are there."""
    wanted = set(dataset_ids)
    if wanted and Dataset.objects.filter(pk__in=wanted, deleted_at=None).count() < len(wanted):
        raise NotFound(_("There is no such dataset."))


def list_datasets() -> QuerySet[Dataset]:
    return Dataset.objects.filter(deleted_at=None).order_by("-id")


def counted_datasets() -> QuerySet[Dataset]:
    """With `asset_count`, `ready_count` and `failed_count`, which count no assets (tenants.datasets.asset_counts)."""
    return count_of_assets(list_datasets())


def get_asset(asset_id: uuid.UUID | None) -> Asset:
    asset = visible_assets().filter(pk=asset_id).first()  # type: ignore[misc]  # None matches no row
    if asset is None:
        raise NotFound(_("There is no such asset."))
    return asset


def is_shown(asset: Asset, scopes: Collection[str]) -> bool:
    return asset.moderation not in Asset.HIDDEN or MODERATE in scopes


def require_shown(asset: Asset, scopes: Collection[str]) -> None:
    """Raises NotAllowed for content that was blocked or held back, unless who asks may moderate."""
    if not is_shown(asset, scopes):
        raise NotAllowed(
            _("This content is held back by the content policy; only who may moderate can see it.")
        )


def require_assets(asset_ids: Collection[uuid.UUID]) -> None:
    """Raises NotFound unless all of them are there."""
    wanted = set(asset_ids)
    if wanted and visible_assets().filter(pk__in=wanted).count() < len(wanted):
        raise NotFound(_("There is no such asset."))


def visible_assets() -> QuerySet[Asset]:
    """Assets with their blob, without those of datasets that are being deleted."""
    return Asset.objects.select_related("blob").filter(dataset__deleted_at=None)


def list_assets(*, dataset_id: uuid.UUID, status: str = "", modality: str = "") -> QuerySet[Asset]:
    assets = visible_assets().filter(dataset_id=dataset_id).order_by("-id")
    if status:
        assets = assets.filter(status=status)
    return assets.filter(modality=modality) if modality else assets


def get_assets(asset_ids: list[uuid.UUID]) -> dict[uuid.UUID, Asset]:
    """Assets by id, in one query; ids that are gone are absent."""
    return {a.id: a for a in visible_assets().filter(pk__in=asset_ids)}


def copies_of(dataset_id: uuid.UUID, sha256s: Collection[str]) -> dict[str, list[Asset]]:
    """The assets of a dataset with these contents, the earliest first, by SHA-256.

    Without those that could not be decoded: the same file may be tried again.
    """
    blobs = dict(Blob.objects.filter(sha256__in=sha256s).values_list("pk", "sha256"))
    found: dict[str, list[Asset]] = {}
    if blobs:
        rows = Asset.objects.select_related("blob").filter(dataset_id=dataset_id, blob_id__in=blobs)
        for asset in rows.exclude(status=Asset.State.FAILED).order_by("id")[:MOST_COPIES]:
            found.setdefault(blobs[asset.blob_id], []).append(asset)
    return found


def as_dict(asset: Asset) -> dict[str, Any]:
    """The asset in the shape of the API."""
    shape: dict[str, Any] = {
        "id": str(asset.id),
        "dataset": str(asset.dataset_id),
        "modality": asset.modality,
        "status": asset.status,
        "external_id": asset.external_id,
        "sha256": asset.blob.sha256,
        "bytes": asset.blob.bytes,
        "media_type": asset.blob.media_type,
        "width": asset.blob.width,
        "height": asset.blob.height,
        "filename": asset.filename or None,
        "caption": asset.caption,
        "captions": asset.captions,
        "excerpt": asset.excerpt,
        "metadata": asset.metadata,
        "scan": asset.blob.scan or {"state": "not_scanned"},
        "moderation": asset.moderation or None,
        "labels": asset.labels,
        "created_at": asset.created_at,
    }
    if asset.blob.details is not None:
        shape |= media_as_dict(asset.blob.details)
    if asset.error is not None:
        shape["error"] = asset.error
    return shape


def as_shown(asset: Asset, scopes: Collection[str]) -> dict[str, Any]:
    """As `as_dict`, without words and name of what is held back for those who may neither write nor moderate."""
    shape = as_dict(asset)
    if asset.moderation in Asset.HIDDEN and not {MODERATE, WRITE} & set(scopes):
        shape |= {"filename": None, "caption": "", "captions": [], "excerpt": ""}
    return shape


def media_as_dict(details: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to know of sound or film; `examined` says what was looked for and what was not."""
    return {
        "duration_s": details["duration_s"],
        "has_sound": details["has_sound"],
        "truncated": details["truncated"],
        "examined": details["examined"],
    }


def transcript_of(asset: Asset) -> list[dict[str, Any]]:
    rows = TranscriptSegment.objects.filter(asset=asset).order_by("start_s", "id")
    return list(rows.values("start_s", "end_s", "text", "confidence"))


def dataset_as_dict(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": str(dataset.id),
        "name": dataset.name,
        "description": dataset.description,
        "metadata_schema": dataset.metadata_schema,
        "assets": getattr(dataset, "asset_count", 0),
        "ready": getattr(dataset, "ready_count", 0),
        "retention_days": dataset.retention_days,
        "duplicates": dataset.duplicates,
        "created_at": dataset.created_at,
    }
