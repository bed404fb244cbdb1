"""One tenant, two engines: the same queries through the search in memory and in pgvector (`make bench-engines`).

VECTORS (100,000) vectors as hard to index as real ones, embedded services of its own under $DATA_DIR/bench/engines. The
tenant gets a generation, moves to pgvector and back; both moves are the product's jobs, run in this process. Searches
are `tenants.retrieval.search` without HTTP. Processor time is this process's and that of Postgres, a search.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import uuid
from typing import Any

import numpy as np
import psutil
from _report import OUT, Report, at_least, sized
from _search_load import SHARES, Tenant, groups, load
from _search_real import Vectors, embedded, sentences
from _search_vectors import Source, exact, recall
from _stack import services_in

from ml.alignment.space import SHIPPED, JointSpace

VECTORS = int(os.environ.get("VECTORS") or sized(100_000, 150))
QUERIES, WARM = sized(300, 5), sized(100, 2)
RECALL = 0.985
FILTERS = {"no filter": None, **{f"leaves {share:.1%}": name for name, share in SHARES.items()}}


class Postgres:
    """Processor time of the server and all its sessions."""

    def __init__(self) -> None:
        # This process's session hangs under the same postmaster.
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self._server = psutil.Process(cursor.fetchone()[0]).parent()

    def cpu_s(self) -> float:
        # The server's own, that of sessions which have ended, and that of those which go on.
        ended = sum(self._server.cpu_times()[:4])
        return ended + sum(sum(one.cpu_times()[:2]) for one in self._server.children() if one.is_running())


def moved(tenant: Tenant, model: str, kind: str, **arguments: str) -> dict[str, Any]:
    """Run the product's job here and now, unless a worker of a shared stack was faster; its result, and the seconds
    from outside."""
    from tenants.jobs.models import Job
    from tenants.jobs.services import UNFINISHED
    from tenants.retrieval import lifecycle
    from tenants.scope import tenant_scope
    from workers.base import run_job

    start = time.perf_counter()
    with tenant_scope(tenant.id):
        job = lifecycle.build(model=model) if kind == "build" else lifecycle.move(model=model, **arguments)
        job = job or Job.objects.filter(UNFINISHED).first()
    run_job(str(job.id), str(tenant.id))
    while True:
        with tenant_scope(tenant.id):
            job = Job.objects.get(pk=job.pk)
        if job.finished:
            break
        time.sleep(0.1)
    if job.state != "succeeded":
        raise RuntimeError(f"{job.kind} has {job.state}: {job.error}")
    return {**job.result, "wall_s": round(time.perf_counter() - start, 1)}


def searched(tenant: Tenant, queries: Vectors, postgres: Postgres, group: str | None) -> dict[str, Any]:
    from tenants.retrieval.queries import Query
    from tenants.retrieval.search import search

    conditions = [("group", "eq", group)] if group else []
    walls, found, claimed = [], [], []
    cpu = 0.0
    for number, vector in enumerate(queries):
        if number == WARM:
            cpu = -time.process_time() - postgres.cpu_s()
        start = time.perf_counter()
        answer = search(tenant_id=tenant.id, query=Query(vector=vector, conditions=conditions))
        walls.append(time.perf_counter() - start)
        found.append([int(asset.external_id) for asset, _ in answer.results if asset.external_id])
        claimed.append(answer.meta["index"]["recall_estimate"])
    cpu += time.process_time() + postgres.cpu_s()
    walls = walls[WARM:]
    return {
        "kind": answer.meta["index"]["kind"],
        "p50_ms": round(1000 * statistics.median(walls), 2),
        "p99_ms": round(1000 * float(np.percentile(walls, 99)), 2),
        "cpu_ms": round(1000 * cpu / len(walls), 2),
        "claimed": round(float(np.mean(claimed)), 4),
        "found": found[WARM:],
    }


def measure(tenant: Tenant, source: Source, stored: Vectors, names: np.ndarray, postgres: Postgres) -> dict:
    report: dict[str, Any] = {}
    queries = source.draw(WARM + QUERIES, seed=21)
    for what, group in FILTERS.items():
        rows = None if group is None else np.flatnonzero(names == group)
        run = searched(tenant, queries, postgres, group)
        run["recall"] = round(recall(run["found"], exact(stored, queries[WARM:], rows=rows)), 4)
        report[what] = run
    return report


def overlap(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    pairs = zip(ours["found"], theirs["found"], strict=True)
    return float(np.mean([len(set(a) & set(b)) / max(1, len(a)) for a, b in pairs]))


def run() -> dict[str, Any]:
    space = JointSpace.load(SHIPPED.parent / "prior-2")
    source = Source(embedded(space, sentences()))
    model, stored, names = f"{space.id}:{space.version}", source.stored(VECTORS), groups(VECTORS)
    os.environ["INDEX_FLAT_MAX"] = str(min(20_000, VECTORS // 2))
    with services_in(OUT / "engines") as stack:
        (tenant,) = load(stack, {f"engines-{uuid.uuid4().hex[:6]}": (VECTORS, 0)}, stored, names)
        report: dict[str, Any] = {"vectors": VECTORS, "moves": {}, "searches": {}}
        postgres = Postgres()
        for step, kind, to in (
            ("memory", "build", ""),
            ("pgvector", "move", "pgvector"),
            ("memory again", "move", "memory"),
        ):
            cpu = postgres.cpu_s()
            result = moved(tenant, model, kind, **({"to": to} if to else {}))
            result["postgres_cpu_s"] = round(postgres.cpu_s() - cpu, 1)
            report["moves"][step] = result
            report["searches"][step] = measure(tenant, source, stored, names, postgres)
    return report


def main() -> int:
    report = Report("engines")
    found = report.run("moves and searches", run)
    if found is None:
        return report.finish({})
    _print(found)
    for step, runs in found["searches"].items():
        report.judge(step, [at_least(f"recall, {what}", one["recall"], RECALL) for what, one in runs.items()])
        for one in runs.values():
            del one["found"]
    return report.finish(found)


def _print(report: dict[str, Any]) -> None:
    print(f"\n{report['vectors']:,} vectors of one tenant")
    for step, result in report["moves"].items():
        known = {name: result[name] for name in ("wall_s", "postgres_cpu_s", "recall", "overlap", "copy_s", "index_s",
                 "measure_s", "effort", "bytes", "cpu_s", "build_s") if name in result}  # fmt: skip
        print(f"  to {step:14}", "  ".join(f"{name} {value}" for name, value in known.items()))
    print(
        f"\n{'':16}{'engine':16}{'kind':>16}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms':>9}{'recall':>9}{'claims':>9}"
    )
    for what in FILTERS:
        for step, runs in report["searches"].items():
            run = runs[what]
            numbers = (run["p50_ms"], run["p99_ms"], run["cpu_ms"], run["recall"], run["claimed"])
            print(f"{what:16}{step:16}{run['kind']:>16}" + "".join(f"{number:>9}" for number in numbers))
        runs = [report["searches"][step][what] for step in ("memory", "pgvector")]
        print(f"{'':16}overlap@10 of the two {overlap(*runs):.4f}")


if __name__ == "__main__":
    sys.exit(main())
