"""The life of a tenant's index: when it is built, published, compacted, rolled back, repaired, and let go.

Small tenants need none of it. Above INDEX_FLAT_MAX vectors a job builds a generation; when a share of what it covers
has changed, another takes its place and the one before is kept for a rollback; below, it goes again. Everything here is
derived: delete every file and row of it, and it is built anew.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import time
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.errors import Conflict, NotFound
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.retrieval import engines
from tenants.retrieval.index import archive, registry, signals
from tenants.retrieval.models import (
    FacetChange,
    IndexGeneration,
    IndexPointer,
    Tombstone,
    Vector,
    VectorClock,
)
from tenants.retrieval.types import LEFT
from tenants.scope import current_tenant_id, tenant_scope

# Numbers given out since a generation was built (new vectors, tombstones, changes), as a share of its vectors, that
# make it due again; the newer part is searched exactly, so it must not grow without bound.
CHANGED_SHARE, CHANGED_MOST = 0.15, 100_000
# A tenant that shrinks keeps its generation until it is well below the bound, so that it does not come and go.
DEMOTE_SHARE = 0.6
# What was deleted is gone from the files of indexes as well after so long.
FORGET = dt.timedelta(days=7)
# After a build that failed, and after one that somebody cancelled.
REST, CANCELLED_REST = dt.timedelta(minutes=30), dt.timedelta(minutes=5)


def indexed_models() -> list[str]:
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
    """New vectors, tombstones and changes of metadata, each counted up to the bound."""
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
    tombstones = Tombstone.objects.filter(seq__gt=generation.seq, created_at__lt=timezone.now() - FORGET)
    return tombstones.exists()


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


log = logging.getLogger(__name__)

JOB = "build_index"
# `move_index` of earlier releases is shown where it stands in a history.
JOBS = (JOB, "move_index")
# Without a generation, changes of metadata up to so many numbers behind the clock are kept for those who follow them.
KEEP_CHANGES = 10_000
# How long the records of generations are kept that are no longer in use.
KEEP_RECORDS = dt.timedelta(days=30)


# --- What is due -----------------------------------------------------------------------------------------


def consider(*, model: str) -> Job | None:
    """Do what is due for the active tenant's index of a model; returns the job if one was queued now."""
    with tenant_scope(current_tenant_id()):
        pointer = IndexPointer.objects.select_related("current", "previous").filter(model=model).first()
        if pointer and pointer.previous and holds_deleted(pointer.previous):
            drop_previous(model=model)
        # Whoever is in another engine stays there, however small; what has become too old is copied anew.
        engine = engine_of(model)
        if pointer and pointer.current and not engine and _needs_none(pointer, model):
            demote(model=model)
            return None
        if is_due(model) and not rests(model, JOBS):
            return build(model=model, engine=engine)
    return None


def _needs_none(pointer: IndexPointer, model: str) -> bool:
    """Whether an array in memory is enough. Who comes back from an engine that is no more has no files to keep."""
    return not is_large(model) if pointer.engine in engines.LEFT else is_small(model)


@signals.on_growth
def consider_all() -> None:
    """`consider` for every model that the active tenant's vectors are of; for upkeep."""
    with tenant_scope(current_tenant_id()):
        tidy()
        models = indexed_models()
    for model in models:
        consider(model=model)
        _check_files(model)


def engine_of(model: str) -> str:
    """The engine that holds the active tenant's index of a model; empty: it is in files, or there is none."""
    pointer = IndexPointer.objects.filter(model=model).first()
    return pointer.engine if pointer and pointer.engine in engines.ENGINES else ""


def build(*, model: str, kind: str = "", engine: str = "", parent: uuid.UUID | None = None) -> Job | None:
    """Queue a build, unless one is queued or running already. In the tenant's scope.

    `engine`: where the index shall lie; else in files of this installation.
    """
    # One at a time: who comes second waits here and then sees the first one's job.
    VectorClock.objects.select_for_update().first()
    if Job.objects.filter(UNFINISHED, kind__in=JOBS).exists():
        return None
    arguments = {"model": model, "kind": kind, **({"engine": engine} if engine else {})}
    return enqueue(kind=JOB, arguments=arguments, total=100, reserve={}, parent=parent)


# --- The pointer -----------------------------------------------------------------------------------------


def publish(generation: IndexGeneration) -> None:
    """Make it the one that answers; the one before stays for a rollback. In the transaction that made it ready."""
    pointer = _locked(generation.model)
    gone = [pointer.previous] if pointer.previous else []
    pointer.current, pointer.previous = generation, pointer.current
    if pointer.previous and pointer.previous.is_external:
        # A copy in another engine takes room there: back to it leads another build.
        gone.append(pointer.previous)
        pointer.previous = None
    pointer.save()
    _retire(gone)


def roll_back(*, model: str) -> IndexGeneration:
    """Answer from the generation before again. Raises NotFound, and Conflict if it cannot be caught up with."""
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        if pointer.current is None or pointer.previous is None:
            raise NotFound(_("There is no earlier generation to go back to."))
        if pointer.previous.seq < _pruned():
            raise Conflict(
                _("The earlier generation is too old: what was deleted since is not known any more.")
            )
        pointer.current, pointer.previous = pointer.previous, pointer.current
        pointer.save()
        return pointer.current


def demote(*, model: str) -> None:
    """Search in memory again: for a tenant that has become small."""
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        gone = [one for one in (pointer.current, pointer.previous) if one]
        pointer.current = pointer.previous = None
        pointer.save()
        _retire(gone)


def drop_previous(*, model: str) -> None:
    """Keep nothing for a rollback."""
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        dropped, pointer.previous = pointer.previous, None
        pointer.save()
        _retire([dropped] if dropped else [])


def _locked(model: str) -> IndexPointer:
    IndexPointer.objects.bulk_create([IndexPointer(model=model)], ignore_conflicts=True)
    return IndexPointer.objects.select_for_update().get(model=model)


def _pruned() -> int:
    return VectorClock.objects.values_list("pruned", flat=True).first() or 0


def _retire(generations: Iterable[IndexGeneration]) -> None:
    gone = list(generations)
    ids = [one.pk for one in gone]
    IndexGeneration.objects.filter(pk__in=ids).update(state=IndexGeneration.State.RETIRED, archived=False)
    transaction.on_commit(lambda: _remove_files(gone))


def _remove_files(generations: Iterable[IndexGeneration]) -> None:
    for one in generations:
        archive.put_away(one.tenant_id, one.pk)
        if one.archived:
            archive.remove_copy(one.tenant_id, one.pk)


# --- Upkeep and repair -----------------------------------------------------------------------------------


@signals.on_damage
def repair(*, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
    """A generation's files are missing or damaged: answer without it, and build another one."""
    with tenant_scope(tenant_id):
        generation = IndexGeneration.objects.filter(pk=generation_id).first()
        if generation is None:
            return
        pointer = _locked(generation.model)
        if generation_id not in (pointer.current_id, pointer.previous_id):
            # Another search was faster, or it has been replaced meanwhile.
            return
        if pointer.previous_id == generation_id:
            pointer.previous = None
        if pointer.current_id == generation_id:
            pointer.current, pointer.previous = _usable(pointer.previous), None
        pointer.save()
        failed = {"state": IndexGeneration.State.FAILED, "reason": reason[:1000], "archived": False}
        IndexGeneration.objects.filter(pk=generation_id).update(**failed)
        transaction.on_commit(lambda: _remove_files([generation]))
        if is_large(generation.model):
            build(model=generation.model)
    log.warning("an index is built anew", extra={"generation": str(generation_id), "reason": reason})


def _usable(generation: IndexGeneration | None) -> IndexGeneration | None:
    if generation is None or generation.seq < _pruned():
        return None
    there = generation.archived or engines.is_there(generation)
    return generation if there else None


def _check_files(model: str) -> None:
    """Notice files that somebody removed before a search does."""
    with tenant_scope(current_tenant_id()):
        pointer = IndexPointer.objects.filter(model=model).first()
        kept = [one for one in (pointer.previous, pointer.current) if one] if pointer else []
        missing = [
            one for one in kept if not (one.archived or one.engine in engines.LEFT or engines.is_there(one))
        ]
    for one in missing:
        repair(tenant_id=one.tenant_id, generation_id=one.pk, reason="its files are gone")


def tidy(*, mine: bool = False) -> None:
    """Remove what killed builds left: rows, and folders that no row stands for. In the tenant's scope.

    Not while a build is running, unless the caller is that build.
    """
    folder = settings.INDEX_DIR / str(current_tenant_id())
    # Looked at before anything is asked: what a build has begun since is not among it.
    found = list(folder.iterdir()) if folder.exists() else []
    building = list(_building().values_list("pk", flat=True))
    if not mine and Job.objects.filter(kind__in=JOBS, state=Job.State.RUNNING).exists():
        return
    used = {pk for both in IndexPointer.objects.values_list("current_id", "previous_id") for pk in both}
    names = {str(pk) for pk in used if pk}
    for path in found:
        if path.name not in names and not _is_arriving(path):
            shutil.rmtree(path, ignore_errors=True)
    engines.tidy(names)
    interrupted = {"state": IndexGeneration.State.FAILED, "reason": "The build was interrupted."}
    _building().filter(pk__in=building).update(**interrupted)
    over = IndexGeneration.objects.filter(
        state__in=[IndexGeneration.State.RETIRED, IndexGeneration.State.FAILED],
        created_at__lt=timezone.now() - KEEP_RECORDS,
    )
    over.exclude(pk__in=names).delete()


def _building() -> QuerySet[IndexGeneration]:
    return IndexGeneration.objects.filter(state=IndexGeneration.State.BUILDING)


def _is_arriving(path: Path) -> bool:
    """Whether a search is fetching it from the archive; each of its files is written to in turn."""
    if path.suffix != registry.FETCHED:
        return False
    try:
        return time.time() - max(p.stat().st_mtime for p in (path, *path.rglob("*"))) < archive.STALE_S
    except FileNotFoundError:
        # It has just arrived, under another name.
        return True


def oldest_kept() -> int | None:
    """The sequence number that the oldest generation in use or being built ends at: what is newer is still needed."""
    pointers = IndexPointer.objects.aggregate(current=Min("current__seq"), previous=Min("previous__seq"))
    building = _building().aggregate(building=Min("seq"))
    known = [seq for seq in (pointers | building).values() if seq is not None]
    return min(known) if known else None


def prune_changes() -> int:
    """Forget the changes of metadata that every generation in use, or being built, has: without any, old ones.

    Who holds facets in memory and is behind them reads everything anew, as with tombstones.
    """
    with tenant_scope(current_tenant_id()):
        # The clock first: a build that begins after it is not seen below, and ends no earlier than here.
        last = VectorClock.objects.values_list("last", flat=True).first() or 0
        oldest = oldest_kept()
        old = FacetChange.objects.filter(
            seq__lte=last - KEEP_CHANGES if oldest is None else min(last, oldest)
        )
        newest = old.aggregate(newest=Max("seq"))["newest"]
        if newest is None:
            return 0
        clock = VectorClock.objects.select_for_update().get()
        VectorClock.objects.filter(pk=clock.pk).update(pruned=max(clock.pruned, newest))
        return old.delete()[0]
