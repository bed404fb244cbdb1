"""The job that builds a generation: into files, by a process of its own, or into another engine; then published.

Nothing is served of it before the pointer says so, in the transaction that ends the job; killed at any moment it leaves
a folder that ends in `.part` or has no row, or a copy that nothing refers to, which the next run and the upkeep remove.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.indexes import exact, tuning
from ml.indexes.base import as_matrix
from ml.indexes.files import Effort
from tenants.errors import Conflict, room_on_disk
from tenants.jobs import job_log, processes, stopping
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.retrieval import cache, filters
from tenants.retrieval.engines import ENGINES, Engine, ExternalSegment, NewRow, described
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.generation_files import folder_of, put_away, remove_copy, upload
from tenants.retrieval.index.vectors import dimension_of
from tenants.retrieval.models import IndexGeneration, Vector, VectorClock
from tenants.retrieval.types import MODALITIES
from tenants.scope import current_tenant_id, tenant_scope

# --- Into another engine --------------------------------------------------------------------------------

# Copied in chunks, measured against exact search, then published: nothing is served of it before its recall is known.

# Vectors of one transaction: some two seconds.
COPY_CHUNK = 4_000
COPY_STEPS = 100
# Of the progress bar: until all is copied, indexed, measured.
COPIED, INDEXED, MEASURED = 50, 90, 99
# How often an engine is asked whether it has indexed a copy.
FINISH_S = 0.5
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
        _finish(claimed, row, engine)
        index_s, started = time.monotonic() - started, time.monotonic()
        _measure(row, engine, truth)
        measure_s = time.monotonic() - started
        _report_copy(claimed, MEASURED)
        _publish_copy(claimed, row, {"copy_s": copy_s, "index_s": index_s, "measure_s": measure_s})
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
    # The row first: of a copy that has none nobody would know.
    with tenant_scope(claimed.tenant_id):
        engine.begin(row.pk)
    return row


def _finish(claimed: jobs.Claim, row: IndexGeneration, engine: Engine) -> None:
    """Until the engine has indexed what was copied; a transaction each time that it is asked."""
    while True:
        with tenant_scope(claimed.tenant_id):
            done = engine.finish(row.pk, row.vectors)
        _report_copy(claimed, COPIED + int(done * (INDEXED - COPIED)))
        if done >= 1.0:
            return
        time.sleep(FINISH_S)


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
        _report_copy(claimed, min(COPIED, COPIED * done // expected))
    if not done:
        raise NotCopied(_("There are no vectors to move."))
    return done


def _chunk(row: IndexGeneration, after: int) -> tuple[list[NewRow], np.ndarray]:
    vectors = Vector.objects.filter(model=row.model, seq__gt=after, seq__lte=row.seq).order_by("seq")
    found = vectors.values_list("seq", "asset_id", "dataset_id", "asset_modality", "modality", "data")[
        :COPY_CHUNK
    ]
    rows, raw = [], []
    for seq, asset_id, dataset_id, kind, part, data in found:
        rows.append(NewRow(seq, asset_id, dataset_id, MODALITIES.index(kind), MODALITIES.index(part)))
        raw.append(data)
    return rows, as_matrix(raw)


def _publish_copy(claimed: jobs.Claim, row: IndexGeneration, seconds: dict[str, float]) -> None:
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


def _report_copy(claimed: jobs.Claim, done: int) -> None:
    """Raises Cancelled and LeaseLost."""
    jobs.progress(claimed, done=done, total=COPY_STEPS)


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
    """float32 [q, d] of norm 1: what people asked, filled up with stored vectors that were moved a little."""
    with tenant_scope(tenant_id):
        stored = _drawn(model, seq)
    if not len(stored):
        return stored
    given = cache.sampled_queries(tenant_id, model, stored.shape[1])
    return tuning.sample_queries(stored, given if len(given) else None)[:QUERIES]


def _drawn(model: str, seq: int) -> np.ndarray:
    """Some of the stored vectors up to `seq`: at random numbers, filled up with the first ones where many are gone."""
    numbers = np.random.default_rng(seq).integers(1, max(2, seq + 1), 2 * DRAWN).tolist()
    vectors = Vector.objects.filter(model=model, seq__lte=seq)
    found = list(vectors.filter(seq__in=numbers).values_list("data", flat=True)[:DRAWN])
    if len(found) < DRAWN // 4:
        found = list(vectors.order_by("seq").values_list("data", flat=True)[:DRAWN])
    return as_matrix(found)


class Truth:
    """The best scores of all rows for each query, found while rows come by; also of every 4th and every 16th row."""

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self.best = {every: np.full((len(queries), TOP), -np.inf, np.float32) for every in (1, 4, 16)}

    def add(self, seqs: np.ndarray, vectors: np.ndarray) -> None:
        """Rows with their numbers int64 [n] and vectors float32 [n, d]."""
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


# --- Into files -----------------------------------------------------------------------------------------

FETCHED = 10_000
# One value a row, fixed in width: ids, number, modalities, and then the vector as it lies in the file.
BESIDE = np.dtype([("asset", "S16"), ("dataset", "S16"), ("seq", ">i8"), ("kind", "u1"), ("part", "u1")])
HEADER, TRAILER = 19, b"\xff\xff"


@dataclass(frozen=True)
class Written:
    """How much a folder holds now; vectors of `dimension` numbers."""

    vectors: int
    assets: int
    dimension: int


def write(folder: Path, model: str, seq: int) -> Written:
    """Everything that `ml.indexes.generation.build` reads, into an empty folder. In the tenant's scope.

    The vectors up to `seq`, in the order of their assets. One statement sees one moment, which may be later than `seq`:
    what has been replaced or removed since is missing, and has a tombstone above `seq` that says so.
    """
    with (folder / "vectors.f32").open("wb") as file:
        known, dimension = copy_rows(file, model, "seq <= %s", [seq])
    kept = folder / "columns"
    kept.mkdir()
    found = _columns(known) | _segments(model, seq, known["seq"])
    for name, values in found.items():
        np.save(kept / f"{name}.npy", values, allow_pickle=False)
    filters.export_facets(found["asset_ids"], folder)
    cache.sampled_queries(current_tenant_id(), model, dimension).tofile(folder / "queries.f32")
    return Written(len(known), len(found["asset_ids"]), dimension)


def copy_rows(sink: IO[bytes], model: str, condition: str, parameters: list[Any]) -> tuple[np.ndarray, int]:
    """The active tenant's vectors of a model for which an SQL condition holds go to `sink`, in the order of their
    assets; returns all else of the rows, as BESIDE, and how many numbers a vector has (0 where there are none)."""
    dimension = dimension_of(model) or 0
    names = " ".join(f"WHEN '{name}' THEN '\\x{number:02x}'::bytea" for number, name in enumerate(MODALITIES))
    statement = f"""
        COPY (
            SELECT uuid_send(asset_id) || uuid_send(dataset_id) || int8send(seq)
                || CASE asset_modality {names} END || CASE modality {names} END || data
            FROM {Vector._meta.db_table}
            WHERE tenant_id = %s AND model = %s AND octet_length(data) = %s AND {condition}
            ORDER BY asset_id, seq
        ) TO STDOUT (FORMAT BINARY)
    """  # noqa: S608 - constants only
    with connection.cursor() as cursor:
        received = _Received(sink, dimension)
        given = [str(current_tenant_id()), model, 4 * dimension, *parameters]
        cursor.copy_expert(cursor.mogrify(statement, given), received)
        return received.end(), dimension


class _Received:
    """Takes PostgreSQL's binary COPY format, whose rows are as wide as each other here, and writes the vectors out."""

    def __init__(self, file: IO[bytes], dimension: int) -> None:
        self._file, self._left = file, bytearray()
        fields = [(name, BESIDE[name]) for name in BESIDE.names or ()]
        self._width = BESIDE.itemsize + 4 * dimension
        self._wire = np.dtype([("values", ">i2"), ("width", ">i4"), *fields, ("data", f"V{4 * dimension}")])
        self._known = [np.empty(0, BESIDE)]

    def write(self, data: bytes) -> int:
        self._left += data
        if len(self._left) > HEADER + FETCHED * self._wire.itemsize:
            self._take()
        return len(data)

    def end(self) -> np.ndarray:
        """All but the vectors of what came."""
        self._take()
        if self._left[HEADER:] != TRAILER:
            raise ValueError("the database sent vectors in an unknown form")
        return np.concatenate(self._known)

    def _take(self) -> None:
        """The whole rows at the beginning; the header stays for the next time to skip."""
        end = len(self._left) - (len(self._left) - HEADER) % self._wire.itemsize
        rows = np.frombuffer(bytes(self._left[HEADER:end]), self._wire)
        if (rows["width"] != self._width).any():
            raise ValueError("the database sent vectors in an unknown form")
        del self._left[HEADER:end]
        self._file.write(rows["data"].tobytes())
        beside = np.empty(len(rows), BESIDE)
        for name in BESIDE.names or ():
            beside[name] = rows[name]
        self._known.append(beside)


def _columns(known: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that `tenants.retrieval.index.registry.FileSegment` reads."""
    assets = known["asset"]
    first = np.ones(len(known), bool)
    first[1:] = assets[1:] != assets[:-1]
    dataset_ids, datasets = np.unique(known["dataset"][first], return_inverse=True)
    return {
        "asset_ids": assets[first],
        "asset_datasets": datasets.astype(np.int32),
        "asset_kinds": known["kind"][first],
        "dataset_ids": dataset_ids,
        "starts": np.append(np.flatnonzero(first), len(known)).astype(np.int64),
        "owners": (np.cumsum(first) - 1).astype(np.int32),
        "parts": known["part"].copy(),
        "seqs": known["seq"].astype(np.int64),
    }


def _segments(model: str, seq: int, seqs: np.ndarray) -> dict[str, np.ndarray]:
    """Which part of their asset some rows stand for, as JSON one after the other."""
    statement = f"""
        SELECT seq, segment::text FROM {Vector._meta.db_table}
        WHERE tenant_id = %s AND model = %s AND seq <= %s AND segment IS NOT NULL
    """  # noqa: S608 - constants only
    order = np.argsort(seqs)
    found: list[tuple[int, bytes]] = []
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, [str(current_tenant_id()), model, seq])
        for number, text in cursor:
            place = int(np.searchsorted(seqs, number, sorter=order))
            # One that came and went between the two statements is in the first one only, or in neither.
            if place < len(seqs) and seqs[order[place]] == number:
                found.append((int(order[place]), text.encode()))
    found.sort(key=lambda pair: pair[0])
    body = b"".join(text for _, text in found)
    return {
        "segment_rows": np.array([row for row, _ in found], np.int64),
        "segment_ends": np.cumsum([len(text) for _, text in found], dtype=np.int64),
        "segment_bytes": np.frombuffer(body, np.uint8),
    }


log = logging.getLogger(__name__)

REPORT_S = 1.0
STEPS = 100
# How errors of the builder begin that the same vectors would bring again.
FINAL = ("RecallMissed", "ValueError")
# Of the progress bar: writing the vectors out before, and publishing after.
WRITTEN, BUILT = 10, 99


class BuildFailed(Conflict):
    """The builder said why it could not build; the same vectors would fail again."""

    slug, title = "index-not-built", "The index could not be built"


@dataclass
class Built:
    """What the builder's process said and took."""

    manifest: dict[str, Any]
    cpu_s: float
    peak_mb: float


@job("build_index", queue="index", label=gettext_lazy("Build the index"))
def build_index(claimed: jobs.Claim) -> None:
    """Build and publish a generation of all vectors of the job's model up to now: in files, or in the job's engine."""
    model, kind = claimed.arguments["model"], claimed.arguments.get("kind") or ""
    if engine := ENGINES.get(claimed.arguments.get("engine", "")):
        build_in(claimed, engine)
        return
    with tenant_scope(claimed.tenant_id):
        lifecycle.tidy(mine=True)
        # Locked: pruning relies on seeing either this row, or a clock that is not beyond it.
        clock = VectorClock.objects.select_for_update().first()
        row = IndexGeneration(model=model, seq=clock.last if clock else 0)
        row.save(force_insert=True)
    folder = folder_of(claimed.tenant_id, row.id)
    part = folder.with_suffix(".part")
    try:
        built = _built(claimed, row, part, kind)
        if built is None:
            _let_go(claimed, row, part)
            return
        # Before the pointer names it: from then on any host may be asked for it.
        upload(claimed.tenant_id, row.id, part)
        part.rename(folder)
        _publish(claimed, row, built)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if _note_failure(row, error):
            put_away(claimed.tenant_id, row.id)
            remove_copy(claimed.tenant_id, row.id)
        raise


def _let_go(claimed: jobs.Claim, row: IndexGeneration, part: Path) -> None:
    """The model's vectors went meanwhile, erased or left for another model: nothing needs an index any more."""
    shutil.rmtree(part, ignore_errors=True)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        row.state = IndexGeneration.State.RETIRED
        row.save()
        if not lifecycle.engine_of(row.model) and not Vector.objects.filter(model=row.model).exists():
            lifecycle.demote(model=row.model)
        jobs.succeed(claimed, result={"note": "There are no vectors."}, cpu_s=0, gpu_s=0, used={})


def _built(claimed: jobs.Claim, row: IndexGeneration, part: Path, kind: str) -> Built | None:
    """None where the model has no vectors."""
    start = time.thread_time()
    with room_on_disk():
        part.mkdir(parents=True)
        with tenant_scope(claimed.tenant_id):
            # Longer than scopes should be, as it must see one moment; it reads only.
            written = write(part, row.model, row.seq)
    row.vectors, row.assets = written.vectors, written.assets
    jobs.progress(claimed, done=WRITTEN, total=STEPS)
    if not written.vectors:
        return None
    job_log.write(claimed, f"Wrote {written.vectors:,} vectors of {row.model} out; building their index.")
    built = _run_builder(claimed, row, part, kind, written.dimension)
    found = built.manifest
    job_log.write(claimed, f"Built {found['kind']} with recall {found['recall']} in {found['build_s']} s.")
    built.cpu_s += time.thread_time() - start
    return built


def _run_builder(claimed: jobs.Claim, row: IndexGeneration, part: Path, kind: str, dimension: int) -> Built:
    command = [
        sys.executable,
        "-m",
        "ml.indexes.build",
        str(part),
        "--model",
        row.model,
        "--seq",
        str(row.seq),
        "--dimension",
        str(dimension),
    ]
    command += ["--target", str(settings.INDEX_RECALL), "--threads", str(settings.INDEX_BUILD_THREADS)]
    command += ["--kind", kind] if kind else []
    with (
        processes.running(command, folders=[part]) as child,
        # It may say nothing for minutes.
        stopping.on_stop(claimed.key, child.kill) as stopped,
    ):
        last = _follow(claimed, child)
    if stopped.is_set():
        jobs.require_wanted(claimed)
    if child.status or "kind" not in last:
        _refuse(child.status, last)
    return Built(last, child.cpu_s, child.peak_mb)


def _follow(claimed: jobs.Claim, child: processes.Child) -> dict[str, Any]:
    """Pass its progress on until it ends; its last line. Raises Cancelled and LeaseLost."""
    last: dict[str, Any] = {}
    told = 0.0
    for line in child.lines():
        last = line or last
        if "done" in last and time.monotonic() - told > REPORT_S:
            told = time.monotonic()
            _report(claimed, WRITTEN + round(last["done"] * (BUILT - WRITTEN)))
    return last


def _report(claimed: jobs.Claim, done: int) -> None:
    with tenant_scope(claimed.tenant_id):
        if jobs.held(claimed).cancel_requested:
            raise jobs.Cancelled
    jobs.progress(claimed, done=done, total=STEPS)


def _refuse(status: int, last: dict[str, Any]) -> NoReturn:
    told = str(last.get("error", ""))[:1000]
    if told.startswith(FINAL):
        raise BuildFailed(told)
    # Killed, out of memory, out of room, or its files went away: another attempt may fare better.
    raise RuntimeError(f"the builder ended with status {status}: {told or 'it said nothing'}")


def _publish(claimed: jobs.Claim, row: IndexGeneration, built: Built) -> None:
    """Swap the pointer and end the job in one transaction. Raises LeaseLost: then another attempt is at it."""
    manifest = built.manifest
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        row.state, row.ready_at = IndexGeneration.State.READY, timezone.now()
        row.kind, row.recall, row.archived = manifest["kind"], manifest["recall"], True
        row.bytes = sum(stamp["bytes"] for stamp in manifest["files"].values())
        row.details = {
            "settings": manifest["settings"],
            "efforts": manifest["efforts"],
            "attempts": manifest["attempts"],
            "build_s": manifest["build_s"],
            "cpu_s": round(built.cpu_s, 1),
            "peak_mb": round(built.peak_mb),
        }
        row.save()
        lifecycle.publish(row)
        result = {"generation": str(row.id), "kind": row.kind, "recall": row.recall, "vectors": row.vectors}
        # The tenant pays for what it adds, not for how it is kept.
        jobs.succeed(claimed, result={**result, **row.details}, cpu_s=0, gpu_s=0, used={})


def _note_failure(row: IndexGeneration, error: BaseException) -> bool:
    """Whether the files may go: not where a commit whose answer got lost has published them, and not unknown."""
    reason = f"{type(error).__name__}: {error}"[:1000]
    failed = {"state": IndexGeneration.State.FAILED, "reason": reason}
    try:
        with tenant_scope(row.tenant_id):
            rows = IndexGeneration.objects.filter(pk=row.pk)
            rows.filter(state=IndexGeneration.State.BUILDING).update(**failed)
            return not rows.filter(state=IndexGeneration.State.READY).exists()
    except Exception:
        log.warning("what is left of a build is removed later", exc_info=True)
        return False
