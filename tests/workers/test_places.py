"""A worker of several queues: what takes long leaves threads for what is short."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
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


@pytest.mark.parametrize(
    ("given", "threads", "places"), [(None, "7", "index:2,default:3"), ("1", "4", "index:1,default:1")]
)
def test_the_general_worker_keeps_two_threads_for_upkeep(
    tmp_path: Any, given: str | None, threads: str, places: str
) -> None:
    environ = {"DATA_DIR": str(tmp_path), **({"WORKER_THREADS": given} if given else {})}
    config = StackConfig.from_environ(environ)
    command = programs.app_programs(config, {})["worker-general"].command
    assert command.arguments[command.arguments.index("-c") + 1] == threads
    assert command.env["QUEUE_PLACES"] == places
    others = programs.app_programs(config, {})["worker-embed"].command
    assert "QUEUE_PLACES" not in others.env
