"""Exports as a tenant asks for them: made by a job, one file to download for some days."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from tenants import age
from tenants.accounts.models import Tenant
from tenants.datasets import storage
from tenants.datasets.content_responses import Rendition
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Invalid, NotFound, NotReady, room_on_disk
from tenants.events.models import Export
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import dataset_versions
from tenants.pipeline.care.erasure_receipts import live_exports
from tenants.pipeline.transfer import shapes
from tenants.pipeline.transfer.export_writing import ZipSink, write_export
from tenants.scope import current_tenant_id, tenant_scope

# Rows are told often enough to be cancelled between them, and not so often that telling costs more than writing.
TELL_EVERY_S = 1.0
OF_TENANT, OF_VERSION = KINDS = ("export_tenant", "export_dataset_version")
ENCRYPTED = "application/octet-stream"
REMOVED = gettext_noop(
    "This export was removed because a person's data was erased in the meantime. Create another one."
)


def request_export(
    *,
    with_vectors: bool = False,
    recipient: str = "",
    dataset_id: uuid.UUID | None = None,
    version_id: uuid.UUID | None = None,
    actor: str = "",
) -> tuple[Export, Job]:
    """Queue an export of the active tenant, or of a version of a dataset, encrypted for `recipient`, a public key of
    age, if one is given.

    Raises Invalid, NotFound, NotReady for a version that is not made yet, and Conflict while an export is being made.
    """
    recipient = _checked_recipient(recipient)
    with tenant_scope(current_tenant_id()):
        # Of two that ask at once the second waits here, and sees the first one's job.
        Tenant.objects.select_for_update(no_key=True).get(pk=current_tenant_id())
        if Job.objects.filter(jobs.UNFINISHED, kind__in=KINDS).exists():
            raise Conflict(_("An export is being made already. Wait for it, or cancel its job."))
        export = Export(with_vectors=with_vectors, recipient=recipient, requested_by=actor)
        total = max(Asset.objects.count(), 1)
        if version_id is not None:
            version = dataset_versions.hold_version(dataset_id, version_id)
            total = max(version.asset_count - version.gone, 1)
            told = dataset_versions.as_source(version)
            export.version = {
                "dataset": str(dataset_id),
                **{key: told[key] for key in ("id", "name", "digest")},
            }
        # A kind of its own: a worker of the release before would make an export of everything.
        kind = OF_VERSION if export.version else OF_TENANT
        job = jobs.enqueue(kind=kind, arguments={"export": str(export.id)}, total=total, reserve={})
        export.job_id = job.id
        export.save(force_insert=True)
        details = {"vectors": with_vectors, "recipient": recipient or None}
        if export.version:
            details["version"] = export.version["name"]
        record(actor=actor, verb="export.requested", target=str(export.id), details=details)
    return export, job


def _checked_recipient(text: str) -> str:
    """Raises Invalid, which never repeats what may be a private key."""
    key = text.strip()
    if key.upper().startswith(age.PRIVATE):
        raise Invalid(
            _("This is a private key. Send the public one (age1…), and make a new pair: this one was seen."),
            pointer="/recipient",
        )
    if key and not age.is_public_key(key):
        raise Invalid(
            _(
                "This is no public key of age. It begins with age1 and has 62 characters; age-keygen prints it."
            ),
            pointer="/recipient",
        )
    return key


def get_export(export_id: uuid.UUID | None) -> Export:
    """Raises NotFound, also for one that has expired."""
    export = list_exports().filter(pk=export_id).first()  # type: ignore[misc]  # None matches no row
    if export is None:
        raise NotFound(_("This export does not exist; it may have expired."))
    return export


def list_exports() -> QuerySet[Export]:
    return live_exports().order_by("-id")


def export_shape(export: Export) -> shapes.Export:
    """The export in the shape of the API."""
    return shapes.Export(
        id=str(export.id),
        job=str(export.job_id),
        with_vectors=export.with_vectors,
        recipient=export.recipient or None,
        version=export.version,
        requested_by=export.requested_by,
        ready=export.finished_at is not None,
        bytes=export.bytes,
        sha256=export.sha256 or None,
        created_at=export.created_at,
        expires_at=export.expires_at,
    )


def content_of(export: Export) -> Rendition:
    """The file of an export. Raises NotReady before its job has succeeded."""
    if export.finished_at is None:
        raise NotReady(_("This export is still being made; its job says how far it is."))
    name, kind = f"export-{export.finished_at:%Y-%m-%d}.zip", "application/zip"
    if export.recipient:
        name, kind = f"{name}{age.SUFFIX}", ENCRYPTED
    return Rendition(_path(export), kind, f'"{export.sha256[:32]}-export"', name)


def _path(export: Export) -> str:
    return _paths(export)[bool(export.recipient)]


def _paths(export: Export) -> tuple[str, str]:
    """Of a plain file, and of an encrypted one."""
    plain = f"{export.tenant_id}/export/{export.id}.zip"
    return plain, f"{plain}{age.SUFFIX}"


@job(
    OF_VERSION,
    queue="default",
    label=gettext_lazy("Export a version of a dataset"),
    kept=True,
    while_suspended=True,
)
@job(
    OF_TENANT,
    queue="default",
    label=gettext_lazy("Export the workspace"),
    kept=True,
    while_suspended=True,
)
def export_tenant(claimed: jobs.Claim) -> None:
    """Make the export of this job. An attempt that was killed begins anew: its file had no name."""
    start, export_id = time.thread_time(), uuid.UUID(claimed.arguments["export"])
    with tenant_scope(claimed.tenant_id):
        export = Export.objects.filter(pk=export_id).first()
    if export is None:
        raise NotFound(_(REMOVED))
    with tempfile.NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="export-", delete=False) as made:
        path = Path(made.name)
    try:
        with room_on_disk():
            _write(claimed, export, path)
            _store(claimed, export, path, time.thread_time() - start)
    finally:
        path.unlink(missing_ok=True)


def _write(claimed: jobs.Claim, export: Export, path: Path) -> None:
    teller, version = ExportProgress(claimed), None
    if export.version:
        with tenant_scope(claimed.tenant_id):
            version = dataset_versions.get_version(
                uuid.UUID(export.version["dataset"]), uuid.UUID(export.version["id"])
            )
    with _opened(path, export.recipient) as stream, zipfile.ZipFile(stream, "w") as archive:
        write_export(
            tenant_id=claimed.tenant_id,
            sink=ZipSink(archive),
            with_vectors=export.with_vectors,
            tick=teller.count,
            version=version,
        )


@contextmanager
def _opened(path: Path, recipient: str) -> Iterator[IO[bytes]]:
    """The file of an export to be written; encrypted, it is never on the disk otherwise."""
    with path.open("wb") as sink:
        if not recipient:
            yield sink
            return
        with age.encrypting(sink, recipient) as stream:
            yield stream


class ExportProgress:
    """Tells the job how many rows have been written, about once a second; stops it if it was cancelled."""

    def __init__(self, claimed: jobs.Claim) -> None:
        self.claimed, self.rows, self.told_at = claimed, 0, time.monotonic()

    def count(self, rows: int) -> None:
        self.rows += rows
        if time.monotonic() - self.told_at >= TELL_EVERY_S:
            self.told_at = time.monotonic()
            jobs.progress(self.claimed, done=self.rows, total=self.rows + 1)


def _store(claimed: jobs.Claim, export: Export, path: Path, cpu_s: float) -> None:
    with path.open("rb") as stream:
        sha256, length = storage.digest(stream)
    # What an earlier attempt stored may be as long and yet another.
    storage.drop(_path(export))
    storage.put(_path(export), path)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        if not Export.objects.select_for_update().filter(pk=export.pk).exists():
            storage.drop(_path(export))
            raise NotFound(_(REMOVED))
        now = timezone.now()
        export.sha256, export.bytes, export.finished_at = sha256, length, now
        export.expires_at = now + dt.timedelta(days=settings.EXPORT_KEEP_DAYS)
        export.save()
        result = {"export": str(export.id), "bytes": length, "sha256": sha256}
        jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


def forget_exports() -> int:
    """Remove the active tenant's exports that have expired, or whose job ended without one."""
    ended = Job.objects.filter(kind__in=KINDS, state__in=[Job.State.FAILED, Job.State.CANCELLED])
    over = Q(expires_at__lte=timezone.now()) | Q(finished_at=None, job_id__in=ended.values("id"))
    return _remove(Export.objects.filter(over))


def withdraw_exports() -> int:
    """Remove the active tenant's exports, as they may hold what was erased; of one being made the job fails."""
    return _remove(Export.objects.all())


def _remove(exports: QuerySet[Export]) -> int:
    rows = list(exports.select_for_update().order_by("id"))
    for export in rows:
        # The file first: if it cannot go now, the row says that something is left to do.
        # Both: a worker of the release before makes a plain one whatever was asked for.
        for path in _paths(export):
            with suppress(FileNotFoundError):
                storage.drop(path)
        export.delete()
    return len(rows)
