"""Fair share: how long a small tenant's ten jobs wait behind a big tenant's hundred thousand, on the stack's workers.

The jobs embed texts anew, which is what small jobs are. They are written in bulk and put in line by the function that
every job is put in line by. `WAITING=10000` queues fewer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _data import ROOT
from _search_bench import Line, at_most
from _stack import Client

from standalone.stack import Stack, inherited, running_stack

WAITING = int(os.environ.get("WAITING") or 100_000)
FEW, TEXTS, TENANTS = 10, 200, 2_000
WARM_S, TOLERABLE_S = 10.0, 10.0


def run() -> list[Line]:
    with (
        tempfile.TemporaryDirectory(prefix="fair-") as folder,
        running_stack(Path(folder), demo=True) as stack,
    ):
        big, small = (Client(stack, tenant["slug"]) for tenant in stack.demo["tenants"][:2])
        dataset = small.dataset("ten")
        idle = _ten(small, dataset)
        queued = _beside(stack, "queue", big.dataset("many"))
        time.sleep(WARM_S)
        before = _beside(stack, "look")
        busy = _ten(small, dataset)
        after = _beside(stack, "look")
        crowded = _beside(stack, "crowd")
    rate = (before["waiting"] - after["waiting"]) / (after["at"] - before["at"])
    return [
        Line(f"queued by the big tenant, in {queued['seconds']:.0f} s", queued["waiting"], "jobs"),
        Line("still waiting when the small tenant is done", after["waiting"], "jobs"),
        Line("the big tenant's jobs done meanwhile", rate, "/s"),
        Line("messages in the broker", after["messages"], ""),
        at_most("longest wait of the small tenant's ten for a worker", busy["wait_s"], TOLERABLE_S, "s"),
        at_most("… from upload to embedded", busy["done_s"], TOLERABLE_S, "s"),
        Line("… on an idle stack, wait", idle["wait_s"], "s"),
        Line("… on an idle stack, upload to embedded", idle["done_s"], "s"),
        Line("in one line for all, the first would have waited", after["waiting"] / rate, "s"),
        Line(f"to look up the next job, {before['waiting']:,} waiting", before["take_ms"], "ms"),
        Line(f"… of {TENANTS:,} more tenants", crowded["take_ms"], "ms"),
        Line("to put a job in line", crowded["put_ms"], "ms"),
    ]


def _ten(client: Client, dataset: str) -> dict[str, float]:
    """Ten uploads at once: the longest wait for a worker, and until the last is embedded."""
    start = time.monotonic()

    def upload(number: int) -> dict[str, Any]:
        text = f"a note about fairness, number {number} of {start}"
        job = client.send("POST", f"/datasets/{dataset}/assets", files={"text": (None, text)})["job"]
        return client.wait(job["id"], every_s=0.05)

    with ThreadPoolExecutor(FEW) as pool:
        jobs = list(pool.map(upload, range(FEW)))
    if any(job["state"] != "succeeded" for job in jobs):
        raise RuntimeError(f"a job did not succeed: {jobs}")
    return {"wait_s": max(job["queue_wait_s"] for job in jobs), "done_s": time.monotonic() - start}


def _beside(stack: Stack, *arguments: str) -> dict[str, Any]:
    """What this file prints as a program beside the stack, which reaches its database."""
    here = Path(__file__).resolve().parent
    # This folder comes last and not first (-P): its console.py would hide the package.
    env = {**inherited(), **stack.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}:{here}"}
    command = [sys.executable, "-P", __file__, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


# --- Beside the stack ------------------------------------------------------------------------------------

_QUEUE = """
WITH made AS (
    INSERT INTO job (id, tenant_id, kind, state, priority, arguments, reserved, progress_done, progress_total,
        progress_failed, attempts, fence, cancel_requested, queued_at, cost_cpu_s, cost_gpu_s, notes, paced_done,
        traceback, trace)
    SELECT uuidv7(), %(tenant)s, 'embed_asset', 'queued', 2,
        jsonb_build_object('asset', (%(assets)s::text[])[1 + n %% %(texts)s], 'revision', 1), '{}',
        0, 1, 0, 0, 0, false, now(), 0, 0, 0, 0, '', ''
    FROM generate_series(1, %(count)s) n RETURNING id, tenant_id
)
SELECT count(job_put(id, tenant_id, 'embed_asset', 'embed', now())::text) FROM made
"""
# Rows of tenants and jobs that do not exist: they only show what a look-up costs among so many.
_CROWD = """
INSERT INTO job_dispatch (job_id, tenant_id, kind, queue, waiting, turn, place, due_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'embed_asset', 'embed', true, t.turn, now(), now()
FROM generate_series(1, %(count)s), (SELECT max(turn) AS turn FROM job_turn WHERE queue = 'embed') t
"""


def _queue(dataset: str) -> dict[str, Any]:
    from tenants.datasets.models import Dataset
    from tenants.jobs import bell
    from tenants.pipeline.services import add_asset
    from tenants.scope import operator_scope, tenant_scope

    with operator_scope("benchmark"):
        tenant = Dataset.objects.get(pk=dataset).tenant_id
    assets = []
    for number in range(TEXTS):
        with tenant_scope(tenant):
            assets.append(str(add_asset(dataset_id=dataset, text=f"text number {number}").asset.id))
    start = time.monotonic()
    with tenant_scope(tenant):
        values = {"tenant": tenant, "assets": assets, "texts": TEXTS, "count": WAITING}
        _sql(_QUEUE, values)
    bell.ring("embed")
    return {"seconds": time.monotonic() - start, "waiting": WAITING}


def _look() -> dict[str, Any]:
    from tenants.jobs.models import JobDispatch
    from tenants.valkey import broker

    waiting = JobDispatch.objects.filter(queue="embed", waiting=True).count()
    return {
        "waiting": waiting,
        "at": time.time(),
        "messages": broker().llen("embed"),
        "take_ms": _timed("SELECT * FROM job_take('embed', interval '15 s')"),
        "put_ms": _timed(
            "SELECT job_put(gen_random_uuid(), gen_random_uuid(), 'embed_asset', 'embed', now())"
        ),
    }


def _crowd() -> dict[str, Any]:
    _sql(_CROWD, {"count": TENANTS})
    return _look()


def _timed(statement: str, rounds: int = 50) -> float:
    """Its median time in milliseconds; what it did is undone."""
    from django.db import transaction

    took = []
    for _ in range(rounds):
        with transaction.atomic():
            start = time.perf_counter()
            _sql(statement, {})
            took.append(time.perf_counter() - start)
            transaction.set_rollback(True)
    return sorted(took)[rounds // 2] * 1000


def _sql(statement: str, values: dict[str, Any]) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, values)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    print(json.dumps({"queue": _queue, "look": _look, "crowd": _crowd}[sys.argv[1]](*sys.argv[2:])))
