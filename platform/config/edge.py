"""The edge of the web process: Django in threads, and open event streams without a thread each.

Django answers everything, over WSGI in a fixed pool of threads that keep their database connections. Where an
answer opens a stream (it names a job in the header `tenants.jobs.live.FOLLOW`), the edge keeps the connection and
follows that job; so keys, sessions, scopes, rates and refusals of a stream are Django's alone.
Why: docs/adr/0002-one-port-asgi-edge.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from a2wsgi import WSGIMiddleware

from config.follow import Follower, Stream
from tenants.jobs.live import FOLLOW

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# A client that sends or takes nothing for this long gives its thread back.
STALLED_S = 30.0
_FOLLOW = FOLLOW.lower().encode()


class Edge:
    """The ASGI application."""

    def __init__(self, wsgi: Any, threads: int) -> None:
        self._django = WSGIMiddleware(wsgi, workers=threads)
        self._follower = Follower()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send, self._follower if scope["method"] == "GET" else None)
        await self._django(_for_wsgi(scope), exchange.receive, exchange.send)
        if exchange.stream is not None:
            await self._follower.follow(exchange.stream, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._follower.stop()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return


def _for_wsgi(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The scope in words that WSGI can carry: an ASCII query, one Cookie header."""
    query = bytes(scope["query_string"])
    if not query.isascii():
        query = "".join(chr(b) if b < 128 else f"%{b:02X}" for b in query).encode()
    return {**scope, "query_string": query, "headers": _one_cookie(scope["headers"])}


def _one_cookie(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    # HTTP/2 may split cookies; WSGI would join the parts with commas.
    listed = list(headers)
    cookies = [value for name, value in listed if name == b"cookie"]
    if len(cookies) < 2:
        return listed
    return [(n, v) for n, v in listed if n != b"cookie"] + [(b"cookie", b"; ".join(cookies))]


class Exchange:
    """One request and its answer between the server and Django's thread."""

    def __init__(self, receive: Receive, send: Send, follower: Follower | None) -> None:
        self._receive = receive
        self._send = send
        self._follower = follower
        self._gone = False
        self.stream: Stream | None = None

    async def receive(self) -> Message:
        """The next part of the body. Raises OSError for a client that left or stalls in the middle of it.

        Without that, an upload that broke off would pass for a complete one.
        """
        message = await asyncio.wait_for(self._receive(), STALLED_S)
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left before the body was complete")
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on; once the client is gone the rest is dropped.

        An error here would end the task that empties the thread's queue, and with it the thread for good.
        """
        if self._gone:
            return
        try:
            await asyncio.wait_for(self._send(self._kept_open(message)), STALLED_S)
        except Exception:
            self._gone = True
            self._leave()
            log.info("the client left before the answer was complete")

    def _kept_open(self, message: Message) -> Message:
        if message["type"] == "http.response.start":
            return {**message, "headers": self._look_for_stream(message["headers"])}
        if self.stream is not None:
            return {**message, "more_body": True}
        return message

    def _look_for_stream(self, headers: Headers) -> Headers:
        value = next((value for name, value in headers if name == _FOLLOW), None)
        if value is None:
            return headers
        headers = [(name, value) for name, value in headers if name != _FOLLOW]
        if self._follower is not None:
            self.stream = self._follower.admit(value.decode())
        if self.stream is None:
            return headers
        return [(name, value) for name, value in headers if name != b"content-length"]

    def _leave(self) -> None:
        if self.stream is not None and self._follower is not None:
            self._follower.release(self.stream)
            self.stream = None
