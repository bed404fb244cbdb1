"""Live streams over WebSockets: sound of a client into the pipe of its job, events of that job back to it.

Who may open one is Django's to say (`api.live`): the edge asks it with the headers of the handshake, or reads the
ticket that it gave out. From then on no thread is taken but for a search. Sound that is not final yet is bounded: while
there is too much of it the socket is not read, and so the client waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.db import close_old_connections
from redis.exceptions import ResponseError

from api.live import ADDRESS, OPENS, results_for
from api.problems import Problem, Refusal, problem_of
from config.bridge import STALLED_S, Answer, Bridge, Scope, Send, refused
from config.event_stream import ConnectionSlots
from config.request_bodies import Receive
from ml.live_listening import RATE
from tenants.accounts import origins
from tenants.accounts.watchers import may_watch
from tenants.errors import NotFound, ServiceError
from tenants.jobs.selectors import get_job
from tenants.pipeline import live
from tenants.pipeline.live import AHEAD_S, BYTES_A_SAMPLE, Pipe, Ticket
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable, connect_async

log = logging.getLogger(__name__)

MAX_STREAMS, MAX_STREAMS_OF_TENANT = 50, live.MAX_OPEN
# Of a message; what is larger ends the stream.
MAX_SOUND, MAX_CONTROL = 64 * 1024, 4 * 1024
# A client sends something at least so often; one that records sends silence, too.
IDLE_S = 20.0
# Sound may come so many times as fast as it is spoken, beyond what was saved up.
FASTEST, BURST_S = 4.0, 30.0
# Until a worker listens; after it the client is told to come later.
PLACE_WITHIN_S = 20.0
CHECK_EVERY_S = 5.0
# What is searched by: the end of what was said, as a person would type it.
LONGEST_QUERY = 500
READERS = 4
_BLOCK_MS = 1_000
_FAULTS = (Unavailable, OSError, RuntimeError)

# RFC 6455, section 7.4.1, and its registry.
NORMAL, PROTOCOL, UNSUPPORTED, POLICY, TOO_BIG, RESTART, LATER = 1000, 1002, 1003, 1008, 1009, 1012, 1013

_OPENS = OPENS.lower().encode()
_HOP = frozenset({b"connection", b"content-length", b"transfer-encoding"})
FULL = Problem(
    "too-many-at-once",
    429,
    "Too many live streams",
    "As many live streams as this server holds are open. Try again later.",
    headers={"Retry-After": "30"},
)
FOREIGN = Problem(
    "origin-not-allowed",
    403,
    "Origin not allowed",
    "Pages of this origin may not open live streams here. Ask an admin of the workspace to allow it.",
)
T = TypeVar("T")


class Ended(Exception):
    """The stream ends: with which code of WebSocket, and why."""

    def __init__(self, code: int, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason, self.detail = code, reason, detail


class LiveStreams:
    """All open WebSockets of this process."""

    def __init__(self, django: Bridge) -> None:
        self._django = django
        self._slots = ConnectionSlots(MAX_STREAMS, MAX_STREAMS_OF_TENANT)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="live")
        self._open: set[_Connection] = set()
        self._stopping = False

    def stop(self) -> None:
        """The process stops: clients are told to connect again, and lose nothing."""
        self._stopping = True
        for connection in self._open:
            connection.end(Ended(RESTART, "restart"))

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, from its handshake to its end."""
        await receive()
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        try:
            if scope["path"] != ADDRESS:
                raise NotFound("There is no WebSocket at this address.")
            text = asked.get("ticket", [""])[0]
            if not text:
                answer = await self._django.ask(_as_request(scope), receive)
                text = next((value.decode() for name, value in answer.headers if name == _OPENS), "")
                if not text:
                    await _deny(answer, send)
                    return
            ticket = await self._call(self._opened, text, scope)
        except (Refusal, ServiceError) as error:
            await _deny(refused(error), send)
            return
        if self._stopping or not self._slots.take(ticket.tenant_id):
            await _deny(refused(Refusal(FULL)), send)
            return
        connection = _Connection(ticket, self._call, asked.get("after", ["0-0"])[0])
        self._open.add(connection)
        try:
            await send({"type": "websocket.accept"})
            await connection.run(receive, send)
        finally:
            self._open.discard(connection)
            self._slots.free(ticket.tenant_id)

    def _opened(self, text: str, scope: Scope) -> Ticket:
        ticket = live.read_ticket(text)
        if not _is_at_home(scope, ticket):
            raise Refusal(FOREIGN)
        live.open_stream(ticket)
        return ticket

    async def _call(self, act: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _in_thread, act, given)


def _in_thread(act: Callable[..., T], given: tuple[Any, ...]) -> T:
    close_old_connections()
    try:
        return act(*given)
    finally:
        close_old_connections()


def _is_at_home(scope: Scope, ticket: Ticket) -> bool:
    """Whether the page that connects is this server's own or of an allowed origin; programs have none."""
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin:
        return True
    own = urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
    return own or origin in settings.CSRF_TRUSTED_ORIGINS or origins.tenant_allows(ticket.tenant_id, origin)


def _as_request(scope: Scope) -> Scope:
    """The handshake as the request that Django answers."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _HOP]
    scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
    return {**scope, "type": "http", "method": "GET", "scheme": scheme, "headers": headers}


async def _deny(answer: Answer, send: Send) -> None:
    start = {"type": "websocket.http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": answer.body})


class _Connection:
    """One client of one stream: three tasks, of which each may end it."""

    def __init__(self, ticket: Ticket, call: Any, after: str) -> None:
        self._ticket, self._call = ticket, call
        self._pipe = Pipe(ticket.tenant_id, ticket.stream)
        self._after = after if _is_event(after) else "0-0"
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._sending = asyncio.Lock()
        # Samples: that came, and up to where everything is final.
        self._came = self._settled = 0
        self._moved = asyncio.Event()
        self._fence, self._heard_at = -1, 0.0
        self._over = False
        # What was said: final utterances by number, and the one that goes on.
        self._said: dict[int, str] = {}
        self._wanted = asyncio.Event()
        self._searched = ""
        self._one_search = asyncio.Lock()

    def end(self, why: Ended) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    async def run(self, receive: Receive, send: Send) -> None:
        async with connect_async(settings.REDIS_URL) as writing, connect_async(settings.REDIS_URL) as reading:
            try:
                await self._begin(writing, send)
            except _FAULTS:
                self.end(Ended(LATER, "unavailable", "Live streams are not available at the moment."))
            works = [
                self._take(receive, writing),
                self._tell(reading, send),
                self._check(),
                self._search(send),
            ]
            tasks = [asyncio.create_task(self._until_end(work)) for work in works]
            try:
                why = await self._ended
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await self._finish(why, writing, send)

    async def _until_end(self, work: Any) -> None:
        try:
            await work
        except Ended as ended:
            self.end(ended)
        except _FAULTS:
            log.info("a live stream is cut off", exc_info=True)
            self.end(Ended(LATER, "unavailable", "The connection inside this server broke. Connect again."))
        except Exception:
            log.exception("a live stream failed")
            self.end(Ended(LATER, "unavailable", "Something went wrong here. Connect again."))

    async def _begin(self, valkey: Any, send: Send) -> None:
        """Say from where on sound is wanted: the client may have been cut off."""
        last = await valkey.xrevrange(self._pipe.sound, count=1)
        if last:
            self._came = live.place_of(last[0][0])[0]
        for _id, fields in await valkey.xrevrange(self._pipe.events, count=live.EVENTS):
            event = json.loads(fields[b"e"])
            if event["type"] == "acknowledged":
                self._settled = event["samples"]
                break
        self._came = max(self._came, self._settled)
        await self._send(send, "ready", stream=str(self._ticket.stream), from_s=self._came / RATE)

    async def _send(self, send: Send, kind: str, **fields: Any) -> None:
        await self._send_text(send, json.dumps({"type": kind, **fields}))

    async def _send_text(self, send: Send, text: str) -> None:
        async with self._sending:
            try:
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "websocket.send", "text": text})
            except TimeoutError:
                raise Ended(POLICY, "slow", "The client took nothing for too long.") from None

    # --- What comes ---

    async def _take(self, receive: Receive, valkey: Any) -> None:
        saved, looked = BURST_S * RATE, time.monotonic()
        # Not "while True", here and below: the client of Valkey may swallow a cancellation while it connects.
        while not self._ended.done():
            try:
                async with asyncio.timeout(IDLE_S):
                    message = await receive()
            except TimeoutError:
                raise Ended(POLICY, "idle", f"Nothing came for {IDLE_S:.0f} s.") from None
            if message["type"] == "websocket.disconnect":
                raise Ended(0, "left")
            sound = message.get("bytes")
            if sound is None:
                await self._control(message.get("text") or "", valkey)
                continue
            count = self._checked(sound)
            now = time.monotonic()
            saved = min(BURST_S * RATE, saved + (now - looked) * FASTEST * RATE) - count
            looked = now
            await self._keep(sound, count, valkey)
            if saved < 0:
                await asyncio.sleep(-saved / (FASTEST * RATE))
            await self._room()

    def _checked(self, sound: bytes) -> int:
        """How many samples it is. Raises Ended."""
        if self._over:
            raise Ended(PROTOCOL, "after-end", "Sound came after the end of the stream.")
        if not sound or len(sound) > MAX_SOUND:
            raise Ended(TOO_BIG, "too-large", f"A message holds 2 to {MAX_SOUND} bytes of sound.")
        if len(sound) % BYTES_A_SAMPLE:
            raise Ended(UNSUPPORTED, "not-pcm", "Sound is PCM of 16 bit, 16 kHz, mono: whole samples.")
        return len(sound) // BYTES_A_SAMPLE

    async def _keep(self, sound: bytes, count: int, valkey: Any) -> None:
        self._came += count
        await self._add(valkey, f"{self._came}-0", {"d": sound})

    async def _add(self, valkey: Any, entry_id: str, fields: dict[str, bytes]) -> None:
        try:
            await valkey.xadd(self._pipe.sound, fields, id=entry_id)
        except ResponseError:
            raise Ended(POLICY, "taken-over", "Another connection sends to this stream.") from None
        await valkey.expire(self._pipe.sound, live.KEPT_S)

    async def _room(self) -> None:
        """Wait while too much is not final."""
        while self._came - self._settled > AHEAD_S * RATE:
            self._moved.clear()
            await self._moved.wait()

    async def _control(self, text: str, valkey: Any) -> None:
        if len(text) > MAX_CONTROL:
            raise Ended(TOO_BIG, "too-large", f"A control message has at most {MAX_CONTROL} characters.")
        try:
            kind = json.loads(text)["type"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Ended(PROTOCOL, "not-json", 'A control message is JSON: {"type": "end"}.') from None
        if kind == "end" and not self._over:
            self._over = True
            await self._add(valkey, f"{self._came}-1", {"end": b"1"})
        elif kind == "clear":
            # The next search is by what is said from now on.
            self._said.clear()
            self._searched = ""
        elif kind not in ("ping", "end"):
            raise Ended(PROTOCOL, "unknown-message", "Control messages are end, clear and ping.")

    # --- What is told ---

    async def _tell(self, valkey: Any, send: Send) -> None:
        while not self._ended.done():
            found = await valkey.xread({self._pipe.events: self._after}, count=64, block=_BLOCK_MS)
            for entry_id, fields in found[0][1] if found else ():
                self._after = entry_id.decode()
                await self._tell_one(json.loads(fields[b"e"]), send)

    async def _tell_one(self, event: dict[str, Any], send: Send) -> None:
        fence = event.pop("fence")
        if fence < self._fence:
            # Of a worker that another one has followed.
            return
        self._fence, self._heard_at = fence, time.monotonic()
        kind = event["type"]
        if kind == "acknowledged":
            self._settled = max(self._settled, event.pop("samples"))
            event.pop("utterances")
            self._moved.set()
        elif kind in ("partial", "final"):
            self._said[event["utterance"]] = event["text"]
            if kind == "final" and len(self._said) > 50:
                del self._said[min(self._said)]
            self._wanted.set()
        if kind == "ended":
            await self._search_now(send)
        await self._send_text(send, json.dumps({**event, "event": self._after}))
        if kind == "ended":
            raise Ended(NORMAL, event["reason"])

    async def _search(self, send: Send) -> None:
        """One search at a time, by what was said last."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self._search_now(send)

    async def _search_now(self, send: Send) -> None:
        # The last one, at the end of a stream, waits for the one before.
        async with self._one_search:
            await self._search_by_what_was_said(send)

    async def _search_by_what_was_said(self, send: Send) -> None:
        said = " ".join(self._said[number] for number in sorted(self._said))[-LONGEST_QUERY:].strip()
        if self._ticket.purpose != live.SEARCH or not said or said == self._searched:
            return
        self._searched = said
        try:
            found = await self._call(results_for, self._ticket, said)
        except (Refusal, ServiceError) as error:
            problem = problem_of(error)
            await self._send(send, "problem", problem=problem.slug, detail=problem.detail)
            return
        await self._send_text(
            send, f'{{"type": "results", "said": {json.dumps(said)}, "answer": {found.decode()}}}'
        )

    # --- Whether it goes on ---

    async def _check(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            state = await self._call(_state_of, self._ticket)
            if state == "revoked":
                await self._call(live.close_stream, self._ticket.tenant_id, self._ticket.stream)
                raise Ended(
                    POLICY, "revoked", "The key or session of this stream may not be used any longer."
                )
            if state == "finished" and time.monotonic() - self._heard_at > 2 * CHECK_EVERY_S:
                raise Ended(LATER, "failed", "Whoever listened has stopped. Open another stream.")
            if not self._heard_at and time.monotonic() - began > PLACE_WITHIN_S:
                await self._call(live.close_stream, self._ticket.tenant_id, self._ticket.stream)
                raise Ended(LATER, "busy", "Nobody is free to listen at the moment. Try again later.")

    async def _finish(self, why: Ended, valkey: Any, send: Send) -> None:
        if not why.code:
            # It may come again: its job waits for it.
            return
        if why.code in (PROTOCOL, UNSUPPORTED, TOO_BIG) and not self._over:
            # A client that does not keep to the protocol does not come again.
            with contextlib.suppress(*_FAULTS, Ended):
                await self._add(valkey, f"{self._came}-1", {"end": b"1"})
        with contextlib.suppress(Exception):
            if why.detail:
                await self._send(send, "error", problem=why.reason, detail=why.detail)
            await send({"type": "websocket.close", "code": why.code, "reason": why.reason})


def _state_of(ticket: Ticket) -> str:
    if not may_watch(ticket.watcher, ticket.tenant_id):
        return "revoked"
    try:
        with tenant_scope(ticket.tenant_id):
            return "finished" if get_job(ticket.stream).finished else "open"
    except NotFound:
        return "finished"


def _is_event(text: str) -> bool:
    first, dash, second = text.partition("-")
    return bool(dash) and first.isdigit() and second.isdigit() and len(text) < 40
