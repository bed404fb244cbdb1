"""Following jobs, and alerts, for whoever listens or waits: no thread and no transaction while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import close_old_connections

from api.rendering import to_json
from config.bridge import Send
from config.pubsub_listener import PubSubListener
from config.request_bodies import Receive
from tenants.accounts.watchers import may_watch
from tenants.errors import NotFound
from tenants.jobs import server_sent_events
from tenants.jobs.ending import channel
from tenants.jobs.models import Job
from tenants.jobs.selectors import get_job, job_shape
from tenants.retrieval import standing
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

MAX_LISTENERS = 500
MAX_LISTENERS_OF_TENANT = 50
# Streams of alerts, which every open page holds; apart from those of jobs.
MAX_INBOXES = 500
MAX_INBOXES_OF_TENANT = 100
# Answers that are held back until a job has ended; apart from the streams, which open pages keep for long.
MAX_WAITING = 500
MAX_WAITING_OF_TENANT = 50
# The row is read this often even if nobody says that it changed.
READ_EVERY_S = 5.0
# Of alerts, for which many pages listen all day.
ALERTS_EVERY_S = 30.0
HEARTBEAT_S = 15.0
# A burst of changes is told as one.
BURST_S = 0.1
# Then the client connects again, and its key is checked again.
LONGEST_S = 900.0
READERS = 4


@dataclass(frozen=True)
class Subscription:
    """A job, or where that is None the alerts of the tenant, and who is told of it, as long as they may be."""

    tenant_id: uuid.UUID
    job_id: uuid.UUID | None
    watcher: str


@dataclass(frozen=True)
class Stream(Subscription):
    """An admitted listener; `told` is the version of the job that was told already."""

    told: str


@dataclass(frozen=True)
class Wait(Subscription):
    """An admitted request whose answer is held back for so many seconds at most."""

    seconds: int


@dataclass(frozen=True)
class JobSnapshot:
    """A job as it was read: `text` is an event of a stream, or the job as JSON for one that waits."""

    version: str
    text: bytes
    finished: bool


class ConnectionSlots:
    """At most so many at a time in all, and of one tenant."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._taken: Counter[uuid.UUID] = Counter()

    def take(self, tenant_id: uuid.UUID) -> bool:
        if self._taken.total() >= self._most or self._taken[tenant_id] >= self._of_one:
            return False
        self._taken[tenant_id] += 1
        return True

    def free(self, tenant_id: uuid.UUID) -> None:
        self._taken[tenant_id] -= 1
        if not self._taken[tenant_id]:
            del self._taken[tenant_id]


T = TypeVar("T")


class JobStreams:
    """All open streams of this process, and all answers that it holds back."""

    def __init__(self) -> None:
        self._listeners = ConnectionSlots(MAX_LISTENERS, MAX_LISTENERS_OF_TENANT)
        self._inboxes = ConnectionSlots(MAX_INBOXES, MAX_INBOXES_OF_TENANT)
        self._waiting = ConnectionSlots(MAX_WAITING, MAX_WAITING_OF_TENANT)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="follow")
        self._tasks: set[asyncio.Task[object]] = set()
        self._stopping = False
        self._listener = PubSubListener()

    def admit(self, named: str) -> Stream | None:
        """A place for the stream that the header names, or None if there is none: then the client polls."""
        tenant, job, told, watcher = named.split(" ")
        job_id = None if job == standing.FOLLOWED else uuid.UUID(job)
        stream = Stream(uuid.UUID(tenant), job_id, watcher, told)
        return None if self._stopping or not self._slots(stream).take(stream.tenant_id) else stream

    def release(self, stream: Stream) -> None:
        self._slots(stream).free(stream.tenant_id)

    def _slots(self, stream: Stream) -> ConnectionSlots:
        return self._inboxes if stream.job_id is None else self._listeners

    def stop(self) -> None:
        """End every stream and every wait: the process stops, and its clients connect to the next."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def follow(self, stream: Stream, receive: Receive, send: Send) -> None:
        """Tell every change until the job has ended or the client has left."""
        await self._while_there(self._send_events(stream, send), receive)
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def wait(self, named: str, receive: Receive) -> JobSnapshot | None:
        """The job that the header names, once it has ended or its time has passed.

        None where that cannot be told, as the client or the job is gone, or the process stops. Raises Full.
        """
        tenant, job, watcher, seconds = named.split(" ")
        wait = Wait(uuid.UUID(tenant), uuid.UUID(job), watcher, int(seconds))
        if not self._waiting.take(wait.tenant_id):
            raise Full
        try:
            return await self._while_there(self._wait_for_end(wait), receive)
        finally:
            self._waiting.free(wait.tenant_id)

    async def _while_there(self, work: Coroutine[None, None, T], receive: Receive) -> T | None:
        """What the work results in; None if the client left, or the process stops, before that."""
        task = asyncio.create_task(work)
        leaving = asyncio.create_task(_client_left(receive))
        self._tasks.add(task)
        if self._stopping:
            # The signal came before this line.
            task.cancel()
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            done = task.done() and not task.cancelled() and task.exception() is None
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)
            self._tasks.discard(task)
        return task.result() if done else None

    async def _send_events(self, stream: Stream, send: Send) -> None:
        told, sent_at, end = stream.told, time.monotonic(), time.monotonic() + LONGEST_S
        job_id, every = stream.job_id, READ_EVERY_S if stream.job_id else ALERTS_EVERY_S
        rings = channel(stream.tenant_id, job_id) if job_id else standing.channel(stream.tenant_id)
        async with self._listener.subscribe(rings) as said:
            while time.monotonic() < end:
                said.clear()
                reading = await self._read(stream, _as_event)
                if reading is None:
                    return
                text = reading.text if reading.version != told else b""
                if not text and time.monotonic() - sent_at > HEARTBEAT_S:
                    text = b": still here\n\n"
                if text:
                    await send({"type": "http.response.body", "body": text, "more_body": True})
                    told, sent_at = reading.version, time.monotonic()
                if reading.finished:
                    return
                await _next_change(said, every)

    async def _wait_for_end(self, wait: Wait) -> JobSnapshot | None:
        end = time.monotonic() + wait.seconds
        async with self._listener.subscribe(channel(wait.tenant_id, str(wait.job_id))) as said:
            while True:
                said.clear()
                reading = await self._read(wait, _as_answer)
                left = end - time.monotonic()
                if reading is None or reading.finished or left <= 0:
                    return reading
                await _next_change(said, min(left, READ_EVERY_S))

    async def _read(self, watched: Subscription, show: Callable[[Job], bytes]) -> JobSnapshot | None:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read_job, watched, show)


class Full(Exception):
    """Too many answers are held back already, in all or of this tenant."""


def _as_event(job: Job) -> bytes:
    return server_sent_events.event(job).encode()


def _as_answer(job: Job) -> bytes:
    return to_json(job_shape(job))


def read_job(watched: Subscription, show: Callable[[Job], bytes]) -> JobSnapshot | None:
    """The job, or the alerts, read in a short scope; None if it is gone, not theirs any more, or cannot be read now."""
    close_old_connections()
    try:
        if not may_watch(watched.watcher, watched.tenant_id):
            return None
        with tenant_scope(watched.tenant_id):
            if watched.job_id is None:
                inbox = standing.read_inbox()
                return JobSnapshot(inbox.version, inbox.event.encode(), finished=False)
            job = get_job(watched.job_id)
        return JobSnapshot(server_sent_events.version(job), show(job), job.finished)
    except NotFound:
        return None
    except Exception:
        log.warning("a stream ends: what it follows cannot be read", exc_info=True)
        return None
    finally:
        close_old_connections()


async def _next_change(said: asyncio.Event, within_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        # Not wait_for, which may swallow a cancellation before Python 3.12.
        async with asyncio.timeout(within_s):
            await said.wait()
        await asyncio.sleep(BURST_S)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
