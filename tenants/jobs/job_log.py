"""The log of a job: lines for the people who wait for it, bounded however long it runs.

The first lines say how it began and the newest how it goes; of a long log the middle goes.
"""

from __future__ import annotations

import time
import uuid
from typing import Protocol

from django.db.models import F

from tenants.jobs.models import Job, JobNote
from tenants.scope import tenant_scope

FIRST, LAST = 50, 250
LENGTH = 500
INFO, WARNING, ERROR = JobNote.Level.values


class ClaimedJob(Protocol):
    """Who holds a job (services.Claim)."""

    @property
    def job_id(self) -> uuid.UUID: ...
    @property
    def tenant_id(self) -> uuid.UUID: ...
    @property
    def fence(self) -> int: ...


def write(claimed: ClaimedJob, text: str, level: str = INFO) -> None:
    """Add a line to the log of a job that this worker holds; nothing where another has taken it over."""
    with tenant_scope(claimed.tenant_id):
        add(claimed.job_id, text, level, fence=claimed.fence)


class ThrottledLog:
    """Lines about long work, one in EVERY_S at most."""

    EVERY_S = 10.0

    def __init__(self, claimed: ClaimedJob) -> None:
        self._claimed, self._due = claimed, time.monotonic()

    def write(self, text: str) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self.EVERY_S
            write(self._claimed, text)


def add(job_id: uuid.UUID, text: str, level: str = INFO, **held: int) -> None:
    """Add a line, in the tenant's scope."""
    if not Job.objects.filter(pk=job_id, **held).update(notes=F("notes") + 1):
        return
    number = Job.objects.values_list("notes", flat=True).get(pk=job_id)
    JobNote.objects.create(job_id=job_id, number=number, level=level, text=single_line(text))
    if number > FIRST + LAST:
        JobNote.objects.filter(job_id=job_id, number=number - LAST).exclude(number__lte=FIRST).delete()


def single_line(text: str) -> str:
    """One line of printable signs: what is told may come from a file or a library."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text[: 4 * LENGTH])
    return " ".join(shown.split())[:LENGTH]
