"""Telling the workers of a queue that work waits there. Which job is next, they look up themselves (fair_queue).

A handful of messages is enough however many jobs wait: a worker that takes one of them and sees more sends another
before it begins. So the broker never holds a tenant's backlog, and a message that is lost costs no more than a sweep.
"""

from __future__ import annotations

import logging
from functools import partial

from celery import current_app
from django.db import transaction
from django.utils import timezone

from tenants import broker
from tenants.jobs import fair_queue
from tenants.jobs.kinds import KINDS, QUEUES
from tenants.jobs.models import Job

log = logging.getLogger(__name__)

TASK = "workers.next_job"
# Enough to wake some workers at once; more would only keep canaries waiting.
MESSAGES = 4
# What one sweep lets wait again; the next follows in seconds.
SWEPT = 500


def dispatch(job: Job) -> None:
    """Let a job wait for a worker from now on, and tell them when the transaction has committed."""
    queue = KINDS[job.kind].queue
    fair_queue.enqueue(job, queue, since=timezone.now())
    transaction.on_commit(partial(notify, queue))


def notify(queue: str) -> None:
    """Tell the workers of a queue. A broker that is away loses nothing: the sweeper tells them again."""
    try:
        if broker.unread(queue) < MESSAGES:
            current_app.signature(TASK, args=[queue]).apply_async(queue=queue, retry=False)
    except Exception:
        log.warning("the broker did not take the message; the sweeper will send it", exc_info=True)


def sweep(*, limit: int = SWEPT) -> int:
    """Let jobs wait again whose worker died or whose time has come, and tell workers where anything waits.

    Returns how many wait again.
    """
    woken = fair_queue.requeue_due(limit=limit)
    for queue in QUEUES:
        if fair_queue.is_waiting(queue):
            notify(queue)
    return woken
