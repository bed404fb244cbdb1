"""The job that builds a generation: write the vectors out, let a process of its own index them, publish it.

Nothing is served of it before the pointer says so, in the transaction that ends the job; killed at any moment it leaves
a folder that ends in `.part` or has no row, which the next run and the upkeep remove.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.errors import Conflict, room_on_disk
from tenants.jobs import job_log, processes, stopping
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.retrieval.engines import ENGINES
from tenants.retrieval.engines.copying import build_in
from tenants.retrieval.filters import facet_postings
from tenants.retrieval.index import lifecycle, samples
from tenants.retrieval.index.registry import folder_of
from tenants.retrieval.models import IndexGeneration, Vector, VectorClock
from tenants.retrieval.types import MODALITIES
from tenants.scope import current_tenant_id, tenant_scope

FETCHED = 10_000
# One value a row, fixed in width: ids, number, modalities and the vector as they lie in the file.
ROW = np.dtype(
    [("asset", "S16"), ("dataset", "S16"), ("seq", ">i8"), ("kind", "u1"), ("part", "u1"), ("data", "V1024")]
)
WIRE = np.dtype([("values", ">i2"), ("width", ">i4"), *((name, ROW[name]) for name in ROW.names or ())])
BESIDE = np.dtype([(name, ROW[name]) for name in ROW.names or () if name != "data"])
HEADER, TRAILER = 19, b"\xff\xff"


@dataclass(frozen=True)
class Written:
    """How much a folder holds now."""

    vectors: int
    assets: int


def write(folder: Path, model: str, seq: int) -> Written:
    """Everything that `ml.indexes.generation.build` reads, into an empty folder. In the tenant's scope.

    The vectors up to `seq`, in the order of their assets. One statement sees one moment, which may be later than `seq`:
    what has been replaced or removed since is missing, and has a tombstone above `seq` that says so.
    """
    known = _write_vectors(folder / "vectors.f32", model, seq)
    kept = folder / "columns"
    kept.mkdir()
    found = _columns(known) | _segments(model, seq, known["seq"])
    for name, values in found.items():
        np.save(kept / f"{name}.npy", values, allow_pickle=False)
    facet_postings.export_facets(found["asset_ids"], folder)
    samples.read(current_tenant_id(), model).tofile(folder / "queries.f32")
    return Written(len(known), len(found["asset_ids"]))


def _write_vectors(path: Path, model: str, seq: int) -> np.ndarray:
    """Write the vectors; returns all else of the rows."""
    with path.open("wb") as file:
        return copy_rows(file, "model = %s AND seq <= %s", [model, seq])


def copy_rows(sink: IO[bytes], condition: str, parameters: list[Any]) -> np.ndarray:
    """The active tenant's vectors for which an SQL condition holds go to `sink`, in the order of their assets; returns
    all else of the rows, as BESIDE."""
    names = " ".join(f"WHEN '{name}' THEN '\\x{number:02x}'::bytea" for number, name in enumerate(MODALITIES))
    statement = f"""
        COPY (
            SELECT uuid_send(asset_id) || uuid_send(dataset_id) || int8send(seq)
                || CASE asset_modality {names} END || CASE modality {names} END || data
            FROM {Vector._meta.db_table}
            WHERE tenant_id = %s AND {condition} AND octet_length(data) = 1024
            ORDER BY asset_id, seq
        ) TO STDOUT (FORMAT BINARY)
    """  # noqa: S608 - constants only
    with connection.cursor() as cursor:
        received = _Received(sink)
        query = cursor.mogrify(statement, [str(current_tenant_id()), *parameters])
        cursor.copy_expert(query, received)
        return received.end()


class _Received:
    """Takes PostgreSQL's binary COPY format, whose rows are as wide as each other here, and writes the vectors out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, bytearray()
        self._known = [np.empty(0, BESIDE)]

    def write(self, data: bytes) -> int:
        self._left += data
        if len(self._left) > HEADER + FETCHED * WIRE.itemsize:
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
        end = len(self._left) - (len(self._left) - HEADER) % WIRE.itemsize
        rows = np.frombuffer(bytes(self._left[HEADER:end]), WIRE)
        if (rows["width"] != ROW.itemsize).any():
            raise ValueError("the database sent vectors in an unknown form")
        del self._left[HEADER:end]
        self._file.write(rows["data"].tobytes())
        beside = np.empty(len(rows), BESIDE)
        for name in BESIDE.names or ():
            beside[name] = rows[name]
        self._known.append(beside)


def _columns(known: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays that `tenants.retrieval.index.segments.FileSegment` reads."""
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
        part.rename(folder)
        _publish(claimed, row, built)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if _note_failure(row, error):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _built(claimed: jobs.Claim, row: IndexGeneration, part: Path, kind: str) -> Built:
    start = time.thread_time()
    with room_on_disk():
        part.mkdir(parents=True)
        with tenant_scope(claimed.tenant_id):
            # Longer than scopes should be, as it must see one moment; it reads only.
            written = write(part, row.model, row.seq)
    row.vectors, row.assets = written.vectors, written.assets
    jobs.progress(claimed, done=WRITTEN, total=STEPS)
    if not written.vectors:
        raise BuildFailed(_("There are no vectors to index."))
    job_log.write(claimed, f"Wrote {written.vectors:,} vectors of {row.model} out; building their index.")
    built = _run_builder(claimed, row, part, kind)
    found = built.manifest
    job_log.write(claimed, f"Built {found['kind']} with recall {found['recall']} in {found['build_s']} s.")
    built.cpu_s += time.thread_time() - start
    return built


def _run_builder(claimed: jobs.Claim, row: IndexGeneration, part: Path, kind: str) -> Built:
    command = [
        sys.executable,
        "-m",
        "ml.indexes.build",
        str(part),
        "--model",
        row.model,
        "--seq",
        str(row.seq),
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
        row.kind, row.recall = manifest["kind"], manifest["recall"]
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
