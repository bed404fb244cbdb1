"""What Celery is told of a broker, by its URL."""

from __future__ import annotations

import pytest
from kombu import Connection
from kombu.utils.url import parse_url

from tenants import broker, valkey
from tenants.jobs.kinds import KINDS, QUEUES

AMQP = "amqp://user:secret@r1:5672//;amqp://user:secret@r2:5672//"


def test_queues_of_rabbitmq_are_replicated_and_bounded() -> None:
    declared = {queue.name: queue.queue_arguments for queue in broker.celery_settings(AMQP)["task_queues"]}
    assert set(declared) == {*QUEUES, broker.LATER}
    assert {arguments["x-queue-type"] for arguments in declared.values()} == {"quorum"}
    for name in QUEUES:
        most = 10_000 if name in ("hooks", "system") else 8
        assert declared[name] == {
            "x-queue-type": "quorum",
            "x-max-length": most,
            "x-overflow": "drop-head",
        }, name


def test_the_oldest_wake_up_gives_way_only_where_nothing_else_is_lost() -> None:
    """Messages in queues of jobs name a queue; what to do, the database knows."""
    assert {kind.queue for kind in KINDS.values()}.isdisjoint(broker.TELLING)


def test_what_is_tried_again_comes_back_to_the_queue_of_letters() -> None:
    (later,) = (q for q in broker.celery_settings(AMQP)["task_queues"] if q.name == broker.LATER)
    assert later.queue_arguments["x-dead-letter-routing-key"] == "system"
    assert later.queue_arguments["x-message-ttl"] == 60_000


def test_valkey_has_plain_queues() -> None:
    assert "task_queues" not in broker.celery_settings("redis://localhost:6379/0")


def test_sentinels_as_celery_writes_them() -> None:
    told = broker.celery_settings("sentinel://:p%40ss@h1,h2:26380/3?service=main&sentinel_password=own")
    assert told["broker_url"] == "sentinel://:p%40ss@h1:26379/3;sentinel://:p%40ss@h2:26380/3"
    assert told["broker_transport_options"]["master_name"] == "main"
    assert told["broker_transport_options"]["sentinel_kwargs"]["password"] == "own"
    first = parse_url(told["broker_url"].split(";")[0])
    assert (first["hostname"], first["port"], first["password"]) == ("h1", 26379, "p@ss")
    assert Connection(told["broker_url"]).transport.driver_type == "redis"


def test_a_cluster_is_no_broker() -> None:
    with pytest.raises(ValueError, match="BROKER_URL cannot be a Cluster"):
        broker.celery_settings("redis+cluster://h1,h2")


@pytest.mark.parametrize(
    ("url", "kind", "hosts"),
    [
        ("redis://h:6379/2", "server", ()),
        ("unix:///run/valkey.sock", "server", ()),
        ("sentinel://h1,h2:26380/0?service=main", "sentinel", (("h1", 26379), ("h2", 26380))),
        ("redis+cluster://h1:7000,[2001:db8::1]", "cluster", (("h1", 7000), ("2001:db8::1", 6379))),
    ],
)
def test_where_valkey_is(url: str, kind: str, hosts: tuple[tuple[str, int], ...]) -> None:
    place = valkey.place_of(url)
    assert (place.kind, place.hosts) == (kind, hosts)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://h:6379", "http:// is no address of Valkey"),
        ("sentinel://h1,h2/0", "needs the name of its primary"),
        ("sentinel:///0?service=main", "names no host"),
        ("redis+cluster://", "names no host"),
        ("redis+cluster://h1/3", "one database"),
        ("redis+cluster://h1:port", "[Pp]ort"),
    ],
)
def test_addresses_that_say_nothing(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        valkey.place_of(url)
