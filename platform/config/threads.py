"""Threads for requests: who has just worked works next, so that caches and its database connection are warm.

`ThreadPoolExecutor` hands work to whoever has waited longest: on a quiet server always the coldest thread, and as many
connections are kept busy as there were ever requests at once. Measured: a fifth of the CPU of a search.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Any

Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class LifoThreadPool(Executor):
    """At most `most` daemon threads, started when needed. What finds all busy waits, first come, first served."""

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Work]] = []
        self._waiting: deque[Work] = deque()
        self._count = 0
        self._moved_at = 0.0

    def stuck_for(self) -> float:
        """Seconds in which work has waited and no thread has come to an end of its own."""
        with self._lock:
            return time.monotonic() - self._moved_at if self._waiting else 0.0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work: Work = (Future(), call, args, kwargs)
        with self._lock:
            if self._idle:
                self._idle.pop().put(work)
            elif self._count < self._most:
                self._count += 1
                first: SimpleQueue[Work] = SimpleQueue()
                first.put(work)
                name = f"{self._name}_{self._count}"
                threading.Thread(target=self._work, args=(first,), name=name, daemon=True).start()
            else:
                if not self._waiting:
                    self._moved_at = time.monotonic()
                self._waiting.append(work)
        return work[0]

    def _work(self, own: SimpleQueue[Work]) -> None:
        while True:
            _run(*own.get())
            with self._lock:
                self._moved_at = time.monotonic()
                if self._waiting:
                    own.put(self._waiting.popleft())
                else:
                    self._idle.append(own)


class ThreadShares:
    """Who may have a thread for long: so many at a time in all and of one tenant; the others wait without one."""

    def __init__(self, most: int, of_one: int) -> None:
        self._all = asyncio.Semaphore(max(1, most))
        self._of_one = max(1, of_one)
        self._own: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        self._users[tenant] += 1
        own = self._own.setdefault(tenant, asyncio.Semaphore(self._of_one))
        try:
            async with own, self._all:
                yield
        finally:
            self._users[tenant] -= 1
            if not self._users[tenant]:
                del self._users[tenant], self._own[tenant]


def _run(
    future: Future[object], call: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
        # The error's frames name the future, which names the error.
        del future
    else:
        future.set_result(result)
