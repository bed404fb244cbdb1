"""Scope, lease, progress, cost and failure around every task: a task's body cannot forget them."""

from __future__ import annotations

import errno
import logging
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections
from psycopg2.errors import QueryCanceled

from ml.media import TRANSIENT, MediaError
from tenants import broker, observe
from tenants.errors import ModelUnavailable, ServiceError, StorageFull, Unavailable
from tenants.jobs import fair_queue
from tenants.jobs import services as jobs
from tenants.jobs.kinds import KINDS, Body, Kind
from tenants.jobs.notify_workers import notify
from workers.heartbeat import heartbeat

log = logging.getLogger(__name__)


class Places:
    """How many jobs of a queue run at a time in this process (`QUEUE_PLACES`), where it serves several queues.

    Threads are shared by all its queues: without a bound, four builds of indexes would keep the sweeper waiting. `most`
    by queue; a queue that it does not name has no bound.
    """

    def __init__(self, most: Mapping[str, int]) -> None:
        self._free = {queue: threading.BoundedSemaphore(count) for queue, count in most.items()}

    def are_bounded(self, queue: str) -> bool:
        return queue in self._free

    @contextmanager
    def taken(self, queue: str) -> Iterator[bool]:
        """A place of this queue while the block runs; False where none is free. Nobody waits."""
        free = self._free.get(queue)
        if free is not None and not free.acquire(blocking=False):
            yield False
            return
        try:
            yield True
        finally:
            if free is not None:
                free.release()


places = Places(settings.QUEUE_PLACES)


def run_next(queue: str) -> None:
    """Run the job whose turn it is in a queue. Many messages may ask for few jobs: then there is nothing to do."""
    close_old_connections()
    with places.taken(queue) as there:
        taken = fair_queue.dequeue(queue) if there else None
        if taken is None:
            # Without a place: whoever has one tells again when it is free.
            return
        if taken.more:
            # Before the work: it may take long, and others may be idle.
            notify(queue)
        run_job(str(taken.job_id), str(taken.tenant_id))
    if places.are_bounded(queue) and fair_queue.is_waiting(queue):
        # Messages that came meanwhile found no place, and are gone.
        notify(queue)


def run_job(job_id: str, tenant_id: str, body: Body | None = None) -> None:
    """Claim the job, keep its lease alive while the body of its kind runs (or another one), and record how it ended.

    The body must end the job itself (jobs.succeed) in the transaction that stores its result.
    """
    close_old_connections()
    try:
        with observe.bound(observe.job_id, job_id), observe.bound(observe.tenant_id, tenant_id):
            claimed = jobs.claim(job_id=uuid.UUID(job_id), tenant_id=uuid.UUID(tenant_id))
            if claimed is not None:
                with (
                    # What it queues is asked for by whoever asked for it.
                    observe.bound(observe.requester, claimed.requested_by),
                    observe.continuing(claimed.trace, claimed.kind, **_told_of(claimed)),
                ):
                    _run_claimed(claimed, body or KINDS[claimed.kind].body)
    finally:
        close_old_connections()


def _told_of(claimed: jobs.Claim) -> dict[str, str | int]:
    ids = {"crosslight.job_id": str(claimed.job_id), "crosslight.tenant_id": str(claimed.tenant_id)}
    return {**ids, "crosslight.attempt": claimed.attempt}


def _run_claimed(claimed: jobs.Claim, body: Body) -> None:
    start = time.thread_time()
    try:
        with heartbeat.over(claimed):
            body(claimed)
    except jobs.LeaseLost:
        log.warning("lease lost; another worker has the job")
    except jobs.Cancelled:
        jobs.stop_cancelled(claimed, cpu_s=time.thread_time() - start)
    except (MediaError, ServiceError) as error:
        _record(claimed, error, time.thread_time() - start, final=not _may_pass(error))
    except Exception as error:
        log.exception("attempt failed")
        # Without the values of variables: what people uploaded stays out of it.
        told = "".join(traceback.format_exception(error))
        _record(claimed, error, time.thread_time() - start, final=False, told=told)


def _may_pass(error: Exception) -> bool:
    """Whether another try may end otherwise; where the content is at fault it would not."""
    if isinstance(error, MediaError):
        return error.code in TRANSIENT
    return isinstance(error, Unavailable | StorageFull)


def _passes(error: Exception) -> bool:
    """Whether something underneath was away or full, which has nothing to do with this job.

    Not a model's files, which may be gone for good, and no statement that took too long.
    """
    if isinstance(error, OperationalError | InterfaceError):
        return not isinstance(error.__cause__, QueryCanceled)
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, Unavailable | StorageFull) and not isinstance(error, ModelUnavailable)


def _record(claimed: jobs.Claim, error: Exception, cpu_s: float, *, final: bool, told: str = "") -> None:
    """Again while the database is away: what was not told looks like a worker that died."""
    ended: dict[str, Any] = {
        "error": _problem(error),
        "cpu_s": cpu_s,
        "final": final,
        "passes": _passes(error),
    }
    deadline = time.monotonic() + settings.JOB_LEASE_S
    while True:
        try:
            jobs.fail(claimed, **ended, traceback=told)
        except jobs.LeaseLost:
            log.warning("lease lost; another worker has the job")
        except (OperationalError, InterfaceError):
            if time.monotonic() < deadline:
                close_old_connections()
                time.sleep(1)
                continue
            raise
        return


def _problem(error: Exception) -> dict[str, object]:
    if isinstance(error, MediaError):
        return {"type": error.code, "detail": str(error.message)}
    if isinstance(error, ServiceError):
        return {"type": error.slug, "detail": error.detail}
    return {
        "type": "internal-error",
        "detail": f"{type(error).__name__} in the worker; its log has the details.",
    }


class JobTask(Task):
    """Base of the tasks that serve a Job row. Celery's own retry and acknowledgement are not used."""

    acks_late = False
    max_retries = 0


class LetterTask(Task):
    """A mail server that is away for some minutes loses no letter."""

    autoretry_for = (OSError,)
    retry_backoff = 5
    max_retries = 6

    def retry(self, *args: Any, **options: Any) -> Any:
        if broker.is_amqp(settings.BROKER_URL):
            options |= {"countdown": 0, "queue": broker.LATER}
        return super().retry(*args, **options)


def declare_task(kind: Kind) -> None:
    """The Celery task of a kind. Nothing sends it any more: a message names a queue (`workers.next_job`). It is there
    for messages of an earlier release that an installation's broker still holds."""

    @shared_task(base=JobTask, name=kind.task)
    def run(job_id: str, tenant_id: str) -> None:
        run_job(job_id, tenant_id)
