"""Generations in every state, as their jobs leave them behind, for pages that show them."""

from __future__ import annotations

import io
from typing import Any

from django.utils import timezone

from tenants.datasets.models import Asset, Blob
from tenants.generation import services
from tenants.generation.models import Generation, GenerationOutput
from tenants.generation.validation import GenerationSpec
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg

PROMPT = "a cat with a hat walks by the sea"
READ_BACK = {
    "c2pa": {
        "state": "trusted",
        "own": True,
        "source_type": "trainedAlgorithmicMedia",
        "signer": {"organisation": "Grocery"},
    },
    "watermark": {"payload": "0badcafe", "seen": 3, "read": 1, "marked": 1},
}


def asked(party: Any, **wanted: Any) -> Generation:
    """Queued."""
    with tenant_scope(party.id):
        row, _job = services.request_generation(
            wanted=GenerationSpec(**{"prompt": PROMPT, "seed": 7, **wanted})
        )
        return row


# In one transaction each: where there is a worker, it never sees the job queued.


def ended(party: Any, state: str, error: dict[str, Any] | None = None, **wanted: Any) -> Generation:
    """That did not become anything."""
    with tenant_scope(party.id):
        row = asked(party, **wanted)
        job = "cancelled" if state == "cancelled" else "failed"
        return _over(row, job, {"error": error}, {"state": state, "error": error})


def made(
    party: Any, score: float | None = 0.312, cpu_s: float = 4.2, indexed: bool = True, **wanted: Any
) -> Generation:
    """With a picture, whatever was asked for."""
    with tenant_scope(party.id):
        row = asked(party, **wanted)
        picture = io.BytesIO(jpeg(row.mark % 1000))
        asset = add_asset(dataset_id=row.dataset_id, file=picture, text=row.prompt).asset
        Asset.objects.filter(pk=asset.pk).update(
            generation_id=row.id, labels=["ai-generated"], status="ready" if indexed else "pending"
        )
        if indexed:
            Blob.objects.filter(pk=asset.blob_id).update(width=64, height=64)
        output(row, asset=asset, score=score)
        took = {"cost_cpu_s": cpu_s, "started_at": timezone.now()}
        return _over(row, "succeeded", took, {"state": "succeeded", "score": score})


def _over(row: Generation, state: str, of_job: dict[str, Any], of_row: dict[str, Any]) -> Generation:
    now = timezone.now()
    Job.objects.filter(pk=row.job_id).update(state=state, finished_at=now, **of_job)
    Generation.objects.filter(pk=row.pk).update(finished_at=now, **of_row)
    row.refresh_from_db()
    return row


def output(row: Generation, **fields: Any) -> GenerationOutput:
    """In the tenant's scope."""
    usual = {"kind": "image", "how": "model", "model": "small-picture:1", "scores": [0.2, 0.312]}
    return GenerationOutput.objects.create(**{**usual, "generation": row, "provenance": READ_BACK, **fields})
