"""One computation for all who ask at once; its failure is everyone's; nobody waits for ever; no key stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from tenants.retrieval.cache import SingleFlight
from tests.waiting import PATIENCE_S, until


class Gate:
    """A computation that stops until it is told to go on, and counts how often it began."""

    def __init__(self, end: Callable[[], Any]) -> None:
        self.begun, self.open, self.calls, self._end = threading.Event(), threading.Event(), 0, end

    def __call__(self) -> Any:
        self.calls += 1
        self.begun.set()
        assert self.open.wait(PATIENCE_S)
        return self._end()


def together(flight: SingleFlight, gate: Gate, callers: int) -> list[Future]:
    """A leader, then its waiters; the gate is opened once all of them are inside."""
    with ThreadPoolExecutor(callers) as pool:
        inside = threading.Semaphore(0)

        def ask() -> Any:
            inside.release()
            return flight.do("key", gate)

        asked = [pool.submit(ask)]
        assert gate.begun.wait(PATIENCE_S)
        asked += [pool.submit(ask) for _ in range(callers - 1)]
        for _ in range(callers):
            assert inside.acquire(timeout=PATIENCE_S)
        until(lambda: waiting(flight) == callers - 1)
        gate.open.set()
    return asked


def waiting(flight: SingleFlight) -> int:
    """How many wait for the computation under way."""
    return len(flight._flights["key"].done._cond._waiters)  # type: ignore[attr-defined]


def test_all_share_one_computation() -> None:
    flight: SingleFlight = SingleFlight()
    gate = Gate(lambda: 42)
    asked = together(flight, gate, 16)
    assert [f.result() for f in asked] == [(42, False)] + [(42, True)] * 15
    assert gate.calls == 1
    assert len(flight) == 0


def test_nothing_is_kept() -> None:
    flight: SingleFlight = SingleFlight()
    assert [flight.do("key", iter((1, 2)).__next__), flight.do("key", lambda: 3)] == [(1, False), (3, False)]
    assert flight.do("key", lambda: None) == (None, False)


def test_keys_do_not_wait_for_each_other() -> None:
    flight: SingleFlight = SingleFlight()
    assert flight.do("a", lambda: flight.do("b", lambda: 1)) == ((1, False), False)


def test_none_is_a_result_that_is_shared() -> None:
    gate = Gate(lambda: None)
    assert [f.result() for f in together(SingleFlight(), gate, 3)] == [
        (None, False),
        (None, True),
        (None, True),
    ]
    assert gate.calls == 1


def test_a_failure_is_everyones_and_is_not_kept() -> None:
    def fail() -> None:
        raise LookupError("no such generation")

    flight: SingleFlight = SingleFlight()
    gate = Gate(fail)
    for asked in together(flight, gate, 8):
        with pytest.raises(LookupError, match="no such generation"):
            asked.result()
    assert gate.calls == 1
    assert len(flight) == 0
    assert flight.do("key", lambda: 7) == (7, False)


def test_who_waited_long_enough_computes_and_frees_the_key() -> None:
    flight: SingleFlight = SingleFlight(wait_s=0.05)
    stuck = Gate(lambda: "late")
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flight.do, "key", stuck)
        assert stuck.begun.wait(PATIENCE_S)
        begin = time.monotonic()
        assert flight.do("key", lambda: "own") == ("own", False)
        assert time.monotonic() - begin >= 0.05
        # The next one leads a flight of its own instead of waiting for the stuck one ...
        with ThreadPoolExecutor(1) as other:
            gate = Gate(lambda: "new")
            second = other.submit(flight.do, "key", gate)
            assert gate.begun.wait(PATIENCE_S)
            # ... which the stuck one does not take away when it ends at last.
            stuck.open.set()
            assert leader.result(PATIENCE_S) == ("late", False)
            assert len(flight) == 1
            gate.open.set()
            assert second.result(PATIENCE_S) == ("new", False)
    assert len(flight) == 0


def test_waiters_outlive_a_leader_whose_thread_is_ended() -> None:
    def end() -> Any:
        if threading.current_thread().name == "leader":
            raise SystemExit
        return "own"

    flight: SingleFlight = SingleFlight(wait_s=10 * PATIENCE_S)
    gate = Gate(end)

    def lead() -> None:
        with suppress(SystemExit):
            flight.do("key", gate)

    leader = threading.Thread(target=lead, name="leader")
    leader.start()
    assert gate.begun.wait(PATIENCE_S)
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(flight.do, "key", gate)
        until(lambda: waiting(flight) == 1)
        gate.open.set()
        assert waiter.result(PATIENCE_S) == ("own", False)
    leader.join(PATIENCE_S)
    assert len(flight) == 0
