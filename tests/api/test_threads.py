"""The threads of requests: as many as allowed, the warmest first, nothing lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse

from config import edge as edge_module
from config import threads
from config.bridge import caller_of
from config.edge import Edge
from config.proxies import TrustedProxies
from config.threads import Caller, Full, LifoThreadPool, ThreadShares
from tenants import long_requests
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

    callers = [threading.Thread(target=caller, args=(1000 * n,)) for n in range(6)]
    for thread in callers:
        thread.start()
    for thread in callers:
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


def test_who_asks_for_much_waits_behind_themselves() -> None:
    pool, gate, order = LifoThreadPool(2, "t"), threading.Event(), []
    greedy, modest = Caller("10.0.0.1", "a"), Caller("10.0.0.2", "b")

    def work(name: str) -> None:
        gate.wait(PATIENCE_S)
        order.append(name)

    futures = [pool.submit_for(greedy, partial(work, "greedy")) for _ in range(20)]
    futures += [pool.submit_for(modest, partial(work, "modest")) for _ in range(2)]
    gate.set()
    wait(futures, timeout=PATIENCE_S)
    # Two were at work already; of those who wait the other one is first, though eighteen came before.
    assert set(order[2:4]) <= {"greedy", "modest"}
    assert [place for place, name in enumerate(order) if name == "modest"][-1] <= 5
    settled(pool, 2)
    assert (pool._waiting, pool._of_network, pool._running) == ({}, Counter(), Counter())


def running(pool: LifoThreadPool, many: int) -> None:
    until(lambda: sum(pool._running.values()) == many)


def test_while_the_process_computes_one_caller_has_its_share_of_threads() -> None:
    computes, gate, begun = [True], threading.Event(), []
    pool = LifoThreadPool(8, "t", of_one=2, busy=lambda: computes[0])
    greedy, modest = Caller("10.0.0.1", "a"), Caller("10.0.0.2", "b")

    def work(name: str) -> None:
        begun.append(name)
        gate.wait(PATIENCE_S)

    futures = [pool.submit_for(greedy, partial(work, "greedy")) for _ in range(9)]
    futures += [pool.submit_for(modest, partial(work, "modest"))]
    until(lambda: len(begun) == 3)
    assert Counter(begun) == {"greedy": 2, "modest": 1}
    # Threads are free, and what waits behind itself does not make the process a stuck one.
    pause(0.02, "so that there would be something to tell")
    assert pool.stuck_for() == 0.0
    # What is left to do after answers is of nobody, and has no share.
    futures += [pool.submit(work, "nobody") for _ in range(3)]
    until(lambda: len(begun) == 6)
    # Once it waits for something else there are threads for whoever wants them.
    computes[0] = False
    futures += [pool.submit_for(greedy, partial(work, "greedy"))]
    until(lambda: len(begun) == 8)
    gate.set()
    assert not wait(futures, timeout=PATIENCE_S).not_done
    assert Counter(begun) == {"greedy": 10, "modest": 1, "nobody": 3}
    until(lambda: (pool._waiting, pool._running) == ({}, Counter()))


def test_what_keeps_its_thread_without_computing_takes_nobodys_share(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, kind = threading.Event(), long_requests.Threads(8)
    pool = LifoThreadPool(8, "t", of_one=2, busy=lambda: True)
    monkeypatch.setattr(long_requests, "listener", pool.keep_long)
    one = Caller("10.0.0.1", "a")

    def waits() -> bool:
        with kind.taken() as there:
            return there and gate.wait(PATIENCE_S)

    futures = [pool.submit_for(one, waits) for _ in range(4)]
    futures += [pool.submit_for(one, partial(gate.wait, 20), long=True)]
    # All five have a thread, and a short one beside them.
    assert pool.submit_for(one, name).result(PATIENCE_S).startswith("t_")
    running(pool, 0)
    gate.set()
    assert [future.result(PATIENCE_S) for future in futures] == [True] * 5
    until(lambda: (pool._waiting, pool._running) == ({}, Counter()))


def test_a_process_that_computes_is_told_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0, "used": 0.0}
    monkeypatch.setattr(threads, "time", SimpleNamespace(
        monotonic=lambda: clock["now"], process_time=lambda: clock["used"]
    ))  # fmt: skip
    meter = threads.CpuMeter()

    def after(seconds: float, used: float) -> bool:
        clock["now"] += seconds
        clock["used"] += used
        return meter.busy()

    assert not after(0.04, 0.04)  # not looked at yet
    assert after(0.02, 0.02)
    assert after(0.04, 0.0)
    assert not after(0.06, 0.05)


def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 6)
    monkeypatch.setattr(threads, "MAX_WAITING_OF_NETWORK", 4)
    monkeypatch.setattr(threads, "MAX_WAITING_OF_ONE", 3)
    pool, gate = LifoThreadPool(1, "t"), threading.Event()
    futures = [pool.submit(gate.wait, 20)]

    def wants(network: str, name: str) -> bool | None:
        """None where it waits; else whether its own are too many."""
        try:
            futures.append(pool.submit_for(Caller(network, name), bool))
        except Full as full:
            return full.of_caller
        return None

    assert [wants("one", "a") for _ in range(5)] == [None, None, None, True, True]
    # Other names from the same network: whoever makes them up gains little.
    assert [wants("one", str(number)) for number in range(3)] == [None, True, True]
    assert [wants("other", "a") for _ in range(3)] == [None, None, False]
    # What has to be done is never refused.
    futures.append(pool.submit(bool))
    gate.set()
    done, waiting = wait(futures, timeout=PATIENCE_S)
    assert (len(done), len(waiting)) == (8, 0)


def test_overload_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 3)
    monkeypatch.setattr(threads, "MAX_WAITING_OF_ONE", 2)
    gate, begun = threading.Event(), threading.Semaphore(0)

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> HttpResponse:
        begun.release()
        gate.wait(PATIENCE_S)
        start("204 No Content", [])
        return HttpResponse(status=204)

    async def asked(edge: Edge, key: str) -> tuple[int, dict[bytes, bytes], bytes]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/v1/me",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {key}.secret".encode())],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("h", 80),
            "client": ("127.0.0.1", 1),
        }
        await edge(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]

    async def ask() -> None:
        edge = Edge(app, threads=1, proxies=TrustedProxies((), "x-forwarded-for"))
        held = [asyncio.create_task(asked(edge, "greedy")) for _ in range(3)]
        while not begun.acquire(blocking=False):
            await pause_async(0.01, "until it has begun")
        await pause_async(0.05, "the others wait for a thread meanwhile")
        status, headers, body = await asked(edge, "greedy")
        assert (status, headers[b"retry-after"]) == (429, b"1")
        assert json.loads(body)["type"] == "urn:crosslight:problem:too-many-at-once"
        held.append(asyncio.create_task(asked(edge, "modest")))
        await pause_async(0.05, "it waits, too")
        status, headers, body = await asked(edge, "third")
        assert (status, headers[b"retry-after"]) == (503, b"1")
        assert json.loads(body)["type"] == "urn:crosslight:problem:unavailable"
        gate.set()
        assert [(await each)[0] for each in held] == [204] * 4
        # It is over as soon as there is room.
        assert (await asked(edge, "greedy"))[0] == 204

    asyncio.run(ask())


def test_a_caller_is_told_by_key_and_network() -> None:
    key = {"HTTP_AUTHORIZATION": "Bearer cl0123456789.secret", "REMOTE_ADDR": "2001:db8::1:2"}
    assert caller_of(key) == Caller("2001:db8::/64", "cl0123456789")
    assert caller_of(
        {"HTTP_AUTHORIZATION": "Basic cl0123456789.secret", "REMOTE_ADDR": "10.0.0.1"}
    ) == Caller("10.0.0.1")
    assert caller_of({"HTTP_AUTHORIZATION": f"bearer {'x' * 5000}"}) == Caller("", "x" * 32)
    assert caller_of({}) == Caller()
