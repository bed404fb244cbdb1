"""Imports on the real database, readers and models, without a broker between."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.pipeline.transfer import imports
from tenants.scope import tenant_scope
from workers.base import run_job


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


@pytest.fixture
def start(party, dataset, tmp_path):
    """Create and start an import of these bytes."""

    def begin(content: bytes | str, filename: str, **kwargs: Any) -> Job:
        path = tmp_path / f"source-{os.urandom(4).hex()}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with tenant_scope(party.id):
            source = imports.inspect_source(path=path, filename=filename, **kwargs)
            row = imports.create_import(dataset_id=dataset.id, source=source)
            return imports.start_import(import_id=row.id)[1]

    return begin


@pytest.fixture
def run(party):
    def finish(job: Job) -> Job:
        run_job(str(job.id), str(party.id))
        with tenant_scope(party.id):
            return Job.objects.get(pk=job.id)

    return finish
