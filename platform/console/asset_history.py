"""What happened to one asset: lines of the log, jobs about it, and what of it stands in the search index."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from console.people_names import names_of
from tenants.accounts.permissions import ADMIN
from tenants.datasets.models import Asset
from tenants.events import selectors as events
from tenants.jobs.models import Job
from tenants.pipeline.assets import queueing
from tenants.retrieval.models import Vector

LINES = 10
EMBEDDING = frozenset(queueing.KINDS.values())
#: How many of the newest jobs are looked through: what a job is about is no column that an index could be of.
NEWEST = 1_000
# The jobs of an upload are made in its transaction, or soon after.
AT_FIRST = dt.timedelta(minutes=2)


@dataclass(frozen=True)
class Act:
    """A line of the log: who did what."""

    event: Any
    who: str


def acts(asset: Asset, scopes: Collection[str]) -> list[Act]:
    """The newest lines about an asset, for those who may read the log. In the tenant's scope."""
    if ADMIN not in scopes:
        return []
    found = list(events.about(str(asset.id))[:LINES])
    names = names_of({event.actor for event in found})
    return [Act(event, names.get(event.actor, event.actor)) for event in found]


def jobs_about(asset: Asset) -> list[Job]:
    """Jobs of an asset, newest first: those of its upload, and those among the workspace's newest."""
    mine = Job.objects.filter(kind__in=EMBEDDING, arguments__asset=str(asset.id))
    oldest = Job.objects.order_by("-id").values_list("pk", flat=True)[NEWEST - 1 : NEWEST].first()
    first, until = asset.id, _id_after(asset.id, AT_FIRST)
    recent = list((mine.filter(pk__gte=oldest) if oldest else mine).order_by("-id")[:LINES])
    early = list(mine.filter(pk__gte=first, pk__lt=until).order_by("-id")[:LINES])
    return list({job.pk: job for job in [*recent, *early]}.values())[:LINES]


def indexed(asset: Asset) -> list[dict[str, Any]]:
    """How many vectors of it each model has, by what they stand for."""
    rows = Vector.objects.filter(asset=asset).order_by().values("model", "modality")
    return list(rows.annotate(count=Count("pk")).order_by("model", "modality"))


def _id_after(first: uuid.UUID, span: dt.timedelta) -> uuid.UUID:
    """The lowest id that is made so long after another one: UUIDv7 begins with milliseconds."""
    return uuid.UUID(int=first.int + (int(span.total_seconds() * 1000) << 80))
