"""Imports as people see them: asked for, previewed, started, followed, their receipt.

The source is kept in the tenant's storage until the import has ended, so that a killed attempt can go on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets import importers, storage
from tenants.datasets.models import Import, ImportRow
from tenants.datasets.selectors import require_dataset
from tenants.datasets.services import lock_dataset
from tenants.errors import Conflict, Invalid, NotFound, QuotaExceeded, room_on_disk
from tenants.events.services import record
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.pipeline.transfer import shapes
from tenants.pipeline.transfer.import_sources import KEEP_SOURCE, forget_source, sealed, secret_of, source_of
from tenants.scope import current_tenant_id, tenant_scope

SHOWN_FAILURES = 100
# Of a failed row: characters of its id and text that are shown.
EXCERPT = 200
LOCATION = 1000


@dataclass(frozen=True)
class Source:
    """A source that was looked at: an uploaded file (`path`), or a bucket's prefix with its credentials."""

    path: Path | None
    location: str
    format: str
    preview: importers.Preview
    secret: Mapping[str, str] | None = None

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size if self.path else 0


def inspect_source(
    *,
    path: Path | None = None,
    filename: str = "",
    location: str = "",
    secret: Mapping[str, str] | None = None,
    mapping: Any = None,
    options: Any = None,
) -> Source:
    """What an uploaded file, or a bucket's prefix, holds. Takes time, so never in a scope.

    Raises Invalid (unreadable, or a mapping that does not fit), UnsupportedMedia, Unavailable.
    """
    if path is None and not location.startswith("s3://"):
        raise Invalid(_("Send a file, or a source that begins with s3://."), pointer="/source")
    format_ = importers.detect(path, filename) if path else "files"
    given = dict(secret) if secret else None
    preview = importers.preview(path or location, format_, mapping=mapping, options=options, secret=given)
    return Source(path, (filename if path else location)[:LOCATION], format_, preview, secret)


def create_import(*, dataset_id: uuid.UUID, source: Source, actor: str = "") -> Import:
    """A draft, which takes the source's file over. Raises NotFound, QuotaExceeded, StorageFull."""
    tenant_id = current_tenant_id()
    with tenant_scope(tenant_id):
        # Before the counters, as everywhere.
        lock_dataset(dataset_id)
        _check_room(source.bytes)
        row = Import(
            dataset_id=dataset_id,
            source=Import.Source.UPLOAD if source.path else Import.Source.BUCKET,
            location=source.location,
            format=source.format,
            bytes=source.bytes,
            mapping=source.preview.mapping.as_dict(),
            options=source.preview.options,
            secret=sealed(source.secret) if source.secret else None,
            total=source.preview.total,
            created_by=actor,
        )
        row.save(force_insert=True)
        record(actor=actor, verb="import.created", target=str(row.id))
        if source.path is not None:
            with room_on_disk():
                storage.put(storage.import_path(tenant_id, row.id), source.path)
    return row


def _check_room(size: int) -> None:
    """Raises QuotaExceeded where the files of waiting and failed imports and this one would be too much together."""
    # Asked twice: the first time locks the counter, so that of two imports at once the second counts the first.
    quotas.check_room({"bytes": size})
    done = Job.objects.filter(kind="import_assets", state=Job.State.SUCCEEDED).values("pk")
    kept = Import.objects.filter(source=Import.Source.UPLOAD, created_at__gt=timezone.now() - KEEP_SOURCE)
    others = kept.exclude(job_id__in=done).aggregate(bytes=Sum("bytes"))["bytes"] or 0
    try:
        quotas.check_room({"bytes": size + others})
    except QuotaExceeded as error:
        raise QuotaExceeded(
            _("%(detail)s The files of imports that wait or have failed count until you delete these.")
            % {"detail": error.detail},
            **error.extra,
        ) from error


def create_folder_import(*, dataset_id: uuid.UUID, folder: Path, mapping: Any, actor: str) -> Import:
    """A draft for a folder of this machine. For operators only: tenants must not name paths."""
    preview = importers.preview(folder, "files", mapping=mapping)
    with tenant_scope(current_tenant_id()):
        require_dataset(dataset_id)
        row = Import(
            dataset_id=dataset_id,
            source=Import.Source.FOLDER,
            location=str(folder),
            format="files",
            mapping=preview.mapping.as_dict(),
            options=preview.options,
            total=preview.total,
            created_by=actor,
        )
        row.save(force_insert=True)
    return row


def preview_import(row: Import, *, mapping: Any = None, options: Any = None) -> importers.Preview:
    """What the import would read, with another mapping or other options. Takes time, so never in a scope.

    Raises Invalid, Conflict (its file is gone).
    """
    with source_of(row) as place:
        return importers.preview(
            place,
            row.format,
            mapping=row.mapping if mapping is None else mapping,
            options=row.options if options is None else options,
            secret=secret_of(row),
        )


def start_import(
    *, import_id: uuid.UUID, preview: importers.Preview | None = None, actor: str = ""
) -> tuple[Import, Job]:
    """Queue a draft, with the mapping and options of a later preview if one is given. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = _locked(import_id)
        if row.job_id is not None:
            raise Conflict(_("This import was started already."), import_id=str(import_id))
        if preview is not None:
            row.mapping, row.options, row.total = preview.mapping.as_dict(), preview.options, preview.total
        job = enqueue(
            kind="import_assets", arguments={"import": str(row.id)}, total=max(1, row.total or 1), reserve={}
        )
        row.job_id = job.id
        row.save(update_fields=["mapping", "options", "total", "job_id"])
        record(actor=actor, verb="import.started", target=str(row.id))
    return row, job


def delete_import(*, import_id: uuid.UUID, actor: str = "") -> None:
    """Throw a draft away, or the receipt of an import that has ended. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        row = _locked(import_id)
        if Job.objects.filter(UNFINISHED, pk=row.job_id).exists():
            raise Conflict(_("This import is running. Cancel its job first."))
        forget_source(row)
        row.delete()
        record(actor=actor, verb="import.deleted", target=str(import_id))


def _locked(import_id: uuid.UUID) -> Import:
    rows = Import.objects.select_for_update(of=("self",))
    row = rows.filter(pk=import_id, dataset__deleted_at=None).first()
    if row is None:
        raise NotFound(_("This import does not exist."))
    return row


# --- Reading ---------------------------------------------------------------------------------------------


def get_import(import_id: uuid.UUID | None) -> Import:
    row = _visible().filter(pk=import_id).first()  # type: ignore[misc]  # None matches no row
    if row is None:
        raise NotFound(_("This import does not exist."))
    return row


def list_imports(*, dataset_id: uuid.UUID) -> QuerySet[Import]:
    return _visible().filter(dataset_id=dataset_id).order_by("-id")


def _visible() -> QuerySet[Import]:
    return Import.objects.filter(dataset__deleted_at=None)


def jobs_of(rows: Iterable[Import]) -> dict[uuid.UUID | None, Job]:
    """The jobs of some imports by id, in one query."""
    return {job.id: job for job in Job.objects.filter(pk__in=[row.job_id for row in rows if row.job_id])}


def list_rows(*, import_id: uuid.UUID, outcome: str = "") -> QuerySet[ImportRow]:
    """The receipt, in the order of the source."""
    rows = ImportRow.objects.filter(job_import_id=import_id)
    return (rows.filter(outcome=outcome) if outcome else rows).order_by("row")


def import_shape(row: Import, job: Job | None = None) -> shapes.Import:
    """The import in the shape of the API; `state` is `draft`, or its job's."""
    job = job or Job.objects.filter(pk=row.job_id).first()
    return shapes.Import(
        id=str(row.id),
        dataset=str(row.dataset_id),
        source=row.source,
        location=row.location,
        format=row.format,
        bytes=row.bytes,
        mapping=row.mapping,
        options=row.options,
        state=job.state if job else "draft" if row.job_id is None else "cancelled",
        job=str(row.job_id) if row.job_id else None,
        total=row.total,
        imported=row.imported,
        merged=row.merged,
        duplicate=row.duplicate,
        failed=row.failed,
        created_at=row.created_at,
    )


def row_shape(row: ImportRow, job_import: Import) -> shapes.ImportLine:
    """`external_id` and `text` tell what a failed row of a table was about; they are empty where nothing is kept."""
    external_id, text = describe_failed_row(row, job_import)
    return shapes.ImportLine(
        row=row.row,
        name=row.name,
        outcome=row.outcome,
        asset=str(row.asset_id) if row.asset_id else None,
        reason=row.reason,
        external_id=external_id,
        text=text,
    )


def describe_failed_row(row: ImportRow, job_import: Import) -> tuple[str, str]:
    """The external id and the beginning of the text of a failed row."""
    values = dict(row.record or ())
    mapping = job_import.mapping or {}
    words = [values.get(mapping.get(role)) for role in ("id", "text")]
    external_id, text = ("" if word is None else str(word).strip() for word in words)
    return external_id[:EXCERPT], text[:EXCERPT]


def result_of(row: Import) -> dict[str, Any]:
    """The result of the job: counts, and the first failures with their reasons."""
    failures = list_rows(import_id=row.id, outcome=ImportRow.Outcome.FAILED)[:SHOWN_FAILURES]
    return {
        "import": str(row.id),
        "imported": row.imported,
        "merged": row.merged,
        "duplicate": row.duplicate,
        "failed": row.failed,
        "failures": [_failure(failure, row) for failure in failures],
    }


def _failure(row: ImportRow, job_import: Import) -> dict[str, object]:
    external_id, text = describe_failed_row(row, job_import)
    return {
        "row": row.row,
        "name": row.name,
        "external_id": external_id,
        "text": text,
        "reason": row.reason,
    }


def on_end(job: Job) -> None:
    """What an import that ended badly leaves: its receipt, and its file for a retry for as long as upkeep keeps it."""
    row = Import.objects.filter(pk=job.arguments["import"]).first()
    if row is not None and job.finished:
        job.result = result_of(row)
        Job.objects.filter(pk=job.pk).update(result=job.result)
