"""Texts and pictures of a tenant with vectors of one model, and another model to embed them for."""

from __future__ import annotations

import io
import threading
import uuid
from pathlib import Path

import numpy as np
from django.db import connection

from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.jobs.services import enqueue
from tenants.retrieval import model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import Vector, VectorGap
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.second_model import keep_turned
from workers.base import run_job


class Corpus:
    def __init__(self, party: Party, folder: Path) -> None:
        self.id = party.id
        self.model = keep_turned(self.id, folder)
        self.contents: dict[uuid.UUID, tuple[str, bytes]] = {}
        with tenant_scope(self.id):
            self._dataset = create_dataset(name="bulk")

    def add(self, modality: str, contents: list[bytes], stored: bool = True) -> list[Asset]:
        space = model_routing.space(model_routing.default_model(), self.id)
        unit = np.eye(space.dimension, dtype=np.float32)[0]
        blobs = []
        for content in contents:
            sha256, length = storage.digest(io.BytesIO(content))
            if stored:
                storage.put(storage.path_of(self.id, sha256), content)
            blobs.append(Blob(sha256=sha256, bytes=length, media_type="text/plain", references=1))
        with tenant_scope(self.id):
            Blob.objects.bulk_create(blobs)
            assets = [
                Asset(dataset=self._dataset, blob=blob, modality=modality, status="ready") for blob in blobs
            ]
            Asset.objects.bulk_create(assets)
            add_vectors(
                model=model_routing.default_model(),
                vectors=[(one, [NewVector(modality, unit)]) for one in assets],
            )
        self.contents |= {one.id: (modality, content) for one, content in zip(assets, contents, strict=True)}
        return assets

    def begin(self) -> Job:
        with tenant_scope(self.id):
            model_routing.begin_dual_write(self.model)
            total = model_routing.missing(self.model)
            return enqueue(kind="embed_beside", arguments={"model": self.model}, total=total, reserve={})

    def run(self, job: Job) -> threading.Thread:
        def work() -> None:
            try:
                run_job(str(job.id), str(self.id))
            finally:
                connection.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def ended(self, job: Job) -> Job:
        with tenant_scope(self.id):
            return Job.objects.get(pk=job.id)

    def rows(self) -> list[uuid.UUID]:
        """The asset of every vector of the model."""
        with tenant_scope(self.id):
            return list(Vector.objects.filter(model=self.model).values_list("asset_id", flat=True))

    def vector(self, asset_id: uuid.UUID) -> np.ndarray:
        with tenant_scope(self.id):
            return np.frombuffer(Vector.objects.get(model=self.model, asset_id=asset_id).data, "<f4")

    def gaps(self) -> dict[uuid.UUID, str]:
        with tenant_scope(self.id):
            return dict(VectorGap.objects.filter(model=self.model).values_list("asset_id", "reason"))
