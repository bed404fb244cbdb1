"""Sources of streams: brokers' items become assets, exactly once in effect, whatever dies.

The same tests for each kind of broker: a real Valkey, a real RabbitMQ where one is installed, and for Kafka a client of
the test's own that keeps what a broker of Kafka keeps (records by partition, and committed offsets).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import amqp
import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from standalone.ports import free_port
from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset, StreamDeadLetter, StreamSource
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotFound
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.streams import brokers, consuming, sources
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.hosts.rabbit import Cluster
from tests.tenants import kafka_in_a_file
from tests.tenants.test_webhook_guard import certificate
from tests.valkey_servers import Server, started
from tests.waiting import PATIENCE_S, until
from workers.base import run_job

pytestmark = pytest.mark.slow
ROOT = django_settings.ROOT
TOPIC = "items"

# A worker in a process of its own, which ends by kill -9: `place` is where (before the database's commit, between it
# and the acknowledgement, or after that), `after` the how many-th time it comes there.
WORKER = """
import os, signal, sys
import django
django.setup()
from django.conf import settings
settings.DEFAULT_MODEL = "prior:2"
settings.STREAM_ALLOW_PLAIN, settings.STREAM_PORTS = True, ("1024-65535",)
settings.STREAM_ALLOWED_NETWORKS = ("127.0.0.1/32",)
from tenants.pipeline.streams import consuming
from tests.tenants import kafka_in_a_file
from tests.tenants.test_webhook_guard import certificate
from workers.base import run_job
job, tenant, place, after, kafka = sys.argv[1:]
left = int(after)
consuming.MAX_ITEMS = 7
if kafka:
    kafka_in_a_file.use(kafka)
def die_at(here):
    global left
    if here == place:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
keep, store = consuming.Reading._keep, consuming.Reading._store
def kept(self, consumer, messages, entries):
    keep(self, consumer, messages, entries)
    die_at("before")
def stored(self, consumer, messages):
    commit = consumer.commit
    def acknowledge(done):
        die_at("between")
        commit(done)
    consumer.commit = acknowledge
    going_on = store(self, consumer, messages)
    consumer.commit = commit
    die_at("after")
    return going_on
consuming.Reading._keep, consuming.Reading._store = kept, stored
run_job(job, tenant)
"""


class RedisStream:
    kind = "redis"

    def __init__(self, server: Server) -> None:
        self.server, self.url = server, f"redis://127.0.0.1:{server.port}/0"

    def send(self, *items: Mapping[str, Any] | bytes) -> None:
        for item in items:
            fields = {"text": item} if isinstance(item, bytes) else {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in item.items()
            }  # fmt: skip
            self.server.client.xadd(TOPIC, fields)

    def waiting(self) -> int:
        """What is not acknowledged."""
        groups: Any = self.server.client.xinfo_groups(TOPIC)
        return sum(group["lag"] for group in groups)

    environment = ""


class RabbitQueue:
    kind = "rabbitmq"
    environment = ""

    def __init__(self, cluster: Cluster) -> None:
        node = cluster.nodes[0]
        self.cluster, self.url = cluster, f"amqp://guest:guest@127.0.0.1:{node.port}/%2F"
        self.connection = amqp.Connection(f"127.0.0.1:{node.port}")
        self.connection.connect()
        self.channel = self.connection.channel()
        self.channel.queue_delete(TOPIC)
        quorum = {"x-queue-type": "quorum"}
        self.channel.queue_declare(TOPIC, durable=True, auto_delete=False, arguments=quorum)

    def send(self, *items: Mapping[str, Any] | bytes) -> None:
        for item in items:
            body = item if isinstance(item, bytes) else json.dumps(item)
            self.channel.basic_publish(amqp.Message(body, delivery_mode=2), "", TOPIC)

    def waiting(self) -> int:
        told = self.cluster.nodes[0].tell("list_queues", "name", "messages")
        return int(next(row["messages"] for row in told if row["name"] == TOPIC))


class KafkaTopic:
    kind = "kafka"
    url = "kafka://127.0.0.1:9092"

    def __init__(self, folder: Path) -> None:
        self.environment = str(folder)
        self.topic = kafka_in_a_file.Topic(folder)

    def send(self, *items: Mapping[str, Any] | bytes) -> None:
        for item in items:
            self.topic.append(item if isinstance(item, bytes) else json.dumps(item).encode())

    def waiting(self) -> int:
        return self.topic.waiting()


@pytest.fixture(scope="module")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("broker") / "valkey", free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # The script of /usr/sbin runs as a user of its own, who may not write here.
    places = os.pathsep.join(("/usr/lib/rabbitmq/bin", os.environ.get("PATH", "")))
    server, names = shutil.which("rabbitmq-server", path=places), shutil.which("epmd")
    if server is None or names is None:
        pytest.skip("rabbitmq-server is not installed here")
    cluster = Cluster(server, names, tmp_path_factory.mktemp("rabbit"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


Stream = RedisStream | RabbitQueue | KafkaTopic


@pytest.fixture(params=["redis", "rabbitmq", "kafka"])
def stream(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stream:
    if request.param == "redis":
        server = request.getfixturevalue("valkey_server")
        server.client.flushall()
        return RedisStream(server)
    if request.param == "rabbitmq":
        return RabbitQueue(request.getfixturevalue("rabbit"))
    topic = KafkaTopic(tmp_path)
    monkeypatch.setattr(brokers, "AioKafka", kafka_in_a_file.client_of(tmp_path))
    return topic


@pytest.fixture(autouse=True)
def _reachable(settings: Any) -> None:
    settings.STREAM_ALLOW_PLAIN, settings.STREAM_PORTS = True, ("1024-65535",)
    settings.STREAM_ALLOWED_NETWORKS = ("127.0.0.1/32",)


@pytest.fixture
def make(party: Party) -> Callable[..., StreamSource]:
    def create(stream: Stream, **more: Any) -> StreamSource:
        with tenant_scope(party.id):
            dataset = create_dataset(name="d")
            given = {"name": "s", "kind": stream.kind, "url": stream.url, "topic": TOPIC, **more}
            return sources.create_source(dataset_id=dataset.id, **given, actor="key:x")

    return create


@pytest.fixture
def read(party: Party, monkeypatch: pytest.MonkeyPatch) -> Callable[[StreamSource], StreamSource]:
    """Run a source's job until nothing more comes."""

    def once(source: StreamSource) -> StreamSource:
        with tenant_scope(party.id):
            job_id = StreamSource.objects.get(pk=source.pk).job_id
            Job.objects.filter(pk=job_id).update(state="queued", lease_until=None)
        with monkeypatch.context() as patched:
            patched.setattr(consuming, "TURN_S", 0.0)
            patched.setattr(consuming, "LOOK_S", 0.0)
            patched.setattr(consuming, "POLL_S", 0.3)
            patched.setattr(consuming, "MAX_ITEMS", 7)
            idle: list[bool] = []
            poll_of = consuming.consumer_of

            def watched(*given: Any) -> Any:
                consumer = poll_of(*given)
                poll = consumer.poll

                def polled(most: int, timeout_s: float) -> Any:
                    found = poll(most, timeout_s)
                    idle.append(not found)
                    return found

                consumer.poll = polled
                return consumer

            patched.setattr(consuming, "consumer_of", watched)
            # Its turn ends once nothing comes.
            patched.setattr(consuming, "_others_wait", lambda: bool(idle) and idle[-1])
            run_job(str(job_id), str(party.id))
        with tenant_scope(party.id):
            return StreamSource.objects.get(pk=source.pk)

    return once


def things(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"id": f"i{n}", "text": f"thing number {n}", "metadata": {"n": n}}
        for n in range(first, first + count)
    ]


def stored(party: Party) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return sorted(Asset.objects.values_list("external_id", "excerpt"))


def wanted(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((item["id"], item["text"]) for item in items)


def letters(party: Party) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return list(StreamDeadLetter.objects.order_by("id").values_list("external_id", "slug"))


def test_items_become_assets_and_the_broker_is_told(
    stream: Stream, make: Any, read: Any, party: Party
) -> None:
    stream.send(*things(20))
    source = make(stream)
    row = read(source)
    assert stored(party) == wanted(things(20))
    assert (row.stored, row.duplicate, row.refused, row.problem, row.lag) == (20, 0, 0, "", 0)
    until(lambda: stream.waiting() == 0, 30, "what is stored was not acknowledged")
    with tenant_scope(party.id):
        assert Asset.objects.get(external_id="i3").metadata == {"n": 3}
    stream.send(*things(5, 18))
    row = read(source)
    assert (row.stored, row.duplicate) == (23, 2)
    assert stored(party) == wanted(things(23))


def test_a_consumer_that_is_killed_loses_and_doubles_nothing(
    stream: Stream, make: Any, read: Any, party: Party
) -> None:
    """Kill -9 before the commit, between it and the acknowledgement, and after that. STREAM_KILLS=30 for more."""
    kills = int(os.environ.get("STREAM_KILLS", "3"))
    items = things(20 + 14 * kills)
    poison = [b"\xff\x00 no item" if stream.kind != "redis" else {"id": "bad", "text": ""}]
    stream.send(*items[:30], *poison, *items[30:])
    # Items without an id of their own are known by their place, or content.
    stream.send({"text": "a thing without an id"})
    source = make(stream)
    for number in range(kills):
        with tenant_scope(party.id):
            Job.objects.filter(pk=source.job_id).update(state="queued", lease_until=None, attempts=0)
        place = ("between", "before", "after")[number % 3]
        command = [
            sys.executable,
            "-c",
            WORKER,
            str(source.job_id),
            str(party.id),
            place,
            str(1 + number % 2),
        ]
        ended = subprocess.run(
            [*command, stream.environment],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    row = read(source)
    found = stored(party)
    assert [one for one in found if one[0].startswith("i")] == wanted(items)
    assert len(found) == len(items) + 1
    assert row.stored == len(found)
    assert len(letters(party)) == 1 and row.refused >= 1
    until(lambda: stream.waiting() == 0, 30, "what is stored was not acknowledged")


def test_what_is_no_item_is_a_dead_letter_that_can_be_replayed(
    stream: Stream, make: Any, read: Any, party: Party, stranger: Party
) -> None:
    stream.send(*things(3), {"id": "i0", "text": "another thing"}, {"id": "x", "text": " "}, *things(1, 3))
    source = make(stream)
    assert read(source).refused == 2
    assert stored(party) == wanted(things(4))
    assert letters(party) == [("i0", "conflict"), ("", "invalid")]
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        sources.get_source(source.id)
    with tenant_scope(party.id):
        assert "another thing" in sources.list_letters(source.id).last().body
        sources.update_source(source_id=source.id, changes={"on_change": "replace"}, actor="key:x")
    done = consuming.replay_letters(tenant_id=party.id, source_id=source.id, letter_ids=None, actor="key:x")
    assert done == (1, 1)
    assert ("i0", "another thing") in stored(party) and len(stored(party)) == 4
    assert letters(party) == [("", "invalid")]
    with tenant_scope(party.id):
        assert sources.delete_letters(source_id=source.id, letter_ids=None, actor="key:x") == 1


def test_versions_of_an_item_are_stored_in_their_order(
    stream: Stream, make: Any, read: Any, party: Party
) -> None:
    versions = [{"id": f"i{n % 3}", "text": f"thing {n % 3} as of {n}"} for n in range(24)]
    stream.send(*versions)
    row = read(make(stream, on_change="replace"))
    assert stored(party) == wanted(versions[-3:])
    assert (row.stored, row.refused) == (24, 0)


def test_over_quota_a_source_pauses_says_so_and_loses_nothing(
    stream: Stream, make: Any, read: Any, party: Party
) -> None:
    Tenant.objects.filter(pk=party.id).update(exceptions={"assets": 10})
    stream.send(*things(16))
    source = make(stream)
    row = read(source)
    assert (row.state, row.stored) == ("paused", 10)
    assert "assets" in row.problem and row.problem.endswith("Then resume this source.")
    assert stored(party) == wanted(things(10))
    Tenant.objects.filter(pk=party.id).update(exceptions={})
    with tenant_scope(party.id):
        assert Job.objects.get(pk=source.job_id).state == Job.State.SUCCEEDED
        resumed = sources.resume_source(source_id=source.id, actor="key:x")
        assert resumed.job_id != source.job_id
    row = read(source)
    assert (row.stored, row.duplicate, row.problem) == (16, 0, "")
    assert stored(party) == wanted(things(16)) and stream.waiting() == 0


def test_a_paused_source_is_not_read_and_goes_on_where_it_was(
    stream: Stream, make: Any, read: Any, party: Party
) -> None:
    stream.send(*things(3))
    source = make(stream)
    read(source)
    with tenant_scope(party.id):
        sources.pause_source(source_id=source.id, actor="key:x")
    stream.send(*things(3, 3))
    assert read(source).stored == 3
    with tenant_scope(party.id):
        sources.resume_source(source_id=source.id, actor="key:x")
    assert read(source).stored == 6


def test_whoever_lost_the_lease_stores_nothing(
    stream: Stream, make: Any, read: Any, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.send(*things(3))
    source = make(stream)
    write = consuming.StreamWriter.write

    def taken_over(*given: Any) -> Any:
        with tenant_scope(party.id):
            Job.objects.filter(pk=source.job_id).update(fence=99)
        return write(*given)

    with monkeypatch.context() as patched:
        patched.setattr(consuming.StreamWriter, "write", taken_over)
        read(source)
    assert stored(party) == []
    row = read(source)
    assert row.stored == 3 and stored(party) == wanted(things(3))


# --- One kind alone ---------------------------------------------------------------------------------------


def test_a_broker_that_is_gone_is_tried_again(tmp_path: Path, make: Any, read: Any, party: Party) -> None:
    port = free_port()
    with started(tmp_path / "first", port) as server:
        stream = RedisStream(server)
        stream.send(*things(3))
        source = make(stream)
        assert read(source).stored == 3
    row = read(source)
    assert (row.state, row.failures) == ("active", 1)
    assert row.problem == "The broker cannot be reached. It is tried again."
    with tenant_scope(party.id):
        assert Job.objects.get(pk=source.job_id).state == Job.State.QUEUED
    # Another server, which has lost what was there.
    with started(tmp_path / "second", port) as server:
        RedisStream(server).send(*things(3, 1))
        row = read(source)
    assert (row.problem, row.failures, row.lag) == ("", 0, 0)
    assert (row.stored, row.duplicate) == (4, 2)


def test_addresses_of_private_networks_are_not_called(
    make: Any, read: Any, valkey_server: Server, settings: Any, party: Party
) -> None:
    stream = RedisStream(valkey_server)
    source = make(stream)
    settings.STREAM_ALLOWED_NETWORKS = ()
    row = read(source)
    assert row.problem == "The host has an address that is not called from here. It is tried again."
    settings.STREAM_ALLOW_PLAIN = False
    row = read(source)
    assert row.state == "paused" and "rediss://" in row.problem
    with tenant_scope(party.id), pytest.raises(Invalid, match="starts with rediss://"):
        sources.update_source(source_id=source.id, changes={"url": stream.url}, actor="key:x")


def test_a_workspace_whose_trial_is_over_takes_nothing_more(
    make: Any, read: Any, valkey_server: Server, party: Party
) -> None:
    valkey_server.client.flushall()
    stream = RedisStream(valkey_server)
    stream.send(*things(3))
    source = make(stream)
    Tenant.objects.filter(pk=party.id).update(trial_ends_at=timezone.now())
    row = read(source)
    assert (row.state, row.stored) == ("paused", 0) and "trial" in row.problem
    assert stored(party) == [] and stream.waiting() == 3


def test_credentials_are_sealed_and_never_shown(make: Any, valkey_server: Server, party: Party) -> None:
    stream = RedisStream(valkey_server)
    stream.url = f"redis://ann:s3cret%21@127.0.0.1:{valkey_server.port}/0"
    row = make(stream)
    assert row.url == f"redis://127.0.0.1:{valkey_server.port}/0"
    assert b"s3cret" not in bytes(row.secret)
    with tenant_scope(party.id):
        assert sources.login_of(row) == ("ann", "s3cret!")
        shown = sources.source_shape(row)
    assert shown.has_credentials and "s3cret" not in repr(shown)


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
@pytest.mark.parametrize("trusted", [False, True])
def test_certificates_are_checked_under_the_name_of_the_host(
    scheme: str, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody trusts, and one that is trusted and of another host: nothing is said to either."""
    public, private = certificate(tmp_path, "broker.example")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(public, private)
    said: list[bytes] = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            said.append(secured.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        url = f"{scheme}://ann:secret@127.0.0.1:{server.getsockname()[1]}"
        kind = "redis" if scheme == "rediss" else "rabbitmq"
        row = StreamSource(kind=kind, url=url, topic=TOPIC, group="g")
        consumer = brokers.consumer_of(row, ("ann", "secret"))
        with pytest.raises(brokers.BrokerAway, match="certificate of the broker cannot be trusted"):
            consumer.open({})
        consumer.close()
        thread.join(PATIENCE_S)
    assert b"".join(said) == b""


def test_kafka_says_what_it_needs(make: Any, read: Any, tmp_path: Path, party: Party) -> None:
    row = read(make(KafkaTopic(tmp_path)))
    assert row.state == "paused" and "crosslight[kafka]" in row.problem


def test_a_cancelled_job_pauses_its_source(make: Any, valkey_server: Server, party: Party) -> None:
    source = make(RedisStream(valkey_server))
    with tenant_scope(party.id):
        jobs.cancel(job_id=source.job_id)
        row = StreamSource.objects.get(pk=source.pk)
        assert (row.state, row.problem) == ("paused", "Its job was cancelled. Resume it to go on.")
        sources.ensure_reading()
        assert StreamSource.objects.get(pk=source.pk).job_id == source.job_id
        with pytest.raises(Conflict):
            sources.create_source(
                dataset_id=source.dataset_id, name="s", kind="redis", url=row.url, topic="t", actor="key:x"
            )
