"""A worker of several queues: what takes long leaves threads for what is short."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from standalone import programs
from standalone.config import StackConfig
from tenants.jobs import fair_queue
from tests.waiting import PATIENCE_S
from workers import base, tasks


def test_a_queue_has_so_many_places_and_others_have_all() -> None:
    places = base.Places({"index": 2})
    with ExitStack() as stack:
        assert [stack.enter_context(places.taken("index")) for _ in range(3)] == [True, True, False]
        assert all(stack.enter_context(places.taken("system")) for _ in range(20))
    with places.taken("index") as there:
        assert there


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Jobs of the queue `index` that run until they are let go; what was told, and how many were begun."""
    seen: dict[str, Any] = {
        "begun": threading.Semaphore(0),
        "go": threading.Event(),
        "told": [],
        "waiting": 4,
    }

    def dequeue(queue: str) -> fair_queue.Dequeued | None:
        seen["waiting"] -= 1
        return (
            fair_queue.Dequeued(uuid.uuid4(), uuid.uuid4(), "build_index", False)
            if seen["waiting"] >= 0
            else None
        )

    def run(*_: str) -> None:
        seen["begun"].release()
        seen["go"].wait(PATIENCE_S)

    monkeypatch.setattr(base, "places", base.Places({"index": 2}))
    monkeypatch.setattr(base.fair_queue, "dequeue", dequeue)
    monkeypatch.setattr(base.fair_queue, "is_waiting", lambda queue: seen["waiting"] > 0)
    monkeypatch.setattr(base, "run_job", run)
    monkeypatch.setattr(base, "notify", seen["told"].append)
    yield seen
    seen["go"].set()


def test_four_builds_leave_threads_and_are_told_again(builds: dict[str, Any]) -> None:
    threads = [threading.Thread(target=base.run_next, args=("index",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert builds["begun"].acquire(timeout=PATIENCE_S)
    # The two messages that found no place are gone, and took no job.
    for thread in threads:
        thread.join(0.2)
    assert (sum(thread.is_alive() for thread in threads), builds["waiting"]) == (2, 2)
    builds["go"].set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert builds["told"] == ["index", "index"]


def test_an_erasure_takes_a_place_of_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    full = base.Places({"default": 1})
    monkeypatch.setattr(tasks, "places", full)
    monkeypatch.setattr(tasks.operator_acts, "run_erasure", ran.append)
    with full.taken("default"):
        tasks.erase_tenant("one")
    tasks.erase_tenant("two")
    assert ran == ["two"]


def started(tmp_path: Any, name: str, given: str | None = None) -> tuple[int, str]:
    """Threads and places that a process of the stack is started with."""
    environ = {"DATA_DIR": str(tmp_path), **({"WORKER_THREADS": given} if given else {})}
    command = programs.app_programs(StackConfig.from_environ(environ), {})[name].command
    threads = int(command.arguments[command.arguments.index("-c") + 1])
    return threads, command.env.get("QUEUE_PLACES", "")


@pytest.mark.parametrize(
    ("name", "given", "threads", "places"),
    [
        ("worker-general", None, 7, "index:2,default:3"),
        ("worker-general", "1", 4, "index:1,default:1"),
        ("worker-bulk", None, 9, "media:3,import:2,live:2"),
        ("worker-bulk", "1", 5, "media:1,import:1,live:1"),
        ("worker-embed", None, 4, ""),
    ],
)
def test_no_queue_of_a_worker_of_several_takes_all_of_its_threads(
    tmp_path: Any, name: str, given: str | None, threads: int, places: str
) -> None:
    assert started(tmp_path, name, given) == (threads, places)


@pytest.mark.parametrize("given", [None, "1"])
def test_what_is_embedded_for_another_model_begins_beside_an_upload_of_films(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, given: str | None
) -> None:
    threads, places = started(tmp_path, "worker-bulk", given)
    most = {queue: int(count) for queue, _, count in (one.partition(":") for one in places.split(",") if one)}
    begun: list[str] = []
    films, go, embeds = threading.Semaphore(0), threading.Event(), threading.Event()

    def run(queue: str, _tenant: str) -> None:
        begun.append(queue)
        if queue == "import":
            embeds.set()
        else:
            films.release()
            go.wait(PATIENCE_S)

    # Its id tells the queue: nothing else of a job matters here.
    def taken(queue: str) -> Any:
        return fair_queue.Dequeued(queue, "", "", False)  # type: ignore[arg-type]

    monkeypatch.setattr(base.fair_queue, "dequeue", taken)
    monkeypatch.setattr(base.fair_queue, "is_waiting", lambda queue: False)
    monkeypatch.setattr(base, "places", base.Places(most))
    monkeypatch.setattr(base, "run_job", run)
    with ThreadPoolExecutor(threads) as pool:
        # The films came first, and more of them than there are threads.
        for queue in [*["media"] * 20, "import"]:
            pool.submit(base.run_next, queue)
        try:
            assert films.acquire(timeout=PATIENCE_S)
            assert embeds.wait(PATIENCE_S)
            # As many films as there are places, and the promotion among them.
            assert begun.count("media") <= most["media"]
        finally:
            go.set()
