"""The life of a tenant's index: when it is built, published, compacted, rolled back, repaired, and let go.

Small tenants need none of it. Above INDEX_FLAT_MAX vectors a job builds a generation; when a share of what it covers
has changed, another takes its place and the one before is kept for a rollback; below, it goes again. Everything here is
derived: delete every file and row of it, and it is built anew.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import shutil
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Count, Max, Min, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from ml.indexes.files import GenerationDamaged
from tenants.datasets import storage
from tenants.errors import Conflict, NotFound
from tenants.jobs import nodes
from tenants.jobs.models import Job
from tenants.jobs.services import UNFINISHED, enqueue
from tenants.retrieval import engines
from tenants.retrieval.index import registry
from tenants.retrieval.index.generation_files import (
    KIND,
    bring_here,
    folder_of,
    is_arriving,
    is_here,
    local_folders,
    local_generations,
    path_of,
    put_away,
    remove_copy,
    upload,
    used_at,
)
from tenants.retrieval.index.registry import opened
from tenants.retrieval.models import (
    MEMORY,
    FacetChange,
    IndexGeneration,
    IndexPointer,
    Tombstone,
    Vector,
    VectorClock,
)
from tenants.scope import current_tenant_id, operator_scope, tenant_scope
from tenants.valkey import client

# --- Stored copies, and what a host keeps of them ---------------------------------------------------------

log = logging.getLogger(__name__)

# What nobody wrote to for so long was left by a killed process.
STALE_S = 3600


def look_after_stored(tenant_id: uuid.UUID, until: float) -> None:
    """Store what an earlier release kept on this host only, and remove copies that nobody needs. In no scope, as it
    copies.

    After `until` (monotonic) no other copy is begun: the rest has time until the next upkeep.
    """
    with tenant_scope(tenant_id):
        if not IndexGeneration.objects.exists():
            return
        found = [one for one in _pointed() if not one.archived and is_here(tenant_id, one.pk)]
    for one in found:
        if time.monotonic() < until:
            _store(one)
    _collect(tenant_id)


def _pointed() -> list[IndexGeneration]:
    """Those in files that answer for a model, or answered before. In the tenant's scope."""
    pointers = IndexPointer.objects.select_related("current", "previous")
    both = [one for pointer in pointers for one in (pointer.previous, pointer.current)]
    return [one for one in both if one and not one.is_external]


def _store(one: IndexGeneration) -> None:
    try:
        upload(one.tenant_id, one.pk, folder_of(one.tenant_id, one.pk))
    except GenerationDamaged as error:
        registry.damaged(tenant_id=one.tenant_id, generation_id=one.pk, reason=str(error))
        return
    with tenant_scope(one.tenant_id):
        ready = IndexGeneration.objects.filter(pk=one.pk, state=IndexGeneration.State.READY)
        ready.update(archived=True)


def _collect(tenant_id: uuid.UUID) -> None:
    """Remove copies of generations that are no longer in use, and what killed uploads left of them."""
    try:
        names, _ = default_storage.listdir(f"{tenant_id}/{KIND}")
    except FileNotFoundError:
        return
    with tenant_scope(tenant_id):
        kept = {*_used_names(), *(str(pk) for pk in _building().values_list("pk", flat=True))}
    for name in sorted({*filter(None, names)} - kept):
        if _is_stale(path_of(tenant_id, name)):
            remove_copy(tenant_id, name)


def _is_stale(folder: str) -> bool:
    limit = timezone.now() - dt.timedelta(seconds=STALE_S)
    with suppress(FileNotFoundError):
        return all(default_storage.get_modified_time(path) < limit for path in storage.files_below(folder))
    return False


def _used_names() -> set[str]:
    """Ids of the generations that a pointer names. In the tenant's scope."""
    used = IndexPointer.objects.values_list("current_id", "previous_id")
    return {str(pk) for both in used for pk in both if pk}


def tidy_local(tenant_id: uuid.UUID) -> None:
    """Let go what this host need not keep of a tenant's generations: those that no pointer names, those that it did not
    search for INDEX_ARCHIVE_DAYS, and what killed processes left. In no scope."""
    found = local_folders(tenant_id)
    with tenant_scope(tenant_id):
        stored = {str(one.pk) for one in _pointed() if one.archived}
        _tidy_folders(found)
    if not settings.INDEX_ARCHIVE_DAYS:
        return
    since = time.time() - dt.timedelta(days=settings.INDEX_ARCHIVE_DAYS).total_seconds()
    for generation_id in list(local_generations(tenant_id)):
        if str(generation_id) in stored and used_at(tenant_id, generation_id) < since:
            let_go(tenant_id, generation_id)


def let_go(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Remove this host's files of a generation; the stored copy stays."""
    opened.forget(generation_id)
    put_away(tenant_id, generation_id)
    log.info("a host let an index go", extra={"generation": str(generation_id)})


# --- When it is built, published, let go ----------------------------------------------------------------

# Numbers given out since a generation was built (new vectors, tombstones, changes), as a share of its vectors, that
# make it due again; the newer part is searched exactly, so it must not grow without bound.
CHANGED_SHARE, CHANGED_MOST = 0.15, 100_000
# A tenant that shrinks keeps its generation until it is well below the bound, so that it does not come and go.
DEMOTE_SHARE = 0.6
# What was deleted is gone from the files of indexes as well after so long.
FORGET = dt.timedelta(days=7)
# After a build that failed, and after one that somebody cancelled.
REST, CANCELLED_REST = dt.timedelta(minutes=30), dt.timedelta(minutes=5)
# After a move to another engine that failed: it copies everything.
MOVE_REST = dt.timedelta(days=1)


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
    return pointer.current if pointer and pointer.engine not in engines.LEFT else None


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


def rests(
    model: str, kinds: Collection[str], rest: dt.timedelta = REST, *, engine: str | None = None
) -> bool:
    """Whether the newest job of these kinds that ended (None: in any engine) was given up a moment ago: what it met is
    still there.

    An attempt that was interrupted has not ended: its job goes on with another worker.
    """
    ended = Job.objects.filter(kind__in=kinds, state__in=Job.TERMINAL, finished_at__gt=timezone.now() - rest)
    of_model = (one for one in ended.order_by("-finished_at") if one.arguments.get("model") == model)
    job = next((one for one in of_model if engine in (None, one.arguments.get("engine", ""))), None)
    if job is None or job.state == Job.State.SUCCEEDED:
        return False
    rest = CANCELLED_REST if job.state == Job.State.CANCELLED else rest
    return job.finished_at > timezone.now() - rest


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
        engine, wanted = engine_of(model), home_of(model)
        if pointer and pointer.current and not engine and not wanted and _needs_none(pointer, model):
            demote(model=model)
            return None
        if wanted != engine and rests(model, JOBS, MOVE_REST, engine=wanted):
            # It stays where it is for a while; what has become too old is made anew there.
            wanted = engine
        if (wanted != engine or is_due(model)) and not rests(model, JOBS):
            return build(model=model, engine=wanted)
    return None


def home_of(model: str) -> str:
    """Where the active tenant's index of a model should lie, as `engine_of`: where somebody put it, or by its size.

    Who comes back from an engine by itself is as much smaller as one that needs no index any more.
    """
    pointer = IndexPointer.objects.select_related("current").filter(model=model).first()
    here = engine_of(model)
    if pointer and pointer.placed:
        return pointer.placed if pointer.placed in engines.ENGINES else ""
    for name, engine in engines.ENGINES.items():
        if engine.above is not None:
            bound = round(DEMOTE_SHARE * engine.above) if name == here else engine.above
            if _is_above(pointer.current if pointer else None, model, bound):
                return name
            if name == here:
                return ""
    return here


def _is_above(current: IndexGeneration | None, model: str, bound: int) -> bool:
    """Whether it has more vectors; they are counted only where the generation does not tell."""
    if current is not None:
        clock = VectorClock.objects.first()
        since = max(0, clock.last - current.seq) if clock else 0
        if current.vectors + since <= bound:
            return False
        if current.vectors - since > bound:
            return True
    return _has_more_than(model, bound)


# Of a pointer: in files, wherever its size would have it.
FILES = "files"


def move(*, model: str, to: str) -> Job | None:
    """Keep the index in an engine, in FILES, or (empty) where its size has it, from now on; returns the job that moves
    it if one was queued now. In the tenant's scope. Raises EngineMissing, Unavailable, and Conflict during a build."""
    if to not in ("", FILES):
        if to not in engines.ENGINES:
            raise engines.EngineMissing(
                _("This installation has no engine %(name)s. For Milvus set MILVUS_URL.") % {"name": to}
            )
        engines.ENGINES[to].require()
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        pointer.placed = to
        pointer.save()
        engine, wanted = engine_of(model), home_of(model)
        if wanted == engine:
            return None
        if job := build(model=model, engine=wanted):
            return job
        raise Conflict(_("The index of this workspace is being built; try again afterwards."))


def _needs_none(pointer: IndexPointer, model: str) -> bool:
    """Whether an array in memory is enough. Who comes back from an engine that is no more has no files to keep."""
    return not is_large(model) if pointer.engine in engines.LEFT else is_small(model)


@registry.on_growth
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


def replace(*, tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Queue the build of another generation in the place of this one, which answers until then. In no scope."""
    with tenant_scope(tenant_id):
        pointed = IndexPointer.objects.filter(current=generation_id).first()
        if pointed is not None:
            build(model=pointed.model)


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
    _announce(generation)


def _announce(generation: IndexGeneration) -> None:
    """Have the hosts that search this tenant fetch it ahead of their next search."""
    if not generation.is_external:
        tell = partial(nodes.tell, nodes.PUBLISHED, generation.tenant_id, generation.pk)
        transaction.on_commit(tell)


def fetch_ahead(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bool:
    """Fetch what was published for a tenant that this host searches; whether there was something to fetch. In no scope.

    Raises NotHere, GenerationDamaged and StorageFull: a search that needs it tries again, and has it repaired.
    """
    if is_here(tenant_id, generation_id) or not any(local_generations(tenant_id)):
        return False
    bring_here(tenant_id, generation_id)
    return True


def roll_back(*, model: str) -> IndexGeneration:
    """Answer from the generation before again. Raises NotFound, and Conflict if it cannot be caught up with."""
    with tenant_scope(current_tenant_id()):
        pointer = _locked(model)
        if pointer.current is None or pointer.previous is None:
            raise NotFound(_("There is no earlier generation to roll back to."))
        if pointer.previous.seq < _pruned():
            raise Conflict(_("The earlier generation is too old: deletions since then are no longer known."))
        pointer.current, pointer.previous = pointer.previous, pointer.current
        pointer.save()
        _announce(pointer.current)
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
        opened.forget(one.pk)
        put_away(one.tenant_id, one.pk)
        if one.archived:
            remove_copy(one.tenant_id, one.pk)
        nodes.tell(nodes.RETIRED, one.tenant_id, one.pk)


# --- Upkeep and repair -----------------------------------------------------------------------------------


@registry.on_damage
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
            build(model=generation.model, engine=home_of(generation.model))
    log.warning("an index is built anew", extra={"generation": str(generation_id), "reason": reason})


def _usable(generation: IndexGeneration | None) -> IndexGeneration | None:
    if generation is None or generation.seq < _pruned():
        return None
    return generation if engines.is_there(generation) else None


def _check_files(model: str) -> None:
    """Notice files that somebody removed before a search does."""
    with tenant_scope(current_tenant_id()):
        pointer = IndexPointer.objects.filter(model=model).first()
        kept = [one for one in (pointer.previous, pointer.current) if one] if pointer else []
        missing = [one for one in kept if one.engine not in engines.LEFT and not engines.is_there(one)]
    for one in missing:
        repair(tenant_id=one.tenant_id, generation_id=one.pk, reason="its files are gone")


def tidy(*, mine: bool = False) -> None:
    """Remove what killed builds left: rows, and folders that no row stands for. In the tenant's scope.

    Not while a build is running, unless the caller is that build.
    """
    # Looked at before anything is asked: what a build has begun since is not among it.
    found = local_folders(current_tenant_id())
    building = list(_building().values_list("pk", flat=True))
    if not mine and _is_building():
        return
    _tidy_folders(found, mine=mine)
    names = _used_names()
    if _has_copies():
        engines.tidy(names)
    interrupted = {"state": IndexGeneration.State.FAILED, "reason": "The build was interrupted."}
    _building().filter(pk__in=building).update(**interrupted)
    over = IndexGeneration.objects.filter(
        state__in=[IndexGeneration.State.RETIRED, IndexGeneration.State.FAILED],
        created_at__lt=timezone.now() - KEEP_RECORDS,
    )
    over.exclude(pk__in=names).delete()


def _tidy_folders(found: Iterable[Path], *, mine: bool = False) -> None:
    if not mine and _is_building():
        return
    names = _used_names()
    for path in found:
        if path.name not in names and not is_arriving(path, STALE_S):
            shutil.rmtree(path, ignore_errors=True)


def _is_building() -> bool:
    return Job.objects.filter(kind__in=JOBS, state=Job.State.RUNNING).exists()


def _has_copies() -> bool:
    """Whether anything of the tenant may lie in an engine: most are not worth asking one for."""
    return IndexGeneration.objects.filter(kind__contains=":").exists()


def _building() -> QuerySet[IndexGeneration]:
    return IndexGeneration.objects.filter(state=IndexGeneration.State.BUILDING)


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


# --- Figures for metrics --------------------------------------------------------------------------------

# Of all tenants: gathered by the upkeep, read from Valkey at each scrape.
# Counting over all tenants takes the operator's role, which no scrape should need.

FIGURES_KEY = "index:figures"
# Figures of an installation whose upkeep stands still go away rather than stay as they were.
FIGURES_KEEP_S = 1800
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


def note_figures() -> None:
    """Count, and tell Valkey. In no scope."""
    client().set(FIGURES_KEY, json.dumps(asdict(gather_figures())), ex=FIGURES_KEEP_S)


def read_figures() -> Figures | None:
    """As of the last upkeep; None if there was none of late."""
    raw = client().get(FIGURES_KEY)
    return Figures(**json.loads(raw)) if raw else None


def gather_figures() -> Figures:
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
