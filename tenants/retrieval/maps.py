"""Drawing and deleting maps, and finding them; the job that draws one by UMAP."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.projection.embed import GROUPED, POINTS
from ml.projection.topics import GROUP
from tenants.accounts import flags
from tenants.datasets import storage
from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_datasets
from tenants.datasets.services import may_remove_files
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, NotReady
from tenants.events.services import record
from tenants.jobs import job_log, processes
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.names import check_name
from tenants.retrieval import model_routing
from tenants.retrieval.map_points import GROUPS, Read, packed, path_of, read_into, wanted_of
from tenants.retrieval.models import EmbeddingMap
from tenants.scope import current_tenant_id, tenant_scope

JOB, FLAG = "project_map", "umap-maps"
MOST_MAPS, MOST_DATASETS, MOST_AT_ONCE = 100, 100, 2
MAX_NAME = 100
FEWEST_NEIGHBOURS, MOST_NEIGHBOURS, MOST_DIST = 2, 200, 0.99
Method, State = EmbeddingMap.Method, EmbeddingMap.State


@dataclass(frozen=True)
class Params:
    """Of UMAP: how many neighbours each point is held by, and how close points may come."""

    neighbours: int = 15
    min_dist: float = 0.1
    seed: int = 0


def create_map(
    *,
    name: str = "",
    method: str = Method.PCA,
    model: str = "",
    dataset_ids: Sequence[uuid.UUID] = (),
    modality: str = "",
    params: Params | None = None,
    actor: str = "",
) -> tuple[EmbeddingMap, Job | None]:
    """Keep a map by PCA, which can be looked at at once, or queue one by UMAP. `model` is a space, empty for the live
    one.

    Raises NotFound, Invalid, NotReady for a model without vectors, NotAllowed where UMAP is off, and Conflict where
    there are as many maps as may be.
    """
    with tenant_scope(current_tenant_id()):
        require_datasets(dataset_ids)
        _check(name, method, dataset_ids, modality, params or Params())
        row = EmbeddingMap(name=name or _free_name(), method=method, modality=modality, created_by=actor)
        row.model = _written(model)
        row.dataset_ids = [str(one) for one in dict.fromkeys(dataset_ids)]
        row.params = {**asdict(params or Params()), "most": settings.MAP_MAX_POINTS}
        job = None
        if method == Method.UMAP:
            job = _enqueue(row)
            row.job_id = job.id
        else:
            row.state, row.finished_at = State.READY, timezone.now()
        row.save(force_insert=True)
        record(actor=actor, verb="map.created", target=str(row.id), details={"method": method})
        return row, job


def _check(name: str, method: str, dataset_ids: Sequence[uuid.UUID], modality: str, params: Params) -> None:
    check_text(name, "/name")
    check_name(name)
    if len(name) > MAX_NAME:
        raise Invalid(_("A name has at most %(name)s characters.") % {"name": MAX_NAME}, pointer="/name")
    if method not in Method.values:
        raise Invalid(
            _("Choose a method from %(names)s.") % {"names": ", ".join(Method.values)}, pointer="/method"
        )
    if len(dataset_ids) > MOST_DATASETS:
        raise Invalid(
            _("At most %(most_datasets)s datasets.") % {"most_datasets": MOST_DATASETS}, pointer="/datasets"
        )
    if modality and modality not in Asset.Modality.values:
        raise Invalid(
            _("Unknown modality %(modality)s.") % {"modality": f"{modality!r}"}, pointer="/modality"
        )
    if not FEWEST_NEIGHBOURS <= params.neighbours <= MOST_NEIGHBOURS:
        raise Invalid(
            _("%(fewest_neighbours)s to %(most_neighbours)s neighbours.")
            % {"fewest_neighbours": FEWEST_NEIGHBOURS, "most_neighbours": MOST_NEIGHBOURS},
            pointer="/neighbours",
        )
    if not 0 <= params.min_dist <= MOST_DIST:
        raise Invalid(
            _("A distance from 0 to %(most_dist)s.") % {"most_dist": MOST_DIST}, pointer="/min_dist"
        )
    if EmbeddingMap.objects.count() >= MOST_MAPS:
        raise Conflict(
            _("There are %(most_maps)s maps already; delete some first.") % {"most_maps": MOST_MAPS}
        )


def _written(model: str) -> str:
    """Raises NotReady for a model whose vectors are not whole."""
    now = model_routing.written(current_tenant_id())
    if model and model not in now.models:
        raise NotReady(
            _("There are no vectors of this model; only the live one and those beside it have some.")
        )
    return model or now.live


def _free_name() -> str:
    return f"map {EmbeddingMap.objects.count() + 1}"


def _enqueue(row: EmbeddingMap) -> Job:
    if not flags.enabled(FLAG, current_tenant_id()):
        raise NotAllowed(_("UMAP maps are turned off for this workspace. PCA maps are available instantly."))
    if Job.objects.filter(jobs.UNFINISHED, kind=JOB).count() >= MOST_AT_ONCE:
        raise Conflict(
            _("%(most_at_once)s maps are being drawn already. Wait for one of them, or cancel its job.")
            % {"most_at_once": MOST_AT_ONCE}
        )
    return jobs.enqueue(kind=JOB, arguments={"map": str(row.id)}, total=100, reserve={})


def delete_map(*, map_id: uuid.UUID, actor: str = "") -> None:
    """Delete a map with its points; one that is being drawn stops. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        row = get_map(map_id)
        job = Job.objects.filter(jobs.UNFINISHED, pk=row.job_id).first() if row.job_id else None
        if job is not None:
            jobs.cancel(job_id=job.id)
        EmbeddingMap.objects.filter(pk=row.pk).delete()
        record(actor=actor, verb="map.deleted", target=str(row.id))
        # While a backup is made upkeep does this later.
        if may_remove_files():
            for end in ("", GROUPS):
                storage.drop(f"{path_of(current_tenant_id(), row.id)}{end}")


# --- Reading ---------------------------------------------------------------------------------------------


def list_maps() -> QuerySet[EmbeddingMap]:
    return EmbeddingMap.objects.order_by("-id")


def get_map(map_id: uuid.UUID | None) -> EmbeddingMap:
    """Raises NotFound."""
    row = EmbeddingMap.objects.filter(pk=map_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("This map does not exist."))
    return row


def map_as_dict(row: EmbeddingMap) -> dict[str, Any]:
    """A map in the shape of the API, without its points."""
    return {
        "id": str(row.id),
        "name": row.name,
        "method": row.method,
        "state": row.state,
        "space": row.model,
        "datasets": row.dataset_ids,
        "modality": row.modality or None,
        "params": row.params,
        "total": row.total,
        "points": row.points,
        "details": row.details,
        "job": str(row.job_id) if row.job_id else None,
        "error": row.error,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


# --- The job that draws by UMAP -------------------------------------------------------------------------

# Vectors into a working folder, a limited process over them, its points kept.
#
# Nothing is shown of it before the transaction that ends the job. Killed at any moment it leaves a working folder,
# which upkeep removes from the spool, and at most a file that the next attempt replaces.

REPORT_S, STEPS = 1.0, 100
# What the process says it is at, for the job's log.
STAGES = {
    "compiling": "Compiling; the next map on this machine begins sooner.",
    "neighbours": "Looking for the nearest neighbours of each asset.",
    "placing": "Placing the points.",
    "joining": "Placing the others among them.",
    "grouping": "Looking for topics and outliers.",
    "judging": "Counting how many neighbours stayed near.",
}
# The process may wait for a processor as long as it may compute, and some more.
PATIENCE = 4


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
        taken = read_into(folder, claimed.tenant_id, wanted_of(row))
        job_log.write(claimed, f"Took {len(taken.ids):,} of {taken.total:,} assets.")
        # Of no vectors at all any number will do.
        last, cpu_s = _drawn(claimed, row, folder, taken.vectors.shape[1] or 2)
        places = np.fromfile(folder / POINTS, "<f4").reshape(-1, 2)
        groups = np.fromfile(folder / GROUPED, GROUP)
        _keep(claimed, row, taken, places, groups, last, cpu_s + time.thread_time() - begun)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _row(claimed: jobs.Claim) -> EmbeddingMap:
    with tenant_scope(claimed.tenant_id):
        row = EmbeddingMap.objects.filter(pk=uuid.UUID(claimed.arguments["map"])).first()
    if row is None:
        raise NotFound(_("This map was deleted."))
    return row


def _drawn(
    claimed: jobs.Claim, row: EmbeddingMap, folder: Path, dimension: int
) -> tuple[dict[str, Any], float]:
    """Run the process; its last line, and its processor time."""
    command = [sys.executable, "-m", "ml.projection.embed", str(folder), "--dimension", str(dimension)]
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
    groups: np.ndarray,
    last: dict[str, Any],
    cpu_s: float,
) -> None:
    path = path_of(claimed.tenant_id, row.id)
    for name, content in ((path, packed(taken.ids, places)), (f"{path}{GROUPS}", groups.tobytes())):
        # What an earlier attempt stored may be as long and yet another.
        storage.drop(name)
        storage.put(name, content)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        details = {
            "kept_neighbours": last["kept_neighbours"],
            "used": last["method"],
            "cpu_s": round(cpu_s, 1),
            "topics": int(groups["topic"].max(initial=-1)) + 1,
            "outliers": int(groups["outlier"].sum()),
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
