"""When a tenant's index is due: for its first generation, for another one, for none any more. In the tenant's scope."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from django.conf import settings
from django.utils import timezone

from tenants.jobs.models import Job
from tenants.retrieval.models import (
    FacetChange,
    IndexGeneration,
    IndexPointer,
    Tombstone,
    Vector,
    VectorClock,
)
from tenants.retrieval.types import LEFT

# Numbers given out since a generation was built (new vectors, graves, changes), as a share of its vectors, that make it
# due again; the newer part is searched exactly, so it must not grow without bound.
CHANGED_SHARE, CHANGED_MOST = 0.15, 100_000
# A tenant that shrinks keeps its generation until it is well below the bound, so that it does not come and go.
DEMOTE_SHARE = 0.6
# What was deleted is gone from the files of indexes as well after so long.
FORGET = dt.timedelta(days=7)
# After a build that failed, and after one that somebody cancelled.
REST, CANCELLED_REST = dt.timedelta(minutes=30), dt.timedelta(minutes=5)


def models() -> list[str]:
    """Models that the tenant has vectors or indexes of. Not those that its vectors are being embedded in beside what
    answers: such a model gets its first index at the end of that."""
    known = {*IndexPointer.objects.filter(current__isnull=False).values_list("model", flat=True)}
    clock = VectorClock.objects.first()
    newest = Vector.objects.order_by("-seq").values_list("model", flat=True).first()
    beside = {*clock.beside, *clock.retired} - {clock.previous} if clock else set()
    return sorted(known | ({newest, clock.live} if clock and newest else set()) - (beside - known))


def is_due(model: str) -> bool:
    """Whether the tenant should have another generation for a model than it has, or its first one."""
    pointer = IndexPointer.objects.select_related("current").filter(model=model).first()
    current, clock = _current(pointer), VectorClock.objects.first()
    if clock is None:
        return False
    return is_old(current, clock) if current else is_large(model)


def _current(pointer: IndexPointer | None) -> IndexGeneration | None:
    """The generation that answers: none of an engine that is no more."""
    return pointer.current if pointer and pointer.engine not in LEFT else None


def is_old(current: IndexGeneration, clock: VectorClock) -> bool:
    """Whether too much has happened since this generation was built."""
    least = max(1, settings.INDEX_FLAT_MAX // 2)
    bound = max(least, min(round(CHANGED_SHARE * current.vectors), CHANGED_MOST))
    if current.seq < clock.pruned or holds_deleted(current):
        return True
    # Vectors of other models take numbers, too: counted is only what concerns this one, where it can be enough.
    return clock.last - current.seq > bound and _changes_since(current, bound) > bound


def _changes_since(current: IndexGeneration, bound: int) -> int:
    """New vectors, graves and changes of metadata, each counted up to the bound."""
    kinds = (Vector.objects.filter(model=current.model), Tombstone.objects.all(), FacetChange.objects.all())
    return sum(rows.filter(seq__gt=current.seq)[: bound + 1].count() for rows in kinds)


def is_large(model: str) -> bool:
    """Too large to be one array in memory."""
    return _has_more_than(model, settings.INDEX_FLAT_MAX)


def is_small(model: str) -> bool:
    """So much below that bound that it needs no generation any more."""
    return not _has_more_than(model, round(DEMOTE_SHARE * settings.INDEX_FLAT_MAX))


def _has_more_than(model: str, bound: int) -> bool:
    return Vector.objects.filter(model=model)[: bound + 1].count() > bound


def holds_deleted(generation: IndexGeneration) -> bool:
    """Whether something may still be in its files that was deleted longer ago than promised."""
    graves = Tombstone.objects.filter(seq__gt=generation.seq, created_at__lt=timezone.now() - FORGET)
    return graves.exists()


def rests(model: str, kinds: Collection[str]) -> bool:
    """Whether the newest job of these kinds that ended was given up a moment ago: what it met is still there.

    An attempt that was interrupted has not ended: its job goes on with another worker.
    """
    ended = Job.objects.filter(kind__in=kinds, state__in=Job.TERMINAL, finished_at__gt=timezone.now() - REST)
    job = next((one for one in ended.order_by("-finished_at") if one.arguments.get("model") == model), None)
    if job is None or job.state == Job.State.SUCCEEDED:
        return False
    rest = CANCELLED_REST if job.state == Job.State.CANCELLED else REST
    return job.finished_at > timezone.now() - rest
