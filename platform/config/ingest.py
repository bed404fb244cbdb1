"""Streams of items over one long request: read as they come, stored in small batches, acknowledged after each commit.

A view answers with the header `INGEST` once key, scope, rate and dataset are checked; the edge then reads the request's
body itself, which has no fixed end, while the answer is sent. What is read and not stored is bounded: a batch that is
stored, one that waits, and one that fills. While they are full the connection is not read, so that the client waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from api.problems import URN, Problem, Refusal, problem_of, unavailable
from config.bridge import STALLED_S, Headers, Send
from config.event_stream import ConnectionSlots
from config.request_bodies import Receive
from tenants import observe
from tenants.accounts.watchers import may_watch
from tenants.datasets.importers import Item
from tenants.errors import Invalid, ServiceError
from tenants.pipeline.assets import bulk
from tenants.pipeline.streams.writing import MAX_BYTES, MAX_ITEMS, MAX_LINE, StreamWriter, read_line

log = logging.getLogger(__name__)

# What has come is stored after so long even where a batch is not full.
BATCH_S = 0.1
# An empty line goes to a client that has heard nothing for so long, as proxies end what is silent.
HEARTBEAT_S = 15.0
# How often it is asked whether the key still opens the workspace.
CHECK_S = 15.0
# Threads that store batches, of all streams of the process: each computes, and holds a connection to the database.
STORERS = 2

TOO_MANY = Problem(
    "too-many-streams",
    429,
    "Too many streams at once",
    "A workspace keeps a few streams open at a time. Send more items over those that are open, or end one.",
    headers={"Retry-After": "5", "Connection": "close"},
)
_ENDS = {
    "stopping": unavailable("This server stops. Connect again and send what was not acknowledged."),
    "longest": Problem(
        "connect-again",
        503,
        "Connect again",
        "A stream is ended after a while. Connect again and send what was not acknowledged.",
        headers={"Retry-After": "0"},
    ),
    "revoked": Problem(
        "revoked", 401, "No longer allowed", "The key does not open this workspace any longer."
    ),
    "stalled": Problem(
        "too-slow", 408, "Acknowledgements are not read", "Read the answer while you send, and connect again."
    ),
}


@dataclass(frozen=True)
class Opened:
    """A stream that a view let in."""

    tenant_id: uuid.UUID
    dataset_id: uuid.UUID
    watcher: str
    replace: bool

    @property
    def actor(self) -> str:
        return self.watcher.partition("@")[0]


@dataclass
class _Batch:
    """Lines that are stored together: items, and beside them those that are none, by their number."""

    items: list[Item] = field(default_factory=list)
    refused: dict[int, tuple[object, ServiceError]] = field(default_factory=dict)
    bytes: int = 0
    since: float = 0.0

    def __len__(self) -> int:
        return len(self.items) + len(self.refused)

    @property
    def full(self) -> bool:
        return len(self) >= MAX_ITEMS or self.bytes >= MAX_BYTES


class _Pace:
    """Lines a second of one workspace in this process: who is ahead waits, and is not read meanwhile."""

    def __init__(self) -> None:
        self._free_at: dict[uuid.UUID, float] = {}

    async def count(self, tenant_id: uuid.UUID, lines: int) -> None:
        now = time.monotonic()
        free_at = max(now, self._free_at.get(tenant_id, 0.0)) + lines / settings.STREAM_RATE
        self._free_at[tenant_id] = free_at
        # A second's worth may come at once.
        if (ahead := free_at - now - 1.0) > 0:
            await asyncio.sleep(ahead)

    def forget(self, tenant_id: uuid.UUID) -> None:
        if self._free_at.get(tenant_id, 0.0) <= time.monotonic():
            self._free_at.pop(tenant_id, None)


class Ingest:
    """All streams of items that this process reads."""

    def __init__(self) -> None:
        self._slots = ConnectionSlots(settings.STREAMS_AT_ONCE, settings.STREAMS_OF_TENANT)
        self._storers = ThreadPoolExecutor(STORERS, thread_name_prefix="ingest")
        self._stopping = asyncio.Event()
        self._pace = _Pace()

    def stop(self) -> None:
        """End every stream once what was read of it is stored and acknowledged."""
        self._stopping.set()

    @contextlib.contextmanager
    def opened(self, named: str) -> Iterator[Opened]:
        """A place for the stream that the header names. Raises Refusal."""
        tenant, dataset, replace, watcher = named.split(" ")
        stream = Opened(uuid.UUID(tenant), uuid.UUID(dataset), watcher, replace == "replace")
        if self._stopping.is_set():
            raise Refusal(_ENDS["stopping"])
        if not self._slots.take(stream.tenant_id):
            raise Refusal(TOO_MANY)
        try:
            yield stream
        finally:
            self._slots.free(stream.tenant_id)
            self._pace.forget(stream.tenant_id)

    async def run(self, stream: Opened, headers: Headers, receive: Receive, send: Send) -> None:
        """Read, store and acknowledge until the client has ended its body or left, or the server ends it."""
        kept = [(name, value) for name, value in headers if name != b"content-length"]
        answer = _Answer(send)
        await answer.begin(kept)
        waiting: asyncio.Queue[_Batch | str] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(self._read(stream, _lines(receive), waiting))
        beating = asyncio.create_task(answer.beat())
        try:
            await self._store_all(stream, waiting, reading, answer)
        except (TimeoutError, _Left):
            log.info("a client of a stream left or read nothing")
        finally:
            reading.cancel()
            beating.cancel()
            await asyncio.gather(reading, beating, return_exceptions=True)

    # --- Reading ---

    async def _read(
        self, stream: Opened, chunks: AsyncIterator[bytes | None], waiting: asyncio.Queue[_Batch | str]
    ) -> None:
        """Put batches into the queue, and last why there are no more: empty where the client has ended it."""
        batch, number = _Batch(), 0
        lines = _Splitter()
        end = time.monotonic() + settings.STREAM_LONGEST_S
        stopping = asyncio.create_task(self._stopping.wait())
        coming: asyncio.Task[bytes | None] | None = None
        try:
            while True:
                if coming is None:
                    coming = asyncio.ensure_future(anext(chunks, None))
                left = end - time.monotonic()
                if len(batch):
                    left = min(left, batch.since + BATCH_S - time.monotonic())
                await asyncio.wait(
                    {coming, stopping}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED
                )
                last = False
                if coming.done():
                    chunk, coming = coming.result(), None
                    last = chunk is None
                    for line in lines.end() if chunk is None else lines.split(chunk):
                        number += 1
                        _add(batch, line, number)
                        if batch.full:
                            batch = await self._hand_over(stream, batch, waiting)
                over = stopping.done() or time.monotonic() >= end
                if len(batch) and (last or over or time.monotonic() >= batch.since + BATCH_S):
                    batch = await self._hand_over(stream, batch, waiting)
                if last or over:
                    await waiting.put("" if last else "stopping" if stopping.done() else "longest")
                    return
        except _Left:
            await waiting.put("left")
        finally:
            stopping.cancel()
            if coming is not None:
                coming.cancel()

    async def _hand_over(self, stream: Opened, batch: _Batch, waiting: asyncio.Queue[_Batch | str]) -> _Batch:
        await waiting.put(batch)
        await self._pace.count(stream.tenant_id, len(batch))
        return _Batch()

    # --- Storing ---

    async def _store_all(
        self,
        stream: Opened,
        waiting: asyncio.Queue[_Batch | str],
        reading: asyncio.Task[None],
        answer: _Answer,
    ) -> None:
        writer = StreamWriter(stream.tenant_id, stream.dataset_id, replace=stream.replace, actor=stream.actor)
        checked_at = time.monotonic()
        loop = asyncio.get_running_loop()
        while True:
            next_one = asyncio.create_task(waiting.get())
            await asyncio.wait({next_one, reading}, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if not next_one.done() and reading.done() and waiting.empty():
                # It failed by itself.
                next_one.cancel()
                reading.result()
                return
            must_check = time.monotonic() - checked_at >= CHECK_S
            batch = await next_one if next_one.done() or reading.done() else None
            if batch is None:
                next_one.cancel()
            if isinstance(batch, str):
                if batch != "left":
                    await answer.end(_ENDS.get(batch))
                return
            if must_check:
                checked_at = time.monotonic()
            acks, problem = await loop.run_in_executor(
                self._storers, _store, stream, writer, batch or _Batch(), must_check
            )
            await answer.say(acks)
            if problem is not None:
                await answer.end(problem)
                return


class _Left(Exception):
    """The client is gone."""


class _Answer:
    """The lines that go back. A client that does not read them for STALLED_S is given up."""

    def __init__(self, send: Send) -> None:
        self._send, self._said_at, self._lock = send, time.monotonic(), asyncio.Lock()

    async def begin(self, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        # So that the client sees the head before the first batch is stored.
        await self.say(b"\n")

    async def say(self, body: bytes, *, more: bool = True) -> None:
        if body or not more:
            async with self._lock:
                message = {"type": "http.response.body", "body": body, "more_body": more}
                await asyncio.wait_for(self._send(message), STALLED_S)
                self._said_at = time.monotonic()

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(max(0.1, self._said_at + HEARTBEAT_S - time.monotonic()))
            if time.monotonic() - self._said_at >= HEARTBEAT_S:
                await self.say(b"\n")

    async def end(self, problem: Problem | None) -> None:
        """With why the server ends it; without a line where the client did."""
        last = b"" if problem is None else _line({"ended": _told(problem)})
        await self.say(last, more=False)


class _Splitter:
    """Lines of bytes that come in parts. What of a line is longer than MAX_LINE is dropped."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def split(self, chunk: bytes) -> list[bytes]:
        *whole, rest = chunk.split(b"\n")
        found = []
        for part in whole:
            found.append(self._take(part))
            self._rest.clear()
        self._rest += rest[: MAX_LINE + 1 - len(self._rest)]
        return found

    def end(self) -> list[bytes]:
        return [bytes(self._rest)] if self._rest.strip() else []

    def _take(self, part: bytes) -> bytes:
        return bytes(self._rest) + part[: max(0, MAX_LINE + 1 - len(self._rest))]


async def _lines(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes. Raises _Left."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Left
        more = message.get("more_body", False)
        if part := message.get("body", b""):
            yield part


def _add(batch: _Batch, line: bytes, number: int) -> None:
    if not line.strip():
        return
    if not len(batch):
        batch.since = time.monotonic()
    batch.bytes += len(line)
    try:
        batch.items.append(read_line(line, number))
    except ServiceError as error:
        batch.refused[number] = (_id_in(line), error)


def _id_in(line: bytes) -> object:
    """The id of a line that is refused, as far as it can be told."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    named = found.get("id") if isinstance(found, dict) else None
    return named[:200] if isinstance(named, str) else named if isinstance(named, int) else None


def _store(
    stream: Opened, writer: StreamWriter, batch: _Batch, must_check: bool
) -> tuple[bytes, Problem | None]:
    """Acknowledgements of a batch, in the order of its lines, and why the stream ends, if it does. In a thread."""
    close_old_connections()
    try:
        with (
            observe.bound(observe.tenant_id, str(stream.tenant_id)),
            observe.bound(observe.requester, stream.actor),
        ):
            if must_check and not may_watch(stream.watcher, stream.tenant_id):
                return b"", _ENDS["revoked"]
            acks: dict[int, bytes] = {
                row: _line(
                    {"line": row, "id": named, "asset": None, "state": "refused", "error": _problem(error)}
                )
                for row, (named, error) in batch.refused.items()
            }
            problem: Problem | None = None
            if batch.items:
                written = writer.write(batch.items)
                acks |= {entry.row: _ack(entry) for entry in written.entries[: written.stopped_at]}
                if written.problem is not None:
                    problem = problem_of(written.problem)
                    first = written.entries[written.stopped_at].row
                    acks = {row: text for row, text in acks.items() if row < first}
            return b"".join(acks[row] for row in sorted(acks)), problem
    except (ServiceError, OperationalError, InterfaceError) as error:
        return b"", problem_of(error)
    except Exception as error:
        return b"", problem_of(error)
    finally:
        close_old_connections()


def _ack(entry: bulk.Entry) -> bytes:
    state = {bulk.IMPORTED: "stored", bulk.FAILED: "refused"}.get(entry.outcome, "duplicate")
    told: dict[str, object] = {
        "line": entry.row,
        "id": entry.external_id,
        "asset": str(entry.asset_id) if entry.asset_id else None,
        "state": state,
    }
    if entry.replaces is not None and state == "stored":
        told["replaced"] = str(entry.replaces)
    if state == "refused":
        told["error"] = {"type": URN + entry.slug, "detail": entry.reason}
    return _line(told)


def _problem(error: ServiceError) -> dict[str, object]:
    told: dict[str, object] = {"type": URN + error.slug, "detail": error.detail}
    if isinstance(error, Invalid) and error.errors[0]["pointer"]:
        told["pointer"] = error.errors[0]["pointer"]
    return told


def _told(problem: Problem) -> dict[str, object]:
    told = {
        "type": URN + problem.slug,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    return {**problem.extra, **told}


def _line(told: object) -> bytes:
    return msgspec.json.encode(told) + b"\n"
