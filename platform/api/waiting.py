"""`Prefer: wait=N`: hold the answer back until the job has ended, for at most N seconds.

A waiting request keeps a thread, so few may wait at a time (tenants.long_requests); the others answer at once.
"""

from __future__ import annotations

import re
import time
import uuid

from django.http import HttpRequest
from redis.client import PubSub

from tenants.jobs.ending import channel
from tenants.jobs.models import Job
from tenants.jobs.selectors import get_job
from tenants.long_requests import WAITING
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable, client

MAX_WAIT_S = 30
# The row is read this often even if nobody says that it changed.
READ_EVERY_S = 1.0
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")


def preferred_wait(request: HttpRequest) -> int:
    """Seconds that the client prefers to wait, 0 for none; a preference that cannot be read is ignored."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    return min(MAX_WAIT_S, int(found[1])) if found else 0


def ended_in_time(tenant_id: uuid.UUID, job_id: uuid.UUID, seconds: int) -> Job | None:
    """The job if it ended within so many seconds; None too when all places to wait are taken."""
    if not seconds:
        return None
    with WAITING.taken() as there:
        if not there:
            return None
        with client().pubsub(ignore_subscribe_messages=True) as messages:
            return _wait(messages, tenant_id, job_id, time.monotonic() + seconds)


def _wait(messages: PubSub, tenant_id: uuid.UUID, job_id: uuid.UUID, deadline: float) -> Job | None:
    _subscribe(messages, channel(tenant_id, job_id))
    while True:
        # Subscribed first, read then: a change in between is not missed.
        with tenant_scope(tenant_id):
            job = get_job(job_id)
        if job.finished:
            return job
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        _next_message(messages, min(left, READ_EVERY_S))


def _subscribe(messages: PubSub, name: str) -> None:
    try:
        messages.subscribe(name)
    except Unavailable:
        return


def _next_message(messages: PubSub, seconds: float) -> None:
    try:
        messages.get_message(timeout=seconds)
    except (Unavailable, RuntimeError):
        # Not subscribed: Valkey is away, and the row is simply read again.
        time.sleep(min(seconds, 0.25))
