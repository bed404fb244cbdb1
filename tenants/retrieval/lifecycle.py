"""The life of a tenant's index: when it is built, published, compacted, rolled back, repaired, and let go.

Small tenants need none of it. Above INDEX_FLAT_MAX vectors a job builds a generation; when a share of what it covers
has changed, another takes its place and the one before is kept for a rollback; below, it goes again. Everything here is
derived: delete every file and row of it, and it is built anew.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import uuid
from collections.abc import Iterable

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Min, Q
from django.utils import timezone

from tenants.errors import Conflict, NotFound
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.retrieval import copies
from tenants.retrieval.models import FacetChange, IndexGeneration, IndexPointer, Vector, VectorClock
from tenants.retrieval.opened import folder_of, opened
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

JOB, MOVE = "build_index", "move_index"
JOBS = (JOB, MOVE)
# Numbers given out since a generation was built (new vectors, graves, changes), as a share of its vectors, that make it
# due again; the newer part is searched exactly, so it must not grow without bound.
CHANGED_SHARE, CHANGED_MOST = 0.15, 100_000
# A tenant that shrinks keeps its generation until it is well below the bound, so that it does not come and go.
DEMOTE_SHARE = 0.6
# Numbers behind the clock: up to there changes of metadata are kept for those who follow them in memory.
KEEP_CHANGES = 10_000
# After a build that failed.
REST = dt.timedelta(minutes=30)


# --- What is due -----------------------------------------------------------------------------------------


def consider(*, model: str) -> Job | None:
    """Do what is due for the active tenant's index of a model; returns the job if one was queued now."""
    with tenant_scope(current_tenant_id()):
        if _has_just_failed(model):
            return None
        pointer, clock = IndexPointer.objects.filter(model=model).first(), VectorClock.objects.first()
        if clock is None:
            return None
        current = pointer.current if pointer else None
        if current and current.engine != IndexPointer.Engine.MEMORY:
            # Whoever was moved stays there, however small; what has become too old is copied anew.
            return move(model=model, to=current.engine) if _is_due(current, clock) else None
        if current is None:
            return build(model=model) if _has_more_than(model, settings.INDEX_FLAT_MAX) else None
        if not _has_more_than(model, round(DEMOTE_SHARE * settings.INDEX_FLAT_MAX)):
            demote(model=model)
            return None
        return build(model=model) if _is_due(current, clock) else None


def _is_due(current: IndexGeneration, clock: VectorClock) -> bool:
    return current.seq < clock.pruned or clock.last - current.seq > _bound(current)


def consider_all() -> None:
    """`consider` for every model that the active tenant's vectors are of; for upkeep."""
    with tenant_scope(current_tenant_id()):
        tidy()
        models = {*IndexPointer.objects.values_list("model", flat=True)}
        newest = Vector.objects.order_by("-seq").values_list("model", flat=True).first()
    for model in sorted(models | ({newest} if newest else set())):
        consider(model=model)
        _check_files(model)


def _has_just_failed(model: str) -> bool:
    """What could not be built will fail again until something has changed; an operator may try at any time."""
    newest = IndexGeneration.objects.filter(model=model).order_by("-created_at").first()
    failed = newest is not None and newest.state == IndexGeneration.State.FAILED and newest.ready_at is None
    return bool(newest and failed and newest.created_at > timezone.now() - REST)


def is_large(model: str) -> bool:
    """Whether the tenant has more vectors than are searched without an index."""
    return _has_more_than(model, settings.INDEX_FLAT_MAX)


def _has_more_than(model: str, bound: int) -> bool:
    return Vector.objects.filter(model=model)[: bound + 1].count() > bound


def _bound(current: IndexGeneration) -> int:
    least = max(1, settings.INDEX_FLAT_MAX // 2)
    return max(least, min(round(CHANGED_SHARE * current.vectors), CHANGED_MOST))


def build(*, model: str, kind: str = "") -> Job | None:
    """Queue a build, unless one is queued or running already. In the tenant's scope."""
    return _queue(JOB, {"model": model, "kind": kind})


def move(*, model: str, to: str) -> Job | None:
    """Queue a move to another engine, or a new copy in the same, unless a build is queued or running already."""
    return _queue(MOVE, {"model": model, "to": to})


def _queue(kind: str, arguments: dict[str, str]) -> Job | None:
    # One at a time: who comes second waits here and then sees the first one's job.
    VectorClock.objects.select_for_update().first()
    if Job.objects.filter(UNFINISHED, kind__in=JOBS).exists():
        return None
    return enqueue(kind=kind, arguments=arguments, total=100, reserve={})


# --- The pointer -----------------------------------------------------------------------------------------


def publish(generation: IndexGeneration) -> None:
    """Make it the one that answers; the one before stays for a rollback. In the transaction that made it ready."""
    pointer = _locked(generation.model)
    gone = [pointer.previous] if pointer.previous else []
    pointer.current, pointer.previous = generation, pointer.current
    if pointer.previous and pointer.previous.engine != IndexPointer.Engine.MEMORY:
        # A copy in another engine takes room in the database: back to it leads another move.
        gone.append(pointer.previous)
        pointer.previous = None
    pointer.save()
    _retire(gone)


def roll_back(*, model: str) -> IndexGeneration:
    """Answer from the generation before again. Raises NotFound, and Conflict if it cannot be caught up with."""
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        if pointer.current is None or pointer.previous is None:
            raise NotFound("There is no earlier generation to go back to.")
        if pointer.previous.seq < _pruned():
            raise Conflict("The earlier generation is too old: what was deleted since is not known any more.")
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


def _locked(model: str) -> IndexPointer:
    IndexPointer.objects.bulk_create([IndexPointer(model=model)], ignore_conflicts=True)
    return IndexPointer.objects.select_for_update().get(model=model)


def _pruned() -> int:
    return VectorClock.objects.values_list("pruned", flat=True).first() or 0


def _retire(generations: Iterable[IndexGeneration]) -> None:
    ids = [one.pk for one in generations]
    IndexGeneration.objects.filter(pk__in=ids).update(state=IndexGeneration.State.RETIRED)
    tenant_id = current_tenant_id()
    transaction.on_commit(lambda: _remove_files(tenant_id, ids))


def _remove_files(tenant_id: uuid.UUID, generation_ids: list[uuid.UUID]) -> None:
    """Who searches in them at this moment keeps what is mapped until the search ends."""
    for generation_id in generation_ids:
        opened.forget(generation_id)
        shutil.rmtree(folder_of(tenant_id, generation_id), ignore_errors=True)


# --- Upkeep and repair -----------------------------------------------------------------------------------


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
        failed = {"state": IndexGeneration.State.FAILED, "reason": reason[:1000]}
        IndexGeneration.objects.filter(pk=generation_id).update(**failed)
        transaction.on_commit(lambda: _remove_files(tenant_id, [generation_id]))
        if _has_more_than(generation.model, settings.INDEX_FLAT_MAX):
            build(model=generation.model)
    log.warning("an index is built anew", extra={"generation": str(generation_id), "reason": reason})


def _usable(generation: IndexGeneration | None) -> IndexGeneration | None:
    if generation is None or generation.seq < _pruned():
        return None
    return generation if copies.is_there(generation) else None


def _check_files(model: str) -> None:
    """Notice files that somebody removed before a search does."""
    with tenant_scope(current_tenant_id()):
        pointer = IndexPointer.objects.filter(model=model).first()
        kept = [one for one in (pointer.previous, pointer.current) if one] if pointer else []
        missing = [one for one in kept if not one.archived and not copies.is_there(one)]
    for one in missing:
        repair(tenant_id=one.tenant_id, generation_id=one.pk, reason="its files are gone")


def tidy(*, mine: bool = False) -> None:
    """Remove what killed builds left: rows, and folders that no row stands for. In the tenant's scope.

    Not while a build is running, unless the caller is that build.
    """
    if not mine and Job.objects.filter(kind__in=JOBS, state=Job.State.RUNNING).exists():
        return
    kept = IndexGeneration.objects.filter(
        Q(pk__in=IndexPointer.objects.values("current")) | Q(pk__in=IndexPointer.objects.values("previous"))
    )
    names = {str(pk) for pk in kept.values_list("pk", flat=True)}
    folder = settings.INDEX_DIR / str(current_tenant_id())
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)
    copies.tidy(names)
    stale = {"state": IndexGeneration.State.FAILED, "reason": "The build was interrupted."}
    IndexGeneration.objects.filter(state=IndexGeneration.State.BUILDING).update(**stale)


def oldest_kept() -> int | None:
    """The sequence number that the oldest generation in use, or being built, ends at.

    Graves and changes above it are still needed.
    """
    pointers = IndexPointer.objects.aggregate(current=Min("current__seq"), previous=Min("previous__seq"))
    building = IndexGeneration.objects.filter(state=IndexGeneration.State.BUILDING).aggregate(
        least=Min("seq")
    )
    known = [seq for seq in (*pointers.values(), building["least"]) if seq is not None]
    return min(known) if known else None


def prune_changes() -> int:
    """Forget the changes of metadata that every generation in use has in it; or, without any, all but the newest.

    Who holds facets in memory and is behind them reads everything anew, as with graves.
    """
    with tenant_scope(current_tenant_id()):
        oldest = oldest_kept()
        last = VectorClock.objects.values_list("last", flat=True).first() or 0
        old = FacetChange.objects.filter(seq__lte=last - KEEP_CHANGES if oldest is None else oldest)
        newest = old.aggregate(newest=Max("seq"))["newest"]
        if newest is None:
            return 0
        clock = VectorClock.objects.select_for_update().get()
        VectorClock.objects.filter(pk=clock.pk).update(pruned=max(clock.pruned, newest))
        return old.filter(seq__lte=newest).delete()[0]
