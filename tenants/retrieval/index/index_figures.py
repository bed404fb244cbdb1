"""Figures about the indexes of all tenants, for metrics: gathered by the upkeep, read from Valkey at each scrape.

Counting over all tenants takes the operator's role, which no scrape should need.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db.models import Count, Min, Q, Sum
from django.utils import timezone

from tenants.jobs.models import Job
from tenants.retrieval.index.lifecycle import JOBS
from tenants.retrieval.models import MEMORY, IndexGeneration, IndexPointer
from tenants.scope import operator_scope
from tenants.valkey import client

KEY = "index:figures"
# Figures of an installation whose upkeep stands still go away rather than stay as they were.
KEEP_S = 1800
FAILED_WITHIN = dt.timedelta(days=1)


@dataclass(frozen=True)
class Figures:
    """`states` counts generations, and those of them that are archived as well; `vectors`, `lowest_recall` and
    `exact` (searched without an approximate index) are of the generations that answer now; `last_*` of the newest one
    that was built; `failed` counts builds that were given up within a day. None where there is none."""

    states: dict[str, int] = field(default_factory=dict)
    archived: int = 0
    vectors: int = 0
    exact: int = 0
    lowest_recall: float | None = None
    last_seconds: float | None = None
    last_recall: float | None = None
    failed: int = 0


def note() -> None:
    """Count, and tell Valkey. In no scope."""
    client().set(KEY, json.dumps(asdict(gather())), ex=KEEP_S)


def read() -> Figures | None:
    """As of the last upkeep; None if there was none of late."""
    raw = client().get(KEY)
    return Figures(**json.loads(raw)) if raw else None


def gather() -> Figures:
    with operator_scope("count index generations"):
        states: dict[str, int] = dict.fromkeys(IndexGeneration.State.values, 0)
        counted = IndexGeneration.objects.order_by().values_list("state").annotate(n=Count("id"))
        states.update(dict(counted))
        newest = IndexGeneration.objects.exclude(ready_at=None).order_by("-ready_at").first()
        failed = Job.objects.filter(
            kind__in=JOBS, state=Job.State.FAILED, finished_at__gt=timezone.now() - FAILED_WITHIN
        )
        last: dict[str, Any] = {}
        if newest is not None:
            last = {"last_seconds": newest.details.get("build_s"), "last_recall": newest.recall}
        return Figures(
            states=states,
            archived=IndexGeneration.objects.filter(archived=True, state="ready").count(),
            failed=failed.count(),
            **_in_use(),
            **last,
        )


def _in_use() -> dict[str, Any]:
    used = IndexPointer.objects.filter(engine=MEMORY, current__isnull=False)
    return used.aggregate(
        vectors=Sum("current__vectors", default=0),
        lowest_recall=Min("current__recall"),
        exact=Count("id", filter=Q(current__kind="exact")),
    )
