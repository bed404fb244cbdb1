"""Jobs as the API shows them."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from tenants.jobs.models import Job as JobRow
from tenants.jobs.models import JobNote
from tenants.shapes import UNSET, Choices, Doc, JsonObject, Maybe, Shape


class Progress(Shape, kw_only=True):
    done: int
    total: int
    failed: int


class Cost(Shape, kw_only=True):
    cpu_s: float
    gpu_s: float


class Job(Shape, kw_only=True):
    id: str
    kind: str
    state: Annotated[str, Choices(JobRow.State.values)]
    cancelling: Annotated[bool, Doc("It was asked to stop and has not ended yet.")]
    priority: Annotated[int, Choices(JobRow.Priority.values), Doc("1 low, 2 normal, 3 high.")]
    parent: Annotated[str | None, Doc("The job that queued it as a part of its work.")]
    progress: Progress
    log_lines: Annotated[int, Doc("How many lines its log has had.")]
    attempts: int
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    queue_wait_s: Annotated[float, Doc("From queueing to its start, or until now.")]
    rate_per_s: Annotated[float | None, Doc("Of its progress, of late; null while it does not move.")]
    time_left_s: Annotated[
        float | None,
        Doc("At that rate; null while it waits for its turn, too, and once all is done that is counted."),
    ]
    cost: Cost
    error: Maybe[JsonObject] = UNSET
    result: Maybe[JsonObject] = UNSET


class JobAccepted(Shape, kw_only=True):
    job: Job


class JobLine(Shape, kw_only=True):
    number: Annotated[int, Doc("Counts from 1; of a long log lines in the middle are gone.")]
    at: dt.datetime
    level: Annotated[str, Choices(JobNote.Level.values)]
    text: str
