"""The job that moves a tenant's index to another engine and back, and says how far the two agree.

Nothing is served from the new place before its recall was measured against exact search and its answers were compared
with those of the old one; the pointer is swapped in the transaction that ends the job. Killed at any moment it leaves a
copy that nothing refers to, which the next run and the upkeep remove.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.errors import Conflict
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.retrieval import building, copies, due, engines, lifecycle, overlap
from tenants.retrieval.engines import Copy, Engine, NewRow
from tenants.retrieval.models import IndexGeneration, IndexPointer, Vector, VectorClock
from tenants.retrieval.opening import Current, Opening
from tenants.retrieval.overlap import Compared, Truth
from tenants.retrieval.state import MODALITIES
from tenants.retrieval.vectors import DIMENSION
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

MEMORY = IndexPointer.Engine.MEMORY
# Vectors of one transaction: some two seconds.
CHUNK = 4_000
STEPS = 100
# Of the progress bar: until all is copied, indexed, measured.
COPIED, INDEXED, MEASURED = 50, 90, 99
# Searches that began before the pointer was swapped have ended by then.
GRACE_S = 2.0
# What the cache of candidates can number.
MOST_NUMBERS = 1 << 32


class NotMoved(Conflict):
    """What was measured is not good enough; the same vectors would fail again."""

    slug, title = "index-not-moved", "The index stays where it is"


@job("move_index", queue="index", label=gettext_lazy("Move the index"))
def move_index(claimed: jobs.Claim) -> None:
    """Move to the engine that the job names, or copy anew where the tenant is there already."""
    if claimed.arguments["to"] == MEMORY:
        _to_memory(claimed)
    else:
        _to_engine(claimed, copies.engine_of(claimed.arguments["to"]))
    # What was left: other processes may still read it for a moment.
    time.sleep(GRACE_S)
    with contextlib.suppress(Exception), tenant_scope(claimed.tenant_id):
        lifecycle.tidy()


# --- There -----------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """Seconds of the parts."""

    copy_s: float = 0.0
    index_s: float = 0.0
    measure_s: float = 0.0


def _to_engine(claimed: jobs.Claim, engine: Engine) -> None:
    row = _begun(claimed, engine)
    try:
        figures = Figures()
        truth = Truth(overlap.queries_of(claimed.tenant_id, row.model, row.seq))
        started = time.monotonic()
        row.vectors = _copied(claimed, row, engine, truth)
        figures.copy_s, started = time.monotonic() - started, time.monotonic()
        with tenant_scope(claimed.tenant_id):
            # Longer than scopes should be: the engine builds its index in one statement.
            engine.finish(row.pk, row.vectors)
        figures.index_s, started = time.monotonic() - started, time.monotonic()
        _report(claimed, INDEXED)
        compared = _measured(row, engine, truth)
        figures.measure_s = time.monotonic() - started
        _report(claimed, MEASURED)
        _publish(claimed, row, engine, compared, figures)
    except BaseException as error:
        _give_up(row, engine, error)
        raise


def _begun(claimed: jobs.Claim, engine: Engine) -> IndexGeneration:
    with tenant_scope(claimed.tenant_id):
        engine.require()
        lifecycle.tidy(mine=True)
        clock = VectorClock.objects.select_for_update().first()
        row = IndexGeneration(
            model=claimed.arguments["model"], seq=clock.last if clock else 0, kind=engine.kind
        )
        if row.seq >= MOST_NUMBERS:
            raise NotMoved(_("This tenant has had more than four billion changes; no other engine takes it."))
        row.save(force_insert=True)
        engine.begin(row.pk)
    return row


def _copied(claimed: jobs.Claim, row: IndexGeneration, engine: Engine, truth: Truth) -> int:
    """Copy every vector up to the row's number, in the order of their numbers; returns how many there were.

    Each chunk sees a moment of its own, later than `seq`: what has been replaced or removed since is missing, and has
    a grave above `seq` that says so.
    """
    with tenant_scope(claimed.tenant_id):
        expected = max(1, Vector.objects.filter(model=row.model, seq__lte=row.seq).count())
    last = done = 0
    while True:
        with tenant_scope(claimed.tenant_id):
            rows, vectors = _chunk(row, last)
            if rows:
                engine.add(row.pk, rows, vectors)
        if not rows:
            break
        last, done = rows[-1].seq, done + len(rows)
        truth.add(np.array([one.seq for one in rows]), vectors)
        _report(claimed, min(COPIED, COPIED * done // expected))
    if not done:
        raise NotMoved(_("There are no vectors to move."))
    return done


def _chunk(row: IndexGeneration, after: int) -> tuple[list[NewRow], np.ndarray]:
    vectors = Vector.objects.filter(model=row.model, seq__gt=after, seq__lte=row.seq).order_by("seq")
    found = vectors.values_list("seq", "asset_id", "dataset_id", "asset_modality", "modality", "data")[:CHUNK]
    rows, raw = [], []
    for seq, asset_id, dataset_id, kind, part, data in found:
        rows.append(NewRow(seq, asset_id, dataset_id, MODALITIES.index(kind), MODALITIES.index(part)))
        raw.append(bytes(data))
    return rows, np.frombuffer(b"".join(raw), "<f4").reshape(-1, DIMENSION)


def _measured(row: IndexGeneration, engine: Engine, truth: Truth) -> Compared:
    """Choose the efforts by recall against exact search, and compare with the old index. Raises NotMoved."""
    with tenant_scope(row.tenant_id):
        shelves = engine.shelves(row.pk)
        row.assets = sum(shelves.values())
        row.bytes = dict(engine.copies()).get(row.pk, 0)
        row.details = engines.described(shelves, ())
        copy = _opened(row, engine)
    target = settings.INDEX_RECALL
    efforts = overlap.efforts_of(copy, truth, engine.efforts, target)
    row.recall = efforts[0].recall
    if row.recall < target:
        raise NotMoved(
            _(
                "Of what exact search finds %(kind)s finds %(recall)s at most; INDEX_RECALL asks for %(target)s."
            )
            % {"kind": engine.kind, "recall": f"{row.recall:.4f}", "target": target}
        )
    row.details = engines.described(shelves, efforts)
    with tenant_scope(row.tenant_id):
        # Kept now, as whoever opens the copy reads it there.
        row.save()
    compared = _compared(row, row.engine, truth.queries)
    _demand(compared)
    return compared


def _opened(row: IndexGeneration, engine: Engine) -> Copy:
    copy = engine.open(row.pk, seq=row.seq, details={**row.details, "rows": row.vectors})
    if copy is None:
        raise RuntimeError("the copy went away while it was made")
    return copy


def _compared(row: IndexGeneration, engine: str, queries: np.ndarray) -> Compared:
    new = Opening(0, 0, (), engine, Current(row.pk, row.seq, row.kind, row.recall))
    return overlap.overlap_of(row.tenant_id, row.model, new, queries)


def _demand(compared: Compared) -> None:
    """Raises NotMoved. Two indexes that each miss one in a hundred may differ in two."""
    least = 2 * settings.INDEX_RECALL - 1
    if compared.overlap is not None and compared.overlap < least:
        raise NotMoved(
            _("The two engines agree on %(overlap)s of their ten best where %(least)s was to be expected.")
            % {"overlap": f"{compared.overlap:.4f}", "least": f"{least:.4f}"}
        )


def _publish(
    claimed: jobs.Claim, row: IndexGeneration, engine: Engine, compared: Compared, figures: Figures
) -> None:
    """Swap the pointer and end the job in one transaction. Raises LeaseLost: then another attempt is at it."""
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        row.state, row.ready_at = IndexGeneration.State.READY, timezone.now()
        row.save()
        lifecycle.publish(row)
        result = {
            "engine": row.engine,
            "generation": str(row.pk),
            "kind": row.kind,
            "vectors": row.vectors,
            "bytes": row.bytes,
            "recall": row.recall,
            "effort": row.details["efforts"][0][1],
            **_told(compared),
            **{name: round(seconds, 1) for name, seconds in vars(figures).items()},
        }
        # The tenant pays for what it adds, not for how it is kept.
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


def _told(compared: Compared) -> dict[str, Any]:
    known = None if compared.overlap is None else round(compared.overlap, 4)
    return {"overlap": known, "queries": compared.queries}


def _report(claimed: jobs.Claim, done: int) -> None:
    """Raises Cancelled and LeaseLost."""
    jobs.progress(claimed, done=done, total=STEPS)


def _give_up(row: IndexGeneration, engine: Engine, error: BaseException) -> None:
    """Remove the copy, unless a commit whose answer got lost has published it; what is left goes later."""
    reason = f"{type(error).__name__}: {error}"[:1000]
    with contextlib.suppress(Exception), tenant_scope(row.tenant_id):
        rows = IndexGeneration.objects.filter(pk=row.pk)
        rows.filter(state=IndexGeneration.State.BUILDING).update(
            state=IndexGeneration.State.FAILED, reason=reason
        )
        if not rows.filter(state=IndexGeneration.State.READY).exists():
            with transaction.atomic():
                engine.drop(row.pk)


# --- And back --------------------------------------------------------------------------------------------


def _to_memory(claimed: jobs.Claim) -> None:
    model = claimed.arguments["model"]
    with tenant_scope(claimed.tenant_id):
        clock = VectorClock.objects.first()
        large = due.is_large(model)
    queries = overlap.queries_of(claimed.tenant_id, model, clock.last if clock else 0)
    if not large:
        _to_flat(claimed, model, queries)
        return

    def check(row: IndexGeneration) -> dict[str, Any]:
        compared = _compared(row, MEMORY, queries)
        _demand(compared)
        return {"engine": MEMORY, **_told(compared)}

    building.build_index(claimed, check)


def _to_flat(claimed: jobs.Claim, model: str, queries: np.ndarray) -> None:
    """A tenant so small needs no index at all: search in memory is exact."""
    compared = overlap.overlap_of(claimed.tenant_id, model, Opening(0, 0, (), MEMORY, None), queries)
    _demand(compared)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        lifecycle.demote(model=model)
        result = {"engine": MEMORY, "kind": "flat", "recall": 1.0, **_told(compared)}
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


def copy_of(tenant_id: uuid.UUID, model: str) -> Copy | None:
    """The copy that answers for a model now; for who measures."""
    with tenant_scope(tenant_id):
        pointer = IndexPointer.objects.filter(model=model).select_related("current").first()
        if pointer is None or pointer.current is None or pointer.engine == MEMORY:
            return None
        return _opened(pointer.current, copies.engine_of(pointer.engine))
