"""What both caches of searches are made of: a store in the process, one in Valkey, and a count of who answered."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache
from typing import Any, Generic, TypeVar

import redis
from cachetools import LRUCache
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.valkey import Unavailable

# Who answered: this process, Valkey, another caller's computation that was waited for, or nobody.
PROCESS, VALKEY, SHARED, MISS = "process", "valkey", "shared", "miss"

# Of an entry beside its value: the key, the node of the ordered dict, the header of the bytes.
ENTRY_BYTES = 400


class ProcessStore:
    """Bytes by key, least recently used first out, within a budget of bytes. Thread-safe."""

    def __init__(self, budget_bytes: int) -> None:
        self._entries: LRUCache[Hashable, bytes] = LRUCache(
            budget_bytes, lambda value: len(value) + ENTRY_BYTES
        )
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return int(self._entries.currsize)

    def get(self, key: Hashable) -> bytes | None:
        with self._lock:
            return self._entries.get(key)

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep it; what is larger than the whole budget is not kept."""
        with self._lock:
            # A value that does not fit raises, and would leave an older one there.
            self._entries.pop(key, None)
            with suppress(ValueError):
                self._entries[key] = value

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class ValkeyStore:
    """Bytes by key in Valkey, which may be away: then nothing is found and nothing is kept.

    A failure costs a caller the time-out at most. Then nobody tries for `rest_s` seconds, and after that one caller
    tries for all.
    """

    def __init__(
        self, connection: Any, rest_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._rest_s, self._clock = rest_s, clock
        self._resting_until = 0.0

    def get(self, key: str) -> bytes | None:
        return self._try(lambda: self._connection.get(key))

    def put(self, key: str, value: bytes, seconds: int) -> None:
        self._try(lambda: self._connection.set(key, value, ex=seconds))

    def _try(self, command: Callable[[], Any]) -> Any:
        if self._resting_until:
            now = self._clock()
            if now < self._resting_until:
                return None
            self._resting_until = now + self._rest_s
        try:
            answer = command()
        except redis.ResponseError:
            # A server that is well and refuses, as when it is full.
            answer = None
        except Unavailable:
            self._resting_until = self._clock() + self._rest_s
            return None
        self._resting_until = 0.0
        return answer


@cache
def valkey() -> ValkeyStore:
    """With connections of its own: what a cache may wait for is less than what a job or a session may."""
    return ValkeyStore(
        redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=0.05, socket_connect_timeout=0.05, retry=Retry(NoBackoff(), 0)
        )
    )


# --- How often the caches answered, by tenant and layer --------------------------------------------------


NAMED = 50
OTHER = "other"
# Who is busiest is decided anew so often, by the look-ups since the last time.
WINDOW_S = 300.0
# Tenants whose look-ups are told apart within a window; more than that are not worth their memory.
WATCHED = 10_000

# Which cache, and who answered.
Outcome = tuple[str, str]


class LookupCounts:
    """Thread-safe; a count takes about a microsecond."""

    def __init__(
        self, named: int = NAMED, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots, self._window_s, self._clock = named, window_s, clock
        self._named: dict[uuid.UUID, Counter[Outcome]] = {}
        self._other: Counter[Outcome] = Counter()
        self._recent: Counter[uuid.UUID] = Counter()
        self._ends = clock() + window_s
        self._lock = threading.Lock()

    def add(self, cache: str, tenant_id: uuid.UUID, layer: str) -> None:
        with self._lock:
            if self._clock() >= self._ends:
                self._choose()
            if tenant_id in self._recent or len(self._recent) < WATCHED:
                self._recent[tenant_id] += 1
            self._counter(tenant_id)[cache, layer] += 1

    def _counter(self, tenant_id: uuid.UUID) -> Counter[Outcome]:
        if (counter := self._named.get(tenant_id)) is not None:
            return counter
        if len(self._named) < self._slots:
            return self._named.setdefault(tenant_id, Counter())
        return self._other

    def _choose(self) -> None:
        """Name the busiest of this window; of equals those who have a name, so that an idle hour changes nothing."""
        known = self._recent.keys() | self._named.keys()
        ranked = sorted(known, key=lambda t: (self._recent[t], t in self._named), reverse=True)
        self._named = {t: self._named.get(t, Counter()) for t in ranked[: self._slots]}
        self._recent.clear()
        self._ends = self._clock() + self._window_s

    def read(self) -> dict[tuple[str, str, str], int]:
        """Count by cache, layer and tenant's id, where `other` stands for all who are not among the busiest."""
        with self._lock:
            named = [(str(tenant), dict(counter)) for tenant, counter in self._named.items()]
            named.append((OTHER, dict(self._other)))
        return {
            (*outcome, tenant): count
            for tenant, counter in named
            for outcome, count in sorted(counter.items())
        }


counts = LookupCounts()


# --- Callers who want the same at the same moment share one computation -------------------------------


Value = TypeVar("Value")

WAIT_S = 5.0


class _Flight(Generic[Value]):
    """One computation under way. Once `done` is set it holds a value or an error, or neither if it was broken off."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: list[Value] = []
        self.error: Exception | None = None


class SingleFlight(Generic[Value]):
    """Of concurrent callers with one key the first computes and the others wait for its result.

    Nothing is kept: a key is known only while its computation runs. For plain threads.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._flights: dict[Hashable, _Flight[Value]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, compute: Callable[[], Value]) -> tuple[Value, bool]:
        """What `compute` returns, and whether another caller computed it.

        An exception is raised to everyone who waits for this computation, and is not kept. Who has waited for `wait_s`
        seconds computes for itself and frees the key, so that a leader which hangs holds nobody up for longer. The
        same happens when the leader's thread is ended (KeyboardInterrupt, SystemExit).

        Call it outside of any transaction. A leader that computes inside of one keeps it open for as long as that
        takes, and a waiter that holds a lock which the leader needs would wait until its time is up. `compute` must
        not ask for its own key.
        """
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if leads:
            return self._lead(key, flight, compute), False
        if flight.done.wait(self._wait_s):
            if flight.error is not None:
                raise flight.error
            if flight.value:
                return flight.value[0], True
        self._forget(key, flight)
        return compute(), False

    def _lead(self, key: Hashable, flight: _Flight[Value], compute: Callable[[], Value]) -> Value:
        try:
            value = compute()
            flight.value.append(value)
            return value
        except Exception as error:
            flight.error = error
            raise
        finally:
            # First the key, then the news: whoever comes after the news starts a computation of its own.
            self._forget(key, flight)
            flight.done.set()

    def _forget(self, key: Hashable, flight: _Flight[Value]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]

    def __len__(self) -> int:
        """How many computations are under way."""
        return len(self._flights)
