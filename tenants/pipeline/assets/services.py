"""An asset's way from upload to deletion: which module acts when."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import metering, quotas
from tenants.datasets import event_payloads, holds, metadata
from tenants.datasets.models import Asset, Blob, Dataset, DatasetVersionAsset, Facet, TranscriptSegment
from tenants.datasets.selectors import copies_of, visible_assets
from tenants.datasets.services import (
    drop_blob,
    keep_blob,
    learn_schema,
    lock_dataset,
    queue_embedding,
    write_blob,
)
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.moderation.models import AuditRequest
from tenants.moderation.reviews.effects import HIDDEN, hold
from tenants.pipeline.assets.uploads import (
    Upload,
    check_captions,
    check_external_id,
    check_upload,
    reserve_of,
    vectors_of,
)
from tenants.pipeline.audits import audit_requests
from tenants.pipeline.transfer import import_sources
from tenants.retrieval import model_routing, query, standing
from tenants.retrieval.index import record_changes, remove_vectors
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable


@dataclass(frozen=True)
class Added:
    """`created` is False when the same content stood under this external_id already, or was skipped as a duplicate.

    `duplicate_of` is the earlier asset of the same content in the dataset, also where this one was kept beside it.
    """

    asset: Asset
    job: Job | None
    created: bool
    duplicate_of: uuid.UUID | None = None


def add_asset(
    *,
    dataset_id: uuid.UUID,
    file: IO[bytes] | None = None,
    text: str = "",
    upload: Upload | None = None,
    values: dict[str, Any] | None = None,
    external_id: str | None = None,
    actor: str = "",
) -> Added:
    """Keep an upload and queue its embedding, all or nothing.

    A file and a text together are one asset with a caption; `upload` is both of them, checked before. Where the dataset
    skips duplicates and has the content, nothing is added: of two at once the second waits at the dataset's lock and
    finds the first. Raises NotFound, Invalid, UnsupportedMedia, Conflict (the external_id stands for other content),
    QuotaExceeded.
    """
    upload = upload or check_upload(file, text)
    with tenant_scope(current_tenant_id()):
        dataset = lock_dataset(dataset_id)
        kept = metadata.check_metadata(values or {}, dataset.metadata_schema, at_most=quotas.metadata_limit())
        external_id = check_external_id(external_id)
        if external_id and (earlier := _existing(dataset, external_id, upload)):
            return earlier
        copies = copies_of(dataset.id, [upload.sha256]).get(upload.sha256, [])
        same = next((copy for copy in copies if has_captions(copy, upload.captions)), None)
        if same is not None and dataset.duplicates == Dataset.Duplicates.SKIP:
            return Added(same, None, created=False, duplicate_of=same.id)
        added = _create(dataset, upload, kept, external_id, actor)
        return replace(added, duplicate_of=copies[0].id if copies else None)


def has_captions(asset: Asset, captions: Sequence[str]) -> bool:
    """Whether all of these are captions of the asset: then another file with the same bytes and them adds nothing."""
    return set(captions) <= set(asset.captions)


def _existing(dataset: Dataset, external_id: str, upload: Upload) -> Added | None:
    asset = Asset.objects.select_related("blob").filter(dataset=dataset, external_id=external_id).first()
    if asset is None:
        return None
    if asset.blob.sha256 == upload.sha256 and set(asset.captions) == set(upload.captions):
        return Added(asset, None, created=False)
    raise Conflict(
        _(
            "external_id %(external_id)s stands for other content in this dataset. "
            "Delete that asset first, or choose another external_id."
        )
        % {"external_id": f"{external_id!r}"},
        asset=str(asset.id),
    )


def _create(
    dataset: Dataset, upload: Upload, values: dict[str, Any], external_id: str | None, actor: str
) -> Added:
    blob = keep_blob(
        sha256=upload.sha256, length=upload.bytes, media_type=upload.media_type, scan=upload.scan
    )
    size = blob.bytes + metadata.stored_bytes(values)
    quotas.charge(amounts={"assets": 1, "bytes": size})
    asset = insert_asset(dataset, blob, upload, values, external_id=external_id)
    job = admit(asset, upload.vectors, actor)
    record(actor=actor, verb="asset.added", target=str(asset.id))
    write_blob(blob, upload.content)
    transaction.on_commit(partial(meter, asset.tenant_id, {"assets": 1, "bytes": size}))
    return Added(asset, job, created=True)


def insert_asset(
    dataset: Dataset, blob: Blob, upload: Upload, values: dict[str, object], **more: object
) -> Asset:
    """The row of an asset with its facets, in the caller's transaction; `more` are further columns.

    The caller charges the storage, that of the metadata (`Asset.metadata_bytes`), too.
    """
    more.setdefault("metadata_bytes", metadata.stored_bytes(values))
    asset = Asset(
        dataset=dataset,
        blob=blob,
        modality=upload.modality,
        caption=upload.caption,
        more_captions=list(upload.captions[1:]),
        filename=upload.filename,
        excerpt=upload.excerpt,
        metadata=values,
        **more,
    )
    try:
        with transaction.atomic():
            asset.save(force_insert=True)
    except IntegrityError as error:
        raise Conflict(
            _("external_id %(external_id)s was just taken by another upload.")
            % {"external_id": f"{asset.external_id!r}"}
        ) from error
    Facet.objects.bulk_create(metadata.facets_of(asset.id, values, dataset.metadata_schema))
    learn_schema(dataset, values)
    event_payloads.created([asset])
    return asset


def admit(asset: Asset, vectors: int, actor: str) -> Job:
    """Queue a new asset's embedding and, where a policy audits uploads, its audit: only that where it comes first.

    `vectors` is how many embedding may need. Raises QuotaExceeded.
    """
    decides = audit_requests.audits_uploads(modality=asset.modality, sha256=asset.blob.sha256)
    audit = audit_requests.audit_upload(asset, decides, actor) if decides else None
    if audit is not None and audit_requests.quarantines(decides):
        return audit
    return queue_embedding(asset, vectors)


def meter(tenant_id: uuid.UUID, amounts: dict[str, float]) -> None:
    """Add to the daily figures; call it after the commit."""
    # The quota counted it already; the daily figures are not worth a failed upload.
    with suppress(Unavailable):
        metering.record(tenant_id=tenant_id, amounts=amounts)


def update_asset(
    *,
    asset_id: uuid.UUID,
    caption: str | None = None,
    captions: Sequence[str] | None = None,
    values: dict[str, Any] | None = None,
    changes: dict[str, Any] | None = None,
    tags: Sequence[str] | None = None,
    add_tags: Sequence[str] = (),
    remove_tags: Sequence[str] = (),
    actor: str = "",
) -> Added:
    """Change captions, metadata or tags; new captions are embedded anew. Raises NotFound, Held, Invalid, QuotaExceeded.

    `captions` are all of them, `caption` only the first. `values` are all of the metadata, `changes` only some keys of
    it, of which None takes one away. `tags` are all of them; to these, or to those there are, `add_tags` are added, and
    `remove_tags` are taken away in whatever case they are written.
    """
    tagged = tags is not None or add_tags or remove_tags
    with tenant_scope(current_tenant_id()):
        if values is not None or changes is not None or tagged:
            _lock_dataset_of(asset_id)
        asset = _locked_asset(asset_id)
        holds.refuse_held([asset.dataset_id])
        if changes is not None:
            merged = {**(asset.metadata if values is None else values), **changes}
            values = {key: value for key, value in merged.items() if value is not None}
        if tagged:
            values = _tagged(asset.metadata if values is None else values, tags, add_tags, remove_tags)
            if values == asset.metadata and captions is None and caption is None:
                return Added(asset, None, created=False)
        job = None
        if values is not None:
            _replace_metadata(asset, values)
        if captions is not None or caption is not None:
            job = _change_captions(asset, caption, captions, actor)
        record(actor=actor, verb="asset.updated", target=str(asset.id))
    return Added(asset, job, created=False)


def _tagged(
    values: dict[str, Any], tags: Sequence[str] | None, added: Sequence[str], removed: Sequence[str]
) -> dict[str, Any]:
    """Metadata with `tags`, or its own, and others beside or instead of them. Raises Invalid."""
    gone = {tag.casefold() for tag in metadata.check_tags(removed, "/remove_tags")}
    more = metadata.check_tags(added, "/add_tags")
    own = metadata.tags_of(values)
    kept = [tag for tag in (own if tags is None else tags) if tag.casefold() not in gone]
    if more or tags is not None:
        kept = metadata.check_tags([*kept, *more])
    # What stays as it is, or only loses some, may be longer than it might be written now.
    others = {key: value for key, value in values.items() if key != metadata.TAGS}
    return values if kept == own else {**others, metadata.TAGS: kept} if kept else others


def retry_asset(*, asset_id: uuid.UUID, actor: str = "") -> Added:
    """Process an asset that failed once more, from the bytes that are stored. Raises NotFound, Conflict (it did not
    fail, or is blocked), QuotaExceeded."""
    with tenant_scope(current_tenant_id()):
        asset = _locked_asset(asset_id)
        if asset.moderation in HIDDEN:
            raise Conflict(
                _("It is blocked or held back by the content policy, which processing does not change.")
            )
        if asset.status != Asset.State.FAILED:
            raise Conflict(_("Only an asset that failed can be tried again."))
        asset.status, asset.error = Asset.State.PENDING, None
        # The job that failed may still be tried again from the list of jobs; it finds that it is out of date.
        asset.revision += 1
        asset.save(update_fields=["status", "error", "revision"])
        job = queue_embedding(asset, reserve_of(asset))
        record(actor=actor, verb="asset.retried", target=str(asset.id))
    return Added(asset, job, created=False)


def _lock_dataset_of(asset_id: uuid.UUID) -> None:
    # Before the asset, as an erasure does: new metadata may change the dataset's schema.
    holder = Asset.objects.filter(pk=asset_id).values("dataset_id")
    list(Dataset.objects.select_for_update().filter(pk__in=holder).values_list("pk"))


def _locked_asset(asset_id: uuid.UUID) -> Asset:
    asset = visible_assets().select_for_update(of=("self",)).filter(pk=asset_id).first()
    if asset is None:
        raise NotFound(_("This asset does not exist."))
    return asset


def _replace_metadata(asset: Asset, values: dict[str, object]) -> None:
    dataset = Dataset.objects.get(pk=asset.dataset_id)
    if asset.generation_id:
        # Nobody makes it look like something that was not made here.
        values = {**values, metadata.GENERATED: True}
    limit = quotas.metadata_limit()
    if limit is not None:
        # What is there already may be larger, from before the limit; it may shrink step by step.
        limit = max(limit, metadata.stored_bytes(asset.metadata))
    asset.metadata = metadata.check_metadata(
        values, dataset.metadata_schema, at_most=limit, before=asset.metadata
    )
    values = asset.metadata
    _recharge(asset, metadata.stored_bytes(values))
    asset.save(update_fields=["metadata", "metadata_bytes"])
    query.index_fields([(asset.id, query.words_of(values, dataset.metadata_schema))])
    metadata.given_facets([asset.id]).delete()
    Facet.objects.bulk_create(metadata.facets_of(asset.id, values, dataset.metadata_schema))
    learn_schema(dataset, values)
    record_changes([asset.id])


def _recharge(asset: Asset, size: int) -> None:
    """The storage that new metadata takes, or leaves. Raises QuotaExceeded."""
    more, asset.metadata_bytes = size - asset.metadata_bytes, size
    if more > 0:
        quotas.charge(amounts={"bytes": more})
        transaction.on_commit(partial(meter, asset.tenant_id, {"bytes": more}))
    elif more < 0:
        quotas.give_back(amounts={"bytes": -more})


def _change_captions(
    asset: Asset, caption: str | None, captions: Sequence[str] | None, actor: str
) -> Job | None:
    pointer = "/caption" if captions is None else "/captions"
    wanted = [caption or "", *asset.more_captions] if captions is None else captions
    kept = check_captions(wanted, pointer)
    if list(kept) == asset.captions:
        return None
    if asset.modality == Asset.Modality.TEXT:
        raise Invalid(_("A text asset has no caption. Upload the new text as a new asset."), pointer=pointer)
    return replace_captions(asset, kept, actor)


def replace_captions(
    asset: Asset, captions: Sequence[str], actor: str, parent: uuid.UUID | None = None
) -> Job:
    """Give a locked asset these checked captions and queue what has to be done for them. Raises QuotaExceeded."""
    more = vectors_of(captions) - vectors_of(asset.captions)
    asset.captions = list(captions)
    audit = _audit_again(asset, actor, parent)
    if audit is not None and asset.moderation in HIDDEN:
        # Not found until the new words were looked at; what was blocked stays blocked until then.
        asset.save(update_fields=["caption", "more_captions"])
        return audit
    asset.status, asset.error = Asset.State.PENDING, None
    asset.revision += 1
    asset.save(update_fields=["caption", "more_captions", "status", "error", "revision"])
    return queue_embedding(asset, more)


def _audit_again(asset: Asset, actor: str, parent: uuid.UUID | None) -> Job | None:
    """The audit of changed words, where a policy audits uploads or the asset is held back anyway."""
    decides = audit_requests.audits_uploads(modality=asset.modality, sha256=asset.blob.sha256)
    if decides is None and asset.moderation not in HIDDEN:
        return None
    if audit_requests.quarantines(decides) and asset.moderation not in HIDDEN:
        hold(asset)
    return audit_requests.ask(asset, source=AuditRequest.Source.AGAIN, actor=actor, parent=parent).job


def delete_asset(*, asset_id: uuid.UUID, actor: str = "") -> None:
    """Remove an asset with its vectors, facets and, if nothing else uses it, its blob. Raises NotFound, Held.

    Once this returns no search shows it again: the row that hydration needs is gone.
    """
    with tenant_scope(current_tenant_id()):
        asset = _locked_asset(asset_id)
        erase_rows([asset])
        record(actor=actor, verb="asset.deleted", target=str(asset_id))


def erase_rows(assets: list[Asset]) -> None:
    """Delete rows and what hangs on them. What a running job holds comes back when that job ends.

    Locks are taken in the order in which embedding takes them: asset, blob, clock, quota. Raises Held.
    """
    holds.refuse_held({asset.dataset_id for asset in assets})
    ids = [asset.id for asset in assets]
    for blob_id in sorted(asset.blob_id for asset in assets):
        drop_blob(blob_id)
    vectors = remove_vectors(asset_ids=ids)
    Facet.objects.filter(asset_id__in=ids).delete()
    TranscriptSegment.objects.filter(asset_id__in=ids).delete()
    DatasetVersionAsset.objects.filter(asset_id__in=ids)._raw_delete(using="default")
    query.remove_texts(ids)
    model_routing.forget_gaps(asset_ids=ids)
    standing.forget_assets(ids)
    with holds.refusals_explained():
        Asset.objects.filter(pk__in=ids)._raw_delete(using="default")
    event_payloads.deleted(assets)
    size = sum(asset.blob.bytes + asset.metadata_bytes for asset in assets)
    quotas.give_back(amounts={"assets": len(assets), "bytes": size, "vectors": vectors})


def delete_dataset(*, dataset_id: uuid.UUID, actor: str = "") -> Job:
    """Hide a dataset at once and erase it in the background. Raises NotFound, Held."""
    with tenant_scope(current_tenant_id()):
        dataset = lock_dataset(dataset_id)
        holds.refuse_held([dataset.pk])
        Dataset.objects.filter(pk=dataset.pk).update(deleted_at=timezone.now())
        record(actor=actor, verb="dataset.deleted", target=str(dataset_id))
        return _queue_erasure(dataset)


def _queue_erasure(dataset: Dataset) -> Job:
    total = Asset.objects.filter(dataset=dataset).count()
    return enqueue(
        kind="delete_dataset", arguments={"dataset": str(dataset.id)}, total=max(total, 1), reserve={}
    )


def resume_deletions() -> int:
    """Queue the erasure of deleted datasets of the active tenant that no job works on any more."""
    busy = Job.objects.filter(UNFINISHED, kind="delete_dataset").values_list("arguments__dataset", flat=True)
    left = Dataset.objects.exclude(deleted_at=None).exclude(pk__in=[uuid.UUID(d) for d in busy])
    left = left.exclude(pk__in=holds.held_datasets().values("pk"))
    return len([_queue_erasure(dataset) for dataset in left])


def erase_some(*, dataset_id: uuid.UUID, count: int) -> int:
    """Erase up to `count` assets of a dataset, then the dataset; returns how many assets are left."""
    with tenant_scope(current_tenant_id()):
        dataset = Dataset.objects.select_for_update().filter(pk=dataset_id).first()
        if dataset is None:
            return 0
        chosen = Asset.objects.select_for_update(of=("self",)).select_related("blob").filter(dataset=dataset)
        erase_rows(list(chosen.order_by("id")[:count]))
        left = Asset.objects.filter(dataset=dataset).count()
        if not left:
            holds.refuse_held([dataset.pk])
            import_sources.forget_sources(dataset)
            dataset.delete()
        return left
