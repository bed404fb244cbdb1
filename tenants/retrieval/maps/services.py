"""Drawing and deleting maps, and finding them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import flags
from tenants.datasets import storage
from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_datasets
from tenants.datasets.services import may_remove_files
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, NotReady
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.retrieval.maps.points import path_of
from tenants.retrieval.model_routing import routing
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
            _("There is no modality %(modality)s.") % {"modality": f"{modality!r}"}, pointer="/modality"
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
    now = routing.written(current_tenant_id())
    if model and model not in now.models:
        raise NotReady(
            _("There are no vectors of this model; only the live one and those beside it have some.")
        )
    return model or now.live


def _free_name() -> str:
    return f"map {EmbeddingMap.objects.count() + 1}"


def _enqueue(row: EmbeddingMap) -> Job:
    if not flags.enabled(FLAG, current_tenant_id()):
        raise NotAllowed(_("Maps by UMAP are turned off for this workspace. Maps by PCA are there at once."))
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
            storage.drop(path_of(current_tenant_id(), row.id))


# --- Reading ---------------------------------------------------------------------------------------------


def list_maps() -> QuerySet[EmbeddingMap]:
    return EmbeddingMap.objects.order_by("-id")


def get_map(map_id: uuid.UUID | None) -> EmbeddingMap:
    """Raises NotFound."""
    row = EmbeddingMap.objects.filter(pk=map_id).first()  # None matches no row
    if row is None:
        raise NotFound(_("There is no such map."))
    return row


def as_dict(row: EmbeddingMap) -> dict[str, Any]:
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
