"""Kill -9 in the middle of the work: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from standalone.stack import Stack
from tests.flows.client import Client, signed_in
from tests.flows.pictures import jpeg
from tests.waiting import pause, until

pytestmark = [pytest.mark.stack, pytest.mark.slow]


# Of so many uploads one is a picture, which takes a worker many times as long as a text.
PICTURE_EVERY = 4


def _upload(client: Client, dataset: str, number: int) -> dict:
    own = Client(client.base_url, client.token)
    content = jpeg(10_000 + number, 48) if number % PICTURE_EVERY == 0 else None
    return own.upload(dataset, content, external_id=str(number), text=f"picture {number}")


def _states(client: Client) -> dict[str, int]:
    counts: dict[str, int] = {}
    cursor = ""
    while cursor is not None:
        page = client.json("GET", f"/jobs?limit=200{cursor and f'&cursor={cursor}'}")
        for job in page["results"]:
            counts[job["state"]] = counts.get(job["state"], 0) + 1
        cursor = page["next"]
    return counts


def _wait_for_all(client: Client, count: int, seconds: float = 600) -> dict[str, int]:
    def ended() -> dict[str, int] | None:
        states = _states(client)
        return states if states.get("succeeded", 0) + states.get("failed", 0) == count else None

    return until(ended, seconds, lambda: _states(client), every_s=0.5) or {}


def _kill_at_work(stack: Stack, client: Client) -> int:
    """Kill the worker while it has a job of this tenant in hand; returns which process that was."""
    worker = psutil.Process(stack.pid("worker-embed"))

    def is_at_work() -> bool:
        # What it has in hand while it stands still, it has in hand when it is killed.
        worker.suspend()
        if _states(client).get("running"):
            return True
        worker.resume()
        return False

    until(is_at_work, 300, lambda: _states(client), every_s=0.1)
    return stack.kill("worker-embed")


def test_a_worker_killed_in_the_middle_of_200_uploads(stack, client) -> None:
    dataset = client.dataset("killed")
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(_upload, client, dataset, number) for number in range(200)]
        until(lambda: _states(client).get("succeeded", 0) >= 20, 300, lambda: _states(client), every_s=0.1)
        killed = _kill_at_work(stack, client)
        uploads = [one.result() for one in sent]
    stack.wait_for_successor("worker-embed", killed)
    assert _wait_for_all(client, 200) == {"succeeded": 200}
    assert len({upload["asset"]["id"] for upload in uploads}) == 200
    me = client.json("GET", "/me")["quotas"]
    # A picture with a caption has two.
    assert (me["assets"]["used"], me["vectors"]["used"], me["vectors"]["reserved"]) == (200, 250, 0)
    answer = client.search(text="picture", top_k=200)
    assert answer["total_candidates"] == 200
    assert answer["index"]["size"] == 250
    jobs = [client.json("GET", f"/jobs/{upload['job']['id']}") for upload in uploads]
    assert max(job["attempts"] for job in jobs) == 2, "the kill came too late to interrupt a job"


def test_a_killed_web_process_comes_back_and_has_lost_nothing(stack, client) -> None:
    dataset = client.dataset("web")
    asset = client.put(dataset, text="written before the crash")
    stack.wait_for_successor("web", stack.kill("web"))
    stack.wait_ready()
    assert client.found(text="written before the crash") == [asset["id"]]


@contextmanager
def pages_meanwhile(stack: Stack) -> Iterator[Counter[tuple[int, str | None]]]:
    """Status and Retry-After of what someone who is signed in is answered, again and again."""
    entry = stack.demo["tenants"][0]
    session = signed_in(stack.base_url, entry["user"], entry["password"])
    answered, ended = Counter[tuple[int, str | None]](), threading.Event()

    def read() -> None:
        while not ended.wait(0.02):
            page = session.get(f"{stack.base_url}/datasets", timeout=60, allow_redirects=False)
            answered[page.status_code, page.headers.get("Retry-After")] += 1

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            yield answered
        finally:
            ended.set()
        reading.result()


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_killed_server_comes_back_and_work_goes_on(stack, client, name) -> None:
    dataset = client.dataset(name)
    before = client.put(dataset, text="written before the crash")
    with pages_meanwhile(stack) as answered:
        stack.wait_for_successor(name, stack.kill(name))
        stack.wait_ready()
    # Pages say that it is away and when to try again.
    assert set(answered) <= {(200, None), (503, "5")}
    assert answered[(200, None)] > 0
    after = client.put(dataset, text="written after the crash")
    assert set(client.found(text="the crash")) == {before["id"], after["id"]}


def test_a_stopped_worker_loses_its_lease_and_cannot_write_later(stack, client) -> None:
    """A worker that hangs longer than its lease: another attempt does the work, once."""
    dataset = client.dataset("hang")
    pid = stack.pid("worker-embed")
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = client.upload(dataset, text="hello from a hanging worker")
        pause(1, "a worker that is not stopped would take it meanwhile")
        assert client.json("GET", f"/jobs/{answer['job']['id']}")["state"] == "queued"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.wait(answer["job"])["state"] == "succeeded"
    assert client.search(text="hanging worker")["index"]["size"] == 1
