"""How many jobs ended, how long they waited and ran: counted where they end, in Valkey, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenants.jobs import timing
from tenants.jobs.models import Job
from tenants.valkey import client

_KEY = "fleet:ended"
BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
WAITED, RAN = "waited", "ran"


@dataclass
class Histogram:
    """How many seconds something took: by the smallest bucket that holds it, and all together."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum_s: float = 0.0


@dataclass
class JobCounters:
    """`ended` by (kind, state); `seconds` by (waited or ran, kind)."""

    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    seconds: dict[tuple[str, str], Histogram] = field(default_factory=dict)


def count(job: Job) -> None:
    """Count a job that has ended. Raises valkey.Unavailable."""
    took = timing.timing_of(job)
    with client().pipeline(transaction=False) as sent:
        sent.hincrby(_KEY, f"ended:{job.kind}:{job.state}", 1)
        for what, seconds in ((WAITED, took.queue_wait_s), (RAN, took.running_s)):
            if seconds is not None:
                sent.hincrby(_KEY, f"{what}:{job.kind}:{_bucket(seconds)}", 1)
                sent.hincrbyfloat(_KEY, f"{what}:{job.kind}:sum", seconds)
        sent.execute()


def _bucket(seconds: float) -> int:
    return sum(seconds > limit for limit in BUCKETS)


def read() -> JobCounters:
    """Since Valkey was last empty. Raises valkey.Unavailable."""
    found: Mapping[bytes, bytes] = client().hgetall(_KEY)
    tallies = JobCounters()
    for name, value in found.items():
        what, kind, last = name.decode().split(":")
        if what == "ended":
            tallies.ended[kind, last] = int(value)
            continue
        spread = tallies.seconds.setdefault((what, kind), Histogram())
        if last == "sum":
            spread.sum_s = float(value)
        else:
            spread.counts[int(last)] = int(value)
    return tallies
