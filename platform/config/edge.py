"""The edge of the web process: Django in threads; open event streams and answers that wait without a thread each.

Django answers everything. Where an answer opens a stream (it names a job in the header `FOLLOW` of
`tenants.jobs.server_sent_events`), the edge keeps the connection and follows that job; where it is to be held back
until a job has ended (`WAIT`), the edge waits; where it lets a stream of items in (`INGEST`), the edge reads that
(config.ingest). So keys, sessions, scopes, rates and refusals are Django's alone.
Why: docs/adr/0002-one-port-asgi-edge.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.problems import Refusal
from api.transfer.streams import INGEST
from config import tracing
from config.bridge import STALLED_S, Answer, Bridge, Headers, Scope, Send, refused
from config.connections import Connections
from config.event_stream import Full, JobStreams, Stream
from config.ingest import Ingest
from config.live import LiveStreams
from config.proxies import TrustedProxies
from config.request_bodies import ClientLeft, Receive
from tenants.accounts.rate_counter import rate_counter
from tenants.jobs.server_sent_events import FOLLOW, WAIT
from tenants.retrieval.cache import async_writer
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)

_FOLLOW = FOLLOW.lower().encode()
_WAIT = WAIT.lower().encode()
_INGEST = INGEST.lower().encode()
# Answered under any name.
PROBED = frozenset({"/healthz", "/readyz"})
# Longer than any request may take: threads that none of them has left for so long hang.
STUCK_S = 90.0
# What a client is told to leave between two questions where no more answers can be held back.
RETRY_S = b"5"


class Edge:
    """The ASGI application."""

    def __init__(self, wsgi: Any, threads: int, proxies: TrustedProxies) -> None:
        self._django = Bridge(wsgi, threads)
        self._proxies = proxies
        self._follower = JobStreams()
        self._ingest = Ingest()
        self._live = LiveStreams(self._django)
        self._connections = Connections()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http" and scope["path"] == "/healthz":
            await self._tell_health(send)
        elif scope["type"] == "http":
            with self._connections.asking(scope):
                # Once, and first: everything behind this reads the true address.
                await self._http(_without_host(self._proxies.resolved(scope)), receive, send)
        else:
            with self._connections.asking(scope):
                await self._live.serve(self._proxies.resolved(scope), receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._django.ask(scope, receive)
        except ClientLeft:
            return
        headers, followed = _without(answer.headers, _FOLLOW)
        headers, awaited = _without(headers, _WAIT)
        headers, brought = _without(headers, _INGEST)
        if brought and scope["method"] == "POST":
            await self._read_items(brought, headers, receive, send)
            return
        stream = self._follower.admit(followed) if followed and scope["method"] == "GET" else None
        if stream is not None:
            await self._stream(answer, headers, stream, receive, send)
            return
        if awaited and scope["method"] == "GET":
            headers, body = await self._held_back(headers, answer.body, awaited, receive)
            answer = replace(answer, body=body)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if answer.parts is None:
            await send({"type": "http.response.body", "body": answer.body})
        else:
            await self._parts(answer, send, wanted=scope["method"] != "HEAD")

    async def _tell_health(self, send: Send) -> None:
        """Without a thread, which may all be busy: whoever supervises this process ends it if there is no answer."""
        well = self._django.stuck_for() < STUCK_S
        body = b"ok\n" if well else b"no thread becomes free\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if well else 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(
        self, answer: Answer, headers: Headers, stream: Stream, receive: Receive, send: Send
    ) -> None:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await self._follower.follow(stream, receive, send)
        finally:
            self._follower.release(stream)

    async def _read_items(self, named: str, headers: Headers, receive: Receive, send: Send) -> None:
        try:
            with self._ingest.opened(named) as stream:
                await self._ingest.run(stream, headers, receive, send)
                return
        except Refusal as error:
            answer = refused(error)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _held_back(
        self, headers: Headers, body: bytes, named: str, receive: Receive
    ) -> tuple[Headers, bytes]:
        """The answer with the job as it is when it has ended or the time has passed."""
        try:
            reading = await self._follower.wait(named, receive)
        except Full:
            return [*headers, (b"retry-after", RETRY_S)], body
        if reading is None:
            return headers, body
        length = (b"content-length", str(len(reading.text)).encode())
        return [
            length if name == b"content-length" else (name, value) for name, value in headers
        ], reading.text

    async def _parts(self, answer: Answer, send: Send, *, wanted: bool) -> None:
        try:
            if wanted:
                async for part in self._django.parts(answer):
                    message = {"type": "http.response.body", "body": part, "more_body": True}
                    await asyncio.wait_for(send(message), STALLED_S)
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info("the client took nothing for %.0f s", STALLED_S)
        finally:
            self._django.close(answer)

    def _stop(self) -> None:
        self._follower.stop()
        self._ingest.stop()
        self._live.stop()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        message = await receive()
        _on_stop_signals(asyncio.get_running_loop(), self._stop)
        self._connections.allow()
        watching = asyncio.create_task(self._connections.watch())
        await send({"type": f"{message['type']}.complete"})
        message = await receive()
        self._stop()
        watching.cancel()
        # Here, as the server ends its workers without the interpreter's own end.
        await asyncio.to_thread(_flush)
        await send({"type": f"{message['type']}.complete"})


def _without_host(scope: Scope) -> Scope:
    """Probes ask a host by its address, or by no name: what they read is the same under any, and holds no link."""
    if scope["path"] not in PROBED:
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {**scope, "headers": [*headers, (b"host", b"localhost")]}


def _flush() -> None:
    try:
        rate_counter.flush()
    except Unavailable:
        log.warning("Valkey is away: requests of the last moments are not counted")
    async_writer.flush()
    tracing.stop()


def _on_stop_signals(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """Act on the first signal to stop: the server waits for open connections before it ends the lifespan.

    The event loop hears of signals through a pipe, so the server's own handler runs all the same.
    """
    # Elsewhere than in the main thread (a test) there are no signals to hear.
    with contextlib.suppress(ValueError):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))


def _without(headers: Headers, internal: bytes) -> tuple[Headers, str]:
    """The headers for the client, and the value of one that is between Django and the edge, empty if there is none."""
    named = next((value.decode() for name, value in headers if name == internal), "")
    return ([(n, v) for n, v in headers if n != internal] if named else headers), named
