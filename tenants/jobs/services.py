"""The life of a job as those see it who want the work: enqueue, cancel, place, retry.

The worker's side is in `claims`, and stands here, too: who uses jobs needs one name.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants import observe
from tenants.accounts import quotas
from tenants.errors import Conflict, Invalid, NotFound
from tenants.jobs import archiving, fair_queue, job_log, kinds
from tenants.jobs.claims import (
    Cancelled,
    LeaseLost,
    claim,
    fail,
    give_turn,
    heartbeat,
    held,
    is_wanted,
    progress,
    require_wanted,
    spend,
    stop_cancelled,
    succeed,
)
from tenants.jobs.ending import end, notify_kind, publish
from tenants.jobs.kinds import KINDS, Claim
from tenants.jobs.models import Job
from tenants.jobs.notify_workers import dispatch
from tenants.jobs.stopping import Key
from tenants.scope import current_tenant_id, tenant_scope

__all__ = [
    "UNFINISHED",
    "Cancelled",
    "Claim",
    "Key",
    "LeaseLost",
    "cancel",
    "claim",
    "enqueue",
    "fail",
    "give_turn",
    "heartbeat",
    "held",
    "is_wanted",
    "progress",
    "require_wanted",
    "retry",
    "set_priority",
    "spend",
    "stop_cancelled",
    "succeed",
]

# Whole sentences: a state within one would stand in English in every language.
_ENDED: dict[str, Promise] = {
    Job.State.SUCCEEDED: gettext_lazy("The job has succeeded already."),
    Job.State.FAILED: gettext_lazy("The job has failed already."),
    Job.State.CANCELLED: gettext_lazy("The job was cancelled already."),
}
_NOT_TO_BE_RETRIED: dict[str, Promise] = {
    Job.State.QUEUED: gettext_lazy("Only a failed or cancelled job can be retried; this one is queued."),
    Job.State.RUNNING: gettext_lazy("Only a failed or cancelled job can be retried; this one is running."),
    Job.State.SUCCEEDED: gettext_lazy("Only a failed or cancelled job can be retried; this one succeeded."),
}

UNFINISHED = Q(state__in=[Job.State.QUEUED, Job.State.RUNNING])


def enqueue(
    *,
    kind: str,
    arguments: Mapping[str, object],
    total: int = 1,
    reserve: Mapping[str, float],
    priority: int = Job.Priority.NORMAL,
    parent: uuid.UUID | None = None,
    job_id: uuid.UUID | None = None,
) -> Job:
    """Write a job and, on commit, tell the workers. Raises QuotaExceeded and writes nothing if `reserve` is too much.

    `parent` is the job that this one is a part of: if that is cancelled, so is this. `job_id`: where its id
    was given out before. Raises ValueError for a kind that is retired.
    """
    if KINDS[kind].retired:
        raise ValueError(f"nothing does {kind} any more")
    with tenant_scope(current_tenant_id()):
        job = Job(kind=kind, arguments=dict(arguments), progress_total=total, reserved=dict(reserve))
        job.priority, job.parent_id, job.trace = priority, parent, observe.traceparent()
        if job_id is not None:
            job.id = job_id
        job.requested_by = observe.requester.get()
        quotas.reserve(owner=job.id, amounts=reserve)
        job.save(force_insert=True)
        dispatch(job)
    return job


def may_be_retried(job: Job) -> bool:
    return job.state in (Job.State.FAILED, Job.State.CANCELLED)


def may_be_cancelled(job: Job) -> bool:
    """Not what was asked to stop already, nor a deletion, which goes on to its end."""
    kind = KINDS.get(job.kind)
    return not job.finished and not job.cancel_requested and kind is not None and kind.cancellable


def cancel(*, job_id: uuid.UUID) -> Job:
    """Ask a job and what it queued to stop: what waits ends at once, what runs at its next step.

    Raises NotFound, Conflict.
    """
    with tenant_scope(current_tenant_id()):
        job = _locked(job_id)
        if job.finished:
            raise Conflict(str(_ENDED[job.state]))
        if not KINDS[job.kind].cancellable:
            raise Conflict(_("A deletion that was answered goes on to its end; it cannot be cancelled."))
        _ask_to_stop(job)
        # Not those that go on anyway, of which an import may have a hundred thousand.
        stopped = kinds.kind_names(lambda kind: kind.cancellable and not kind.outlives_parent)
        parts = Job.objects.select_for_update().filter(UNFINISHED, parent_id=job_id, kind__in=stopped)
        for part in parts.order_by("id"):
            _ask_to_stop(part)
    return job


def _ask_to_stop(job: Job) -> None:
    job.cancel_requested = True
    job_log.add(job.id, "Somebody asked it to stop.", job_log.WARNING)
    if job.state == Job.State.QUEUED:
        end(job, Job.State.CANCELLED)
    else:
        job.save(update_fields=["cancel_requested"])
        transaction.on_commit(partial(publish, job))


def set_priority(*, job_id: uuid.UUID, priority: int) -> Job:
    """Place a job before or behind the others of its tenant. Raises Invalid, NotFound, Conflict once it has ended."""
    if priority not in Job.Priority:
        raise Invalid(_("A priority is 1 (low), 2 (normal) or 3 (high)."), pointer="/priority")
    with tenant_scope(current_tenant_id()):
        job = _locked(job_id)
        if job.finished:
            raise Conflict(str(_ENDED[job.state]))
        fair_queue.reprioritise(job, steps=priority - job.priority)
        job.priority = priority
        job.save(update_fields=["priority"])
        transaction.on_commit(partial(publish, job))
    return job


def retry(*, job_id: uuid.UUID) -> Job:
    """Queue a failed or cancelled job again, with fresh attempts. Raises NotFound, Conflict, QuotaExceeded."""
    with tenant_scope(current_tenant_id()):
        job = _locked(job_id)
        if not may_be_retried(job):
            raise Conflict(str(_NOT_TO_BE_RETRIED[job.state]))
        if archiving.is_due(job):
            raise Conflict(_("The job is about to be archived; start the work again."))
        _renew(job)
        notify_kind(job)
        quotas.reserve(owner=job.id, amounts=job.reserved)
        dispatch(job)
        job_log.add(job.id, "Somebody asked for another try.")
    return job


def _renew(job: Job) -> None:
    job.state, job.attempts, job.cancel_requested = Job.State.QUEUED, 0, False
    job.error, job.started_at, job.finished_at, job.queued_at = None, None, None, timezone.now()
    job.progress_done = job.progress_failed = 0
    # What the earlier tries cost has been settled.
    job.cost_cpu_s = job.cost_gpu_s = 0
    job.traceback, job.rate_per_s, job.paced_at, job.paced_done = "", None, None, 0
    job.save()


def _locked(job_id: uuid.UUID) -> Job:
    job = Job.objects.select_for_update().filter(pk=job_id).first()
    if job is None:
        raise NotFound(_("This job does not exist."))
    return job
