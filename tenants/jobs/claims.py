"""A worker's side of a job: claim, heartbeat, progress, how the attempt ended.

Every task is expected twice and killed at any moment. A claim takes a lease and a new fence; whoever writes later
must still hold that fence. Attempts are counted at the claim, before the work, so that work which kills its worker
is dead-lettered too and not retried for ever.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from tenants.clock import shared_now
from tenants.jobs import fair_queue, job_log, pausing, timing
from tenants.jobs.ending import end, publish
from tenants.jobs.kinds import KINDS, Claim
from tenants.jobs.models import Job, JobDispatch
from tenants.jobs.notify_workers import dispatch
from tenants.scope import tenant_scope

MOST_TRACEBACK = 20_000
TENTHS, FEW_PARTS = 10, 20
# For so long after a job was begun a failure that passes by itself costs none of its tries.
PASSING_S = 900.0
# Between two tries.
MOST_WAIT_S = 60.0


class LeaseLost(RuntimeError):
    """Another worker holds the job now; what this one did must not be stored."""


class Cancelled(RuntimeError):
    """Someone asked for the job to stop."""


def claim(*, job_id: uuid.UUID, tenant_id: uuid.UUID) -> Claim | None:
    """Take the job for this worker, or None if it is done, held by another, or out of tries (then dead-lettered)."""
    with tenant_scope(tenant_id):
        job = Job.objects.select_for_update().filter(pk=job_id).first()
        if job is None or job.finished:
            JobDispatch.objects.filter(job_id=job_id, tenant_id=tenant_id).delete()
            return None
        if job.state == Job.State.RUNNING and _holds(job.lease_until):
            return None
        if job.cancel_requested:
            end(job, Job.State.CANCELLED)
            return None
        if pausing.put_off(job_id, tenant_id, job.kind):
            return None
        if job.attempts >= KINDS[job.kind].max_attempts:
            end(job, Job.State.FAILED, error=job.error or _dead_letter(job))
            return None
        _start(job)
    publish(job)
    return Claim(
        job.id,
        job.tenant_id,
        job.kind,
        job.arguments,
        job.fence,
        job.attempts,
        job.trace,
        job.requested_by or "",
    )


def _dead_letter(job: Job) -> dict[str, object]:
    return {
        "type": "dead-letter",
        "detail": f"Gave up after {job.attempts} attempts: each time the worker stopped without an answer.",
    }


def _start(job: Job) -> None:
    job.state = Job.State.RUNNING
    job.attempts += 1
    job.fence += 1
    job.started_at = job.started_at or timezone.now()
    job.lease_until = _lease()
    timing.start(job)
    job.save(update_fields=["state", "attempts", "fence", "started_at", "lease_until", *timing.FIELDS])
    if job.attempts > 1:
        job_log.add(job.id, f"Attempt {job.attempts} began.")
    fair_queue.hide(job.id, job.lease_until)


def _lease() -> datetime:
    return shared_now() + timedelta(seconds=settings.JOB_LEASE_S)


def _holds(lease_until: datetime | None) -> bool:
    """Whether a lease has not ended. One that ends later than any could was given before the clock was set back."""
    now = shared_now()
    return lease_until is not None and now < lease_until < now + timedelta(seconds=2 * settings.JOB_LEASE_S)


def held(claimed: Claim) -> Any:
    """The job's row if this claim still owns it, locked. Raises LeaseLost. Call it in the transaction that stores."""
    job = Job.objects.select_for_update().filter(pk=claimed.job_id, fence=claimed.fence).first()
    if job is None or job.state != Job.State.RUNNING:
        raise LeaseLost(f"job {claimed.job_id} has gone to another worker")
    return job


def heartbeat(claimed: Claim) -> bool:
    """Extend the lease; False when someone asked to cancel. Raises LeaseLost."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.lease_until = _lease()
        job.save(update_fields=["lease_until"])
        fair_queue.hide(job.id, job.lease_until)
    return not job.cancel_requested


def is_wanted(claimed: Claim) -> bool:
    """False when someone asked to cancel. Raises LeaseLost. Locks nothing."""
    with tenant_scope(claimed.tenant_id):
        rows = Job.objects.filter(pk=claimed.job_id, fence=claimed.fence, state=Job.State.RUNNING)
        asked = rows.values_list("cancel_requested", flat=True).first()
    if asked is None:
        raise LeaseLost(f"job {claimed.job_id} has gone to another worker")
    return not asked


def require_wanted(claimed: Claim) -> None:
    """Raises Cancelled when someone asked to stop, LeaseLost."""
    if not is_wanted(claimed):
        raise Cancelled


def progress(claimed: Claim, *, done: int, total: int, failed: int = 0, renew: bool = False) -> None:
    """Store and publish progress. Raises LeaseLost, or Cancelled when someone asked to stop.

    `renew` counts attempts from here: for long work of which each part is kept, only tries without any progress
    may end as a dead letter.
    """
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        before = _tenths(job)
        job.progress_done, job.progress_total, job.progress_failed = done, total, failed
        job.attempts = 1 if renew else job.attempts
        timing.move(job)
        counted = ["progress_done", "progress_total", "progress_failed", "attempts"]
        job.save(update_fields=[*counted, *timing.FIELDS])
        if before < _tenths(job) < TENTHS:
            lost = f", {failed:,} failed" if failed else ""
            job_log.add(job.id, f"{done:,} of {total:,} done{lost}.")
    publish(job)
    if job.cancel_requested:
        raise Cancelled


def _tenths(job: Job) -> int:
    """How many tenths of it are done: a line in the log for each, of work that has so many parts."""
    total = job.progress_total
    return job.progress_done * TENTHS // total if total >= FEW_PARTS else 0


def spend(claimed: Claim, *, cpu_s: float) -> None:
    """Count what a part of a long job has cost, however the job ends. Raises LeaseLost."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.cost_cpu_s += cpu_s
        job.save(update_fields=["cost_cpu_s"])


def succeed(
    claimed: Claim, *, result: dict[str, Any], cpu_s: float, gpu_s: float, used: Mapping[str, float]
) -> None:
    """End well, in the caller's transaction if one is open. `used` settles the reservation."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.progress_done, job.result, job.error = job.progress_total - job.progress_failed, result, None
        end(job, Job.State.SUCCEEDED, cpu_s=cpu_s, gpu_s=gpu_s, used=used)


def fail(
    claimed: Claim,
    *,
    error: dict[str, Any],
    cpu_s: float = 0,
    gpu_s: float = 0,
    final: bool,
    passes: bool = False,
    traceback: str = "",
) -> bool:
    """Record a failed attempt: queued again while tries are left, unless `final`. True if the job has ended.

    `passes`: what it stands on was away, a database or room on a disk, and the content is not at fault: for a quarter
    of an hour that costs no try, as three are over in seconds. `traceback` is for operators.
    """
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.error = error
        Job.objects.filter(pk=job.pk).update(traceback=traceback[-MOST_TRACEBACK:])
        told = str(error.get("detail") or error.get("type", ""))
        job_log.add(job.id, f"Attempt {job.attempts} failed: {told}", job_log.ERROR)
        wait_s = _wait_without_try_s(job) if passes else None
        if final or (wait_s is None and job.attempts >= KINDS[job.kind].max_attempts):
            job.progress_failed = max(job.progress_failed, 1)
            end(job, Job.State.FAILED, error=error, cpu_s=cpu_s, gpu_s=gpu_s)
            return True
        if wait_s is None:
            wait_s = min(MOST_WAIT_S, 2.0**job.attempts)
        else:
            job.attempts -= 1
        job.state, job.lease_until = Job.State.QUEUED, None
        job.cost_cpu_s += cpu_s
        job.save(update_fields=["state", "lease_until", "error", "cost_cpu_s", "attempts"])
        # Back off: the sweeper lets it wait again.
        fair_queue.hide(job.id, shared_now() + timedelta(seconds=wait_s))
        return False


def _wait_without_try_s(job: Job) -> float | None:
    """Seconds until the next try if this one is not counted, the longer the longer it has lasted; else None."""
    lasted = (timezone.now() - job.started_at).total_seconds() if job.started_at else 0.0
    return min(MOST_WAIT_S, max(2.0, lasted / 4)) if 0 <= lasted < PASSING_S else None


def give_turn(claimed: Claim, *, delay_s: float = 0.0) -> None:
    """Put a long job back into its queue, so that others come in between; it goes on from what it has stored."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        if job.cancel_requested:
            raise Cancelled
        job.state, job.lease_until, job.attempts = Job.State.QUEUED, None, 0
        job.save(update_fields=["state", "lease_until", "attempts"])
        # Behind those of its tenant that have come meanwhile.
        dispatch(job)
        if delay_s:
            fair_queue.hide(job.id, shared_now() + timedelta(seconds=delay_s))


def stop_cancelled(claimed: Claim, *, cpu_s: float = 0) -> None:
    with tenant_scope(claimed.tenant_id):
        end(held(claimed), Job.State.CANCELLED, cpu_s=cpu_s)
