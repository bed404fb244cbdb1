"""Items over one long request, as a real server process reads them: stored, known, refused, and what breaks off."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from config.ingest import Ingest, Opened, _lines
from tenants.accounts.models import QuotaCounter, Tenant
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.pipeline.streams.writing import MAX_BYTES, MAX_ITEMS, MAX_LINE
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.api.test_edge import Server, serving
from tests.conftest import Party
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(STREAMS_OF_TENANT="2", STREAM_LONGEST_S="3600") as running:
        yield running


@pytest.fixture
def dataset(party: Party) -> str:
    with tenant_scope(party.id):
        return str(create_dataset(name="d").id)


class Sender:
    """A client that sends lines and reads acknowledgements beside each other, over a socket of its own."""

    def __init__(self, server: Server, party: Party, dataset: str, query: str = "") -> None:
        lines = (
            f"POST /api/v1/datasets/{dataset}/stream{query} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {party.token}",
            "Content-Type: application/x-ndjson",
            "Transfer-Encoding: chunked",
            "",
            "",
        )
        self.socket = server.send("\r\n".join(lines).encode())
        self.socket.settimeout(60)
        self._file = self.socket.makefile("rb")
        self.status = 0
        self.acks: list[dict[str, Any]] = []
        self.ended = False
        self._rest = b""

    def raw(self, body: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(body), body))

    def say(self, *items: object) -> None:
        self.raw(b"".join(json.dumps(item).encode() + b"\n" for item in items))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def head(self) -> int:
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()
        return self.status

    def read(self, count: int) -> list[dict[str, Any]]:
        """Acknowledgements, once there are so many in all or the answer has ended."""
        if not self.status:
            assert self.head() == 200
        while len(self.acks) < count and not self.ended:
            size = int(self._file.readline() or b"0", 16)
            chunk = self._file.read(size)
            self._file.readline()
            self.ended = not size
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            self.acks += [json.loads(line) for line in whole if line]
        return self.acks

    def read_all(self) -> list[dict[str, Any]]:
        return self.read(1 << 30)

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def sender(server: Server, party: Party, dataset: str) -> Iterator[Sender]:
    made = Sender(server, party, dataset)
    yield made
    made.close()


def assets(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        return dict(Asset.objects.values_list("external_id", "excerpt"))


def states(acks: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(ack["line"], ack["state"]) for ack in acks]


def test_lines_are_acknowledged_while_more_is_sent(sender: Sender, party: Party) -> None:
    sender.say({"id": "a", "text": "a red kettle", "metadata": {"price": 3}})
    (first,) = sender.read(1)
    assert sender.headers["content-type"] == "application/x-ndjson"
    assert "x-ingest-stream" not in sender.headers
    with tenant_scope(party.id):
        row = Asset.objects.get(external_id="a")
        assert (row.status, row.metadata) == (Asset.State.READY, {"price": 3})
    assert first == {"line": 1, "id": "a", "asset": str(row.id), "state": "stored"}
    sender.say(
        {"id": "b", "text": "a blue chair"}, {"id": "a", "text": "a red kettle", "metadata": {"price": 3}}
    )
    _, second, third = sender.read(3)
    assert (second["line"], second["state"]) == (2, "stored")
    assert third == {"line": 3, "id": "a", "asset": str(row.id), "state": "duplicate"}
    sender.end()
    assert len(sender.read_all()) == 3 and sender.ended


def test_bad_lines_are_refused_and_end_nothing(sender: Sender, party: Party) -> None:
    sender.say({"id": "a", "text": "one"})
    sender.raw(b"{not json\n\n")
    sender.say(
        {"text": "no id"}, {"id": "b"}, {"id": "c", "text": "x", "colour": 1}, {"id": "a", "text": "two"}
    )
    sender.raw(b'{"id": "long", "text": "' + b"x" * MAX_LINE)
    sender.raw(b'"}\n{"id": "d", "te')
    sender.raw(b'xt": "last"}')
    sender.end()
    acks = sender.read_all()
    assert states(acks) == [
        (1, "stored"), (2, "refused"), (4, "refused"), (5, "refused"), (6, "refused"), (7, "refused"),
        (8, "refused"), (9, "stored"),
    ]  # fmt: skip
    assert [ack["error"]["type"].rpartition(":")[2] for ack in acks if ack["state"] == "refused"] == [
        "malformed", "invalid", "invalid", "malformed", "conflict", "malformed",
    ]  # fmt: skip
    assert [ack["id"] for ack in acks[2:6]] == [None, "b", "c", "a"]
    assert assets(party) == {"a": "one", "d": "last"}


def test_whoever_sends_again_finds_the_same_assets(
    server: Server, party: Party, dataset: str, sender: Sender
) -> None:
    items = [{"id": f"i{n}", "text": f"thing number {n}"} for n in range(2 * MAX_ITEMS + 10)]
    sender.say(*items)
    first = list(sender.read(MAX_ITEMS))
    # The line breaks in the middle of an item.
    sender.raw(b'{"id": "half", "te')
    sender.close()
    again = Sender(server, party, dataset)
    again.say(*items)
    again.end()
    acks = again.read_all()
    again.close()
    assert [ack["id"] for ack in acks] == [item["id"] for item in items]
    known = {ack["id"]: ack["asset"] for ack in acks}
    assert all(known[ack["id"]] == ack["asset"] and ack["state"] == "stored" for ack in first)
    assert [ack["state"] for ack in acks[: len(first)]] == ["duplicate"] * len(first)
    assert assets(party) == {item["id"]: item["text"] for item in items}


def test_later_versions_take_the_place_of_earlier_ones_where_asked(
    server: Server, party: Party, dataset: str
) -> None:
    stream = Sender(server, party, dataset, "?on_change=replace")
    stream.say({"id": "a", "text": "one"}, {"id": "b", "text": "same"})
    old = stream.read(2)[0]["asset"]
    stream.say(
        {"id": "a", "text": "two"}, {"id": "b", "text": "same"}, {"id": "a", "text": "three"},
        {"id": "a", "text": "one"},
        {"id": "b", "text": "same", "metadata": {"n": 1}},
    )  # fmt: skip
    stream.end()
    acks = stream.read_all()[2:]
    stream.close()
    assert [ack["state"] for ack in acks] == ["stored", "duplicate", "stored", "stored", "stored"]
    assert acks[0]["replaced"] == old and acks[2]["replaced"] == acks[0]["asset"]
    assert assets(party) == {"a": "one", "b": "same"}
    with tenant_scope(party.id):
        assert {str(row.id) for row in Asset.objects.all()} == {acks[3]["asset"], acks[4]["asset"]}
        assert QuotaCounter.objects.get(resource="assets").used == 2
        assert QuotaCounter.objects.get(resource="vectors").used == 2


def test_over_quota_what_fits_is_stored_and_the_rest_told(sender: Sender, party: Party, dataset: str) -> None:
    Tenant.objects.filter(pk=party.id).update(exceptions={"assets": 5})
    sender.say(*({"id": str(n), "text": f"thing {n}"} for n in range(9)))
    *acks, last = sender.read_all()
    assert states(acks) == [(n, "stored") for n in range(1, 6)]
    assert (last["ended"]["type"], last["ended"]["resource"]) == (
        "urn:crosslight:problem:quota-exceeded",
        "assets",
    )
    assert set(assets(party)) == {"0", "1", "2", "3", "4"}


def test_streams_of_a_workspace_are_bounded(
    server: Server, party: Party, dataset: str, stranger: Party
) -> None:
    open_ones = [Sender(server, party, dataset) for _ in range(2)]
    assert [one.head() for one in open_ones] == [200, 200]
    third = Sender(server, party, dataset)
    assert third.head() == 429
    with tenant_scope(stranger.id):
        theirs = Sender(server, stranger, str(create_dataset(name="d").id))
    assert theirs.head() == 200
    open_ones[0].close()

    def admitted() -> bool:
        tried = Sender(server, party, dataset)
        try:
            return tried.head() == 200
        finally:
            tried.close()

    until(admitted, message="a place is not given back")
    for one in (*open_ones, third, theirs):
        one.close()


async def turns() -> None:
    """Long enough for whatever can go on to do so."""
    for _ in range(1000):
        await asyncio.create_task(nothing())


async def nothing() -> None:
    pass


def test_no_more_is_read_than_is_stored() -> None:
    """While a batch is stored and another waits, the connection is not read: its client waits."""
    line = json.dumps({"id": "x", "text": "word " * 10_000}).encode() + b"\n"
    asked = 0

    async def receive() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": line, "more_body": True}

    async def read() -> None:
        stream = Opened(uuid.uuid4(), uuid.uuid4(), "key:a@", False)
        waiting: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(Ingest()._read(stream, _lines(receive), waiting))
        counts = [-1]
        while asked != counts[-1]:
            counts.append(asked)
            await turns()
        assert waiting.full() and 2 <= asked * len(line) / MAX_BYTES < 3
        # One is taken, and one more is read.
        await waiting.get()
        before = asked
        while asked == before or asked != counts[-1]:
            counts.append(asked)
            await turns()
        assert (asked - before) * len(line) / MAX_BYTES < 2
        reading.cancel()

    asyncio.run(read())


def test_what_is_refused_before_anything_is_read(
    server: Server, party: Party, stranger: Party, dataset: str
) -> None:
    foreign = Sender(server, stranger, dataset)
    assert foreign.head() == 404
    odd = Sender(server, party, dataset, "?on_change=merge")
    assert odd.head() == 422
    for one in (foreign, odd):
        one.close()


def test_a_body_that_is_no_lines(api: Api, dataset: str) -> None:
    refused(api.post(f"/datasets/{dataset}/stream", {"id": "a"}), 415, "unsupported-media-type")


def test_a_stop_stores_what_was_read(party: Party, dataset: str) -> None:
    with serving() as server:
        stream = Sender(server, party, dataset)
        stream.say({"id": "a", "text": "one"})
        stream.read(1)
        stream.say({"id": "b", "text": "two"})
        stream.read(2)
        server.process.terminate()
        *acks, last = stream.read_all()
        assert states(acks) == [(1, "stored"), (2, "stored")]
        assert last["ended"]["type"] == "urn:crosslight:problem:unavailable"
        stream.close()
