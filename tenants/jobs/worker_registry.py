"""Who works, and how it goes, for operators and metrics: across all tenants, without telling what their jobs are about.

Workers report themselves to Valkey every few seconds; one that died is gone when its report expires. What is counted
there goes with it; queues and throughput are read from the database.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Q
from django.db.models.functions import TruncMinute
from django.utils import timezone

from tenants.jobs.kinds import QUEUES
from tenants.jobs.models import Job, JobDispatch
from tenants.scope import operator_scope
from tenants.valkey import client

log = logging.getLogger(__name__)
# A worker reports itself each REPORT_S, and is forgotten after LOST_S without a word.
REPORT_S, LOST_S = 5.0, 20.0
_SEEN, _REPORT = "fleet:seen", "fleet:worker:"
# One canary a minute is kept for a day.
KEPT_CANARIES, KEPT_S = 24 * 60, 25 * 3600


@dataclass(frozen=True)
class Worker:
    """A process that takes jobs. `running` are ids of jobs, `devices` what it may compute on."""

    name: str
    host: str
    pid: int
    version: str
    started_at: float
    queues: list[str]
    threads: int
    devices: list[str]
    running: list[str] = field(default_factory=list)
    seen_at: float = 0.0


@dataclass(frozen=True)
class Queue:
    """`waiting` jobs could be taken now, the `oldest_s` since then; `taken` are running or put off.

    Of those, `overdue` should wait again already: the sweep does not run.
    """

    name: str
    waiting: int
    taken: int
    tenants: int
    oldest_s: float
    overdue: int

    @property
    def unfinished(self) -> int:
        return self.waiting + self.taken


@dataclass(frozen=True)
class Minute:
    at: datetime
    kind: str
    ended: int
    failed: int


@dataclass(frozen=True)
class Canary:
    """When one was sent down a queue, and how long it took to come through."""

    sent_at: float
    took_s: float


# --- Workers ---------------------------------------------------------------------------------------------


def report(worker: Worker) -> None:
    """Say that this worker lives. Raises valkey.Unavailable."""
    key, now = f"{worker.name}:{worker.pid}", time.time()
    body = json.dumps({**asdict(worker), "seen_at": now})
    with client().pipeline(transaction=False) as sent:
        sent.set(_REPORT + key, body, ex=int(LOST_S))
        sent.zadd(_SEEN, {key: now})
        sent.zremrangebyscore(_SEEN, 0, now - LOST_S)
        sent.execute()


def leave(worker: Worker) -> None:
    """Say that it stops, so that it is gone at once. Raises valkey.Unavailable."""
    key = f"{worker.name}:{worker.pid}"
    client().delete(_REPORT + key)
    client().zrem(_SEEN, key)


def workers() -> list[Worker]:
    """Those that live, by name. Raises valkey.Unavailable."""
    names = client().zrangebyscore(_SEEN, time.time() - LOST_S, "+inf")
    with client().pipeline(transaction=False) as asked:
        for name in names:
            asked.get(_REPORT + name.decode())
        reports = asked.execute()
    return sorted((Worker(**json.loads(one)) for one in reports if one), key=lambda one: (one.name, one.pid))


# --- Restarts --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restart:
    """A process that ended, or was ended after `silent_s` without an answer, and was started again.

    `reason`: `hung`, or in words how it ended, such as `signal SIGKILL` and `exit status 1`.
    """

    at: datetime
    program: str
    reason: str
    silent_s: float

    @property
    def hung(self) -> bool:
        return self.reason == "hung"


def restarts() -> list[Restart]:
    """The last ones on this machine, the newest first, as the stack's supervisor notes them."""
    try:
        noted = json.loads((settings.DATA_DIR / "run" / "restarts.json").read_text())
        rows = [Restart(**{**note, "at": datetime.fromisoformat(note["at"])}) for note in noted]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError):
        log.warning("the list of restarts cannot be read", exc_info=True)
        return []
    return rows[::-1]


# --- Queues and throughput -------------------------------------------------------------------------------


def queues() -> list[Queue]:
    """Every queue, also those in which nothing waits."""
    waiting, now = Q(waiting=True), timezone.now()
    rows = JobDispatch.objects.values_list("queue").annotate(
        wait=Count("job_id", filter=waiting),
        taken=Count("job_id", filter=~waiting),
        tenants=Count("tenant_id", filter=waiting, distinct=True),
        overdue=Count("job_id", filter=~waiting & Q(due_at__lt=now)),
        since=Min("due_at", filter=waiting),
    )
    found = {name: (*counts, since) for name, *counts, since in rows}
    made = []
    for name in QUEUES:
        count, taken, tenants, overdue, since = found.get(name, (0, 0, 0, 0, None))
        oldest = max(0.0, (now - since).total_seconds()) if since else 0.0
        made.append(Queue(name, count, taken, tenants, oldest, overdue))
    return made


def throughput(*, minutes: int = 15) -> list[Minute]:
    """Jobs that ended in each of the last minutes, by kind; the running minute is the last."""
    since = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=minutes - 1)
    with operator_scope("throughput of the workers"):
        rows = (
            Job.objects.filter(finished_at__gte=since)
            .annotate(minute=TruncMinute("finished_at"))
            .values_list("minute", "kind")
            .annotate(ended=Count("id"), failed=Count("id", filter=Q(state=Job.State.FAILED)))
            .order_by("minute", "kind")
        )
        return [Minute(*row) for row in rows]


# --- Canaries --------------------------------------------------------------------------------------------


def note_canary(queue: str, sent_at: float) -> None:
    """Keep that a canary came through, one a minute. Raises valkey.Unavailable."""
    store, minute = client(), int(sent_at // 60)
    if not store.set(f"fleet:canary:{queue}:{minute}", 1, ex=120, nx=True):
        return
    key = f"fleet:canaries:{queue}"
    store.lpush(key, json.dumps([sent_at, max(0.0, time.time() - sent_at)]))
    store.ltrim(key, 0, KEPT_CANARIES - 1)
    store.expire(key, KEPT_S)


def canaries(*, hours: float = 24.0) -> dict[str, list[Canary]]:
    """By queue, oldest first. Raises valkey.Unavailable."""
    since = time.time() - hours * 3600
    found: dict[str, list[Canary]] = {}
    for queue in QUEUES:
        kept: list[Any] = client().lrange(f"fleet:canaries:{queue}", 0, -1)
        known = (Canary(*json.loads(one)) for one in reversed(kept))
        found[queue] = [canary for canary in known if canary.sent_at >= since]
    return found
