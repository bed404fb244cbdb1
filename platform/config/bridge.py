"""Django's WSGI application under an ASGI server: a fixed pool of threads that wait for no client.

`a2wsgi.WSGIMiddleware` does this too, with one round trip between thread and event loop for each part of an
answer: measured, that doubles the cost of a small request (docs/adr/0002-one-port-asgi-edge.md). Here an answer
comes back whole with its thread; one that streams is pulled part by part, and holds no thread while a slow client
takes its time.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import IO, Any

from a2wsgi.wsgi import build_environ
from django.db import InterfaceError, OperationalError
from django.utils import translation
from uuid_utils.compat import uuid7

from api.problems import Problem, Refusal, problem_of, too_large
from config.request_bodies import SMALL, Bodies, ClientLeft, Receive
from config.threads import Caller, Full, LifoThreadPool, ThreadShares
from tenants import long_requests, observe
from tenants.accounts.api_admission import ADMISSION, Admission
from tenants.accounts.networks import network_of
from tenants.accounts.quotas import is_only_tenant
from tenants.errors import StorageFull

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Environ = dict[str, Any]
_NO_BODY = io.BytesIO()
# Longer than any key's prefix.
PREFIX = 32

# Seconds. What waits then has mostly been answered.
COME_AGAIN_S = "1"
TOO_MANY_AT_ONCE = Problem(
    "too-many-at-once",
    429,
    "Too many requests at once",
    "Requests of yours wait for their turn already, and more would be answered too late. Send fewer beside each other.",
    headers={"Retry-After": COME_AGAIN_S},
)
OVERLOADED = Problem(
    "unavailable",
    503,
    "Not available at the moment",
    "More requests wait than can be answered in time. Try again.",
    headers={"Retry-After": COME_AGAIN_S},
)

# A client that takes nothing of an answer for this long is given up.
STALLED_S = 30.0
# The only kind of body that can be handed over in parts: of an upload that goes on, without a checksum of the whole.
TUS_PART = "application/offset+octet-stream"
FORM = "multipart/form-data"


@dataclass(frozen=True)
class Answer:
    """What Django answered. `parts` is the response itself where it streams, else None and `body` is all of it."""

    status: int
    headers: Headers
    body: bytes
    parts: Any


class BodyWanted(BaseException):
    """Django reads a body of which only the announcement is here. `tenant` is on whose behalf; empty for nobody's.

    Not an Exception: nothing in between is to make an answer of it.
    """

    def __init__(self) -> None:
        self.tenant = observe.tenant_id.get()


class _UnreadBody(io.RawIOBase):
    """Stands for a body that has not been read."""

    def read(self, size: int = -1) -> bytes:
        raise BodyWanted

    def readline(self, size: int | None = -1) -> bytes:
        raise BodyWanted


class Bridge:
    """Runs requests in threads that live as long as the process, and so keep their database connections.

    Whoever sends a large body is first asked for by its headers alone: the view runs until it reads the body, and
    answers by itself where key, scope, rate, path or announced size are refused. What it wants to read is then spooled
    (config.request_bodies), and the view is called again.
    """

    def __init__(self, wsgi: Any, threads: int) -> None:
        self._wsgi = wsgi
        self._pool = LifoThreadPool(threads, "web", of_one=threads // 4)
        long_requests.listener = self._pool.keep_long
        self._bodies = Bodies()
        # Reading a file out of a large body takes a thread for as long as copying it: with tenants.long_requests, which
        # may have half of them, some are always left, and no tenant has all of these.
        self._turns = ThreadShares(threads * 3 // 8, threads // 4)
        # Strangers have turns of their own, so that no number of them makes a tenant's upload wait.
        self._open_turns = ThreadShares(threads // 8, 1)

    def stuck_for(self) -> float:
        """Seconds in which requests have waited for a thread and none has become free."""
        return self._pool.stuck_for()

    async def ask(self, scope: Scope, receive: Receive) -> Answer:
        """Django's answer, or the refusal of a body. Raises ClientLeft."""
        # Of unknown length: the API refuses it, and nothing else reads it.
        length = _length(scope) or 0
        environ = dict(build_environ(_wsgi_scope(scope), _NO_BODY))  # type: ignore[arg-type]
        try:
            if length > SMALL or takes_stream(scope):
                return await self._ask_first(environ, receive, length)
            address = (scope.get("client") or ("",))[0]
            body = await self._bodies.small(receive, length, address) if length else io.BytesIO()
            return await self._answer(environ, body)
        except (Refusal, StorageFull, OperationalError, InterfaceError) as error:
            return refused(error)
        except Full as full:
            # At once and without a thread: the client learns when to come again, and nobody waits for this answer.
            return refused(Refusal(TOO_MANY_AT_ONCE if full.of_caller else OVERLOADED))

    async def _ask_first(self, environ: Environ, receive: Receive, length: int) -> Answer:
        first = await self._run(environ, _UnreadBody())
        if isinstance(first, Answer):
            return first
        if not first.tenant and (network := _open_to(environ)):
            async with (
                self._bodies.of_network(receive, length, network, copied=_is_copied(environ)) as body,
                self._open_turns.turn(network),
            ):
                return await self._answer(environ, body, long=True)
        if not first.tenant:
            # Another page that anybody may open, or of an operator: none has such a form.
            raise Refusal(too_large(f"This page takes a form of at most {SMALL // 1024} kB."))
        if _is_resumable_upload(environ):
            return await self._in_windows(environ, receive, length, first.tenant)
        body_of = self._bodies.large(
            receive,
            length,
            first.tenant,
            copied=_is_copied(environ),
            is_only_tenant=self._is_only_tenant,
        )
        async with body_of as body, self._turns.turn(first.tenant):
            return await self._answer(environ, body, long=True)

    async def _is_only_tenant(self) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._pool, is_only_tenant)

    async def _in_windows(self, environ: Environ, receive: Receive, length: int, tenant: str) -> Answer:
        """An upload that goes on, as requests of a window each: what has come is kept, whatever happens to the rest."""
        answer = None
        async with self._bodies.windows(receive, length, tenant) as windows:
            async for window in windows:
                environ = {**environ, "CONTENT_LENGTH": str(len(window))}
                async with self._turns.turn(tenant):
                    answer = await self._answer(environ, io.BytesIO(window), long=True)
                offset = dict(answer.headers).get(b"upload-offset")
                if answer.status != HTTPStatus.NO_CONTENT or offset is None:
                    return answer
                environ["HTTP_UPLOAD_OFFSET"] = offset.decode()
        if answer is None:
            raise ClientLeft
        return answer

    async def _answer(self, environ: Environ, body: IO[bytes], *, long: bool = False) -> Answer:
        answer = await self._run(environ, body, long=long)
        if isinstance(answer, BodyWanted):
            raise answer
        return answer

    async def _run(self, environ: Environ, body: object, *, long: bool = False) -> Answer | BodyWanted:
        call = {**environ, "wsgi.input": body}
        context = contextvars.copy_context()
        work = self._pool.submit_for(caller_of(environ), partial(context.run, self._call, call), long=long)
        try:
            return await asyncio.wrap_future(work)
        finally:
            if ADMISSION in call:
                environ[ADMISSION] = call[ADMISSION]

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

    def _call(self, environ: Environ) -> Answer | BodyWanted:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            response = self._wsgi(
                environ, lambda status, headers, error=None: started.append((status, headers))
            )
        except BodyWanted as wanted:
            # The middleware that would do so was passed by; this thread goes on to other requests.
            translation.deactivate()
            return wanted.with_traceback(None)
        status, headers = started[-1]
        code, encoded = int(status[:3]), [(n.lower().encode(), v.encode("latin-1")) for n, v in headers]
        if getattr(response, "streaming", False):
            return Answer(code, encoded, b"", response)
        try:
            return Answer(code, encoded, b"".join(response), None)
        finally:
            response.close()


def caller_of(environ: Environ) -> Caller:
    """Whose turn a request takes: by the prefix of its key, else the network it comes from.

    A prefix is not proved at this point: whoever makes many up gets no more than their network is given.
    """
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    prefix = token.strip().partition(".")[0] if scheme.lower() == "bearer" else ""
    return Caller(network_of(environ.get("REMOTE_ADDR", "")), prefix[:PREFIX])


def _open_to(environ: Environ) -> str:
    """The network whose large body a view takes without knowing more; empty where it takes none."""
    admission = environ.get(ADMISSION)
    return admission.network if isinstance(admission, Admission) else ""


def takes_stream(scope: Scope) -> bool:
    """Whether its body has no end that is known: nobody reads it before the view has let it in (config.ingest)."""
    path = scope["path"]
    return scope["method"] == "POST" and path.startswith("/api/v1/datasets/") and path.endswith("/stream")


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


def _is_resumable_upload(environ: Environ) -> bool:
    """Whether it is an upload in parts (tus) that takes what has come of a body."""
    whole = "HTTP_UPLOAD_CHECKSUM" in environ
    return environ["REQUEST_METHOD"] == "PATCH" and _media_type(environ) == TUS_PART and not whole


def _is_copied(environ: Environ) -> bool:
    """Whether the view writes what it reads to the disk once more: files of forms, and parts that have a checksum."""
    return _media_type(environ) in (FORM, TUS_PART)


def _media_type(environ: Environ) -> str:
    return str(environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()


def refused(error: Exception) -> Answer:
    """A problem, as the API has it."""
    with observe.bound(observe.request_id, str(uuid7())):
        response = problem_of(error).response()
        response["X-Request-Id"] = observe.request_id.get()
    log.info("a body was refused", extra={"status": response.status_code})
    headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in response.items()]
    return Answer(response.status_code, headers, response.content, None)


def _wsgi_scope(scope: Scope) -> Scope:
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
