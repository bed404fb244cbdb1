"""The job that draws a map by UMAP: vectors into a working folder, a limited process over them, its points kept.

Nothing is shown of it before the transaction that ends the job. Killed at any moment it leaves a working folder, which
upkeep removes from the spool, and at most a file that the next attempt replaces.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.projection.embed import POINTS, VECTORS
from tenants.datasets import storage
from tenants.errors import Conflict, NotFound, room_on_disk
from tenants.jobs import job_log, processes
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.retrieval.maps.points import packed, path_of, wanted_of
from tenants.retrieval.maps.reading import Read, read
from tenants.retrieval.models import EmbeddingMap
from tenants.scope import tenant_scope

REPORT_S, STEPS = 1.0, 100
# What the process says it is at, for the job's log.
STAGES = {
    "compiling": "Compiling; the next map on this machine begins sooner.",
    "neighbours": "Looking for the nearest neighbours of each asset.",
    "placing": "Placing the points.",
    "judging": "Counting how many neighbours stayed near.",
}
# The process may wait for a processor as long as it may compute, and some more.
PATIENCE = 4
State = EmbeddingMap.State


class DrawingFailed(Conflict):
    """The process said why there is no map; the same vectors would bring the same."""

    slug, title = "map-not-drawn", "The map could not be drawn"


def _on_end(job: Job) -> None:
    """Show on the map what became of its job."""
    rows = EmbeddingMap.objects.filter(job_id=job.id)
    rows.update(state=State.FAILED if job.finished else State.PENDING, error=_reason(job))


@job("project_map", queue="index", label=gettext_lazy("Draw a map"), on_end=_on_end)
def project_map(claimed: jobs.Claim) -> None:
    """Draw the map of this job and end it. Raises NotFound where it was deleted, DrawingFailed, Cancelled,
    LeaseLost."""
    row = _row(claimed)
    folder = Path(tempfile.mkdtemp(dir=settings.SPOOL_DIR, prefix="map-"))
    begun = time.thread_time()
    try:
        with room_on_disk():
            with tenant_scope(claimed.tenant_id):
                taken = read(wanted_of(row))
            taken.vectors.tofile(folder / VECTORS)
        job_log.write(claimed, f"Took {len(taken.ids):,} of {taken.total:,} assets.")
        last, cpu_s = _drawn(claimed, row, folder)
        places = np.fromfile(folder / POINTS, "<f4").reshape(-1, 2)
        _keep(claimed, row, taken, places, last, cpu_s + time.thread_time() - begun)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _row(claimed: jobs.Claim) -> EmbeddingMap:
    with tenant_scope(claimed.tenant_id):
        row = EmbeddingMap.objects.filter(pk=uuid.UUID(claimed.arguments["map"])).first()
    if row is None:
        raise NotFound(_("This map was deleted."))
    return row


def _drawn(claimed: jobs.Claim, row: EmbeddingMap, folder: Path) -> tuple[dict[str, Any], float]:
    """Run the process; its last line, and its processor time."""
    command = [sys.executable, "-m", "ml.projection.embed", str(folder)]
    for name in ("neighbours", "min_dist", "seed"):
        command += [f"--{name.replace('_', '-')}", str(row.params[name])]
    command += ["--memory-bytes", str(settings.MAP_MEMORY_BYTES), "--cpu-s", str(settings.MAP_CPU_S)]
    with processes.running(command, folders=[folder], env=_environment(folder)) as child:
        last = _follow(claimed, child)
    if child.status or "points" not in last:
        _refuse(child.status, last)
    return last, child.cpu_s


def _environment(folder: Path) -> dict[str, str]:
    """What numba compiled is kept: the next map begins sooner."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    cache = Path(settings.DATA_DIR) / "numba"
    cache.mkdir(parents=True, exist_ok=True)
    return {**threads, "NUMBA_CACHE_DIR": str(cache), "TMPDIR": str(folder)}


def _follow(claimed: jobs.Claim, child: processes.Child) -> dict[str, Any]:
    """Pass its progress on until it ends; its last line. Looks every second whether to go on, also while it compiles
    and says nothing. Raises Cancelled, LeaseLost, DrawingFailed."""
    last: dict[str, Any] = {}
    stage = ""
    done, told, until = 0, 0.0, time.monotonic() + PATIENCE * settings.MAP_CPU_S
    for line in child.lines():
        last = line or last
        if (begun := last.get("stage", "")) != stage:
            stage = begun
            if stage in STAGES:
                job_log.write(claimed, STAGES[stage])
        done = max(done, round(last.get("done", 0) * (STEPS - 1)))
        if time.monotonic() > until:
            raise DrawingFailed(_("It took longer than this installation allows."))
        if time.monotonic() - told >= REPORT_S:
            told = time.monotonic()
            jobs.progress(claimed, done=done, total=STEPS)
    return last


def _refuse(status: int, last: dict[str, Any]) -> NoReturn:
    told = str(last.get("error", ""))[:500]
    if told == "out-of-memory":
        raise DrawingFailed(_("It needs more memory than this installation allows; choose fewer assets."))
    if told:
        raise DrawingFailed(told)
    # Killed from outside, or over its processor time: another attempt may fare better.
    raise RuntimeError(f"the process ended with status {status}")


def _keep(
    claimed: jobs.Claim,
    row: EmbeddingMap,
    taken: Read,
    places: np.ndarray,
    last: dict[str, Any],
    cpu_s: float,
) -> None:
    path = path_of(claimed.tenant_id, row.id)
    # What an earlier attempt stored may be as long and yet another.
    storage.drop(path)
    storage.put(path, packed(taken.ids, places))
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        details = {
            "kept_neighbours": last["kept_neighbours"],
            "used": last["method"],
            "cpu_s": round(cpu_s, 1),
        }
        stored = EmbeddingMap.objects.filter(pk=row.pk).update(
            state=State.READY,
            total=taken.total,
            points=len(places),
            details=details,
            error=None,
            finished_at=timezone.now(),
        )
        if not stored:
            raise NotFound(_("This map was deleted."))
        result = {"map": str(row.id), "points": len(places), "total": taken.total, **details}
        jobs.succeed(claimed, result=result, cpu_s=cpu_s, gpu_s=0, used={})


def _reason(job: Job) -> dict[str, Any] | None:
    if not job.finished:
        return None
    return job.error or {"type": job.state, "detail": _("Cancelled.")}
