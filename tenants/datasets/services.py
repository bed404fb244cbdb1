"""Datasets and blobs: everything that writes them. An asset's whole life is in `tenants.pipeline`."""

from __future__ import annotations

import uuid
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils.translation import gettext as _

from tenants.datasets import documents, metadata, storage
from tenants.datasets.fields import change_schema
from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.selectors import NoSuchDataset
from tenants.errors import Conflict, Invalid, room_on_disk
from tenants.jobs.models import Job
from tenants.jobs.services import enqueue
from tenants.names import check_name
from tenants.scope import current_tenant_id, tenant_scope

MAX_NAME = 200
MAX_DESCRIPTION = 10_000
# An advisory lock: shared by whoever removes stored files, exclusive to a backup, which copies what its snapshot names.
REMOVING_FILES = 0x0C05_B10B
MAX_RETENTION_DAYS = 36_500
# Held until the job says what it really took: an asset of each kind on one core of 2026.
CPU_ESTIMATE_S = {"image": 0.3, "text": 0.05, "audio": 10.0, "video": 30.0, "document": 5.0}
EMBEDDING_JOB = {
    "image": "embed_asset",
    "text": "embed_asset",
    "audio": "embed_media",
    "video": "embed_media",
    "document": "embed_document",
}


def create_dataset(
    *,
    name: str,
    description: str = "",
    metadata_schema: dict[str, Any] | None = None,
    duplicates: str = Dataset.Duplicates.KEEP,
) -> Dataset:
    """Raises Invalid, or Conflict if the tenant has a dataset of this name."""
    fields = _checked(name, description, metadata_schema or {}) | {"duplicates": _checked_choice(duplicates)}
    try:
        with tenant_scope(current_tenant_id()):
            return Dataset.objects.create(**fields)
    except IntegrityError as error:
        raise Conflict(_("There is a dataset %(name)s already.") % {"name": f"{name!r}"}) from error


def update_dataset(*, dataset_id: uuid.UUID, **changes: Any) -> Dataset:
    """Change name, description, metadata_schema, retention_days or duplicates. Raises NotFound, Invalid, Conflict."""
    try:
        with tenant_scope(current_tenant_id()):
            dataset = Dataset.objects.select_for_update().filter(pk=dataset_id, deleted_at=None).first()
            if dataset is None:
                raise NoSuchDataset
            given = {f: changes.get(f, getattr(dataset, f)) for f in ("name", "description")}
            fields = _checked(**given, metadata_schema=changes.get("metadata_schema", {}))
            schema = fields.pop("metadata_schema")
            for field, value in fields.items():
                setattr(dataset, field, value)
            dataset.retention_days = _checked_days(changes.get("retention_days", dataset.retention_days))
            dataset.duplicates = _checked_choice(changes.get("duplicates", dataset.duplicates))
            dataset.save()
            if "metadata_schema" in changes:
                change_schema(dataset, schema)
            return dataset
    except IntegrityError as error:
        raise Conflict(_("There is a dataset of this name already.")) from error


def _checked(name: str, description: str, metadata_schema: Any) -> dict[str, Any]:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid(_("A name has 1 to %(name)s characters.") % {"name": MAX_NAME}, pointer="/name")
    if len(description) > MAX_DESCRIPTION:
        raise Invalid(
            _("At most %(description)s characters.") % {"description": MAX_DESCRIPTION},
            pointer="/description",
        )
    metadata.check_text(name, "/name")
    check_name(name)
    metadata.check_text(description, "/description")
    return {
        "name": name,
        "description": description,
        "metadata_schema": metadata.check_schema(metadata_schema),
    }


def _checked_days(days: int | None) -> int | None:
    if days is not None and not 1 <= days <= MAX_RETENTION_DAYS:
        raise Invalid(
            _("A number of days from 1 to %(retention_days)s, or null.")
            % {"retention_days": MAX_RETENTION_DAYS},
            pointer="/retention_days",
        )
    return days


def _checked_choice(duplicates: str) -> str:
    if duplicates not in Dataset.Duplicates.values:
        raise Invalid(
            _("One of %(names)s.") % {"names": ", ".join(Dataset.Duplicates.values)}, pointer="/duplicates"
        )
    return duplicates


def lock_dataset(dataset_id: uuid.UUID) -> Dataset:
    """Locked: a dataset that is being deleted takes nothing more. Raises NotFound."""
    dataset = Dataset.objects.select_for_update(no_key=True).filter(pk=dataset_id, deleted_at=None).first()
    if dataset is None:
        raise NoSuchDataset
    return dataset


def learn_schema(dataset: Dataset, *rows: dict[str, Any]) -> None:
    """Add guessed types of new metadata keys to the dataset's schema; an import passes many rows at once."""
    merged = metadata.guess_batch(dataset.metadata_schema, rows)
    if merged != dataset.metadata_schema:
        row = Dataset.objects.select_for_update().get(pk=dataset.pk)
        row.metadata_schema = metadata.guess_batch(row.metadata_schema, rows)
        row.save(update_fields=["metadata_schema"])


def queue_embedding(asset: Asset, more_vectors: int) -> Job:
    """Queue the embedding of an asset as it is now. Raises QuotaExceeded."""
    what = "document" if documents.is_document(asset.blob.media_type) else asset.modality
    return enqueue(
        kind=EMBEDDING_JOB[what],
        arguments={"asset": str(asset.id), "revision": asset.revision},
        reserve={"vectors": max(0, more_vectors), "cpu_s": CPU_ESTIMATE_S[what]},
    )


def keep_blob(*, sha256: str, length: int, media_type: str, scan: dict[str, Any] | None = None) -> Blob:
    """The row of these bytes with one more reference, locked. In the caller's transaction.

    `scan` is what `scanning.check_upload` said of them; the newest word counts.

    Call `write_blob` last: an upload that is refused half-way must not leave its file behind.
    """
    blob = None
    while blob is None:
        # Again if the collector removed the row in between.
        Blob.objects.bulk_create(
            [Blob(sha256=sha256, bytes=length, media_type=media_type)], ignore_conflicts=True
        )
        blob = Blob.objects.select_for_update().filter(sha256=sha256).first()
    Blob.objects.filter(pk=blob.pk).update(references=F("references") + 1)
    if scan is not None:
        blob.scan = scan
        blob.save(update_fields=["scan"])
    return blob


def write_blob(blob: Blob, content: IO[bytes] | Path) -> None:
    """Store the bytes unless they are there, while the row's lock keeps the collector away. Raises StorageFull.

    What is there and was damaged is written anew.
    """
    path = storage.path_of(blob.tenant_id, blob.sha256)
    with room_on_disk():
        storage.drop_damaged(path, blob.sha256)
        storage.put(path, content)


def drop_blob(blob_id: uuid.UUID) -> None:
    """Take one reference away; on commit the collector removes what nobody uses."""
    tenant_id = current_tenant_id()
    Blob.objects.filter(pk=blob_id).update(references=F("references") - 1)
    # Robust: the deletion has been done; a storage that fails now is tried again by collect_blobs.
    transaction.on_commit(lambda: collect_blob(tenant_id, blob_id), robust=True)


def may_remove_files() -> bool:
    """False while a backup is being made: what it is yet to copy must stay, and goes with the next collection.

    Otherwise a backup that begins now waits until the caller's transaction has ended.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", [REMOVING_FILES])
        return bool(cursor.fetchone()[0])


def collect_blob(tenant_id: uuid.UUID, blob_id: uuid.UUID) -> bool:
    """Remove file and row of a blob without references; True if it was removed.

    The file goes first: if the process dies in between, the row says that something is left to do, and an upload
    of the same bytes meanwhile finds the file missing and writes it again.
    """
    with tenant_scope(tenant_id):
        blob = Blob.objects.select_for_update().filter(pk=blob_id, references=0).first()
        if blob is None or Asset.objects.filter(blob=blob).exists() or not may_remove_files():
            return False
        storage.remove(tenant_id, blob.sha256, with_pages=blob.document is not None)
        blob.delete()
        return True


def collect_blobs(*, limit: int = 1000) -> int:
    """Remove what an interrupted deletion of the active tenant left behind."""
    tenant_id = current_tenant_id()
    # In the order in which everyone locks several.
    left = list(Blob.objects.filter(references=0).order_by("pk").values_list("pk", flat=True)[:limit])
    return sum(collect_blob(tenant_id, blob_id) for blob_id in left)


def collect_orphans(*, shard: str, older_than_s: float) -> int:
    """Remove files without a row from one of the 256 shards: left by a process that died before its commit."""
    tenant_id, removed = current_tenant_id(), 0
    for kind in (*storage.KINDS, storage.PAGES):
        stale = storage.stale_pages if kind == storage.PAGES else partial(storage.stale_files, kind=kind)
        names = set(stale(tenant_id, shard=shard, older_than_s=older_than_s))
        known = set(Blob.objects.filter(sha256__in=names).values_list("sha256", flat=True))
        removed += sum(_remove_orphan(tenant_id, name) for name in sorted(names - known))
    return removed


def _remove_orphan(tenant_id: uuid.UUID, sha256: str) -> bool:
    """Take the row's place while the file goes: an upload of the same bytes waits for it, or has come first."""
    with tenant_scope(tenant_id):
        if not may_remove_files():
            return False
        placeholder = Blob(sha256=sha256, bytes=0, media_type="")
        Blob.objects.bulk_create([placeholder], ignore_conflicts=True)
        blob = Blob.objects.select_for_update().filter(sha256=sha256).first()
        if blob is None or blob.pk != placeholder.pk:
            return False
        storage.remove(tenant_id, sha256)
        blob.delete()
        return True
