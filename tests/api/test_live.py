"""Live streams as a client of the real server sees them: WebSockets, the pipe, and the job that listens."""

from __future__ import annotations

import json
import threading
import uuid
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import requests
import websocket
from django.conf import settings

from ml.live_listening import RATE
from tenants.accounts import keys
from tenants.accounts.origins import replace_origins
from tenants.datasets.services import create_dataset
from tenants.jobs.models import Job
from tenants.pipeline import live
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tenants.valkey import client as valkey
from tests.api.test_edge import Server, serving
from tests.conftest import Party
from tests.waiting import until
from workers.base import run_job

pytestmark = pytest.mark.slow

SPOKEN = settings.ROOT / "platform/standalone/demo_data/spoken"
CHUNK = RATE // 5


def spoken(name: str) -> bytes:
    """A sentence as PCM of 16 kHz, with a second of silence before and behind it."""
    with wave.open(str(SPOKEN / f"{name}.wav")) as file:
        given, sound = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    at = np.arange(0, len(sound), given / RATE)
    silence = np.zeros(RATE)
    return (
        np.concatenate([silence, np.interp(at, np.arange(len(sound)), sound), silence])
        .astype("<i2")
        .tobytes()
    )


class Speaker:
    """A client: sends sound, keeps what it is told."""

    def __init__(self, server: Server, path: str = "", **options: Any) -> None:
        url = f"ws://127.0.0.1:{server.port}/api/v1/live{path}"
        # A program, which has no origin, unless it is said to be a page of one.
        options = {"suppress_origin": "origin" not in options, **options}
        self.socket = websocket.create_connection(url, timeout=60, **options)
        self.events: list[dict[str, Any]] = []

    def say(self, sound: bytes) -> None:
        for at in range(0, len(sound), 2 * CHUNK):
            self.socket.send_binary(sound[at : at + 2 * CHUNK])

    def control(self, kind: str) -> None:
        self.socket.send(json.dumps({"type": kind}))

    def read_until(self, kind: str) -> dict[str, Any]:
        while not self.events or self.events[-1]["type"] != kind:
            self.events.append(json.loads(self.socket.recv()))
        return self.events.pop()

    def closed(self) -> tuple[int, str]:
        """With which code and reason the server closes; what it says before is kept."""
        while True:
            code, data = self.socket.recv_data()
            if code == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()
            self.events.append(json.loads(data))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def auth(party: Party) -> dict[str, str]:
    return {"Authorization": f"Bearer {party.token}"}


def job_of(party: Party, stream: str) -> Job:
    with tenant_scope(party.id):
        return Job.objects.get(pk=stream)


@contextmanager
def listening(party: Party, stream: str) -> Iterator[threading.Thread]:
    """A worker that has the job."""
    thread = threading.Thread(target=run_job, args=(stream, str(party.id)))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
        assert not thread.is_alive()


def refusal(connect: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(websocket.WebSocketBadStatusException) as raised:
        connect()
    return raised.value.status_code, json.loads(raised.value.resp_body)["type"].rpartition(":")[2]


def test_what_is_said_is_told_and_searched_by(server: Server, party: Party, auth: dict[str, str]) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="fruit")
        added = [add_asset(dataset_id=dataset.id, text=text) for text in ("ripe red tomatoes", "a blue car")]
    for one in added:
        run_job(str(one.job.id), str(party.id))
    speaker = Speaker(server, "?top_k=1", header=auth)
    ready = speaker.read_until("ready")
    assert ready == {"type": "ready", "stream": ready["stream"], "from_s": 0.0}
    with listening(party, ready["stream"]):
        assert speaker.read_until("listening")["from_s"] == 0
        speaker.say(spoken("ripe-tomatoes"))
        final = speaker.read_until("final")
        assert (final["text"], final["utterance"], final["language"]) == (
            "Do you have ripe tomatoes?",
            0,
            "en",
        )
        assert (0.9 < final["start_s"] < 1.4, 2.3 < final["end_s"] < 2.9) == (True, True)
        speaker.control("end")
        assert speaker.read_until("ended")["reason"] == "end"
    results = [event for event in speaker.events if event["type"] == "results"]
    assert results[-1]["said"] == "Do you have ripe tomatoes?"
    assert [one["asset"]["id"] for one in results[-1]["answer"]["results"]] == [str(added[0].asset.id)]
    assert speaker.closed() == (1000, "end")
    job = job_of(party, ready["stream"])
    told = {"purpose": "search", "duration_s": 3.73, "utterances": 1, "reason": "end"}
    assert (job.state, job.result) == ("succeeded", told)
    # Nothing of what was said is kept.
    assert valkey().exists(live.Pipe(party.id, job.id).sound) == 0


def test_who_may_not_is_told_before_the_stream_opens(
    server: Server, party: Party, make_party: Callable[..., Party], auth: dict[str, str]
) -> None:
    reader = make_party(scopes=("read",))
    assert refusal(lambda: Speaker(server)) == (401, "unauthenticated")
    assert refusal(lambda: Speaker(server, header={"Authorization": f"Bearer {reader.token}"})) == (
        403,
        "missing-scope",
    )
    assert refusal(lambda: Speaker(server, "?purpose=spying", header=auth)) == (422, "invalid")
    assert refusal(lambda: Speaker(server, "?top_k=many", header=auth)) == (422, "invalid")
    assert refusal(lambda: Speaker(server, f"?datasets={uuid.uuid4()}", header=auth)) == (404, "not-found")
    assert refusal(lambda: Speaker(server, f"?stream={uuid.uuid4()}", header=auth)) == (404, "not-found")
    assert refusal(lambda: Speaker(server, "?ticket=forged", header=auth)) == (403, "not-allowed")
    assert refusal(lambda: Speaker(server, "/elsewhere", header=auth)) == (404, "not-found")
    plain = requests.get(f"{server.api}/live", headers=auth, timeout=30)
    assert (plain.status_code, plain.json()["type"]) == (426, "urn:crosslight:problem:upgrade-required")
    with tenant_scope(party.id):
        assert not Job.objects.exists()


def test_a_ticket_opens_one_stream_for_pages_of_allowed_origins(
    server: Server, party: Party, auth: dict[str, str]
) -> None:
    def ticket() -> dict[str, Any]:
        answer = requests.post(f"{server.api}/live", json={"purpose": "transcribe"}, headers=auth, timeout=30)
        assert answer.status_code == 201
        return answer.json()

    with tenant_scope(party.id):
        replace_origins(origins=["https://shop.example"])
    path, later = (f"?ticket={ticket()['ticket']}" for _ in range(2))
    speaker = Speaker(server, path, origin="https://shop.example")
    stream = speaker.read_until("ready")["stream"]
    assert refusal(lambda: Speaker(server, path)) == (409, "conflict")
    foreign = {"origin": "https://other.example"}
    assert refusal(lambda: Speaker(server, later, **foreign)) == (403, "origin-not-allowed")
    own = Speaker(server, later, origin=f"http://127.0.0.1:{server.port}")
    third = Speaker(server, f"?ticket={ticket()['ticket']}")
    assert refusal(lambda: Speaker(server, f"?ticket={ticket()['ticket']}")) == (429, "too-many-at-once")
    for one in (speaker, own, third):
        one.control("end")
    job = job_of(party, stream)
    assert (job.kind, job.state, job.arguments["purpose"]) == ("live_stream", "queued", "transcribe")


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (b"odd", 1003, "not-pcm"),
        (b"", 1009, "too-large"),
        (bytes(64 * 1024 + 2), 1009, "too-large"),
        ("{", 1002, "not-json"),
        ("[]", 1002, "not-json"),
        ('{"type": "dance"}', 1002, "unknown-message"),
        ('{"type": "' + "x" * 5_000 + '"}', 1009, "too-large"),
    ],
)
def test_what_is_no_sound_ends_the_stream_and_is_named(
    server: Server, party: Party, auth: dict[str, str], message: bytes | str, code: int, reason: str
) -> None:
    speaker = Speaker(server, header=auth)
    if isinstance(message, bytes):
        speaker.socket.send_binary(message)
    else:
        speaker.socket.send(message)
    assert speaker.closed() == (code, reason)
    assert [(event["type"], event.get("problem")) for event in speaker.events[1:]] == [("error", reason)]


def test_a_worker_that_dies_and_a_connection_that_breaks_lose_nothing(
    server: Server, party: Party, auth: dict[str, str]
) -> None:
    speaker = Speaker(server, "?purpose=transcribe", header=auth)
    stream = speaker.read_until("ready")["stream"]
    pipe, sound = live.Pipe(party.id, uuid.UUID(stream)), spoken("ripe-tomatoes")
    half = len(sound) // 4 * 2
    # Of a worker that began, and died while somebody spoke.
    valkey().xadd(pipe.events, {"e": json.dumps({"type": "listening", "from_s": 0.0, "fence": 0})})
    speaker.say(sound[:half])
    until(lambda: valkey().xlen(pipe.sound) == -(-half // (2 * CHUNK)), message="the sound does not come")
    assert speaker.read_until("listening")["from_s"] == 0
    last = speaker.events[-1] if speaker.events else None
    speaker.socket.close()
    after = valkey().xrevrange(pipe.events, count=1)[0][0].decode()
    again = Speaker(server, f"?stream={stream}&after={after}", header=auth)
    assert again.read_until("ready") == {"type": "ready", "stream": stream, "from_s": half / 2 / RATE}
    with listening(party, stream):
        assert again.read_until("resumed")["from_s"] == 0
        again.say(sound[half:])
        again.control("end")
        final = again.read_until("final")
        assert (final["text"], final["utterance"]) == ("Do you have ripe tomatoes?", 0)
        assert again.read_until("ended")["until_s"] == round(len(sound) / 2 / RATE, 2)
    assert last is None
    # What was told is told once: a worker that has it after that hears the end alone.
    told = [json.loads(fields[b"e"])["type"] for _id, fields in valkey().xrange(pipe.events)]
    assert (told.count("final"), told[-1]) == (1, "ended")


def test_a_stream_ends_with_its_key(server: Server, party: Party) -> None:
    with tenant_scope(party.id):
        key, token = keys.create_key(name="live", scopes=["search", "read"], created_by=party.owner)
    speaker = Speaker(server, header={"Authorization": f"Bearer {token}"})
    stream = speaker.read_until("ready")["stream"]
    with tenant_scope(party.id):
        keys.revoke_key(key_id=key.id)
    assert speaker.closed() == (1008, "revoked")
    until(lambda: job_of(party, stream).state == "cancelled", message="the job goes on")


def test_a_worker_hears_again_what_was_not_settled_and_tells_nothing_twice(party: Party) -> None:
    ticket = live.new_ticket(
        tenant_id=party.id, watcher=f"key:{party.token.partition('.')[0]}@", purpose="transcribe"
    )
    live.open_stream(ticket)
    pipe, sound = live.Pipe(party.id, ticket.stream), spoken("ripe-tomatoes")
    told = {"type": "final", "utterance": 4, "start_s": 1.0, "end_s": 3.0, "fence": 0}
    valkey().xadd(pipe.events, {"e": json.dumps(told)})
    valkey().xadd(pipe.sound, {"d": sound}, id=f"{len(sound) // 2}-0")
    valkey().xadd(pipe.sound, {"end": b"1"}, id=f"{len(sound) // 2}-1")
    run_job(str(ticket.stream), str(party.id))
    kinds = [json.loads(fields[b"e"])["type"] for _id, fields in valkey().xrange(pipe.events)]
    assert [kind for kind in kinds if kind != "partial"] == ["final", "resumed", "acknowledged", "ended"]
    assert job_of(party, str(ticket.stream)).result["utterances"] == 5
