"""Models in every state, as jobs leave them behind, for pages that show them."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from tenants.jobs.models import Job
from tenants.learning.models import LearntModel, Promotion
from tenants.scope import tenant_scope
from tests.tenants.learning.world import new_model

WAYS = ("text>image", "image>text")


def figures(r1: float, queries: int = 800, pool: int = 200) -> dict[str, Any]:
    values = {"r1": r1, "r5": min(1, r1 + 0.2), "r10": min(1, r1 + 0.3), "map": r1 + 0.1, "mrr": r1 + 0.12}
    interval = {name: [max(0, value - 0.05), min(1, value + 0.05)] for name, value in values.items()}
    ranks = {"median_rank": 2.0}
    found = {"pool": pool, "queries": queries, **values, **ranks}
    return {**found, "interval": {**interval, "median_rank": [2, 3]}}


def gain(difference: float) -> dict[str, Any]:
    one = {"difference": difference, "relative": 0.2, "interval": [difference - 0.03, difference + 0.03]}
    return dict.fromkeys(("r1", "r5", "r10", "map", "mrr", "median_rank"), one)


def metrics(against_parent: float = 0.12, queries: int = 800, pool: int = 200) -> dict[str, Any]:
    """As `ml.training` reports them: by test set, space, and direction."""
    spaces = {
        "model": 0.421,
        "parent": 0.421 - against_parent,
        "regularised CCA": 0.25,
        "PCA-256 + ridge": 0.2,
    }
    return {
        "domain": {
            "pictures": 200,
            "captions": 800,
            **{name: {way: figures(r1, queries, pool) for way in WAYS} for name, r1 in spaces.items()},
            "differences": {
                name: {way: gain(0.421 - r1) for way in WAYS}
                for name, r1 in spaces.items()
                if name != "model"
            },
        }
    }


def curves(epochs: int = 12) -> list[dict[str, Any]]:
    first = {"phase": "adapt", "epoch": 0, "best": True, "validation": {"primary": 0.4, "r1": 0.21}}
    return [
        first,
        *(
            {
                "phase": "adapt",
                "epoch": epoch,
                "best": epoch <= 8,
                "loss": 3.1 / epoch + 0.4,
                "temperature": 0.07 - 0.003 * epoch,
                "validation": {"primary": 0.4 + 0.02 * epoch, "r1": 0.21 + 0.02 * epoch - 0.001 * epoch**2},
            }
            for epoch in range(1, epochs + 1)
        ),
    ]


def quality(note: str = "31 pairs are exact repetitions and are left out.") -> dict[str, Any]:
    found = {
        "items": 1000,
        "unreadable": 2,
        "splits": {"train": 780, "val": 90, "test": 99},
        "duplicates": {"exact": 31, "near": 4, "compared": 1000},
        "leaks": {"groups": 0, "contents": 0, "near": 2},
        "groups": {"different": 700, "largest": 12, "largest_share": 0.015},
        "captions": {"different": 912},
        "notes": [note],
    }
    return {"adapt": found}


def job_of(party: Any, kind: str, state: str = "running", **fields: Any) -> Job:
    with tenant_scope(party.id):
        return Job.objects.create(kind=kind, state=state, progress_total=100, **fields)


def described(name: str = "Products", dataset_id: Any = None, **more: Any) -> dict[str, Any]:
    return {"datasets": [{"id": str(dataset_id or uuid.uuid4()), "name": name, "pairs": 1000}], **more}


def candidate(party: Any, **fields: Any) -> LearntModel:
    """Trained to its end."""
    made = {
        "metrics": metrics(),
        "curves": curves(),
        "data": described(quality=quality()),
        "settings": {"epochs": 20, "seed": 0, "group_by": "product"},
        "estimate": {"pairs": 1000, "cpu_s": 412, "gpu_s": 0, "by": "trial"},
        "cost": {"cpu_s": 388.2, "gpu_s": 0, "peak_mb": 700},
        "trained_at": timezone.now(),
        "bytes": 4_009_316,
        "sha256": "ab" * 32,
    }
    return new_model(party.id, **{**made, **fields})


def training(party: Any, **fields: Any) -> LearntModel:
    """A draft in the middle of its job."""
    row = candidate(
        party, state="draft", metrics=None, cost={}, trained_at=None, bytes=0, sha256="", curves=curves(5)
    )
    job = job_of(party, "finetune", progress_done=74, arguments={"model": str(row.id)})
    with tenant_scope(party.id):
        LearntModel.objects.filter(pk=row.pk).update(job_id=job.id, **fields)
        row.refresh_from_db()
    return row


def report(worse: list[str] | None = None) -> dict[str, Any]:
    rates = {"r1": 0.5, "r5": 0.7, "r10": 0.8, "map": 0.55, "mrr": 0.6}
    found = {
        "queries": 20,
        "before": rates,
        "after": {**rates, "r1": 0.4, "mrr": 0.55},
        "change": gain(-0.05),
    }
    overlap = {"at_10": 0.61, "queries": 120}
    return {"overlap": overlap, "golden": found, "held_out": None, "worse": worse or []}


def promotion(party: Any, model: LearntModel, state: str, **fields: Any) -> Promotion:
    with tenant_scope(party.id):
        made = {"space": model.space, "model": model, "replaces": "prior:2", "state": state}
        return Promotion.objects.create(**{**made, **fields})
