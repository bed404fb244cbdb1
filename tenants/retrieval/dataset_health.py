"""What is amiss in a dataset, examined by a job: near-duplicates, outliers, assets that the live model cannot find.

What was found stands at its assets as computed facets, so that it goes with them; the job's result holds the figures,
and no ids. Missing captions and failures need no job: they are columns of the assets.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.projection.neighbours import far_out, groups_of, nearest
from tenants.datasets.metadata import COMPUTED
from tenants.datasets.models import Asset, Dataset, Facet
from tenants.datasets.selectors import require_dataset
from tenants.errors import Conflict
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.jobs.selectors import job_shape
from tenants.retrieval import model_routing, model_store, shapes
from tenants.retrieval.map_points import Wanted, ids_of, read_vectors
from tenants.retrieval.models import Vector
from tenants.retrieval.query.result_page import SEEN, THRESHOLD
from tenants.scope import current_tenant_id, tenant_scope

KIND = "examine_dataset"
# No classifier's version, and no metadata, can have this key.
FACET = f"{COMPUTED}health"
DUPLICATE, OUTLIER, UNINDEXED, UNCAPTIONED = "duplicate", "outlier", "unindexed", "uncaptioned"
#: What stands at assets as facets, and for how many at most.
MOST_KEPT = {DUPLICATE: 10_000, OUTLIER: 500, UNINDEXED: 10_000}
# Of a dataset so many are compared, in parts as its kinds have; of more a fair sample, always the same one.
MOST_COMPARED = 100_000
NEIGHBOURS = 5
# Of fewer of a kind nothing is far out.
FEWEST = 50
BATCH = 2_000


def examine(*, dataset_id: uuid.UUID) -> Job:
    """Queue the job. Raises NotFound, and Conflict while one is at it."""
    with tenant_scope(current_tenant_id()):
        require_dataset(dataset_id)
        # Two at once find each other here.
        list(Dataset.objects.select_for_update().filter(pk=dataset_id).values_list("pk"))
        if _jobs_of(dataset_id).filter(jobs.UNFINISHED).exists():
            raise Conflict(_("The dataset is being examined already."))
        return jobs.enqueue(kind=KIND, arguments={"dataset": str(dataset_id)}, reserve={})


def _jobs_of(dataset_id: uuid.UUID) -> QuerySet[Job]:
    return Job.objects.filter(kind=KIND, arguments__dataset=str(dataset_id)).order_by("-id")


# --- The job ---------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """Rows of facets as (asset, finding, number), and the figures of the report."""

    rows: list[tuple[uuid.UUID, str, float]] = field(default_factory=list)
    compared: int = 0
    total: int = 0
    groups: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOST_KEPT, 0))

    def add(self, finding: str, asset_id: uuid.UUID, number: float) -> None:
        """Beyond what is kept it is counted alone."""
        self.counts[finding] += 1
        if self.counts[finding] <= MOST_KEPT[finding]:
            self.rows.append((asset_id, finding, number))


@job(KIND, queue="index", label=gettext_lazy("Examine a dataset"))
def examine_dataset(claimed: jobs.Claim) -> None:
    """Examine the dataset of this job and end it. Raises NotFound where it was deleted, Cancelled, LeaseLost."""
    begun, found = time.thread_time(), _Found()
    dataset_id = uuid.UUID(claimed.arguments["dataset"])
    with tenant_scope(claimed.tenant_id):
        require_dataset(dataset_id)
        model = model_routing.live()
        kinds = _counts_of(dataset_id)
    found.total = sum(kinds.values())
    steps = len(kinds) + 1
    for done, (modality, count) in enumerate(kinds.items()):
        jobs.progress(claimed, done=done, total=steps, renew=True)
        _compare(claimed.tenant_id, dataset_id, model, modality, count, found)
    jobs.progress(claimed, done=steps - 1, total=steps, renew=True)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        for asset_id in _unindexed(dataset_id, model).order_by("pk").values_list("pk", flat=True):
            found.add(UNINDEXED, asset_id, 0.0)
        _keep(dataset_id, found)
        result = {
            "model": model,
            "total": found.total,
            "compared": found.compared,
            "groups": found.groups,
            "kinds": kinds,
            "counts": {**found.counts, UNCAPTIONED: uncaptioned(dataset_id).count()},
        }
        jobs.succeed(claimed, result=result, cpu_s=time.thread_time() - begun, gpu_s=0, used={})


def _counts_of(dataset_id: uuid.UUID) -> dict[str, int]:
    """Assets that are ready and shown, by kind."""
    rows = _shown(dataset_id).order_by().values("modality").annotate(count=Count("pk"))
    return {row["modality"]: row["count"] for row in rows.order_by("modality")}


def _shown(dataset_id: uuid.UUID) -> QuerySet[Asset]:
    ready = Asset.objects.filter(dataset_id=dataset_id, status=Asset.State.READY)
    return ready.exclude(moderation__in=Asset.HIDDEN)


def _unindexed(dataset_id: uuid.UUID, model: str) -> QuerySet[Asset]:
    return _shown(dataset_id).filter(~Exists(Vector.objects.filter(asset=OuterRef("pk"), model=model)))


def uncaptioned(dataset_id: uuid.UUID) -> QuerySet[Asset]:
    """What has neither words of its own nor a caption."""
    return Asset.objects.filter(dataset_id=dataset_id, caption="").exclude(modality=Asset.Modality.TEXT)


def _compare(
    tenant_id: uuid.UUID, dataset_id: uuid.UUID, model: str, modality: str, count: int, found: _Found
) -> None:
    """Each with its like alone: texts lie far from pictures, which says nothing of either."""
    most = max(1, MOST_COMPARED * count // max(found.total, MOST_COMPARED))
    with tenant_scope(tenant_id):
        taken = read_vectors(Wanted(model, (dataset_id,), modality, most))
    if not len(taken.ids):
        return
    space = model_store.spaces.opened(model, tenant_id)
    vectors = np.ascontiguousarray(taken.vectors, np.float32)
    if space and modality not in SEEN:
        # Without what all stored texts share, which says nothing of any.
        vectors = space.text_query(vectors)
        vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(
            np.float32
        )
    near = nearest(vectors, NEIGHBOURS)
    ids = [uuid.UUID(one) for one in ids_of(taken.ids)]
    found.compared += len(ids)
    least = ((space and space.near_duplicate) or THRESHOLD) if modality in SEEN else THRESHOLD
    for group in groups_of(near, least):
        found.groups += 1
        for at in group:
            found.add(DUPLICATE, ids[at], found.groups)
    if len(ids) >= FEWEST:
        for at in far_out(near):
            found.add(OUTLIER, ids[at], round(float(near.cosines[at].mean()), 4))


def _keep(dataset_id: uuid.UUID, found: _Found) -> None:
    """In place of what was found before. Who was deleted meanwhile is left out."""
    Facet.objects.filter(key=FACET, asset__dataset_id=dataset_id).delete()
    for first in range(0, len(found.rows), BATCH):
        some = found.rows[first : first + BATCH]
        ids = [asset_id for asset_id, _finding, _number in some]
        # Held until the commit: an erasure waits, and takes the facet with it.
        rows = Asset.objects.select_for_update(no_key=True).filter(pk__in=ids, dataset_id=dataset_id)
        there = set(rows.order_by("pk").values_list("pk", flat=True))
        Facet.objects.bulk_create(
            Facet(asset_id=asset_id, key=FACET, text=finding, number=number)
            for asset_id, finding, number in some
            if asset_id in there
        )


# --- Reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """The newest examination: `job` where one is waiting or running, `failed` where the newest one failed, `at` and
    `figures` of the newest that ended well. `left` is how many assets a finding stands at now."""

    job: Job | None
    failed: Job | None
    done: Job | None
    left: dict[str, int]

    @property
    def figures(self) -> dict[str, Any]:
        return self.done.result if self.done and self.done.result else {}

    @property
    def sampled(self) -> bool:
        return bool(self.figures) and self.figures["compared"] < self.figures["total"]


def report_of(dataset_id: uuid.UUID) -> Report:
    """In the tenant's scope."""
    newest = _jobs_of(dataset_id).first()
    done = _jobs_of(dataset_id).filter(state=Job.State.SUCCEEDED).first()
    rows = Facet.objects.filter(key=FACET, asset__dataset_id=dataset_id).order_by().values("text")
    left = {row["text"]: row["count"] for row in rows.annotate(count=Count("pk"))}
    return Report(
        newest if newest and not newest.finished else None,
        newest if newest and newest.finished and newest != done else None,
        done,
        dict.fromkeys(MOST_KEPT, 0) | left,
    )


def health_shape(dataset: Any) -> shapes.DatasetHealth:
    """The newest examination in the shape of the API; `dataset` as `selectors.get_dataset` counts it."""
    report = report_of(dataset.id)
    figures, at = report.figures, report.done.finished_at if report.done else None
    counts = figures.get("counts")
    return shapes.DatasetHealth(
        examined_at=at,
        age_s=max(0, round((timezone.now() - at).total_seconds())) if at else None,
        job=job_shape(report.job) if report.job else None,
        failed_job=str(report.failed.id) if report.failed else None,
        model=figures.get("model"),
        total=figures.get("total"),
        compared=figures.get("compared"),
        kinds=figures.get("kinds"),
        groups=figures.get("groups"),
        found=counts,
        left=report.left if counts else None,
        failed_assets=dataset.failed_count,
    )


def found(dataset_id: uuid.UUID, finding: str) -> QuerySet[Facet]:
    """The facets of a finding with their assets: groups of duplicates together, outliers the farthest first."""
    rows = Facet.objects.filter(key=FACET, text=finding, asset__dataset_id=dataset_id)
    return rows.select_related("asset__blob").order_by("number", "asset_id")
