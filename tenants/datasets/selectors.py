"""Reading datasets and assets of the active tenant."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from typing import Any, NamedTuple

from django.db.models import BooleanField, F, Func, QuerySet, Value
from django.utils.translation import gettext as _

from tenants.accounts.permissions import MODERATE, WRITE
from tenants.datasets import shapes
from tenants.datasets.asset_counts import count_of_assets
from tenants.datasets.metadata import TAGS
from tenants.datasets.models import Asset, Blob, Dataset, Facet, TranscriptSegment
from tenants.errors import NotAllowed, NotFound
from tenants.shapes import UNSET, JsonObject

# Assets of one content that are looked through for a duplicate: a placeholder may stand for a whole catalogue.
MOST_COPIES = 1_000
# Characters of a title that put assets in order.
MAX_SORTED = 200
NOT_SCANNED = {"state": "not_scanned"}


class NoSuchDataset(NotFound):
    """Of its own, as whoever calls the API may have given a name."""

    def __init__(self) -> None:
        super().__init__(_("This dataset does not exist."))


def get_dataset(dataset_id: uuid.UUID | None) -> Dataset:
    dataset = counted_datasets().filter(pk=dataset_id).first()  # type: ignore[misc]  # None matches no row
    if dataset is None:
        raise NoSuchDataset
    return dataset


def require_dataset(dataset_id: uuid.UUID | None) -> None:
    """Raises NotFound; reads nothing more, unlike get_dataset."""
    if not Dataset.objects.filter(pk=dataset_id, deleted_at=None).exists():
        raise NoSuchDataset


def require_datasets(dataset_ids: Collection[uuid.UUID]) -> None:
    """Raises NotFound unless all of them are there."""
    wanted = set(dataset_ids)
    if wanted and Dataset.objects.filter(pk__in=wanted, deleted_at=None).count() < len(wanted):
        raise NoSuchDataset


def list_datasets() -> QuerySet[Dataset]:
    return Dataset.objects.filter(deleted_at=None).order_by("-id")


def counted_datasets(*, name: str | None = None) -> QuerySet[Dataset]:
    """All, or the one of this name. With `asset_count`, `ready_count` and `failed_count`, which count no assets
    (tenants.datasets.asset_counts).
    """
    rows = list_datasets()
    return count_of_assets(rows if name is None else rows.filter(name=name))


def get_asset(asset_id: uuid.UUID | None) -> Asset:
    asset = visible_assets().filter(pk=asset_id).first()  # type: ignore[misc]  # None matches no row
    if asset is None:
        raise NotFound(_("This asset does not exist."))
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
        raise NotFound(_("This asset does not exist."))


class SortKey(NamedTuple):
    """What an asset is put in order by: its title without case, shortened, and seconds since the epoch."""

    name: str
    created_at: float


def sort_keys(asset_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, SortKey]:
    """Of the assets that are there."""
    columns = ("pk", "moderation", "caption", "filename", "excerpt", "created_at")
    rows = Asset.objects.filter(is_any("pk", asset_ids)).values_list(*columns)
    found = {}
    for pk, moderation, caption, filename, excerpt, created_at in rows:
        # Of what is hidden no word tells where it stands.
        title = "" if moderation in Asset.HIDDEN else caption or filename or excerpt
        found[pk] = SortKey(" ".join(title[:MAX_SORTED].casefold().split()), created_at.timestamp())
    return found


def visible_assets() -> QuerySet[Asset]:
    """Assets with their blob, without those of datasets that are being deleted."""
    return Asset.objects.select_related("blob").filter(dataset__deleted_at=None)


def list_assets(
    *, dataset_id: uuid.UUID, status: str = "", modality: str = "", tag: str = ""
) -> QuerySet[Asset]:
    """Newest first. `tag`: only those that have it, in this very spelling."""
    assets = visible_assets().filter(dataset_id=dataset_id).order_by("-id")
    if tag:
        # By the index over key and text (facet_by_text), which goes on by asset.
        tagged = Facet.objects.filter(key=TAGS, text=tag.replace("\0", ""))
        assets = assets.filter(pk__in=tagged.values("asset_id"))
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


def asset_shape(asset: Asset) -> shapes.Asset:
    """The asset as the API shows it."""
    blob = asset.blob
    return shape_of_columns(
        str(asset.id), str(asset.dataset_id), asset.modality, asset.status, asset.external_id,
        blob.sha256, blob.bytes, blob.media_type, blob.width, blob.height,
        asset.filename, asset.caption, asset.more_captions, asset.excerpt, asset.metadata, blob.scan,
        asset.created_at, blob.details, blob.document, asset.error, asset.moderation, asset.labels,
        asset.generation_id is not None, asset.prompt,
    )  # fmt: skip


def shape_of_columns(
    asset_id: str, dataset_id: str, modality: str, status: str, external_id: str | None,
    sha256: str, size: int, media_type: str, width: int | None, height: int | None,
    filename: str, caption: str, more_captions: list[str], excerpt: str, metadata: JsonObject,
    scan: JsonObject | None, created_at: dt.datetime, details: JsonObject | None,
    document: JsonObject | None, error: JsonObject | None, moderation: str, labels: list[str],
    generated: bool, prompt: str,
) -> shapes.Asset:  # fmt: skip
    """An asset from its columns, as a search reads them without making objects of rows (tenants.retrieval)."""
    shape = shapes.Asset(
        id=asset_id,
        dataset=dataset_id,
        modality=modality,
        status=status,
        external_id=external_id,
        sha256=sha256,
        bytes=size,
        media_type=media_type,
        width=width,
        height=height,
        filename=filename or None,
        caption=caption,
        captions=[caption, *more_captions] if caption else [],
        excerpt=excerpt,
        metadata=metadata,
        scan=scan or NOT_SCANNED,
        moderation=moderation or None,
        labels=labels,
        generated=generated,
        created_at=created_at,
        prompt=prompt or UNSET,
        error=UNSET if error is None else error,
        document=UNSET if document is None else document,
    )
    if details is not None:
        media: Any = details
        shape.duration_s, shape.has_sound = media["duration_s"], media["has_sound"]
        shape.truncated, shape.examined = media["truncated"], media["examined"]
        if languages := media.get("languages"):
            shape.languages = languages
    return shape


def asset_shape_for(asset: Asset, scopes: Collection[str]) -> shapes.Asset:
    """Without words and name of what is held back, for those who may neither write nor moderate."""
    shape = asset_shape(asset)
    if asset.moderation in Asset.HIDDEN and not {MODERATE, WRITE} & set(scopes):
        shape.filename, shape.caption, shape.captions, shape.excerpt = None, "", [], ""
        shape.document, shape.prompt = UNSET, UNSET
    return shape


def transcript_of(asset: Asset) -> list[shapes.TranscriptSegment]:
    rows = TranscriptSegment.objects.filter(asset=asset).order_by("start_s", "id")
    return [
        shapes.TranscriptSegment(start_s=start, end_s=end, text=text, confidence=confidence)
        for start, end, text, confidence in rows.values_list("start_s", "end_s", "text", "confidence")
    ]


def dataset_shape(dataset: Dataset) -> shapes.Dataset:
    return shapes.Dataset(
        id=str(dataset.id),
        name=dataset.name,
        description=dataset.description,
        metadata_schema=dataset.metadata_schema,
        assets=getattr(dataset, "asset_count", 0),
        ready=getattr(dataset, "ready_count", 0),
        retention_days=dataset.retention_days,
        duplicates=dataset.duplicates,
        created_at=dataset.created_at,
    )


# --- Conditions ------------------------------------------------------------------------------------------


def is_any(column: str, ids: Collection[uuid.UUID] | Collection[str]) -> Func:
    """That a column is one of these ids: one parameter, where `__in` has one for each."""
    among = Value("{" + ",".join(map(str, ids)) + "}")
    template = "%(expressions)s::uuid[])"
    return Func(F(column), among, template=template, arg_joiner=" = ANY(", output_field=BooleanField())
