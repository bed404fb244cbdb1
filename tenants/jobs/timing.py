"""How long a job waited and runs, how fast it goes, and what is left.

The rate is of late: an average that forgets with TAU_S, measured from one report of progress to the next within one
attempt. A pause between two attempts or turns is no part of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from tenants.jobs.models import Job

TAU_S = 60.0
# Reports that follow closer than this are measured together.
SHORTEST_S = 1.0
# Without news for so many steps' time, and at least so long, nobody can say how long it will take.
SILENT_STEPS, SILENT_S = 5.0, 60.0


@dataclass(frozen=True)
class Timing:
    queue_wait_s: float
    running_s: float | None
    rate_per_s: float | None
    left_s: float | None


def timing_of(job: Job, now: datetime | None = None) -> Timing:
    """`queue_wait_s` grows until it is first taken; a rate only while it runs and moves, and what is
    left only where something is."""
    now = now or timezone.now()
    until = job.started_at or job.finished_at or now
    running = (job.finished_at or now) - job.started_at if job.started_at else None
    rate = _rate(job, now)
    left = max(0, job.progress_total - job.progress_done - job.progress_failed)
    return Timing(
        round(max(0.0, (until - job.queued_at).total_seconds()), 3),
        round(running.total_seconds(), 3) if running is not None else None,
        rate,
        # Where all is counted and it still runs, what follows has no measure.
        round(left / rate, 1) if rate and left else None,
    )


def _rate(job: Job, now: datetime) -> float | None:
    if job.state != Job.State.RUNNING or not job.rate_per_s or job.paced_at is None:
        return None
    silent = (now - job.paced_at).total_seconds()
    if silent > max(SILENT_S, SILENT_STEPS / job.rate_per_s):
        return None
    return float(f"{job.rate_per_s:.3g}")


def start(job: Job) -> None:
    """Measure from here: an attempt begins, and what was before it is a pause."""
    job.paced_at, job.paced_done = timezone.now(), job.progress_done + job.progress_failed


def move(job: Job) -> None:
    """Take a report of progress into the rate of a running job."""
    now, done = timezone.now(), job.progress_done + job.progress_failed
    if job.paced_at is None or done < job.paced_done:
        # It begins anew, as a try that keeps nothing of the one before does.
        start(job)
        return
    passed = (now - job.paced_at).total_seconds()
    if passed < SHORTEST_S or done == job.paced_done:
        return
    seen = (done - job.paced_done) / passed
    old = job.rate_per_s
    share = 1 - math.exp(-passed / TAU_S)
    job.rate_per_s = seen if old is None else old + share * (seen - old)
    job.paced_at, job.paced_done = now, done


FIELDS = ("rate_per_s", "paced_at", "paced_done")
