"""Whose job is next: tenants in turn, and of a tenant the most urgent, then the oldest.

Start-time fair queueing (Goyal, Vin and Cheng 1996) with a cost of one for each job. A waiting row carries the *turn*
at which its tenant has a claim to be served: one after its tenant's last, but never before the turn that is served now.
Workers take the lowest turn, so a tenant with a hundred thousand rows and one with ten are served in turn, each at the
cost of a few index look-ups. Of the tenant whose turn it is goes the row with the first *place*, the time it was queued
moved by its priority; the row that it overtakes gets its turn in exchange, so urgency costs no other tenant anything.

The statements are functions in the database (migration 0002), which hold the planner to the indexes made for them: the
table grows from nothing to a hundred thousand rows between two looks of its statistics.
"""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection

from tenants.jobs.models import Job, JobDispatch

# What a step of priority is worth: so much waiting time. Low is late and not never.
STEP = dt.timedelta(days=1)
# Longer than a lease, a pause between tries, or a rest that a job takes.
MOST_AHEAD = dt.timedelta(minutes=10)
# The row of a job that waits until somebody says so (tenants.jobs.pausing).
NEVER = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Dequeued:
    """A job that this worker may claim now, and whether others wait behind it."""

    job_id: uuid.UUID
    tenant_id: uuid.UUID
    kind: str
    more: bool


def enqueue(job: Job, queue: str, *, since: dt.datetime) -> None:
    """Let a job wait for a worker, behind those of its tenant that are as urgent and wait longer."""
    at = sort_key(since, job.priority)
    _call("SELECT job_put(%s, %s, %s, %s, %s)", job.id, job.tenant_id, job.kind, queue, at)


def sort_key(since: dt.datetime, priority: int) -> dt.datetime:
    return since - STEP * (priority - Job.Priority.NORMAL)


def dequeue(queue: str) -> Dequeued | None:
    """The next job of a queue; unless it is claimed within JOB_RESEND_S, it waits again. Outside any transaction."""
    claim_within = dt.timedelta(seconds=settings.JOB_RESEND_S)
    rows = _call("SELECT job, tenant, kind, more FROM job_take(%s, %s)", queue, claim_within)
    if not rows:
        return None
    job_id, tenant_id, kind, more = rows[0]
    return Dequeued(uuid.UUID(str(job_id)), uuid.UUID(str(tenant_id)), kind, more)


def hide(job_id: uuid.UUID, until: dt.datetime) -> None:
    """Let the row be until then: its job runs, or is put off."""
    JobDispatch.objects.filter(job_id=job_id).update(waiting=False, due_at=until)


def requeue_due(*, limit: int) -> int:
    """Let rows wait again whose time has come: of workers that died, and of jobs put off. Returns how many.

    What sleeps for longer than anything does was put to sleep before the database's clock was set back.
    """
    _call(
        "UPDATE job_dispatch SET due_at = now() WHERE NOT waiting AND due_at > now() + %s AND due_at < %s"
        " RETURNING job_id",
        MOST_AHEAD,
        NEVER,
    )
    return int(_call("SELECT job_wake(%s)", limit)[0][0])


def reprioritise(job: Job, *, steps: int) -> None:
    """Give a waiting job the place of a priority so many steps higher."""
    _call("UPDATE job_dispatch SET place = place - %s WHERE job_id = %s", STEP * steps, job.id)


def is_waiting(queue: str) -> bool:
    return JobDispatch.objects.filter(queue=queue, waiting=True).exists()


def _call(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []
