"""Django's WSGI application under an ASGI server: a fixed pool of threads, bodies in both directions as streams.

`a2wsgi.WSGIMiddleware` does this too, with one round trip between thread and event loop for each part of an
answer: measured, that doubles the cost of a small request (docs/adr/0002-one-port-asgi-edge.md). Here an answer
comes back whole with its thread; one that streams is pulled part by part, and holds no thread while a slow client
takes its time.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

from a2wsgi.wsgi import Body, build_environ

from config.threads import WarmestFirst

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# A client that sends nothing for this long in the middle of a body gives its thread back.
STALLED_S = 30.0
# A body up to this size is complete before Django is asked: that saves two turns between its thread and the event loop,
# and a slow client of the API holds no thread at all.
SMALL_BODY = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What Django answered. `parts` is the response itself where it streams, else None and `body` is all of it."""

    status: int
    headers: Headers
    body: bytes
    parts: Any


class Bridge:
    """Runs requests in threads that live as long as the process, and so keep their database connections."""

    def __init__(self, wsgi: Any, threads: int) -> None:
        self._wsgi = wsgi
        self._pool = WarmestFirst(threads, "web")

    async def ask(self, scope: Scope, receive: Receive) -> Answer:
        """Django's answer. A large body is read as Django asks for it."""
        loop = asyncio.get_running_loop()
        length = _length(scope)
        body: Any = Body(loop, _guarded(receive))  # type: ignore[arg-type]
        if length is not None and length <= SMALL_BODY:
            body = await _complete(receive) if length else io.BytesIO()
        environ = build_environ(_plain(scope), body)  # type: ignore[arg-type]
        context = contextvars.copy_context()
        return await loop.run_in_executor(self._pool, context.run, self._call, dict(environ))

    async def parts(self, answer: Answer) -> AsyncIterator[bytes]:
        """The parts of an answer that streams, each read in a thread when it is wanted."""
        loop = asyncio.get_running_loop()
        parts: Iterator[bytes] = iter(answer.parts)
        while (part := await loop.run_in_executor(self._pool, next, parts, None)) is not None:
            yield part

    def close(self, answer: Answer) -> None:
        """Let Django tidy up after an answer that streams; to be called however that ended."""
        if answer.parts is not None:
            self._pool.submit(answer.parts.close)

    def _call(self, environ: dict[str, Any]) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        response = self._wsgi(environ, lambda status, headers, error=None: started.append((status, headers)))
        status, headers = started[-1]
        code, encoded = int(status[:3]), [(n.lower().encode(), v.encode("latin-1")) for n, v in headers]
        if getattr(response, "streaming", False):
            return Answer(code, encoded, b"", response)
        try:
            return Answer(code, encoded, b"".join(response), None)
        finally:
            response.close()


def _length(scope: Scope) -> int | None:
    """Of the body, in bytes; None where that is not known, or not one number."""
    lengths = []
    for name, value in scope["headers"]:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            return None
    if not lengths:
        return 0
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None


class _Broken(io.RawIOBase):
    """A body that did not come: Django hears of it when it reads, as of one that breaks off later."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:
        raise self._error

    def readline(self, size: int | None = -1) -> bytes:
        raise self._error


async def _complete(receive: Receive) -> io.BytesIO | _Broken:
    """The whole body, which is small."""
    receive, parts, more = _guarded(receive), [], True
    try:
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
    except OSError as error:
        return _Broken(error)
    return io.BytesIO(b"".join(parts))


def _guarded(receive: Receive) -> Receive:
    """Raises OSError for a client that left or stalls in the middle of its body.

    Without that, an upload that broke off would pass for a complete one.
    """

    async def part() -> Message:
        async with asyncio.timeout(STALLED_S):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left before the body was complete")
        return message

    return part


def _plain(scope: Scope) -> Scope:
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
