"""Fair share: how long a small tenant's ten jobs wait behind a big tenant's hundred thousand, on the stack's workers.

The jobs embed texts anew, which is what small jobs are. They are written in bulk and put in line by the function that
every job is put in line by. `WAITING=10000` queues fewer.
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _report import Line, at_most, sized
from _stack import Client, beside, stack_in

from standalone.stack import Stack

WAITING = int(os.environ.get("WAITING") or sized(100_000, 30))
FEW, TEXTS, TENANTS = sized(10, 2), sized(200, 2), sized(2_000, 5)
WARM_S, TOLERABLE_S = sized(10.0, 0.1), 10.0


def run() -> list[Line]:
    with (
        tempfile.TemporaryDirectory(prefix="fair-") as folder,
        stack_in(Path(folder)) as stack,
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


def _beside(stack: Stack, what: str, *arguments: str) -> dict[str, Any]:
    return dict(beside(stack, "_console_fair", {"do": what, "arguments": arguments}))


# --- Beside the stack ------------------------------------------------------------------------------------

# Copies of a job that the product queued, column by column, each put in line as every job is.
_QUEUE = """
WITH made AS (
    INSERT INTO job ({columns}) SELECT {values} FROM generate_series(1, %(count)s) n,
        (SELECT * FROM job WHERE id = %(like)s) AS old
    RETURNING id, tenant_id
)
SELECT count(job_put(id, tenant_id, 'embed_asset', 'embed', now())::text) FROM made
"""
_OWN = {
    "id": "uuidv7()",
    "state": "'queued'",
    "arguments": "jsonb_build_object('asset', (%(assets)s::text[])[1 + n %% %(texts)s], 'revision', 1)",
    "reserved": "'{}'",
    "attempts": "0", "fence": "0", "lease_until": "NULL", "started_at": "NULL", "finished_at": "NULL", "result": "NULL",
    "queued_at": "now()", "progress_done": "0",
}  # fmt: skip
# Rows of tenants and jobs that do not exist: they only show what a look-up costs among so many.
_CROWD = """
INSERT INTO job_dispatch (job_id, tenant_id, kind, queue, waiting, turn, place, due_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'embed_asset', 'embed', true, t.turn, now(), now()
FROM generate_series(1, %(count)s), (SELECT max(turn) AS turn FROM job_turn WHERE queue = 'embed') t
"""


def _queue(dataset: str) -> dict[str, Any]:
    from tenants.datasets.models import Dataset
    from tenants.jobs import notify_workers
    from tenants.jobs.models import Job
    from tenants.pipeline.assets.services import add_asset
    from tenants.scope import operator_scope, tenant_scope

    with operator_scope("benchmark"):
        tenant = Dataset.objects.get(pk=dataset).tenant_id
    made = []
    for number in range(TEXTS):
        with tenant_scope(tenant):
            made.append(add_asset(dataset_id=dataset, text=f"text number {number}"))
    start = time.monotonic()
    columns = [field.column for field in Job._meta.concrete_fields]
    statement = _QUEUE.format(
        columns=", ".join(columns), values=", ".join(_OWN.get(name, f"old.{name}") for name in columns)
    )
    assets = [str(one.asset.id) for one in made]
    with tenant_scope(tenant):
        _sql(statement, {"like": made[0].job.id, "assets": assets, "texts": TEXTS, "count": WAITING})
    notify_workers.notify("embed")
    return {"seconds": time.monotonic() - start, "waiting": WAITING}


def _look() -> dict[str, Any]:
    from tenants import broker
    from tenants.jobs.models import JobDispatch

    waiting = JobDispatch.objects.filter(queue="embed", waiting=True).count()
    return {
        "waiting": waiting,
        "at": time.time(),
        "messages": broker.unread("embed"),
        "take_ms": _timed("SELECT * FROM job_take('embed', interval '15 s')"),
        "put_ms": _timed(
            "SELECT job_put(gen_random_uuid(), gen_random_uuid(), 'embed_asset', 'embed', now())"
        ),
    }


def _crowd() -> dict[str, Any]:
    _sql(_CROWD, {"count": TENANTS})
    return _look()


def _timed(statement: str, rounds: int = sized(50, 3)) -> float:
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


def main(stack: Stack, given: dict[str, Any]) -> dict[str, Any]:
    return {"queue": _queue, "look": _look, "crowd": _crowd}[given["do"]](*given["arguments"])
