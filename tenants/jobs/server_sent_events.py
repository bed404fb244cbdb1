"""A job as Server-Sent Events: what a view opens a stream with, and what follows on it.

A view answers with `open_stream(job)`; on that alone the client polls, as it connects again after `retry`. Where the
server can hold connections without a thread each (config.edge), the header makes it follow the job to its end.

A view that answers one job may have its answer held back until the job has ended, by `wait_headers`.
"""

from __future__ import annotations

import msgspec

from tenants.jobs import timing
from tenants.jobs.models import Job
from tenants.jobs.selectors import job_shape

CONTENT_TYPE = "text/event-stream; charset=utf-8"
FOLLOW = "X-Follow-Job"
WAIT = "X-Wait-For-Job"
RETRY_MS = 2_000


def open_stream(job: Job, watcher: str) -> tuple[str, dict[str, str]]:
    """Body and headers of the answer that opens a stream: the job as it is, whom to follow, and from where.

    `watcher` (accounts.watchers) is who is told, as long as they may be.
    """
    followed = f"{job.tenant_id} {job.id} {version(job)} {watcher}"
    return f"retry: {RETRY_MS}\n\n{event(job)}", headers_of(followed)


def headers_of(followed: str) -> dict[str, str]:
    """Headers of an answer that opens a stream; `followed` is read by the server's edge alone."""
    return {
        "Content-Type": CONTENT_TYPE,
        "Cache-Control": "no-store",
        # For reverse proxies that would collect the events first.
        "X-Accel-Buffering": "no",
        FOLLOW: followed,
    }


def wait_headers(job: Job, watcher: str, seconds: int) -> dict[str, str]:
    """Headers of an answer with the job: it is sent when the job has ended or after so many seconds, with the job as it
    is then; at once without a server that can hold it."""
    return {WAIT: f"{job.tenant_id} {job.id} {watcher} {seconds}"}


def event(job: Job) -> str:
    """One event. Its id changes exactly when the job does."""
    body = msgspec.json.encode(job_shape(job)).decode()
    return f"event: job\nid: {version(job)}\ndata: {body}\n\n"


def version(job: Job) -> str:
    """Changes with what a listener is shown: the log's length, too, and the rate, on which the time left depends."""
    rate = timing.timing_of(job).rate_per_s or 0
    counted = (job.progress_done, job.progress_failed, job.progress_total, job.notes)
    asked = f"{job.priority}{'c' if job.cancel_requested else ''}"
    return "-".join(map(str, (job.fence, job.state, *counted, asked, f"{rate:g}")))


def knows_end(job: Job, last_event_id: str) -> bool:
    """Whether a client that connects again knows how the job ended: it is told 204 and stops asking."""
    return job.finished and last_event_id == version(job)
