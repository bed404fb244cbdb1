"""Following jobs for whoever listens: no thread and no transaction while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.db import close_old_connections

from config.bridge import Receive, Send
from config.hearing import Hearing
from tenants.accounts.watchers import may_watch
from tenants.errors import NotFound
from tenants.jobs import live
from tenants.jobs.ending import channel
from tenants.jobs.selectors import get_job
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

MAX_LISTENERS = 500
MAX_LISTENERS_OF_TENANT = 50
# The row is read this often even if nobody says that it changed.
READ_EVERY_S = 5.0
HEARTBEAT_S = 15.0
# A burst of changes is told as one.
BURST_S = 0.1
# Then the client connects again, and its key is checked again.
LONGEST_S = 900.0
READERS = 4


@dataclass(frozen=True)
class Stream:
    """An admitted listener: of which job, which version of it was told already, and who listens."""

    tenant_id: uuid.UUID
    job_id: uuid.UUID
    told: str
    watcher: str


@dataclass(frozen=True)
class Reading:
    version: str
    event: str
    finished: bool


class Follower:
    """All open streams of this process."""

    def __init__(self) -> None:
        self._of_tenant: Counter[uuid.UUID] = Counter()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="follow")
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._hearing = Hearing()

    def admit(self, named: str) -> Stream | None:
        """A place for the stream that the header names, or None if there is none: then the client polls."""
        tenant, job, told, watcher = named.split(" ")
        tenant_id = uuid.UUID(tenant)
        full = self._of_tenant.total() >= MAX_LISTENERS
        if self._stopping or full or self._of_tenant[tenant_id] >= MAX_LISTENERS_OF_TENANT:
            return None
        self._of_tenant[tenant_id] += 1
        return Stream(tenant_id, uuid.UUID(job), told, watcher)

    def release(self, stream: Stream) -> None:
        self._of_tenant[stream.tenant_id] -= 1
        if not self._of_tenant[stream.tenant_id]:
            del self._of_tenant[stream.tenant_id]

    def stop(self) -> None:
        """End every stream: the process stops, and its clients connect to the next."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()

    async def follow(self, stream: Stream, receive: Receive, send: Send) -> None:
        """Tell every change until the job has ended or the client has left."""
        telling = asyncio.create_task(self._tell(stream, send))
        leaving = asyncio.create_task(_client_left(receive))
        self._tasks.add(telling)
        if self._stopping:
            # The signal came between the answer and this line.
            telling.cancel()
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            leaving.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)
            self._tasks.discard(telling)
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, stream: Stream, send: Send) -> None:
        told, sent_at, end = stream.told, time.monotonic(), time.monotonic() + LONGEST_S
        async with self._hearing.of(channel(stream.tenant_id, stream.job_id)) as said:
            while time.monotonic() < end:
                said.clear()
                reading = await self._read(stream)
                if reading is None:
                    return
                text = reading.event if reading.version != told else ""
                if not text and time.monotonic() - sent_at > HEARTBEAT_S:
                    text = ": still here\n\n"
                if text:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    told, sent_at = reading.version, time.monotonic()
                if reading.finished:
                    return
                await _next_change(said)

    async def _read(self, stream: Stream) -> Reading | None:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read_job, stream)


def read_job(stream: Stream) -> Reading | None:
    """The job as it is, read in a short scope; None if it is gone, not theirs any more, or cannot be read now."""
    close_old_connections()
    try:
        if not may_watch(stream.watcher, stream.tenant_id):
            return None
        with tenant_scope(stream.tenant_id):
            job = get_job(stream.job_id)
        return Reading(live.version(job), live.event(job), job.finished)
    except NotFound:
        return None
    except Exception:
        log.warning("a stream ends: its job cannot be read", exc_info=True)
        return None
    finally:
        close_old_connections()


async def _next_change(said: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        # Not wait_for, which may swallow a cancellation before Python 3.12.
        async with asyncio.timeout(READ_EVERY_S):
            await said.wait()
        await asyncio.sleep(BURST_S)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
