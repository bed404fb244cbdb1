"""Three nodes of RabbitMQ under ten thousand jobs: the one that leads the queue is killed, and every job ends once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AMQPError
from celery import current_app
from django.db import connection
from kombu import Connection

from tenants import broker
from tenants.accounts import mail, quotas
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.jobs import job_counters, notify_workers, worker_registry
from tenants.jobs.models import Job, JobDispatch
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.models import Vector
from tenants.scope import tenant_scope
from tests.conftest import ROOT, Party
from tests.hosts.rabbit import Cluster, Rabbit
from tests.hosts.test_rabbit import use_broker
from tests.waiting import until

JOBS, PARTIES, BATCH = 10_000, 8, 50
KIND, QUEUE = "embed_asset", "embed"
# The node is killed when so many have ended; others are still being queued.
BEFORE = 3_000
WORKERS = {"wh1": ("worker-embed", "worker-general", "beat"), "wh2": ("worker-embed",)}


@pytest.fixture
def cluster(rabbits: Callable[[int], Cluster], settings: Any) -> Iterator[Cluster]:
    cluster = rabbits(3)
    with use_broker(cluster.url, settings):
        yield cluster


@pytest.fixture
def processes(cluster: Cluster, settings: Any, tmp_path: Path) -> Iterator[None]:
    """The processes of two hosts of workers, with the times that the product has where nobody chooses others."""
    if os.geteuid() != 0:
        pytest.skip("two hosts of workers need names of their own, and so root")
    started: list[subprocess.Popen[bytes]] = []
    unset = ("JOB_LEASE_S", "JOB_RESEND_S", "JOB_SWEEP_S")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    # By the smallest model: what is proved is the queue.
    env |= {"BROKER_URL": cluster.url, "DEFAULT_MODEL": "prior-2", "STORAGE_URL": settings.STORAGE_URL}
    try:
        for host, names in WORKERS.items():
            for name in names:
                # A node of Celery is named by its host.
                named = ["unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "sh"]
                command = [*named, sys.executable, "-m", "standalone", "process", name]
                own = {**env, "DATA_DIR": str(tmp_path / host / "data")}
                with (tmp_path / f"{host}-{name}.log").open("wb") as log:
                    started.append(subprocess.Popen(command, env=own, cwd=ROOT, stdout=log, stderr=log))
        wanted = {f"{name}@{host}" for host, names in WORKERS.items() for name in names if name != "beat"}
        until(lambda: wanted <= {one.name for one in worker_registry.workers()}, seconds=240)
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(20)


class Depths:
    """The most messages that were seen to lie in each queue, by a thread that asks one node."""

    def __init__(self, node: Rabbit) -> None:
        self.most: Counter[str] = Counter()
        self.samples = 0
        self._node, self._stop = node, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                self._sample()
            except (AMQPError, OSError):
                # Queues that have no leader just now do not answer.
                continue

    def _sample(self) -> None:
        with Connection(self._node.url) as asked:
            while not self._stop.wait(0.1):
                for queue in broker.QUEUES:
                    lie = asked.default_channel.queue_declare(queue, passive=True).message_count
                    self.most[queue] = max(self.most[queue], lie)
                self.samples += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


def ended() -> int:
    counted = job_counters.read().ended
    return sum(count for (kind, _), count in counted.items() if kind == KIND)


def queue_all(parties: Sequence[Party]) -> None:
    """JOBS texts, each of which is embedded by a job of its own."""
    datasets = {}
    for party in parties:
        with tenant_scope(party.id):
            datasets[party] = create_dataset(name="rows")
    try:
        for batch in range(JOBS // BATCH):
            party = parties[batch % len(parties)]
            with tenant_scope(party.id):
                for n in range(batch * BATCH, (batch + 1) * BATCH):
                    add_asset(dataset_id=datasets[party].id, text=f"text number {n}")
    finally:
        connection.close()


@pytest.mark.proof(6)
@pytest.mark.timeout(1800)
def test_the_node_that_leads_the_queue_is_killed(
    cluster: Cluster, processes: None, make_party: Callable[..., Party], tell: Callable[[str], None]
) -> None:
    # What other tests left queued counts, too.
    until(lambda: not JobDispatch.objects.filter(kind=KIND).exists(), seconds=400, every_s=0.5)
    parties = [make_party() for _ in range(PARTIES)]
    before, began = ended(), time.monotonic()
    # When the number of ended jobs last grew, and the longest that it did not after the kill.
    seen, moved, killed, stalled_s = 0, began, 0.0, 0.0
    leader = cluster.leader(QUEUE)
    depths = Depths(next(node for node in cluster.nodes if node is not leader))
    with ThreadPoolExecutor(1) as pool:
        queueing = pool.submit(queue_all, parties)

        def all_ended() -> bool:
            nonlocal seen, moved, killed, stalled_s
            now, count = time.monotonic(), ended() - before
            if killed:
                stalled_s = max(stalled_s, now - max(moved, killed))
            if count > seen:
                seen, moved = count, now
            if not killed and seen >= BEFORE:
                assert not queueing.done()
                leader.kill()
                killed = time.monotonic()
            return queueing.done() and not unfinished(parties)

        try:
            until(
                all_ended,
                seconds=1500,
                message=lambda: f"{seen} ended, {unfinished(parties)} left",
                every_s=0.1,
            )
        finally:
            depths.stop()
        queueing.result()
    took_s = time.monotonic() - began
    rows = sum((jobs_of(party) for party in parties), Counter())
    made = [effects_of(party) for party in parties]
    waking = max(depths.most[queue] for queue in broker.QUEUES if queue not in broker.TELLING)
    tell(
        f"6. the leader of three nodes of RabbitMQ killed after {BEFORE:,} of {JOBS:,} jobs: {dict(rows)} "
        f"(state, attempts, claims), {sum(made):,} texts with one vector each, {ended() - before:,} ends counted, at "
        f"most {waking} messages in a queue ({depths.samples} samples), none ended for {stalled_s:.1f} s, "
        f"{took_s:.0f} s in all"
    )
    assert rows == {("succeeded", 1, 1): JOBS}
    assert sum(made) == JOBS
    assert ended() - before == JOBS
    assert waking <= broker.MOST_WAKING


def test_a_letter_that_is_sent_while_a_node_dies_is_not_lost(cluster: Cluster) -> None:
    addresses = {f"{n}@example.com" for n in range(400)}
    sent: list[str] = []
    assert broker.unread(mail.QUEUE) == 0
    leader = cluster.leader(mail.QUEUE)

    def send(address: str) -> None:
        mail.send("workers.mail_reset", address)
        sent.append(address)

    with ThreadPoolExecutor(4) as pool:
        sending = pool.map(send, sorted(addresses))
        until(lambda: len(sent) >= 100)
        leader.kill()
        assert len(sent) < len(addresses)
        list(sending)
    assert addresses_in(mail.QUEUE) == addresses


def test_a_node_that_hangs_keeps_nobody_waiting_for_ever(
    cluster: Cluster, tell: Callable[[str], None]
) -> None:
    """Until the others give it up, which takes a minute, no queue can be bound: requests go on without a message."""
    notify_workers.notify(QUEUE)
    until(lambda: broker.unread(QUEUE) == 1)
    cluster.leader(QUEUE).hang()
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        notifying = threading.Thread(target=notify_workers.notify, args=[QUEUE], daemon=True)
        notifying.start()
        notifying.join(30)
        assert not notifying.is_alive()
        took_s.append(time.monotonic() - began)
    tell(f"6. a node of RabbitMQ hangs: a request waits {', '.join(f'{one:.1f}' for one in took_s)} s for it")


def addresses_in(queue: str) -> set[str]:
    with Connection(current_app.conf.broker_url) as asked:
        asked.ensure_connection(max_retries=3)
        taken = iter(lambda: asked.default_channel.basic_get(queue, no_ack=True), None)
        return {json.loads(message.body)[0][0] for message in taken}


def unfinished(parties: Sequence[Party]) -> int:
    return JobDispatch.objects.filter(queue=QUEUE, tenant_id__in=[party.id for party in parties]).count()


def jobs_of(party: Party) -> Counter[tuple[str, int, int]]:
    with tenant_scope(party.id):
        return Counter(Job.objects.filter(kind=KIND).values_list("state", "attempts", "fence"))


def effects_of(party: Party) -> int:
    """How many texts of a tenant are ready, each of which has one vector that its quota counts once."""
    with tenant_scope(party.id):
        ready = set(Asset.objects.filter(status=Asset.State.READY).values_list("pk", flat=True))
        vectors = Counter(Vector.objects.values_list("asset_id", flat=True))
        counted = quotas.summary()["vectors"]
    assert vectors == dict.fromkeys(ready, 1)
    assert (counted["used"], counted["reserved"]) == (len(ready), 0)
    return len(ready)
