"""Threads for requests: who has just worked works next, so that caches and its database connection are warm.

Threads share the interpreter's lock: each one more that computes makes every other request slower. So while the process
computes all the time, one caller has a quarter of them at most, and waits behind itself for the others.

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
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

# Calls that may wait for a thread: in all, of one network, of one caller there. More would be answered so late that the
# client has given up, or asks again meanwhile.
MAX_WAITING, MAX_WAITING_OF_NETWORK, MAX_WAITING_OF_ONE = 512, 256, 128


# Cores in use from which on threads compete for the interpreter's lock, and how often that is looked at.
BUSY_CORES, LOOK_S = 0.75, 0.05


@dataclass(frozen=True)
class Caller:
    """On whose behalf a thread is wanted: a network, and who of it as far as the request itself tells, unproved."""

    network: str = ""
    name: str = ""


#: Of whom nothing is known: what is left to do after an answer.
NOBODY = Caller()


class Full(Exception):
    """No further call may wait for a thread; `of_caller` where this caller's own are too many."""

    def __init__(self, *, of_caller: bool) -> None:
        super().__init__("too many calls wait for a thread")
        self.of_caller = of_caller


@dataclass(eq=False)
class Work:
    future: Future[Any]
    call: Callable[[], Any]
    caller: Caller
    #: Whether it keeps its thread without computing, and so is not in the way of others (tenants.long_requests).
    long: bool = False


class CpuMeter:
    """Whether this process computes all the time, by its CPU clock."""

    def __init__(self) -> None:
        self._busy, self._at, self._used = False, time.monotonic(), time.process_time()

    def busy(self) -> bool:
        now = time.monotonic()
        if (passed := now - self._at) >= LOOK_S:
            used = time.process_time()
            self._busy = used - self._used >= BUSY_CORES * passed
            self._at, self._used = now, used
        return self._busy


class LifoThreadPool(Executor):
    """At most `most` daemon threads, started when needed.

    What finds all busy waits. The next is of the caller who has the fewest threads, of those the one who has waited
    longest: whoever asks for much at once waits behind themselves. While the process computes all the time (`busy`),
    a caller with `of_one` threads gets no further one.
    """

    def __init__(
        self, most: int, name: str, *, of_one: int | None = None, busy: Callable[[], bool] | None = None
    ) -> None:
        self._most, self._name = most, name
        self._of_one = most if of_one is None else max(1, of_one)
        self._busy = CpuMeter().busy if busy is None else busy
        self._own = threading.local()
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[Work]] = []
        # By caller, in the order of their last turns.
        self._waiting: dict[Caller, deque[Work]] = {}
        self._of_network: Counter[str] = Counter()
        self._running: Counter[Caller] = Counter()
        self._count = 0
        self._moved_at = 0.0

    def stuck_for(self) -> float:
        """Seconds in which work has waited for a thread and none has come to an end of its own."""
        with self._lock:
            waits = self._waiting and not self._idle and self._count == self._most
            return time.monotonic() - self._moved_at if waits else 0.0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Of nobody, and never refused: what has to be done after an answer."""
        return self._add(Work(Future(), partial(call, *args, **kwargs), NOBODY))

    def submit_for(self, caller: Caller, call: Callable[[], Any], *, long: bool = False) -> Future[Any]:
        """Raises Full. `long`: it keeps its thread without computing, and something else bounds how many do."""
        return self._add(Work(Future(), call, caller, long), bounded=True)

    def keep_long(self) -> None:
        """The work of this thread, if it is one of these, keeps it without computing from here on."""
        work: Work | None = getattr(self._own, "work", None)
        if work is not None and not work.long:
            with self._lock:
                self._forget(work)
                work.long = True
                self._start_waiting()

    def _add(self, work: Work, *, bounded: bool = False) -> Future[Any]:
        with self._lock:
            if not self._waiting:
                self._moved_at = time.monotonic()
            if bounded and not self._room(work.caller):
                self._check_room(work.caller)
            self._waiting.setdefault(work.caller, deque()).append(work)
            self._of_network[work.caller.network] += 1
            self._start_waiting()
        return work.future

    def _room(self, caller: Caller) -> bool:
        """Whether this caller's next work would be started at once."""
        there = self._idle or self._count < self._most
        return bool(there) and caller not in self._waiting and self._may(caller)

    def _may(self, caller: Caller) -> bool:
        return caller == NOBODY or self._running[caller] < self._of_one or not self._busy()

    def _check_room(self, caller: Caller) -> None:
        own = len(self._waiting.get(caller, ()))
        if own >= MAX_WAITING_OF_ONE or self._of_network[caller.network] >= MAX_WAITING_OF_NETWORK:
            raise Full(of_caller=True)
        if self._of_network.total() >= MAX_WAITING:
            raise Full(of_caller=False)

    def _start_waiting(self) -> None:
        """Give threads to what waits and may have one."""
        while self._waiting and (self._idle or self._count < self._most):
            work = self._next()
            if work is None:
                return
            if self._idle:
                self._idle.pop().put(work)
                continue
            self._count += 1
            own: SimpleQueue[Work] = SimpleQueue()
            own.put(work)
            name = f"{self._name}_{self._count}"
            threading.Thread(target=self._work, args=(own,), name=name, daemon=True).start()

    def _work(self, own: SimpleQueue[Work]) -> None:
        while True:
            work = self._own.work = own.get()
            _run(work)
            self._own.work = None
            with self._lock:
                self._moved_at = time.monotonic()
                if not work.long:
                    self._forget(work)
                del work
                self._idle.append(own)
                self._start_waiting()

    def _forget(self, work: Work) -> None:
        self._running[work.caller] -= 1
        if not self._running[work.caller]:
            del self._running[work.caller]

    def _next(self) -> Work | None:
        """What has its turn, counted as running; None where nobody who waits may have a further thread."""
        caller = min(filter(self._may, self._waiting), key=lambda one: self._running[one], default=None)
        if caller is None:
            return None
        waiting = self._waiting.pop(caller)
        work = waiting.popleft()
        if waiting:
            # At the end: equals take turns.
            self._waiting[caller] = waiting
        self._of_network[caller.network] -= 1
        if not self._of_network[caller.network]:
            del self._of_network[caller.network]
        if not work.long:
            self._running[caller] += 1
        return work


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


def _run(work: Work) -> None:
    future = work.future
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work.call()
    except BaseException as error:
        future.set_exception(error)
        # The error's frames name the future, which names the error.
        del future
    else:
        future.set_result(result)
