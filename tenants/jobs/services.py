"""The life of a job: enqueue, claim, heartbeat, finish, cancel, retry, sweep.

Every task is expected twice and killed at any moment. A claim takes a lease and a new fence; whoever writes later
must still hold that fence. Attempts are counted at the claim, before the work, so that work which kills its worker
is dead-lettered too and not retried for ever.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string

from tenants.accounts import metering, quotas
from tenants.errors import Conflict, NotFound
from tenants.jobs import pausing, turns
from tenants.jobs.bell import ring
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job, JobDispatch
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable, client, tenant_key

log = logging.getLogger(__name__)


class LeaseLost(RuntimeError):
    """Another worker holds the job now; what this one did must not be stored."""


class Cancelled(RuntimeError):
    """Someone asked for the job to stop."""


@dataclass(frozen=True)
class Claim:
    job_id: uuid.UUID
    tenant_id: uuid.UUID
    kind: str
    arguments: dict[str, Any]
    fence: int
    attempt: int


def enqueue(
    *,
    kind: str,
    arguments: Mapping[str, Any],
    total: int = 1,
    reserve: Mapping[str, float],
    priority: int = Job.Priority.NORMAL,
    parent: uuid.UUID | None = None,
) -> Job:
    """Write a job and, on commit, ring for it. Raises QuotaExceeded and writes nothing if `reserve` is too much.

    `parent` is the job that this one is a part of: if that is cancelled, so is this.
    """
    with tenant_scope(current_tenant_id()):
        job = Job(kind=kind, arguments=dict(arguments), progress_total=total, reserved=dict(reserve))
        job.priority, job.parent_id = priority, parent
        quotas.reserve(owner=job.id, amounts=reserve)
        job.save(force_insert=True)
        _dispatch(job)
    return job


def _dispatch(job: Job) -> None:
    """Let the job wait for a worker from now on."""
    queue = KINDS[job.kind].queue
    turns.put(job, queue, since=timezone.now())
    transaction.on_commit(partial(ring, queue))


def claim(*, job_id: uuid.UUID, tenant_id: uuid.UUID) -> Claim | None:
    """Take the job for this worker, or None if it is done, held by another, or out of tries (then dead-lettered)."""
    now = timezone.now()
    with tenant_scope(tenant_id):
        job = Job.objects.select_for_update().filter(pk=job_id).first()
        if job is None or job.finished:
            JobDispatch.objects.filter(job_id=job_id, tenant_id=tenant_id).delete()
            return None
        if job.state == Job.State.RUNNING and job.lease_until and job.lease_until > now:
            return None
        if job.cancel_requested:
            _end(job, Job.State.CANCELLED)
            return None
        if pausing.put_off(job_id, tenant_id, job.kind):
            return None
        if job.attempts >= KINDS[job.kind].max_attempts:
            _end(job, Job.State.FAILED, error=job.error or _dead_letter(job))
            return None
        _start(job)
    publish(job)
    return Claim(job.id, job.tenant_id, job.kind, job.arguments, job.fence, job.attempts)


def _dead_letter(job: Job) -> dict[str, Any]:
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
    job.save(update_fields=["state", "attempts", "fence", "started_at", "lease_until"])
    turns.sleep(job.id, job.lease_until)


def _lease() -> datetime:
    return timezone.now() + timedelta(seconds=settings.JOB_LEASE_S)


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
        turns.sleep(job.id, job.lease_until)
    return not job.cancel_requested


def progress(claimed: Claim, *, done: int, total: int, failed: int = 0, renew: bool = False) -> None:
    """Store and publish progress. Raises LeaseLost, or Cancelled when someone asked to stop.

    `renew` counts attempts from here: for long work of which each part is kept, only tries without any progress
    may end as a dead letter.
    """
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.progress_done, job.progress_total, job.progress_failed = done, total, failed
        job.attempts = 1 if renew else job.attempts
        job.save(update_fields=["progress_done", "progress_total", "progress_failed", "attempts"])
    publish(job)
    if job.cancel_requested:
        raise Cancelled


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
        _end(job, Job.State.SUCCEEDED, cpu_s=cpu_s, gpu_s=gpu_s, used=used)


def fail(claimed: Claim, *, error: dict[str, Any], cpu_s: float = 0, gpu_s: float = 0, final: bool) -> bool:
    """Record a failed attempt: queued again while tries are left, unless `final`. True if the job has ended."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        job.error = error
        if final or job.attempts >= KINDS[job.kind].max_attempts:
            job.progress_failed = max(job.progress_failed, 1)
            _end(job, Job.State.FAILED, error=error, cpu_s=cpu_s, gpu_s=gpu_s)
            return True
        job.state, job.lease_until = Job.State.QUEUED, None
        job.cost_cpu_s += cpu_s
        job.save(update_fields=["state", "lease_until", "error", "cost_cpu_s"])
        # Back off: the sweeper lets it wait again.
        turns.sleep(job.id, timezone.now() + timedelta(seconds=min(60, 2**job.attempts)))
        return False


def give_turn(claimed: Claim, *, delay_s: float = 0.0) -> None:
    """Put a long job back into its queue, so that others come in between; it goes on from what it has stored."""
    with tenant_scope(claimed.tenant_id):
        job = held(claimed)
        if job.cancel_requested:
            raise Cancelled
        job.state, job.lease_until, job.attempts = Job.State.QUEUED, None, 0
        job.save(update_fields=["state", "lease_until", "attempts"])
        # Behind those of its tenant that have come meanwhile.
        _dispatch(job)
        if delay_s:
            turns.sleep(job.id, timezone.now() + timedelta(seconds=delay_s))


def stop_cancelled(claimed: Claim, *, cpu_s: float = 0) -> None:
    with tenant_scope(claimed.tenant_id):
        _end(held(claimed), Job.State.CANCELLED, cpu_s=cpu_s)


def _end(
    job: Job,
    state: str,
    *,
    error: dict[str, Any] | None = None,
    cpu_s: float = 0,
    gpu_s: float = 0,
    used: Mapping[str, float] | None = None,
) -> None:
    job.state, job.finished_at, job.lease_until = state, timezone.now(), None
    job.error = error if error is not None else job.error
    job.cost_cpu_s += cpu_s
    job.cost_gpu_s += gpu_s
    job.save()
    if state != Job.State.SUCCEEDED:
        # Before the quota: what a job works on is locked before its counters, as everywhere.
        _follow(job)
    spent = {**(used or {}), "cpu_s": job.cost_cpu_s, "gpu_s": job.cost_gpu_s}
    quotas.settle(owner=job.id, used=spent)
    JobDispatch.objects.filter(job_id=job.id).delete()
    transaction.on_commit(lambda: _told(job, spent))


def _follow(job: Job) -> None:
    if path := KINDS[job.kind].follow:
        import_string(path)(job)


def _told(job: Job, spent: Mapping[str, float]) -> None:
    publish(job)
    try:
        metering.record(tenant_id=job.tenant_id, amounts={k: v for k, v in spent.items() if v > 0})
    except Unavailable:
        log.warning("usage not metered: Valkey is away", extra={"job": str(job.id)})


def cancel(*, job_id: uuid.UUID) -> Job:
    """Ask a job to stop: a queued one ends at once, a running one at its next step. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        job = _locked(job_id)
        if job.finished:
            raise Conflict(f"The job has {job.state} already.")
        if not KINDS[job.kind].cancellable:
            raise Conflict("A deletion that was answered goes on to its end; it cannot be cancelled.")
        job.cancel_requested = True
        job.save(update_fields=["cancel_requested"])
        if job.state == Job.State.QUEUED:
            _end(job, Job.State.CANCELLED)
    return job


def retry(*, job_id: uuid.UUID) -> Job:
    """Queue a failed or cancelled job again, with fresh attempts. Raises NotFound, Conflict, QuotaExceeded."""
    with tenant_scope(current_tenant_id()):
        job = _locked(job_id)
        if job.state not in (Job.State.FAILED, Job.State.CANCELLED):
            raise Conflict(f"Only a failed or cancelled job can be retried; this one is {job.state}.")
        job.state, job.attempts, job.cancel_requested = Job.State.QUEUED, 0, False
        job.error, job.started_at, job.finished_at, job.queued_at = None, None, None, timezone.now()
        job.progress_done = job.progress_failed = 0
        # What the earlier tries cost has been settled.
        job.cost_cpu_s = job.cost_gpu_s = 0
        job.save()
        _follow(job)
        quotas.reserve(owner=job.id, amounts=job.reserved)
        _dispatch(job)
    return job


def _locked(job_id: uuid.UUID) -> Job:
    job = Job.objects.select_for_update().filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such job.")
    return job


def channel(tenant_id: uuid.UUID | str, job_id: uuid.UUID | str) -> str:
    return tenant_key(tenant_id, "job", str(job_id))


def publish(job: Job) -> None:
    """Tell listeners that the job changed; they read the row, so a lost message is only a late one."""
    try:
        client().publish(channel(job.tenant_id, job.id), json.dumps({"state": job.state}))
    except Unavailable:
        log.debug("nobody was told: Valkey is away")


UNFINISHED = Q(state__in=[Job.State.QUEUED, Job.State.RUNNING])
