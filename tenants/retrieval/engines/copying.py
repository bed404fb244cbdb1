"""The build of a generation in another engine: copied in chunks, measured against exact search, then published.

Nothing is served of it before its recall is known; the pointer is swapped in the transaction that ends the job. Killed
at any moment it leaves a copy that nothing refers to, which the next build and the upkeep remove.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Sequence

import numpy as np
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from ml.indexes import exact, tuning
from ml.indexes.files import Effort
from tenants.errors import Conflict
from tenants.jobs import services as jobs
from tenants.retrieval.engines.contract import Engine, ExternalSegment, NewRow, described
from tenants.retrieval.index import lifecycle, samples
from tenants.retrieval.models import IndexGeneration, Vector, VectorClock
from tenants.retrieval.types import DIMENSION, MODALITIES
from tenants.scope import tenant_scope

# Vectors of one transaction: some two seconds.
CHUNK = 4_000
STEPS = 100
# Of the progress bar: until all is copied, indexed, measured.
COPIED, INDEXED, MEASURED = 50, 90, 99
# What the cache of candidates can number.
MOST_NUMBERS = 1 << 32
TOP = tuning.TOP
QUERIES = 256
# Stored vectors that made queries are drawn from.
DRAWN = 2_048
# Scores this close are one.
TOLERANCE = 1e-5


class NotCopied(Conflict):
    """What was measured is not good enough; the same vectors would fail again."""

    slug, title = "index-not-moved", "The index stays where it is"


def build_in(claimed: jobs.Claim, engine: Engine) -> None:
    """Copy every vector of the job's model up to now into an engine, and publish that. Raises EngineMissing, NotCopied,
    LeaseLost and Cancelled."""
    row = _begun(claimed, engine)
    try:
        truth = Truth(queries_of(claimed.tenant_id, row.model, row.seq))
        started = time.monotonic()
        row.vectors = _copied(claimed, row, engine, truth)
        copy_s, started = time.monotonic() - started, time.monotonic()
        with tenant_scope(claimed.tenant_id):
            # Longer than scopes should be: the engine builds its index in one call.
            engine.finish(row.pk, row.vectors)
        index_s, started = time.monotonic() - started, time.monotonic()
        _report(claimed, INDEXED)
        _measure(row, engine, truth)
        measure_s = time.monotonic() - started
        _report(claimed, MEASURED)
        _publish(claimed, row, {"copy_s": copy_s, "index_s": index_s, "measure_s": measure_s})
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
            raise NotCopied(
                _("This tenant has had more than four billion changes; no other engine takes it.")
            )
        row.save(force_insert=True)
        engine.begin(row.pk)
    return row


def _copied(claimed: jobs.Claim, row: IndexGeneration, engine: Engine, truth: Truth) -> int:
    """Copy every vector up to the row's number, in the order of their numbers; returns how many there were.

    Each chunk sees a moment of its own, later than `seq`: what has been replaced or removed since is missing, and has
    a tombstone above `seq` that says so.
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
        raise NotCopied(_("There are no vectors to move."))
    return done


def _chunk(row: IndexGeneration, after: int) -> tuple[list[NewRow], np.ndarray]:
    vectors = Vector.objects.filter(model=row.model, seq__gt=after, seq__lte=row.seq).order_by("seq")
    found = vectors.values_list("seq", "asset_id", "dataset_id", "asset_modality", "modality", "data")[:CHUNK]
    rows, raw = [], []
    for seq, asset_id, dataset_id, kind, part, data in found:
        rows.append(NewRow(seq, asset_id, dataset_id, MODALITIES.index(kind), MODALITIES.index(part)))
        raw.append(bytes(data))
    return rows, np.frombuffer(b"".join(raw), "<f4").reshape(-1, DIMENSION)


def _publish(claimed: jobs.Claim, row: IndexGeneration, seconds: dict[str, float]) -> None:
    """Swap the pointer and end the job in one transaction. Raises LeaseLost: then another attempt is at it."""
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        row.state, row.ready_at = IndexGeneration.State.READY, timezone.now()
        row.save()
        lifecycle.publish(row)
        result = {
            "generation": str(row.pk),
            "kind": row.kind,
            "recall": row.recall,
            "vectors": row.vectors,
            "bytes": row.bytes,
            "effort": row.details["efforts"][0][1],
            **{name: round(value, 1) for name, value in seconds.items()},
        }
        # The tenant pays for what it adds, not for how it is kept.
        jobs.succeed(claimed, result=result, cpu_s=0, gpu_s=0, used={})


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


# --- Recall ----------------------------------------------------------------------------------------------


def _measure(row: IndexGeneration, engine: Engine, truth: Truth) -> None:
    """Choose the efforts by recall against exact search. Raises NotCopied where none meets INDEX_RECALL."""
    with tenant_scope(row.tenant_id):
        partitions = engine.partitions(row.pk)
        row.assets = sum(partitions.values())
        row.bytes = dict(engine.segments()).get(row.pk, 0)
        row.details = described(partitions, ())
        segment = engine.open(row.pk, seq=row.seq, details={**row.details, "rows": row.vectors})
    if segment is None:
        raise RuntimeError("the copy went away while it was made")
    target = settings.INDEX_RECALL
    efforts = efforts_of(segment, truth, engine.efforts, target)
    row.recall = efforts[0].recall
    if row.recall < target:
        raise NotCopied(
            _(
                "Of what exact search finds %(kind)s finds %(recall)s at most; INDEX_RECALL asks for %(target)s."
            )
            % {"kind": engine.kind, "recall": f"{row.recall:.4f}", "target": target}
        )
    row.details = described(partitions, efforts)


def queries_of(tenant_id: uuid.UUID, model: str, seq: int) -> np.ndarray:
    """float32 [q, 256] of norm 1: what people asked, filled up with stored vectors that were moved a little."""
    with tenant_scope(tenant_id):
        stored = _drawn(model, seq)
    given = samples.read(tenant_id, model)
    if not len(stored):
        return given[:QUERIES]
    return tuning.sample_queries(stored, given if len(given) else None)[:QUERIES]


def _drawn(model: str, seq: int) -> np.ndarray:
    """Some of the stored vectors up to `seq`: at random numbers, filled up with the first ones where many are gone."""
    numbers = np.random.default_rng(seq).integers(1, max(2, seq + 1), 2 * DRAWN).tolist()
    vectors = Vector.objects.filter(model=model, seq__lte=seq)
    found = list(vectors.filter(seq__in=numbers).values_list("data", flat=True)[:DRAWN])
    if len(found) < DRAWN // 4:
        found = list(vectors.order_by("seq").values_list("data", flat=True)[:DRAWN])
    return np.frombuffer(b"".join(bytes(data) for data in found), "<f4").reshape(-1, DIMENSION)


class Truth:
    """The best scores of all rows for each query, found while rows come by; also of every 4th and every 16th row."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self.best = {every: np.full((len(queries), TOP), -np.inf, np.float32) for every in (1, 4, 16)}

    def add(self, seqs: np.ndarray, vectors: np.ndarray) -> None:
        """Rows with their numbers int64 [n] and vectors float32 [n, 256]."""
        for every, known in self.best.items():
            some = vectors if every == 1 else vectors[seqs % every == 0]
            if len(some):
                scores, _ = exact.nearest(np.ascontiguousarray(some), self.queries, TOP)
                self.best[every] = -np.sort(-np.hstack([known, scores]), axis=1)[:, :TOP]


def efforts_of(
    segment: ExternalSegment, truth: Truth, efforts: Sequence[int], target: float
) -> tuple[Effort, ...]:
    """The cheapest effort that meets the target for each share that is not searched exactly; else the greatest.

    In no scope, as it takes a while.
    """
    found = []
    for every in truth.best:
        if every == 1 or segment.asset_count / every > segment.exact_assets:
            found.append(_cheapest(segment, truth, every, efforts, target))
    return tuple(found)


def _cheapest(
    segment: ExternalSegment, truth: Truth, every: int, efforts: Sequence[int], target: float
) -> Effort:
    low, high, best = 0, len(efforts) - 1, None
    wanted = target + tuning.MARGIN * (1 - target)
    while low < high:
        middle = (low + high) // 2
        tried = _measured(segment, truth, every, efforts[middle])
        if tried.recall >= wanted:
            high, best = middle, tried
        else:
            low = middle + 1
    return best if best and best.effort == efforts[low] else _measured(segment, truth, every, efforts[low])


def _measured(segment: ExternalSegment, truth: Truth, every: int, effort: int) -> Effort:
    """Rows are judged by their score, so that any of several equal ones is right. The cost is time on the clock."""
    hits, possible, started = 0, 0, time.perf_counter()
    for query, best in zip(truth.queries, truth.best[every], strict=True):
        wanted = best[np.isfinite(best)]
        found = segment.measured(query, len(wanted), effort, every)
        hits += int(np.count_nonzero(found >= wanted[-1] - TOLERANCE)) if len(wanted) else 0
        possible += len(wanted)
    spent = 1000 * (time.perf_counter() - started) / max(1, len(truth.queries))
    return Effort(1 / every, effort, hits / max(1, possible), spent)
