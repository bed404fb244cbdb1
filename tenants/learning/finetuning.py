"""The job that trains a tenant's model: look at the pairs once, train in a process of its own, keep what was learnt.

Killed at any moment, its next attempt goes on after the last part that was looked at and from the last checkpoint; on
another host from the last that is in the storage (`tenants.learning.scratch`).
Searches know nothing of it: what is learnt is a candidate until it is promoted.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.alignment.installed import folder_of
from tenants.datasets import storage
from tenants.datasets.models import DatasetVersion
from tenants.errors import Conflict, NotFound, room_on_disk
from tenants.jobs import job_log
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.learning import dataset_versions, pairs, scratch, selectors, services, trainer
from tenants.learning.features import Extracted, PartDone, extract
from tenants.learning.models import LearntModel
from tenants.learning.pairs import Pairs
from tenants.learning.trainer import Event, Trained
from tenants.learning.training_progress import LOOKED, STEPS, TrainingProgress
from tenants.retrieval import model_routing, model_store
from tenants.scope import tenant_scope

#: Assets of the test split that are remembered, to compare by when the model is promoted.
MAX_HELD_OUT = 300


class BaseDeleted(Conflict):
    slug, title = "base-deleted", "The model to start from is gone"


def _on_end(job: Job) -> None:
    """Show on the model what became of its job: failed, cancelled, or queued again. In the transaction that says so."""
    rows = LearntModel.objects.filter(pk=job.arguments["model"])
    if job.state == Job.State.QUEUED:
        if not rows.exists():
            raise Conflict(_("The model of this training was deleted; start another one."))
        services.check_quota(without=job)
        rows.update(error=None)
    elif job.state == Job.State.CANCELLED:
        rows.update(error={"type": "cancelled", "detail": "The training was cancelled."})
    else:
        rows.update(error=job.error)


@job("finetune", queue="train", label=gettext_lazy("Fine-tune a model"), on_end=_on_end, kept=True)
def finetune(claimed: jobs.Claim) -> None:
    """Train the model that the job names. Raises TrainingRefused, BaseDeleted, NotFound, LeaseLost, Cancelled."""
    with tenant_scope(claimed.tenant_id):
        row = LearntModel.objects.filter(pk=claimed.arguments["model"]).first()
    if row is None:
        raise NotFound(_("The model of this training was deleted."))
    work = TrainingAttempt(claimed, row)
    kept = scratch.Scratch(claimed, row.id, work.folder)
    try:
        with room_on_disk():
            work.folder.mkdir(parents=True, exist_ok=True)
            if kept.fetch():
                job_log.write(claimed, "It goes on with what another attempt had kept in the storage.")
            base = fetch_base(claimed.tenant_id, row, work.folder / "base")
            recipe = work.recipe(base, work.extract_pairs())
            kept.keep_soon()
            follower = TrainingProgress(work)
            told = work.with_log(kept.keeping(follower.report))
            trained = trainer.train(work.folder, recipe, told, work.count_failed_cpu)
            follower.flush()
    finally:
        kept.end()
    work.store_candidate(trained)
    shutil.rmtree(work.folder, ignore_errors=True)
    scratch.drop(claimed.tenant_id, row.id)


def fetch_base(tenant_id: uuid.UUID, row: LearntModel, folder: Path) -> Path:
    """The folder of the space to start from; of one of the tenant's a copy, as it may be deleted meanwhile."""
    if not model_routing.is_own(row.base):
        shipped = folder_of(row.base)
        if shipped is None:
            raise BaseDeleted(_("The space this training was to start from no longer exists."))
        return shipped
    if folder.exists():
        return folder
    with tenant_scope(tenant_id):
        there = selectors.find_space(row.base) is not None
    stored = list(storage.files_below(model_store.path_of(tenant_id, row.base))) if there else []
    if not stored:
        raise BaseDeleted(
            _("The model that this training was to start from was deleted. Start from another one.")
        )
    part = folder.with_suffix(".part")
    part.mkdir(exist_ok=True)
    for path in stored:
        storage.copy_to(path, part / Path(path).name)
    part.rename(folder)
    return folder


class TrainingAttempt:
    """One attempt at one training: a `training_progress.ProgressStore`."""

    def __init__(self, claimed: jobs.Claim, row: LearntModel) -> None:
        self.claimed, self.row = claimed, row
        self.folder = services.folder_of(claimed.tenant_id, row.id)
        self.data: dict[str, Any] = row.data
        self.curves: list[dict[str, Any]] = row.curves

    # --- Before the training ---

    def extract_pairs(self) -> list[Extracted]:
        """See and read the pairs of each dataset, the tenant's own first, then the general ones."""
        self._require_version()
        space = model_routing.space(self.row.base, self.claimed.tenant_id)
        found: list[Extracted] = []
        for number in range(len(self.data["datasets"])):
            before = sum(one.captions for one in found)
            found.append(
                extract(self._pairs(number), space, self._folder_of(number), self._report_extraction(before))
            )
        self.store(data={**self.data, "datasets": self._describe_datasets(found)})
        return found

    def _folder_of(self, number: int) -> Path:
        return self.folder / str(number)

    def _pairs(self, number: int) -> Pairs:
        done = Extracted.read(self._folder_of(number))
        return Pairs(
            self.claimed.tenant_id,
            self.data["datasets"][number]["id"],
            group_by=self.row.settings.get("group_by", ""),
            until=done.until if done else None,
            generated=self._generated,
            version=self._version(number),
        )

    def _version(self, number: int) -> str | None:
        """The id of the version that is learnt from, of the dataset of this number."""
        version = self.data["datasets"][number].get("version")
        return version["id"] if version else None

    def _require_version(self) -> None:
        """Raises NotFound where the version to learn from was deleted: of its pictures nobody knows any more."""
        if named := self._version(0):
            with tenant_scope(self.claimed.tenant_id):
                if not DatasetVersion.objects.filter(pk=named).exists():
                    raise NotFound(
                        _("The version of the dataset that this training was to learn from was deleted.")
                    )

    @property
    def _generated(self) -> bool:
        return self.row.settings.get("include_generated", False)

    def _report_extraction(self, before: int) -> PartDone:
        total = max(1, int(self.row.estimate.get("pairs", 1)))

        def told(extracted: Extracted, cpu_s: float) -> None:
            jobs.spend(self.claimed, cpu_s=cpu_s)
            share = min(1.0, (before + extracted.captions) / total)
            self.progress(round(share * LOOKED), renew=True)

        return told

    def _describe_datasets(self, found: list[Extracted]) -> list[dict[str, Any]]:
        with tenant_scope(self.claimed.tenant_id):
            failed = [
                pairs.unreadable(dataset["id"], generated=self._generated, version=self._version(number))
                for number, dataset in enumerate(self.data["datasets"])
            ]
            versions = [self._describe_version(number) for number in range(len(found))]
        return [
            {
                **dataset,
                **version,
                "pictures": done.pictures,
                "pairs": done.captions,
                "unreadable": done.unreadable + lost,
                "unreadable_assets": done.samples,
                "sha256": done.digest,
            }
            for dataset, version, done, lost in zip(
                self.data["datasets"], versions, found, failed, strict=True
            )
        ]

    def _describe_version(self, number: int) -> dict[str, Any]:
        """The version, with how many of its assets are gone or have other captions by now. In the tenant's scope."""
        named = self._version(number)
        row = DatasetVersion.objects.filter(pk=named).first() if named else None
        if row is None:
            return {}
        changed = dataset_versions.count_changed(row.id)
        return {"version": {**dataset_versions.as_source(row), "changed": changed}}

    def recipe(self, base: Path, found: list[Extracted]) -> dict[str, Any]:
        """What `python -m ml.training run` reads."""
        urls = [str(self._folder_of(number) / "pairs") for number in range(len(found))]
        space, _, version = self.row.space.rpartition(":")
        return {
            "objective": "align",
            "stage": self.row.stage,
            "method": self.row.method,
            "base": {"folder": str(base)},
            "data": urls[:1],
            "general": urls[1:],
            "unreadable": self.data["datasets"][0]["unreadable"],
            "epochs": self.row.settings["epochs"],
            "seed": self.row.settings["seed"],
            "space": {"id": space, "version": version},
            "limits": {
                "threads": settings.LEARNING_THREADS,
                "memory_bytes": settings.LEARNING_MEMORY_BYTES,
            },
        }

    # --- What the row and the job are told ---

    def store(self, **values: Any) -> None:
        """Write fields of the row, for as long as this attempt holds the job. Raises LeaseLost."""
        with tenant_scope(self.claimed.tenant_id):
            jobs.held(self.claimed)
            LearntModel.objects.filter(pk=self.row.pk).update(**values)
        self.data = values.get("data", self.data)

    def progress(self, done: int, *, renew: bool = False) -> None:
        jobs.progress(self.claimed, done=done, total=STEPS, renew=renew)

    def with_log(self, told: Callable[[Event | None], None]) -> Callable[[Event | None], None]:
        """`told`, and a line in the job's log for each epoch and warning."""

        def both(event: Event | None) -> None:
            if event is not None and (line := line_of(event)):
                job_log.write(self.claimed, *line)
            told(event)

        return both

    def count_failed_cpu(self, cpu_s: float) -> None:
        with suppress(jobs.LeaseLost):
            jobs.spend(self.claimed, cpu_s=cpu_s)

    # --- After it ---

    def store_candidate(self, trained: Trained) -> None:
        """Take the space into the storage and end the job: a candidate."""
        done = trained.result
        space, metrics = Path(done["space"]), done["metrics"]
        model_routing.keep_space(tenant_id=self.claimed.tenant_id, model=self.row.space, folder=space)
        # Of all attempts, as it has been counting from its checkpoints.
        cpu_s, gpu_s = float(done["cpu_s"]), float(done["gpu_s"])
        with tenant_scope(self.claimed.tenant_id):
            looking = jobs.held(self.claimed).cost_cpu_s
            found = {
                "metrics": metrics,
                "data": {
                    **self.data,
                    "held_out": done["held_out"][:MAX_HELD_OUT],
                    "relevance": done.get("relevance", {}),
                },
                "curves": self.curves,
                "cost": {
                    "cpu_s": round(looking + cpu_s, 1),
                    "gpu_s": gpu_s,
                    "wall_s": done["wall_s"],
                    "peak_mb": round(trained.peak_mb),
                    "busy": done["busy"],
                },
                "sha256": json.loads((space / "manifest.json").read_text("utf-8"))["sha256"],
                "bytes": sum(path.stat().st_size for path in space.iterdir()),
            }
            services.finish_training(self.row.pk, found)
            result = {"model": str(self.row.pk), "metrics": metrics}
            jobs.succeed(self.claimed, result=result, cpu_s=cpu_s, gpu_s=gpu_s, used={})


def line_of(event: Event) -> tuple[str, str] | None:
    """What the log says of an event, and how serious that is; None for most."""
    body = {name: value for name, value in event.items() if name not in ("event", "phase")}
    if event["event"] == "curve":
        told = ", ".join(
            f"{name} {value:.4g}" for name, value in body.items() if isinstance(value, int | float)
        )
        return f"{event.get('phase', 'Training')}: {told}.", job_log.INFO
    if event["event"] == "warning":
        return str(event.get("detail") or event.get("code") or "A warning of the trainer."), job_log.WARNING
    return None
