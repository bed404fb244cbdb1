"""Jobs of a suspended tenant wait, however many they are, and go on when it is resumed.

What was promised goes on all the same: deletions that were answered, and the export with which a tenant leaves.
"""

from __future__ import annotations

import uuid

from django.utils import timezone

from tenants.accounts.models import Tenant
from tenants.jobs import fair_queue, kinds
from tenants.jobs.models import JobDispatch


def pause(tenant_id: uuid.UUID) -> int:
    """Let the tenant's queued jobs wait until `resume`; those that come later do by themselves. Returns how many."""
    always = kinds.kind_names(lambda kind: kind.while_suspended)
    waiting = JobDispatch.objects.filter(tenant_id=tenant_id, waiting=True).exclude(kind__in=always)
    return waiting.update(waiting=False, due_at=fair_queue.NEVER)


def resume(tenant_id: uuid.UUID) -> int:
    """Let the jobs that wait since `pause` be taken up; returns how many."""
    paused = JobDispatch.objects.filter(tenant_id=tenant_id, due_at=fair_queue.NEVER)
    return paused.update(due_at=timezone.now())


def put_off(job_id: uuid.UUID, tenant_id: uuid.UUID, kind: str) -> bool:
    """Whether a job must not start now, as its tenant is suspended; it then waits for `resume`."""
    if kinds.KINDS[kind].while_suspended:
        return False
    state = Tenant.objects.filter(pk=tenant_id).values_list("state", flat=True).first()
    if state == Tenant.State.ACTIVE:
        return False
    JobDispatch.objects.filter(job_id=job_id, tenant_id=tenant_id).update(
        waiting=False, due_at=fair_queue.NEVER
    )
    return True
