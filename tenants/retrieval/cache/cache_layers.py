"""What both caches of searches are made of: a store in the process, one in Valkey, and a count of who answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import cache
from typing import Any

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
