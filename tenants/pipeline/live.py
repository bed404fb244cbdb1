"""Live streams: sound that is heard while it comes. Who may send it, the pipe that carries it, the job that listens.

A stream is a job. The web process (`config.live`) writes what a client sends to one stream of Valkey, the job reads it
there and writes events to another. Sound stays in the first until everything before its end is final and was told: a
worker that dies is followed by another one, which hears it again and tells nothing twice. What is said is not stored.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.core import signing
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from uuid_utils.compat import uuid7

from ml.live_listening import RATE, Heard, LiveListener
from tenants.accounts.services import lock_members
from tenants.accounts.watchers import may_watch
from tenants.errors import Busy, Conflict, NotAllowed, NotFound
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.retrieval import query
from tenants.scope import tenant_scope
from tenants.valkey import client, tenant_key

log = logging.getLogger(__name__)

KIND = "live_stream"
SEARCH, TRANSCRIBE = "search", "transcribe"
PURPOSES = (SEARCH, TRANSCRIBE)

# Of one tenant at a time; each takes a place of a worker as long as it is open.
MAX_OPEN = 3
TICKET_S = 60
# A stream on which nothing comes for so long has ended: until then its client may connect again.
GONE_S = 30.0
LONGEST_S = 3_600.0
# What is kept until it is final, at most: a client that is this far ahead is not read from.
AHEAD_S = 60.0
BYTES_A_SAMPLE = 2
# Of a pipe that nobody uses.
KEPT_S = 900
# Events that are kept for a client that connects again.
EVENTS = 2_000
_READ, _BLOCK_MS = 64, 500
# How often the worker asks whether it is to go on.
ASK_S = 2.0
_SALT = "live"


# --- Who may ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ticket:
    """What a client may open, once: a new stream (its id is the stream's), or one that it was cut off from."""

    stream: uuid.UUID
    tenant_id: uuid.UUID
    watcher: str
    purpose: str = SEARCH
    #: Fields of a search, as the API takes them.
    search: Mapping[str, Any] | None = None
    again: bool = False


def sign(ticket: Ticket) -> str:
    """A text for an address, good for TICKET_S seconds."""
    told = {
        "stream": str(ticket.stream),
        "tenant": str(ticket.tenant_id),
        "watcher": ticket.watcher,
        "purpose": ticket.purpose,
        "search": dict(ticket.search or {}),
        "again": ticket.again,
    }
    return signing.dumps(told, salt=_SALT, compress=True)


def read_ticket(text: str) -> Ticket:
    """Raises NotAllowed for what was not signed here, or is too old."""
    try:
        told = signing.loads(text, salt=_SALT, max_age=TICKET_S)
    except signing.BadSignature:
        raise NotAllowed(
            _("This ticket has expired. Ask for another one and connect within a minute.")
        ) from None
    return Ticket(
        uuid.UUID(told["stream"]),
        uuid.UUID(told["tenant"]),
        told["watcher"],
        told["purpose"],
        told["search"],
        told["again"],
    )


def new_ticket(
    *, tenant_id: uuid.UUID, watcher: str, purpose: str, search: Mapping[str, Any] | None = None
) -> Ticket:
    return Ticket(uuid7(), tenant_id, watcher, purpose, search or {})


def ticket_for(*, stream: uuid.UUID, tenant_id: uuid.UUID, watcher: str) -> Ticket:
    """For a stream that goes on, of whoever opened it. Raises NotFound. In the tenant's scope."""
    row = Job.objects.filter(jobs.UNFINISHED, pk=stream, kind=KIND).first()
    if row is None or _name_of(row.arguments.get("watcher", "")) != _name_of(watcher):
        raise NotFound(_("This stream has ended, or there was none."))
    return Ticket(stream, tenant_id, watcher, row.arguments["purpose"], row.arguments["search"], again=True)


def _name_of(watcher: str) -> str:
    """Who it is, from wherever: addresses change where a connection breaks."""
    return watcher.partition("@")[0]


def open_stream(ticket: Ticket) -> None:
    """Queue the job that listens; nothing for a stream that goes on. Raises NotAllowed, Conflict, Busy."""
    if not may_watch(ticket.watcher, ticket.tenant_id):
        raise NotAllowed(_("Whoever asked for this ticket may not use it any longer."))
    with tenant_scope(ticket.tenant_id):
        # One at a time: two at once would be more than there may be.
        lock_members()
        row = Job.objects.filter(pk=ticket.stream, kind=KIND).first()
        if row is not None and not (ticket.again and not row.finished):
            raise Conflict(_("This ticket was used already. Ask for another one."))
        if row is not None:
            return
        if Job.objects.filter(jobs.UNFINISHED, kind=KIND).count() >= MAX_OPEN:
            raise Busy(
                _("This workspace has %(most)s live streams open already. End one, then try again.")
                % {"most": MAX_OPEN}
            )
        arguments = {
            "purpose": ticket.purpose,
            "search": dict(ticket.search or {}),
            "watcher": ticket.watcher,
        }
        jobs.enqueue(kind=KIND, arguments=arguments, reserve={}, job_id=ticket.stream)


def close_stream(tenant_id: uuid.UUID, stream: uuid.UUID) -> None:
    """Ask the job to stop, where it has not ended."""
    try:
        with tenant_scope(tenant_id):
            jobs.cancel(job_id=stream)
    except (Conflict, NotFound):
        log.debug("a stream had ended", extra={"job": str(stream)})


# --- The pipe --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipe:
    """The two streams of Valkey. Sound is numbered by its end: an entry's id is `<samples of the stream>-<n>`."""

    tenant_id: uuid.UUID
    stream: uuid.UUID

    @property
    def sound(self) -> str:
        return tenant_key(self.tenant_id, "live", f"{{{self.stream}}}", "sound")

    @property
    def events(self) -> str:
        return tenant_key(self.tenant_id, "live", f"{{{self.stream}}}", "events")


def place_of(entry_id: bytes) -> tuple[int, int]:
    first, _dash, second = entry_id.decode().partition("-")
    return int(first), int(second or 0)


# --- The job ---------------------------------------------------------------------------------------------


@dataclass
class _Told:
    """What was told of a stream before this worker had it."""

    settled: int = 0
    utterances: int = 0
    until_s: float = 0.0
    began: bool = False


class _Worker:
    """Writes events, and reads sound, of one claim."""

    def __init__(self, claimed: jobs.Claim) -> None:
        self._pipe = Pipe(claimed.tenant_id, claimed.job_id)
        self._fence = claimed.fence
        self._valkey = client()
        self._after = b"0-0"
        self.told = self._before()

    def _before(self) -> _Told:
        """From the newest events back to the last that says what is settled: it holds the rest, too."""
        told = _Told()
        for _id, fields in self._valkey.xrevrange(self._pipe.events, count=EVENTS):
            event = json.loads(fields[b"e"])
            told.began = True
            if event["type"] == "final":
                told.utterances = max(told.utterances, event["utterance"] + 1)
                told.until_s = max(told.until_s, event["end_s"])
            if event["type"] == "acknowledged":
                told.settled = event["samples"]
                told.utterances = max(told.utterances, event["utterances"])
                break
        return told

    def tell(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, **fields, "fence": self._fence}
        self._valkey.xadd(self._pipe.events, {"e": json.dumps(event)}, maxlen=EVENTS, approximate=True)

    def acknowledge(self, samples: int) -> None:
        """Everything before this sample is final and told: it need not be kept."""
        self.told.settled = samples
        self.tell(
            "acknowledged",
            until_s=round(samples / RATE, 2),
            samples=samples,
            utterances=self.told.utterances,
        )
        self._valkey.xtrim(self._pipe.sound, minid=f"{samples}-1", approximate=False)

    def sound(self) -> Iterator[tuple[int, np.ndarray | None]]:
        """What has come since: where each piece ends, and its samples float32 [n]; None for the end of the stream."""
        found = self._valkey.xread({self._pipe.sound: self._after}, count=_READ, block=_BLOCK_MS)
        for entry_id, fields in found[0][1] if found else ():
            self._after = entry_id
            ends, _n = place_of(entry_id)
            data = fields.get(b"d")
            yield ends, None if data is None else np.frombuffer(data, "<i2").astype(np.float32) / 32768

    def keep(self) -> None:
        """For as long as a client may come again."""
        for key in (self._pipe.sound, self._pipe.events):
            self._valkey.expire(key, KEPT_S)

    def forget(self) -> None:
        self._valkey.delete(self._pipe.sound)
        self._valkey.expire(self._pipe.events, int(GONE_S))


@job(KIND, queue="live", label=gettext_lazy("Listen to a live stream"))
def live_stream(claimed: jobs.Claim) -> None:
    """Hear what comes until the client ends it, leaves, or somebody stops it. Raises LeaseLost, Cancelled."""
    began = time.thread_time()
    worker = _Worker(claimed)
    heard_by = query.transcriber()
    listener = LiveListener(
        query.query_transcriber(), getattr(heard_by, "english", None) or heard_by, worker.told.settled
    )
    worker.tell("resumed" if worker.told.began else "listening", from_s=round(listener.settled / RATE, 2))
    try:
        reason = _listen(claimed, worker, listener)
    except jobs.Cancelled:
        worker.tell("ended", reason="stopped", until_s=round(listener.came / RATE, 2))
        worker.forget()
        raise
    result = {
        "purpose": claimed.arguments["purpose"],
        "duration_s": round(listener.came / RATE, 2),
        "utterances": worker.told.utterances,
        "reason": reason,
    }
    # Before the job ends: who follows the stream hears why, and another worker would tell it again.
    worker.tell("ended", reason=reason, until_s=result["duration_s"])
    jobs.succeed(claimed, result=result, cpu_s=time.thread_time() - began, gpu_s=0, used={})
    worker.forget()


def _listen(claimed: jobs.Claim, worker: _Worker, listener: LiveListener) -> str:
    """Why it ended. Raises LeaseLost, Cancelled."""
    came = asked = time.monotonic()
    settled = listener.settled
    while True:
        pieces: list[np.ndarray] = []
        over = False
        for ends, samples in worker.sound():
            came = time.monotonic()
            if samples is None:
                over = True
                break
            # Of what another worker had begun with, only what is not settled.
            new = ends - listener.came - sum(len(piece) for piece in pieces)
            if new > 0:
                pieces.append(samples[-new:])
        if pieces:
            _tell_heard(worker, listener, listener.feed(np.concatenate(pieces)))
        if over or listener.came >= LONGEST_S * RATE:
            _tell_heard(worker, listener, listener.finish())
            return "end" if over else "longest"
        now = time.monotonic()
        if now - came > GONE_S:
            _tell_heard(worker, listener, listener.finish())
            return "gone"
        if now - asked > ASK_S:
            asked = now
            heard_s = listener.came // RATE
            # What is settled is kept: only tries without any of it count.
            jobs.progress(claimed, done=heard_s, total=heard_s + 1, renew=listener.settled > settled)
            settled = listener.settled
            worker.keep()


def _tell_heard(worker: _Worker, listener: LiveListener, heard: Iterator[Heard]) -> None:
    final = False
    for one in heard:
        if one.end_s <= worker.told.until_s:
            # Told by the worker that had it before.
            continue
        worker.tell(
            "final" if one.final else "partial",
            utterance=worker.told.utterances,
            start_s=one.start_s,
            end_s=one.end_s,
            text=one.text,
            confidence=round(one.confidence, 3),
            language=one.language,
        )
        if one.final:
            worker.told.utterances += 1
            worker.told.until_s, final = one.end_s, True
    # Of silence not at every look.
    if final or listener.settled - worker.told.settled >= RATE:
        worker.acknowledge(listener.settled)
