"""Reading jobs of the active tenant."""

from __future__ import annotations

import datetime as dt
import uuid

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.distinct import distinct_values
from tenants.errors import NotFound
from tenants.jobs import shapes, timing
from tenants.jobs.models import Job, JobNote
from tenants.shapes import UNSET


def get_job(job_id: uuid.UUID | None) -> Job:
    job = Job.objects.defer("traceback").filter(pk=job_id).first()
    if job is None:
        raise NotFound(_("This job does not exist."))
    return job


def list_jobs(
    *,
    state: str = "",
    kind: str = "",
    parent: uuid.UUID | None = None,
    priority: int | None = None,
    requested_by: str | None = None,
    ended_since: dt.datetime | None = None,
) -> QuerySet[Job]:
    """Newest first. `requested_by`: as the audit log names who asked; empty for what the system queued by itself."""
    jobs = Job.objects.order_by("-id").defer("traceback")
    wanted = {"state": state, "kind": kind, "parent_id": parent, "priority": priority}
    jobs = jobs.filter(**{name: value for name, value in wanted.items() if value})
    if requested_by is not None:
        jobs = jobs.filter(requested_by=requested_by)
    return jobs.filter(finished_at__gte=ended_since) if ended_since else jobs


def requesters() -> list[str]:
    """Everybody who asked for a job that is still here, as the audit log names them; empty: the system."""
    return distinct_values("job", "requested_by")


def children(job_id: uuid.UUID) -> QuerySet[Job]:
    """What a job has queued as parts of its work, newest first."""
    return list_jobs(parent=job_id)


def log_of(job_id: uuid.UUID, *, after: int = 0) -> QuerySet[JobNote]:
    """The lines of a job's log in order, those behind a number."""
    return JobNote.objects.filter(job_id=job_id, number__gt=after).order_by("number")


def line_shape(note: JobNote) -> shapes.JobLine:
    return shapes.JobLine(number=note.number, at=note.at, level=note.level, text=note.text)


def job_shape(job: Job) -> shapes.Job:
    """The job as the API and its event stream show it."""
    took = timing.timing_of(job)
    return shapes.Job(
        id=str(job.id),
        kind=job.kind,
        state=job.state,
        cancelling=job.cancel_requested and not job.finished,
        priority=job.priority,
        parent=str(job.parent_id) if job.parent_id else None,
        progress=shapes.Progress(
            done=job.progress_done, total=job.progress_total, failed=job.progress_failed
        ),
        log_lines=job.notes,
        attempts=job.attempts,
        queued_at=job.queued_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        queue_wait_s=took.queue_wait_s,
        rate_per_s=took.rate_per_s,
        time_left_s=took.left_s,
        cost=shapes.Cost(cpu_s=round(job.cost_cpu_s, 4), gpu_s=round(job.cost_gpu_s, 4)),
        error=UNSET if job.error is None else job.error,
        result=UNSET if job.result is None else job.result,
    )
