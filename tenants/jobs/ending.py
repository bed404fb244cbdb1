"""How a job ends, whoever ends it, and who is told that it changed."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from tenants.accounts import metering, quotas
from tenants.jobs import job_counters
from tenants.jobs.kinds import KINDS, ON_EVERY_END
from tenants.jobs.models import Job, JobDispatch
from tenants.valkey import Unavailable, client, tenant_key

log = logging.getLogger(__name__)

# Not the number of its notes, which others count up meanwhile.
ENDED = (
    *("state", "finished_at", "lease_until", "error", "result", "cost_cpu_s", "cost_gpu_s"),
    *("progress_done", "progress_failed", "cancel_requested"),
)


def end(
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
    job.save(update_fields=ENDED)
    if state != Job.State.SUCCEEDED:
        # Before the quota: what a job works on is locked before its counters, as everywhere.
        notify_kind(job)
    spent = {**(used or {}), "cpu_s": job.cost_cpu_s, "gpu_s": job.cost_gpu_s}
    quotas.settle(owner=job.id, used=spent)
    for listener in ON_EVERY_END:
        listener(job)
    JobDispatch.objects.filter(job_id=job.id).delete()
    transaction.on_commit(lambda: _publish_and_count(job, spent))


def notify_kind(job: Job) -> None:
    """Have what the job works on show that it ended without success, or is queued again."""
    if on_end := KINDS[job.kind].on_end:
        on_end(job)


def _publish_and_count(job: Job, spent: Mapping[str, float]) -> None:
    publish(job)
    try:
        job_counters.count(job)
        metering.record(tenant_id=job.tenant_id, amounts={k: v for k, v in spent.items() if v > 0})
    except Unavailable:
        log.warning("usage not metered: Valkey is away", extra={"job": str(job.id)})


def channel(tenant_id: uuid.UUID | str, job_id: uuid.UUID | str) -> str:
    return tenant_key(tenant_id, "job", str(job_id))


def publish(job: Job) -> None:
    """Tell listeners that the job changed; they read the row, so a lost message is only a late one."""
    try:
        client().publish(channel(job.tenant_id, job.id), json.dumps({"state": job.state}))
    except Unavailable:
        log.debug("nobody was told: Valkey is away")
