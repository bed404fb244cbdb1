"""The audit log, what is done to jobs under it, and replayed answers."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from tenants import observe
from tenants.errors import Invalid
from tenants.events.models import AuditEvent, IdempotentAnswer
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.scope import current_tenant_id, tenant_scope

KEEP = dt.timedelta(hours=24)


def record(*, actor: str, verb: str, target: str = "", details: dict[str, Any] | None = None) -> None:
    """Append to the tenant's audit log, in the caller's transaction. An operator who acts is named as such."""
    actor = observe.acting.get() or actor
    with tenant_scope(current_tenant_id()):
        AuditEvent.objects.create(actor=actor, verb=verb, target=target, details=details or {})


def retry_job(*, job_id: uuid.UUID, actor: str) -> Job:
    """Queue a failed or cancelled job again, on record. Raises NotFound, Conflict, QuotaExceeded."""
    with tenant_scope(current_tenant_id()):
        job = jobs.retry(job_id=job_id)
        record(actor=actor, verb="job.retried", target=str(job_id), details={"kind": job.kind})
    return job


def cancel_job(*, job_id: uuid.UUID, actor: str) -> Job:
    """Ask a job and what it queued to stop, on record. Raises NotFound, Conflict."""
    with tenant_scope(current_tenant_id()):
        job = jobs.cancel(job_id=job_id)
        record(actor=actor, verb="job.cancelled", target=str(job_id), details={"kind": job.kind})
    return job


def first_answer(*, key: str, fingerprint: str) -> IdempotentAnswer | None:
    """The stored answer for this key, or None after reserving the key for the caller's transaction.

    The insert waits for a concurrent request with the same key to commit, so that one runs and the other replays.
    Raises Invalid when the key was used with another body.
    """
    row, stored = IdempotentAnswer(key=key, fingerprint=fingerprint), None
    while stored is None:
        # Again if an old answer was forgotten in between.
        IdempotentAnswer.objects.bulk_create([row], ignore_conflicts=True)
        stored = IdempotentAnswer.objects.select_for_update().filter(key=key).first()
    if stored.id == row.id:
        return None
    if stored.fingerprint != fingerprint:
        raise Invalid(_("This Idempotency-Key was used with another request body."), pointer="")
    return stored


def store_answer(*, key: str, status: int, body: object, headers: dict[str, str]) -> None:
    IdempotentAnswer.objects.filter(key=key).update(status=status, body=body, headers=headers)


def forget_old_answers() -> int:
    """Delete the active tenant's answers older than a day."""
    return IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEEP).delete()[0]
