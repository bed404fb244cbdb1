"""The one port, as a real server process: event streams, uploads that break off, an orderly stop."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.files.storage import default_storage

from config.event_stream import MAX_WAITING_OF_TENANT
from config.request_bodies import MAX_LARGE_OF_TENANT, SMALL
from standalone.ports import free_port
from tenants.accounts import keys, metering
from tenants.accounts.models import Session, User
from tenants.accounts.quotas import current_period
from tenants.datasets.models import Asset, Blob
from tenants.datasets.services import create_dataset
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import standing, standing_matching
from tenants.retrieval.models import StandingAlert
from tenants.retrieval.saved import Who
from tenants.scope import tenant_scope
from tenants.valkey import client as valkey
from tests.conftest import Party
from tests.tenants.made_files import made
from tests.tenants.people import new_user
from tests.waiting import PATIENCE_S, pause, until

pytestmark = pytest.mark.slow
PROXY = "127.0.0.2"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Server:
    port: int
    process: subprocess.Popen

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def memory_mb(self) -> float:
        family = [
            psutil.Process(self.process.pid),
            *psutil.Process(self.process.pid).children(recursive=True),
        ]
        return sum(process.memory_info().rss for process in family) / 2**20

    def send(self, request: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(request)
        return connection


@contextmanager
def serving(application: str = "config.asgi:application", **environment: str) -> Iterator[Server]:
    port = free_port()
    where = ["--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--ws"]
    command = [
        sys.executable,
        "-m",
        "granian",
        *where,
        "--workers-kill-timeout",
        "5",
        application,
    ]
    env = {
        **os.environ,
        "LOG_LEVEL": "WARNING",
        "MAX_UPLOAD_BYTES": str(50 * 2**20),
        # Requests of the tests come from 127.0.0.1, which is no proxy.
        "TRUSTED_PROXIES": PROXY,
        **environment,
    }
    process = subprocess.Popen(command, env=env, cwd=settings.ROOT)
    server = Server(port, process)
    try:
        until(lambda: process.poll() is not None or answers(server), message="the server does not come up")
        assert process.poll() is None, "the server ended"
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def get(path: str, auth: dict[str, str]) -> bytes:
    """The bytes of a request, for connections that the test itself closes."""
    lines = (
        f"GET /api/v1{path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: {auth['Authorization']}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def answers(server: Server) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{server.port}/healthz", timeout=PATIENCE_S).ok
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def auth(party: Party) -> dict[str, str]:
    return {"Authorization": f"Bearer {party.token}"}


@pytest.fixture
def job(party: Party) -> Job:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        return add_asset(dataset_id=dataset.id, text="x").job


class Listener:
    """Reads a stream to its end in a thread."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.answer = requests.get(url, headers=headers, stream=True, timeout=30)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        for line in self.answer.iter_lines():
            self.lines.append(line.decode())

    def of(self, field: str) -> list[str]:
        return [line.removeprefix(f"{field}: ") for line in self.lines if line.startswith(f"{field}: ")]

    def wait_for(self, count: int) -> None:
        until(lambda: len(self.of("id")) >= count, message=lambda: self.lines)


def test_a_stream_tells_every_state_at_once_and_ends(
    server: Server, party: Party, job: Job, auth: dict[str, str]
) -> None:
    listener = Listener(f"{server.api}/jobs/{job.id}/events", auth)
    assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
    assert listener.answer.headers["Cache-Control"] == "no-store"
    assert "X-Follow-Job" not in listener.answer.headers
    listener.wait_for(1)
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    # Sooner than the row is read anyhow: someone rang.
    listener.wait_for(2)
    jobs.progress(claimed, done=1, total=3)
    listener.wait_for(3)
    jobs.stop_cancelled(claimed)
    listener.thread.join(PATIENCE_S)
    assert not listener.thread.is_alive()
    states = [data.split('"state":"')[1].split('"')[0] for data in listener.of("data")]
    assert states == ["queued", "running", "running", "cancelled"]
    assert listener.of("event") == ["job"] * 4
    last = {**auth, "Last-Event-ID": listener.of("id")[-1]}
    assert (
        requests.get(f"{server.api}/jobs/{job.id}/events", headers=last, timeout=PATIENCE_S).status_code
        == 204
    )


def test_alerts_are_told_as_they_come_and_are_read(
    server: Server, party: Party, auth: dict[str, str]
) -> None:
    with tenant_scope(party.id):
        prepared = standing.Prepared({"modalities": ["text"]})
        row = standing.create_standing(who=Who("key:x"), name="n", prepared=prepared)
        Asset.objects.filter(pk=added_text("x")).update(status="ready")
    listener = Listener(f"{server.api}/alerts/events", auth)
    assert listener.answer.headers["Content-Type"].startswith("text/event-stream")
    listener.wait_for(1)
    with tenant_scope(party.id):
        standing.note_arrivals([Asset.objects.get().id])
        standing_matching.match_batch()
    # Sooner than the rows are read anyhow: someone rang.
    listener.wait_for(2)
    with tenant_scope(party.id):
        newest = str(StandingAlert.objects.get(standing_query=row).id)
        standing.mark_read(Who())
    listener.wait_for(3)
    assert set(listener.of("event")) == {"alerts"}
    told = [json.loads(data) for data in listener.of("data")]
    assert told == [
        {"newest": None, "unread": 0},
        {"newest": newest, "unread": 1},
        {"newest": newest, "unread": 0},
    ]
    assert requests.get(f"{server.api}/alerts/events", timeout=PATIENCE_S).status_code == 401
    with tenant_scope(party.id):
        keys.revoke_key(key_id=keys.list_keys()[0][0].id)
        standing.mark_read(Who(), read=False)
    # The next reading finds that they may not watch.
    listener.thread.join(PATIENCE_S)
    assert not listener.thread.is_alive()


def added_text(text: str) -> uuid.UUID:
    return add_asset(dataset_id=create_dataset(name="d").id, text=text).asset.id


def test_a_stream_is_refused_like_any_answer(server: Server, job: Job, auth: dict[str, str]) -> None:
    url = f"{server.api}/jobs/{job.id}/events"
    assert requests.get(url, timeout=PATIENCE_S).status_code == 401
    absent = requests.get(f"{server.api}/jobs/nothing/events", headers=auth, timeout=PATIENCE_S)
    assert (absent.status_code, absent.headers["Content-Type"]) == (404, "application/problem+json")
    assert requests.post(url, headers=auth, timeout=PATIENCE_S).status_code == 405


def test_listeners_of_a_tenant_are_capped_and_hold_no_thread(
    server: Server, job: Job, auth: dict[str, str]
) -> None:
    from config.event_stream import MAX_LISTENERS_OF_TENANT

    head = get(f"/jobs/{job.id}/events", auth)
    connections = [server.send(head) for _ in range(MAX_LISTENERS_OF_TENANT + 5)]
    try:
        ended = [connection for connection in connections if "content-length" in first_part(connection)]
        # Those over the cap get the job as it is, and connect again: they poll.
        assert len(ended) == 5
        assert requests.get(f"{server.api}/me", headers=auth, timeout=PATIENCE_S).ok
    finally:
        for connection in connections:
            connection.close()

    def is_served() -> bool:
        with server.send(head) as connection:
            return "transfer-encoding: chunked" in first_part(connection)

    until(is_served, message="places of listeners that left are not free again")


def test_listeners_that_leave_at_once_keep_no_places(server: Server, job: Job, auth: dict[str, str]) -> None:
    from config.event_stream import MAX_LISTENERS_OF_TENANT

    head = get(f"/jobs/{job.id}/events", auth)
    for _ in range(2 * MAX_LISTENERS_OF_TENANT):
        server.send(head).close()
    until(
        lambda: open_streams(server, head, MAX_LISTENERS_OF_TENANT) >= MAX_LISTENERS_OF_TENANT,
        message="not all places are free again",
    )


def open_streams(server: Server, head: bytes, wanted: int) -> int:
    """How many of so many listeners are told everything, and not only how the job is now."""
    connections = [server.send(head) for _ in range(wanted)]
    try:
        return sum("transfer-encoding: chunked" in first_part(connection) for connection in connections)
    finally:
        for connection in connections:
            connection.close()


def first_part(connection: socket.socket) -> str:
    received = b""
    # Or that its turn is too far away.
    while b"data: " not in received and b"too-many-at-once" not in received:
        received += connection.recv(65536)
    return received.decode().lower()


def wait_for(server: Server, job: Job, seconds: int, auth: dict[str, str]) -> requests.Response:
    return requests.get(f"{server.api}/jobs/{job.id}?wait={seconds}", headers=auth, timeout=90)


def test_who_waits_for_a_job_is_told(party: Party, job: Job, auth: dict[str, str]) -> None:
    """The row is read anyhow from time to time: here only after a minute, which nobody waits for."""
    with serving("tests.api.reads_seldom:application") as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait_for, server, job, 60, auth)
        pause(1, "the request waits meanwhile")
        jobs.stop_cancelled(jobs.claim(job_id=job.id, tenant_id=party.id))
        assert answer.result(50).json()["state"] == "cancelled"


def test_an_answer_waits_for_the_end_of_a_job(
    server: Server, party: Party, job: Job, auth: dict[str, str]
) -> None:
    timed_out = wait_for(server, job, 1, auth)
    assert timed_out.elapsed.total_seconds() > 1
    assert timed_out.json()["state"] == "queued"
    claimed = jobs.claim(job_id=job.id, tenant_id=party.id)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait_for, server, job, 60, auth)
        pause(1, "the request waits meanwhile")
        assert not answer.done()
        jobs.progress(claimed, done=1, total=3)
        jobs.stop_cancelled(claimed)
        ended = answer.result(PATIENCE_S)
    assert (ended.status_code, ended.headers["Content-Type"]) == (200, "application/json")
    assert not {"x-wait-for-job", "retry-after"} & {name.lower() for name in ended.headers}
    # The same as without waiting; what has ended is answered at once.
    assert (
        ended.content == requests.get(f"{server.api}/jobs/{job.id}", headers=auth, timeout=PATIENCE_S).content
    )
    assert ended.json()["state"] == "cancelled"
    assert wait_for(server, job, 60, auth).content == ended.content


def test_waiting_is_capped_for_a_tenant_and_holds_no_thread(
    server: Server, stranger: Party, job: Job, auth: dict[str, str]
) -> None:
    head = get(f"/jobs/{job.id}?wait=60", auth)
    connections = [server.send(head) for _ in range(MAX_WAITING_OF_TENANT + 5)]
    try:
        answers: list[str] = []
        while len(answers) < 5:
            readable, _, _ = select.select(connections, [], [], 10)
            assert readable, "more wait than may"
            answers += [connection.recv(65536).decode() for connection in readable]
        # Those over the bound get the job as it is, and when to ask again.
        assert all('"state":"queued"' in answer and "retry-after: 5" in answer for answer in answers)
        with tenant_scope(stranger.id):
            theirs = add_asset(dataset_id=create_dataset(name="d").id, text="x").job
        other = {"Authorization": f"Bearer {stranger.token}"}
        assert "Retry-After" not in wait_for(server, theirs, 1, other).headers
        assert select.select(connections, [], [], 0)[0] == []
    finally:
        for connection in connections:
            connection.close()
    until(
        lambda: "Retry-After" not in wait_for(server, job, 1, auth).headers,
        message="places of clients that left are not free again",
    )


def test_whose_key_was_revoked_learns_nothing_more(server: Server, party: Party, job: Job) -> None:
    with tenant_scope(party.id):
        key, token = keys.create_key(name="brief", scopes=["read"])
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(wait_for, server, job, 60, {"Authorization": f"Bearer {token}"})
        pause(0.5, "the request waits meanwhile")
        with tenant_scope(party.id):
            keys.revoke_key(key_id=key.id)
            jobs.cancel(job_id=job.id)
        # The job as it was when the key still opened it.
        assert answer.result(timeout=PATIENCE_S).json()["state"] == "queued"


def upload_to(server: Server, party: Party) -> str:
    with tenant_scope(party.id):
        return f"{server.api}/datasets/{create_dataset(name=secrets.token_hex(4)).id}/assets"


def test_an_upload_that_breaks_off_leaves_nothing(server: Server, party: Party, auth: dict[str, str]) -> None:
    url = upload_to(server, party)
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello hello'
    head = (
        f"POST {url.removeprefix(f'http://127.0.0.1:{server.port}')} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {auth['Authorization']}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    # More of them than there are threads: each must come back.
    for _ in range(settings.WEB_THREADS + 4):
        with server.send(head.encode() + part):
            pause(0.02, "a thread takes it before it breaks off")
    assert requests.get(f"{server.api}/me", headers=auth, timeout=PATIENCE_S).ok
    with tenant_scope(party.id):
        assert not Asset.objects.exists()


def head_of(method: str, url: str, server: Server, length: int, auth: dict[str, str], *more: str) -> bytes:
    """The head of a request whose body the test sends, or does not."""
    path = url.removeprefix(f"http://127.0.0.1:{server.port}")
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more)
    return "\r\n".join((*lines, *(f"{name}: {value}" for name, value in auth.items()), "", "")).encode()


FORM = "Content-Type: multipart/form-data; boundary=x"
FIRST_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello hello'


def test_slow_bodies_hold_no_thread(server: Server, party: Party, auth: dict[str, str]) -> None:
    large = head_of("POST", upload_to(server, party), server, 2**20, auth, FORM) + FIRST_PART
    small = (
        head_of("POST", f"{server.api}/search", server, 2**10, {}, "Content-Type: application/json") + b"{"
    )
    unknown = head_of("POST", f"{server.api}/search", server, 2**20, {}, "Content-Type: application/json")
    # More than there are threads, of each kind.
    slow = [server.send(part) for _ in range(settings.WEB_THREADS + 4) for part in (large, small, unknown)]
    try:
        for _ in range(5):
            assert answers(server)
            assert (
                requests.post(f"{server.api}/datasets", json={}, headers=auth, timeout=PATIENCE_S).status_code
                == 422
            )
            whole = requests.post(
                upload_to(server, party),
                headers=auth,
                files={"file": ("a", bytes(2**20))},
                timeout=PATIENCE_S,
            )
            assert whole.status_code == 415
    finally:
        for connection in slow:
            connection.close()


def answer_to(connection: socket.socket) -> tuple[int, str]:
    """Status and slug of the problem."""
    with connection:
        received = connection.recv(65536).decode()
        while "urn:" not in received and (more := connection.recv(65536)):
            received += more.decode()
    return int(received.split()[1]), received.partition("urn:crosslight:problem:")[2].partition('"')[0]


def test_who_is_refused_need_not_send_the_body(
    server: Server, party: Party, stranger: Party, auth: dict[str, str]
) -> None:
    url, json = upload_to(server, party), "Content-Type: application/json"
    with tenant_scope(stranger.id):
        theirs = url.replace(url.split("/")[-2], str(create_dataset(name="x").id))
    for head, refusal in (
        (head_of("POST", url, server, 2**30, {}, FORM), (401, "unauthenticated")),
        (head_of("POST", theirs, server, 2**20, auth, FORM), (404, "not-found")),
        (head_of("POST", url, server, 2**30, auth, FORM), (413, "too-large")),
        (head_of("POST", url, server, 2**30, auth, json), (413, "too-large")),
        (
            head_of("POST", url, server, 2**20, auth, "Content-Type: text/plain"),
            (415, "unsupported-media-type"),
        ),
    ):
        assert answer_to(server.send(head)) == refusal
    sign_in = f"http://127.0.0.1:{server.port}/login"
    token = "c" * 32
    form = ("Content-Type: application/x-www-form-urlencoded", f"Cookie: csrftoken={token}")
    assert answer_to(server.send(head_of("POST", sign_in, server, 2**20, {}, *form)))[0] == 413


def test_large_bodies_of_a_tenant_are_bounded(
    server: Server, party: Party, stranger: Party, auth: dict[str, str]
) -> None:
    head = head_of("POST", upload_to(server, party), server, 2**20, auth, FORM) + FIRST_PART
    slow = [server.send(head) for _ in range(MAX_LARGE_OF_TENANT + 3)]
    try:
        over = []
        while len(over) < 3:
            readable, _, _ = select.select(slow, [], [], 10)
            assert readable, "more are read than may"
            over += [answer_to(connection) for connection in readable]
            slow = [connection for connection in slow if connection not in readable]
        assert over == [(429, "too-many-uploads")] * 3
        other = {"Authorization": f"Bearer {stranger.token}"}
        assert put(upload_to(server, stranger), other) == 202
    finally:
        for connection in slow:
            connection.close()
    until(
        lambda: put(upload_to(server, party), auth) == 202,
        message="places of uploads that broke off are not free again",
    )


def put(url: str, auth: dict[str, str]) -> int:
    return requests.post(
        url, headers=auth, files={"file": ("a", PNG + os.urandom(2**17))}, timeout=PATIENCE_S
    ).status_code


def offset_of(url: str, tus: dict[str, str]) -> int:
    return int(requests.head(url, headers=tus, timeout=PATIENCE_S).headers["Upload-Offset"])


def begin_tus(server: Server, length: int, auth: dict[str, str]) -> tuple[str, dict[str, str]]:
    tus = {**auth, "Tus-Resumable": "1.0.0"}
    begun = requests.post(
        f"{server.api}/uploads", headers={**tus, "Upload-Length": str(length)}, timeout=PATIENCE_S
    )
    return f"http://127.0.0.1:{server.port}{begun.headers['Location']}", tus


def test_an_upload_in_parts_that_breaks_off_keeps_what_came(
    server: Server, party: Party, auth: dict[str, str]
) -> None:
    content = os.urandom(5 * 2**20)
    url, tus = begin_tus(server, len(content), auth)
    kind = ("Content-Type: application/offset+octet-stream", "Upload-Offset: 0")
    with server.send(head_of("PATCH", url, server, len(content), tus, *kind)) as connection:
        connection.sendall(content[: 3 * 2**20 + 7])
        # Before the rest is there: nothing of it is in a thread or in memory.
        until(lambda: offset_of(url, tus) >= 2 * 2**20)
    offset = 3 * 2**20 + 7
    until(lambda: offset_of(url, tus) == offset)
    rest = requests.patch(
        url,
        content[offset:],
        headers={**tus, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"},
        timeout=PATIENCE_S,
    )
    assert (rest.status_code, rest.headers["Upload-Offset"]) == (204, str(len(content)))
    stored = default_storage.path(f"{party.id}/upload/{url.rpartition('/')[2]}.part")
    assert Path(stored).read_bytes() == content


def test_a_large_upload_is_never_in_memory(server: Server, party: Party, auth: dict[str, str]) -> None:
    url, before, peak = upload_to(server, party), server.memory_mb(), [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], server.memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    content = PNG + os.urandom(45 * 2**20)
    answer = requests.post(url, headers=auth, files={"file": ("a", io.BytesIO(content))}, timeout=60)
    done.set()
    watcher.join()
    assert answer.status_code == 202
    assert peak[0] - before < 25
    over = requests.post(url, headers=auth, files={"file": ("a", PNG + bytes(51 * 2**20))}, timeout=60)
    assert over.status_code == 413


def test_downloads_that_break_off_give_their_threads_back(
    server: Server, party: Party, auth: dict[str, str]
) -> None:
    url = upload_to(server, party)
    files = {"file": ("a", PNG + os.urandom(20 * 2**20))}
    asset = requests.post(url, headers=auth, files=files, timeout=60).json()["asset"]
    with tenant_scope(party.id):
        Blob.objects.update(width=1)
    head = get(f"/assets/{asset['id']}/content", auth)
    for _ in range(settings.WEB_THREADS + 4):
        with server.send(head) as connection:
            connection.recv(1000)
    whole = requests.get(f"{server.api}/assets/{asset['id']}/content", headers=auth, timeout=30)
    assert len(whole.content) == asset["bytes"]


def test_bytes_that_are_no_text(server: Server, auth: dict[str, str]) -> None:
    for line in (
        b"GET /api/v1/jobs?state=\xff",
        b"GET /api/v1/datasets/%ff%00",
        b"GET /api/v1/datasets/\xc3\xa9",
    ):
        head = line + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + auth["Authorization"].encode()
        with server.send(head + b"\r\n\r\n") as connection:
            status = int(connection.recv(4096).split()[1])
        assert status in (400, 404, 422), line


def test_a_stop_ends_streams_and_waits_for_answers(party: Party, job: Job, auth: dict[str, str]) -> None:
    with serving() as server:
        url = upload_to(server, party)
        listener = Listener(f"{server.api}/jobs/{job.id}/events", auth)
        listener.wait_for(1)
        held_back = ThreadPoolExecutor(1).submit(wait_for, server, job, 60, auth)
        waiting = threading.Thread(target=lambda: slow.append(wait_in_vain(url, auth)))
        slow: list[requests.Response] = []
        waiting.start()
        pause(0.5, "the request waits meanwhile")
        server.process.send_signal(signal.SIGTERM)
        waiting.join(PATIENCE_S)
        listener.thread.join(PATIENCE_S)
        server.process.wait(PATIENCE_S)
        # The server kills what has not ended after five seconds.
        assert slow[0].status_code == 202
        assert held_back.result(PATIENCE_S).json()["state"] == "queued"


def wait_in_vain(url: str, auth: dict[str, str]) -> requests.Response:
    return requests.post(url, json={"text": "x"}, headers={**auth, "Prefer": "wait=2"}, timeout=PATIENCE_S)


def test_a_stop_loses_no_request_that_was_counted(party: Party, auth: dict[str, str]) -> None:
    with serving() as server, requests.Session() as client:
        url = f"{server.api}/me"
        assert [client.get(url, headers=auth, timeout=PATIENCE_S).status_code for _ in range(28)] == [
            200
        ] * 28
        # Called twice, and in windows, a large body is one request.
        content = os.urandom(3 * 2**20)
        address, tus = begin_tus(server, len(content), auth)
        part = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        assert client.patch(address, content, headers=part, timeout=PATIENCE_S).status_code == 204
    assert valkey().get(metering.month_key(party.id, current_period())) == b"30"


@pytest.mark.parametrize(("source", "shown"), [(PROXY, "2001:db8::7"), ("127.0.0.1", "127.0.0.1")])
def test_a_session_shows_the_address_that_a_trusted_proxy_tells(
    server: Server, source: str, shown: str
) -> None:
    # The server knows real hashes only.
    user = new_user()
    User.objects.filter(pk=user.pk).update(password=make_password("a long password", hasher="pbkdf2_sha256"))
    told = {
        "Host": "localhost",
        "X-Forwarded-For": "198.51.100.9, 2001:db8::7",
        "Cookie": f"csrftoken={'a' * 32}",
        "X-CSRFToken": "a" * 32,
    }
    browser = requests.Session()
    browser.mount("http://", From(source))
    signed_in = browser.post(
        f"http://127.0.0.1:{server.port}/login",
        {"username": user.email, "password": "a long password"},
        headers=told,
        timeout=30,
        allow_redirects=False,
    )
    assert signed_in.status_code == 302
    assert Session.objects.get(user=user).address == shown


class From(requests.adapters.HTTPAdapter):
    """Connections from one of this machine's addresses."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, source_address=(self.source, 0), **options)


def test_scopes_become_words_that_wsgi_can_carry() -> None:
    from config.bridge import _wsgi_scope

    scope: dict[str, Any] = {
        "query_string": b"q=\xc3\xa9&x=%20",
        "headers": [(b"cookie", b"a=1"), (b"host", b"h"), (b"cookie", b"b=2")],
    }
    assert _wsgi_scope(scope) == {
        "query_string": b"q=%C3%A9&x=%20",
        "headers": [(b"host", b"h"), (b"cookie", b"a=1; b=2")],
    }


def test_anybody_sends_a_large_file_to_be_checked_and_nowhere_else(party: Party) -> None:
    """Beyond what is read before anybody is known: by program, by the page's form, and nowhere else."""
    sound = made(party.tenant, "audio")
    assert len(sound) > 3 * SMALL
    # Pages name files by hashes that were not collected here, but for developers.
    with serving(DEBUG="1") as server:
        origin = f"http://127.0.0.1:{server.port}"
        browser = requests.Session()
        # From a network that has checked nothing yet.
        browser.mount(
            "http://", From(".".join(["127", *(str(1 + secrets.randbelow(250)) for _ in range(3))]))
        )
        found = browser.post(f"{server.api}/check", files={"file": sound}, timeout=60)
        assert (found.status_code, found.json()["signs"]) == (200, ["credentials", "sound-mark"])
        # One check, although the view was asked twice.
        assert found.headers["RateLimit"].startswith('"default";r=9;')

        page = browser.get(f"{origin}/check", timeout=30).text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token is not None
        form = {"csrfmiddlewaretoken": token.group(1)}
        answer = browser.post(f"{origin}/check", data=form, files={"file": sound}, timeout=60)
        assert (answer.status_code, "Yes, it was made here" in answer.text) == (200, True)
        assert browser.post(f"{origin}/check", files={"file": sound}, timeout=60).status_code == 403

        # What is announced too large is answered before it comes, and so is what another page takes from nobody.
        for path, size in (("check", 200 * 2**20), ("login", 3 * SMALL)):
            fields = (
                f"Host: 127.0.0.1:{server.port}",
                f"Cookie: csrftoken={'a' * 32}",
                "Content-Type: multipart/form-data; boundary=b",
                f"Content-Length: {size}",
            )
            head = "\r\n".join((f"POST /{path} HTTP/1.1", *fields, "", ""))
            with server.send(head.encode()) as connection:
                assert connection.recv(65536).startswith(b"HTTP/1.1 413"), path
