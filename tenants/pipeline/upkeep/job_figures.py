"""Jobs of all tenants as operators see them: what failed, what runs, what was slow or dear. In no scope."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable

from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.jobs.models import Job, JobDispatch
from tenants.scope import operator_scope

# What was slow or dear is looked for among the jobs that ended so lately.
LATELY = dt.timedelta(days=1)
MANY = 100


def dead_letters(*, before: str = "", kind: str = "", tenant: str = "", limit: int) -> list[Job]:
    """Jobs that failed for good, the newest first, without their tracebacks."""
    wanted: dict[str, object] = {"kind": kind, "tenant__slug": tenant}
    if _is_id(before):
        wanted["pk__lt"] = uuid.UUID(before)
    with operator_scope("list dead letters"):
        rows = Job.objects.filter(state=Job.State.FAILED, **{k: v for k, v in wanted.items() if v})
        return _shown(rows.order_by("-id"), limit)


def count_dead_letters() -> int:
    """How many failed lately, up to MANY + 1: more need not be told apart."""
    since = timezone.now() - LATELY
    with operator_scope("count dead letters"):
        recent = Job.objects.filter(state=Job.State.FAILED, finished_at__gt=since)
        return recent.order_by()[: MANY + 1].count()


def running(*, limit: int) -> list[Job]:
    """Jobs that run now, those that began first, first."""
    # Leases end soon; what a suspended tenant left waits for longer than anybody lives.
    asleep = JobDispatch.objects.filter(waiting=False).order_by("due_at")
    taken = asleep.values_list("job_id", flat=True)[: MANY * 10]
    with operator_scope("list running jobs"):
        rows = Job.objects.filter(pk__in=list(taken), state=Job.State.RUNNING)
        return _shown(rows.order_by("started_at", "id"), limit)


def slowest(*, limit: int) -> list[Job]:
    """Of the jobs that ended lately, those that ran longest."""
    took = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    with operator_scope("list slow jobs"):
        rows = _ended().exclude(started_at=None).annotate(took=took)
        return _shown(rows.order_by("-took", "-id"), limit)


def costliest(*, limit: int) -> list[Job]:
    """Of the jobs that ended lately, those that cost most time of CPU and GPU."""
    with operator_scope("list expensive jobs"):
        rows = _ended().annotate(cost=F("cost_cpu_s") + F("cost_gpu_s"))
        return _shown(rows.order_by("-cost", "-id"), limit)


def _ended() -> QuerySet[Job]:
    return Job.objects.filter(finished_at__gt=timezone.now() - LATELY)


def _shown(rows: QuerySet[Job], limit: int) -> list[Job]:
    return list(rows.select_related("tenant__security").defer("traceback", "arguments", "result")[:limit])


def get_job(slug: str, job_id: uuid.UUID) -> Job:
    """One job with its traceback. Raises NotFound."""
    with operator_scope("look at a job"):
        job = Job.objects.select_related("tenant__security").filter(pk=job_id, tenant__slug=slug).first()
    if job is None:
        raise NotFound(_("This job does not exist."))
    return job


def parse_choices(values: Iterable[str]) -> list[tuple[str, uuid.UUID]]:
    """`slug/id` as a form has them; what is none is left out."""
    pairs = (value.partition("/") for value in values)
    return [(slug, uuid.UUID(job)) for slug, _, job in pairs if slug and _is_id(job)]


def _is_id(value: object) -> bool:
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return True
