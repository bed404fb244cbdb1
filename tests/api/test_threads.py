"""The threads of requests: as many as allowed, the warmest first, nothing lost."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest
from django.http import HttpResponse

from config import edge as edge_module
from config.edge import Edge
from config.proxies import TrustedProxies
from config.threads import LifoThreadPool, ThreadShares
from tests.waiting import PATIENCE_S, pause, pause_async, until


def name() -> str:
    return threading.current_thread().name


def settled(pool: LifoThreadPool, idle: int) -> None:
    """A thread is idle a moment after its result is there."""
    until(lambda: len(pool._idle) == idle)


def test_results_and_errors_come_back() -> None:
    pool = LifoThreadPool(2, "t")
    assert pool.submit(lambda a, b: a - b, 5, b=3).result(PATIENCE_S) == 2
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(PATIENCE_S)
    with pytest.raises(SystemExit):
        pool.submit(lambda: (_ for _ in ()).throw(SystemExit(3))).result(PATIENCE_S)
    assert pool.submit(name).result(PATIENCE_S).startswith("t_")


def test_one_at_a_time_is_always_the_same_thread() -> None:
    pool = LifoThreadPool(8, "t")
    gate = threading.Barrier(4)
    wait([pool.submit(gate.wait, PATIENCE_S) for _ in range(4)], timeout=PATIENCE_S)
    settled(pool, 4)
    seen = set()
    for _ in range(20):
        seen.add(pool.submit(name).result(PATIENCE_S))
        settled(pool, 4)
    assert len(seen) == 1


def test_never_more_than_allowed_and_the_rest_waits_its_turn() -> None:
    pool, lock = LifoThreadPool(3, "t"), threading.Lock()
    running, most, order = 0, 0, []

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            order.append(number)
        pause(0.002, "others run beside it")
        with lock:
            running -= 1
        return number

    futures = [pool.submit(work, number) for number in range(100)]
    assert [future.result(PATIENCE_S) for future in futures] == list(range(100))
    assert most == 3
    # First come, first served, but for those that run beside each other.
    assert set(order[:20]) & set(range(10)) == set(range(10))
    assert not set(order[:20]) & set(range(60, 100))
    settled(pool, 3)


def test_what_was_cancelled_while_it_waited_is_not_run() -> None:
    pool, goes_on, ran = LifoThreadPool(1, "t"), threading.Event(), []
    first = pool.submit(goes_on.wait, PATIENCE_S)
    second, third = pool.submit(ran.append, 2), pool.submit(ran.append, 3)
    assert second.cancel()
    goes_on.set()
    assert first.result(PATIENCE_S)
    third.result(PATIENCE_S)
    assert ran == [3]
    with pytest.raises(CancelledError):
        second.result(PATIENCE_S)


def test_many_callers_at_once_lose_nothing() -> None:
    pool, done = LifoThreadPool(4, "t"), []

    def caller(start: int) -> None:
        for number in range(start, start + 500):
            done.append(pool.submit(lambda n=number: n).result(PATIENCE_S))

    threads = [threading.Thread(target=caller, args=(1000 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == [1000 * n + k for n in range(6) for k in range(500)]


def test_threads_that_nobody_leaves_are_known() -> None:
    pool, gate = LifoThreadPool(2, "t"), threading.Event()
    held = [pool.submit(gate.wait, PATIENCE_S) for _ in range(2)]
    assert pool.stuck_for() == 0.0
    waiting = pool.submit(name)
    pause(0.05, "it waits for a thread meanwhile")
    assert pool.stuck_for() >= 0.05
    gate.set()
    wait([*held, waiting], timeout=PATIENCE_S)
    assert pool.stuck_for() == 0.0


def test_health_is_told_while_every_thread_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is bad once none of them becomes free, though requests wait."""
    gate, begun = threading.Event(), threading.Semaphore(0)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> HttpResponse:
        begun.release()
        gate.wait(PATIENCE_S)
        start("204 No Content", [])
        return HttpResponse(status=204)

    async def asked(edge: Edge, path: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
        whole = {
            **scope,
            "http_version": "1.1",
            "scheme": "http",
            "server": ("h", 80),
            "client": ("127.0.0.1", 1),
        }
        await edge(whole, receive, send)
        return int(sent[0]["status"])

    async def ask() -> list[int]:
        edge = Edge(app, threads=2, proxies=TrustedProxies((), "x-forwarded-for"))
        held = [asyncio.create_task(asked(edge, "/x")) for _ in range(3)]
        for _thread in range(2):
            while not begun.acquire(blocking=False):
                await pause_async(0.01, "until it has begun")
        told = [await asked(edge, "/healthz")]
        monkeypatch.setattr(edge_module, "STUCK_S", 0.01)
        while (now := await asked(edge, "/healthz")) == 200:
            await pause_async(0.01, "the third waits for a thread meanwhile")
        told.append(now)
        gate.set()
        return told + [await each for each in held]

    assert asyncio.run(ask()) == [200, 503, 204, 204, 204]


def test_turns_are_bounded_for_a_tenant_and_in_all() -> None:
    async def run() -> None:
        turns, inside, most = ThreadShares(3, 2), Counter[str](), Counter[str]()
        served: list[str] = []

        async def work(tenant: str) -> None:
            async with turns.turn(tenant):
                inside[tenant] += 1
                most[tenant] = max(most[tenant], inside[tenant])
                most["all"] = max(most["all"], inside.total())
                await pause_async(0.01, "others want in meanwhile")
                inside[tenant] -= 1
                served.append(tenant)

        await asyncio.gather(*(work("many") for _ in range(10)), work("few"))
        assert most == {"many": 2, "few": 1, "all": 3}
        # Who came last has not waited for the ten before it.
        assert served.index("few") < 4
        assert not turns._own
        assert not turns._users

    asyncio.run(run())
