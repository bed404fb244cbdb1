"""Reading jobs of the active tenant."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import QuerySet

from tenants.errors import NotFound
from tenants.jobs.models import Job


def get_job(job_id: uuid.UUID | None) -> Job:
    job = Job.objects.filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such job.")
    return job


def list_jobs(*, state: str = "", kind: str = "") -> QuerySet[Job]:
    jobs = Job.objects.order_by("-id")
    if state:
        jobs = jobs.filter(state=state)
    return jobs.filter(kind=kind) if kind else jobs


def as_dict(job: Job) -> dict[str, Any]:
    """The job in the shape of the API and of its event stream."""
    shape: dict[str, Any] = {
        "id": str(job.id),
        "kind": job.kind,
        "state": job.state,
        "progress": {"done": job.progress_done, "total": job.progress_total, "failed": job.progress_failed},
        "attempts": job.attempts,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "cost": {"cpu_s": round(job.cost_cpu_s, 4), "gpu_s": round(job.cost_gpu_s, 4)},
    }
    if job.error is not None:
        shape["error"] = job.error
    if job.result is not None:
        shape["result"] = job.result
    return shape
