"""What a map's job and its page read of a tenant from Postgres: `{do: fill | read, …}` → figures (`_stack.beside`).

A process that fills, and another one that reads: its memory is that of reading.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _search_load import create_tenant, database, fill, groups, settle
from _stack import most_memory, own_memory

from standalone.stack import Stack


def main(stack: Stack, given: dict[str, Any]) -> dict[str, Any]:
    return filled(stack, given) if given["do"] == "fill" else read(stack, given)


def filled(stack: Stack, given: dict[str, Any]) -> dict[str, Any]:
    """A tenant with an asset for each vector of the file: its id."""
    tenant = create_tenant(f"map-{time.time_ns() % 10**9}")
    shape = (given["count"], given["dimension"])
    fill(stack, tenant, np.memmap(given["vectors"], "<f4", "r", shape=shape), groups(given["count"]))
    settle(stack)
    return {"tenant": str(tenant.id)}


@dataclass
class Spent:
    """Seconds by the clock, of this process's processor and of that of its connection's backend; bytes of memory of its
    own at most, beyond what it had; bytes of files that Postgres sorted in."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    backend_s: float = 0.0
    memory: int = 0
    sorted_in_files: int = 0


@contextmanager
def spent(stack: Stack) -> Iterator[Spent]:
    from django.db import connection

    found = Spent()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = psutil.Process(cursor.fetchone()[0])
    before, own, files = sum(backend.cpu_times()[:2]), own_memory(), _temporary(stack)
    with most_memory() as peak:
        begun, cpu = time.monotonic(), time.process_time()
        yield found
        found.wall_s, found.cpu_s = time.monotonic() - begun, time.process_time() - cpu
    found.memory = peak[0] - own
    found.backend_s = sum(backend.cpu_times()[:2]) - before
    # What a backend counted is told a moment after its transaction.
    connection.close()
    found.sorted_in_files = _temporary(stack) - files


def _temporary(stack: Stack) -> int:
    with database(stack) as cursor:
        cursor.execute("SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def read(stack: Stack, given: dict[str, Any]) -> dict[str, Any]:
    from tenants.retrieval import model_routing
    from tenants.retrieval.map_points import Points, Wanted, as_packed, read_into, shown
    from tenants.scope import tenant_scope

    tenant_id = uuid.UUID(given["tenant"])
    with tenant_scope(tenant_id):
        model = model_routing.live()
    with tempfile.TemporaryDirectory(dir=given["folder"]) as name:
        folder = Path(name)
        with spent(stack) as job:
            taken = read_into(folder, tenant_id, Wanted(model, most=given["count"]))
        disk = sum(path.stat().st_size for path in folder.iterdir())
        places = np.random.default_rng(0).standard_normal((len(taken.ids), 2)).astype(np.float32)
        points = Points(taken.ids, places, taken.total, "umap", model)
        with spent(stack) as page:
            with tenant_scope(tenant_id):
                found = shown(points)
            body = as_packed(points, found)
        return {
            "read": len(taken.ids),
            "shown": len(found.keys),
            "job": asdict(job),
            "page": asdict(page),
            "disk": disk,
            "sent": len(body),
        }
