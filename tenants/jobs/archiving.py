"""Which finished jobs leave the database for a file (upkeep.job_archive), in steps that may be killed at any line.

First a row of JobArchive names the jobs, then their file is written, then the rows go with the names: a run that was
killed before the last step writes the same file again, under the same name.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from tenants.jobs import kinds
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job, JobArchive, JobNote
from tenants.scope import current_tenant_id, tenant_scope

BATCH = 1_000
# A retry that began just before its job became due has committed by then.
MARGIN = dt.timedelta(hours=1)


def is_due(job: Job) -> bool:
    """Whether a finished job may be archived any moment."""
    if KINDS[job.kind].kept or not settings.JOB_KEEP_DAYS or job.finished_at is None:
        return False
    return job.finished_at < timezone.now() - dt.timedelta(days=settings.JOB_KEEP_DAYS) + MARGIN


def list_archives() -> QuerySet[JobArchive]:
    """Those whose file is written and whose jobs have left the database, the newest first."""
    return JobArchive.objects.exclude(finished_at=None).order_by("-id")


def begin() -> JobArchive | None:
    """The archive that an earlier run left open, or one of the oldest jobs that are due; None if none is."""
    if not settings.JOB_KEEP_DAYS:
        return None
    with tenant_scope(current_tenant_id()):
        if left := JobArchive.objects.filter(finished_at=None).order_by("id").first():
            return left
        until = timezone.now() - dt.timedelta(days=settings.JOB_KEEP_DAYS)
        kept = kinds.kind_names(lambda kind: kind.kept)
        due = Job.objects.filter(finished_at__lt=until).exclude(kind__in=kept).order_by("finished_at", "id")
        found = list(due.values_list("id", "finished_at")[:BATCH])
        if not found:
            return None
        return JobArchive.objects.create(
            jobs=[str(job_id) for job_id, _ in found],
            first_at=found[0][1],
            last_at=found[-1][1],
            count=len(found),
        )


def lines(archive: JobArchive) -> Iterator[dict[str, Any]]:
    """The jobs of an open archive as they are kept: what ran, when, how it ended and what it cost.

    Not what they worked on: an erased asset must not live on in an archive.
    """
    with tenant_scope(current_tenant_id()):
        for job in Job.objects.filter(pk__in=archive.jobs).order_by("finished_at", "id").defer("traceback"):
            yield {
                "id": str(job.id),
                "kind": job.kind,
                "state": job.state,
                "priority": job.priority,
                "parent": str(job.parent_id) if job.parent_id else None,
                "attempts": job.attempts,
                "progress": {
                    "done": job.progress_done,
                    "total": job.progress_total,
                    "failed": job.progress_failed,
                },
                "queued_at": _text(job.queued_at),
                "started_at": _text(job.started_at),
                "finished_at": _text(job.finished_at),
                "cost": {"cpu_s": job.cost_cpu_s, "gpu_s": job.cost_gpu_s},
                "error": (job.error or {}).get("type"),
            }


def _text(at: dt.datetime | None) -> str | None:
    return at.isoformat().replace("+00:00", "Z") if at else None


def finish(archive_id: uuid.UUID, *, size: int) -> None:
    """Remove the jobs whose file is written; a second call finds nothing to do."""
    with tenant_scope(current_tenant_id()):
        archive = JobArchive.objects.select_for_update().get(pk=archive_id)
        if archive.finished_at is not None:
            return
        JobNote.objects.filter(job_id__in=archive.jobs).delete()
        Job.objects.filter(pk__in=archive.jobs).delete()
        archive.jobs, archive.bytes, archive.finished_at = [], size, timezone.now()
        archive.save(update_fields=["jobs", "bytes", "finished_at"])
