"""Hosts of workers that are cut off in the middle of a job: another takes it up, and what the first does is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenants.datasets.models import Asset
from tenants.jobs import notify_workers, worker_registry
from tenants.jobs.models import Job
from tenants.scope import tenant_scope
from tests.conftest import ROOT, Party
from tests.flows.client import Client
from tests.hosts.proxy import WebHost
from tests.hosts.relay import Relay
from tests.waiting import until

Tell = Callable[[str], None]
LEASE_S = 30
ROWS = 4000


class WorkerHost:
    """A worker of the queues `media` and `import` in a network namespace, with a data directory of its own."""

    def __init__(self, namespace: str, relay: Relay, folder: Path) -> None:
        self.namespace, self.link = namespace, f"clv{namespace.removeprefix('clh')}"
        (folder / namespace).mkdir()
        env = {
            **os.environ,
            "DATA_DIR": str(folder / namespace / "data"),
            "STORAGE_URL": f"file://{folder / 'blobs'}",
            "JOB_LEASE_S": str(LEASE_S),
            **{name: relay.url(os.environ[name]) for name in URLS},
        }
        self.log = folder / namespace / "log"
        command = [sys.executable, "-m", "standalone", "process", "worker-bulk"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command], env=env, cwd=ROOT, stdout=log, stderr=log
            )

    def up(self, yes: bool) -> None:
        subprocess.run(["ip", "link", "set", self.link, "up" if yes else "down"], check=True)

    def running(self) -> list[str]:
        """Ids of the jobs that it has in hand, as it reports them."""
        return [id for one in worker_registry.workers() if one.pid == self._process.pid for id in one.running]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


URLS = ("DATABASE_URL", "REDIS_URL", "BROKER_URL")


@pytest.fixture
def relay(namespaces: list[str]) -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.close()


@pytest.fixture
def workers(namespaces: list[str], relay: Relay, tmp_path: Path) -> Iterator[list[WorkerHost]]:
    hosts = [WorkerHost(name, relay, tmp_path) for name in namespaces[:2]]
    try:
        yield hosts
    finally:
        for host in hosts:
            host.stop()


def job_of(party: Party, job_id: str) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=job_id)


def counted(party: Party) -> tuple[int, int]:
    """Assets, and different ones of them by their number."""
    with tenant_scope(party.id):
        numbers = [values.get("n") for values in Asset.objects.values_list("metadata", flat=True)]
    return len(numbers), len(set(numbers))


@pytest.mark.timeout(900)
@pytest.mark.proof(7)
def test_a_worker_is_cut_off_in_the_middle_of_an_import(
    workers: list[WorkerHost], party: Party, tmp_path: Path, tell: Tell
) -> None:
    web = WebHost.product("web", tmp_path)
    try:
        web.wait()
        client = Client(f"http://{web.address}", party.token)
        until(lambda: len(worker_registry.workers()) >= 2, seconds=120)
        dataset = client.dataset("rows")
        rows = [json.dumps({"id": str(n), "text": f"row number {n}", "n": n}) for n in range(ROWS)]
        path = f"/datasets/{dataset}/imports"
        job = client.json("POST", path, 202, files={"file": ("rows.jsonl", "\n".join(rows).encode())})["job"][
            "id"
        ]
        until(lambda: job_of(party, job).progress_done > 0, seconds=180)
        first = until(lambda: next((host for host in workers if job in host.running()), None))
        fence = job_of(party, job).fence
        first.up(False)
        cut = time.monotonic()

        def taken_up() -> bool:
            notify_workers.sweep()
            return job_of(party, job).fence > fence

        until(taken_up, seconds=LEASE_S + 120, every_s=0.5)
        taken_s = time.monotonic() - cut
        until(lambda: job_of(party, job).finished, seconds=400, every_s=0.5)
        # It is back, and holds an old fence: whatever it still writes is refused, unless it gave up in the meantime.
        first.up(True)
        given_up = ("lease lost", "attempt failed")
        until(lambda: any(said in first.log.read_text() for said in given_up), seconds=120)
    finally:
        web.kill()
    ended = job_of(party, job)
    tell(
        f"7. a worker cut off in mid-job: taken up {taken_s:.1f} s after the cut (lease {LEASE_S} s), {ended.state} "
        f"in {ended.attempts} attempts, {counted(party)[0]} of {ROWS} rows, {counted(party)[1]} different ones"
    )
    assert taken_s <= LEASE_S + 15
    assert (ended.state, counted(party)) == ("succeeded", (ROWS, ROWS))
