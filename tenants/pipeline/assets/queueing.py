"""The jobs about one asset: which kind, and what each is expected to need."""

from __future__ import annotations

import uuid

from tenants.datasets.models import Asset
from tenants.jobs.models import Job
from tenants.jobs.services import enqueue

# Held until the job says what it really took: an asset of each kind on one core of 2026.
CPU_ESTIMATE_S = {"image": 0.3, "text": 0.05, "audio": 10.0, "video": 30.0}
AUDIT_ESTIMATE_S = {"image": 1.5, "text": 0.1, "audio": 10.0, "video": 30.0}
KINDS = {"image": "embed_asset", "text": "embed_asset", "audio": "embed_media", "video": "embed_media"}


def queue_embedding(asset: Asset, more_vectors: int) -> Job:
    """Raises QuotaExceeded."""
    return enqueue(
        kind=KINDS[asset.modality],
        arguments={"asset": str(asset.id), "revision": asset.revision},
        reserve={"vectors": max(0, more_vectors), "cpu_s": CPU_ESTIMATE_S[asset.modality]},
    )


def queue_audit(request_id: object, modality: str, parent: uuid.UUID | None = None) -> Job:
    """Raises QuotaExceeded."""
    return enqueue(
        kind="audit_item",
        arguments={"audit": str(request_id)},
        reserve={"cpu_s": AUDIT_ESTIMATE_S[modality]},
        parent=parent,
    )
