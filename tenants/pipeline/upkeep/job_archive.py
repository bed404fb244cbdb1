"""Finished jobs of long ago, as compressed JSON lines in the tenant's storage: `<tenant>/jobs/<archive>.jsonl.gz`."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from tenants.datasets import storage
from tenants.jobs import archiving
from tenants.jobs.models import JobArchive
from tenants.scope import tenant_scope


def path_of(tenant_id: uuid.UUID | str, archive_id: uuid.UUID | str) -> str:
    return f"{tenant_id}/jobs/{archive_id}.jsonl.gz"


def archive_jobs(tenant_id: uuid.UUID, *, until: float) -> int:
    """Archive what is due, in batches, until then (monotonic clock); returns how many jobs."""
    count = 0
    while time.monotonic() < until:
        with tenant_scope(tenant_id):
            archive = archiving.begin()
            found = list(archiving.lines(archive)) if archive else []
        if archive is None:
            break
        body = packed(found)
        # Outside the scope: storage may be slow. The same name each time: a file of a killed run is replaced.
        storage.drop(path_of(tenant_id, archive.id))
        storage.put(path_of(tenant_id, archive.id), body)
        with tenant_scope(tenant_id):
            archiving.finish(archive.id, size=len(body))
        count += len(found)
    return count


def packed(found: Iterable[dict[str, Any]]) -> bytes:
    """As a file has it."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in found)
    return gzip.compress(text.encode(), mtime=0)


def read(archive: JobArchive) -> Iterator[dict[str, Any]]:
    """The jobs in an archive's file, oldest first."""
    with storage.open_blob(path_of(archive.tenant_id, archive.id)) as stored, gzip.open(stored) as stream:
        for line in stream:
            yield json.loads(line)
