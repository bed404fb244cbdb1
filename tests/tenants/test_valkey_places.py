"""Valkey as a Cluster of real servers: what reads and writes several keys works there, too."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.cache import caches
from redis.cluster import key_slot

from console.account.throttle import Attempt, TooManyAttempts
from standalone.ports import free_port
from tenants import valkey
from tenants.accounts import metering
from tenants.accounts.rate_counter import Limits, RateCounter, day_key
from tenants.jobs import worker_registry
from tenants.retrieval.cache import AsyncWriter
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.valkey_servers import Server, heard, started, used
from tests.waiting import until

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three servers, each with a third of the slots."""
    folder, third = tmp_path_factory.mktemp("cluster"), 16384 // 3 + 1
    timing = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with ExitStack() as stack:
        nodes = []
        for number in range(3):
            port = free_port()
            bus = ("--cluster-port", str(free_port()))
            nodes.append(stack.enter_context(started(folder / str(number), port, *timing, *bus)))
        for number, node in enumerate(nodes):
            ends = (number * third, min(16383, (number + 1) * third - 1))
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", *ends)
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            bus_port = int(nodes[0].client.config_get("cluster-port")["cluster-port"])
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus_port)
        for node in nodes:
            until(lambda node=node: _is_whole(node))
        # One address is enough; the others are found.
        yield f"redis+cluster://127.0.0.1:{nodes[1].port}"


def _is_whole(node: Server) -> bool:
    told: Any = node.client.execute_command("CLUSTER INFO")
    known = (told["cluster_state"], told["cluster_slots_ok"], told["cluster_known_nodes"])
    return known == ("ok", "16384", "3")


@pytest.fixture
def on_cluster(cluster: str, settings: Any) -> Iterator[Any]:
    yield from used(cluster, settings)


def test_usage_is_counted_and_copied_once(on_cluster: Any, party: Party) -> None:
    """The counts of one tenant lie on several servers, and so do the two lists of days that are to be copied."""
    when, counter = metering.this_moment(), RateCounter()
    assert counter.request(str(party.id), when, Limits(rate=10)).rate == 1
    metering.record(tenant_id=party.id, amounts={"searches": 3, "requests": 2})
    assert metering.flush() == 1
    assert metering.flush() == 0
    with tenant_scope(party.id):
        day = metering.timezone.now().date()
        told = {kind: amount for _, kind, amount in metering.usage(first=day, last=day)}
    assert told == {"requests": 3, "searches": 3}
    metering.forget_old_days(party.id)
    assert on_cluster.exists(day_key(party.id, when.day)) == 1


def test_writes_of_searches_go_to_the_servers_of_their_keys(on_cluster: Any) -> None:
    writer, keys = AsyncWriter(), [valkey.tenant_key(uuid.uuid4(), "search", str(n)) for n in range(20)]
    assert len({key_slot(key.encode()) * 3 // 16384 for key in keys}) > 1
    for key in keys:
        assert writer.put(key, b"value", 60)
    writer.flush()
    assert [on_cluster.get(key) for key in keys] == [b"value"] * 20
    tenant = keys[0].split(":")[1]
    assert list(on_cluster.scan_iter(valkey.tenant_key(tenant, "*"))) == [keys[0].encode()]
    assert sum(on_cluster.delete(key) for key in keys) == 20


def test_attempts_are_counted_by_one_script(on_cluster: Any) -> None:
    who = f"{uuid.uuid4()}@example.com"
    for _ in range(5):
        Attempt(who, "192.0.2.7").admit()
    with pytest.raises(TooManyAttempts):
        for _ in range(20):
            Attempt(who, "192.0.2.7").admit()


def test_workers_report_themselves(on_cluster: Any) -> None:
    for name in ("one", "two"):
        reported = worker_registry.Worker(
            name=name, host="h", pid=1, version="1", started_at=0.0, queues=["embed"], threads=1, devices=[]
        )
        worker_registry.report(reported)
    assert [worker.name for worker in worker_registry.workers()] == ["one", "two"]


def test_djangos_cache(on_cluster: Any) -> None:
    cache = caches["default"]
    cache.set_many({"a": 1, "b": None})
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": None}
    cache.delete_many(["a", "b"])
    assert cache.get_many(["a", "b"]) == {}


def test_a_cluster_that_is_away_is_unavailable() -> None:
    with pytest.raises(valkey.Unavailable):
        valkey.connect(f"redis+cluster://127.0.0.1:{free_port()}")


def test_what_is_said_in_a_cluster_is_heard(on_cluster: Any) -> None:
    assert asyncio.run(heard(lambda: on_cluster.publish("said", "x")))
