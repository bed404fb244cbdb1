"""The stores under both caches: bounded memory, and a Valkey that may be slow, full or away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.retrieval.cache import ENTRY_BYTES, ProcessStore, ValkeyStore, valkey
from tests.waiting import Clock, pause

NO_RETRY = Retry(NoBackoff(), 0)


class Deaf:
    """A server that takes connections and never answers, and counts them."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.connections, self._open = self._socket.getsockname()[1], 0, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)

    def close(self) -> None:
        for each in [self._socket, *self._open]:
            each.close()


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    server = Deaf()
    yield server
    server.close()


def store_at(port: int, clock: Clock) -> ValkeyStore:
    connection = redis.Redis(
        "127.0.0.1", port, socket_timeout=0.05, socket_connect_timeout=0.05, retry=NO_RETRY
    )
    return ValkeyStore(connection, clock=clock)


def real() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, retry=NO_RETRY)


def test_the_least_recently_used_goes_first() -> None:
    store = ProcessStore(3 * (100 + ENTRY_BYTES))
    for key in "abc":
        store.put(key, bytes(100))
    assert store.get("a") == bytes(100)
    store.put("d", bytes(100))
    assert [store.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert (len(store), store.size_bytes) == (3, 3 * (100 + ENTRY_BYTES))


def test_what_is_put_twice_is_counted_once() -> None:
    store = ProcessStore(10_000)
    store.put("a", bytes(100))
    store.put("a", bytes(40))
    assert (store.get("a"), store.size_bytes) == (bytes(40), 40 + ENTRY_BYTES)
    store.clear()
    assert (store.get("a"), store.size_bytes, len(store)) == (None, 0, 0)


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    store = ProcessStore(1_000)
    store.put("a", bytes(2_000))
    assert (store.get("a"), store.size_bytes, len(store)) == (None, 0, 0)


def test_a_silent_valkey_costs_one_time_out_and_then_nothing(deaf: Deaf) -> None:
    store = store_at(deaf.port, Clock())
    assert store.get("key") is None
    asked = deaf.connections
    for _ in range(1_000):
        store.put("key", b"value", 10)
        assert store.get("key") is None
    # No connection, and so nothing that was waited for.
    assert deaf.connections == asked


def test_after_the_rest_one_caller_tries_for_all(deaf: Deaf) -> None:
    clock = Clock()
    store = store_at(deaf.port, clock)
    store.get("key")
    clock.move(1.1)
    asked = deaf.connections
    threads = [threading.Thread(target=store.get, args=("key",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert deaf.connections == asked + 1


@pytest.mark.services
def test_an_absent_valkey_is_found_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    clock = Clock()
    store = store_at(port, clock)
    assert store.get("key") is None
    store._connection = real()
    store.put("cache-layers:test", b"kept", 10)
    assert store.get("cache-layers:test") is None
    clock.move(1.1)
    store.put("cache-layers:test", b"kept", 10)
    assert store.get("cache-layers:test") == b"kept"
    store._connection.delete("cache-layers:test")


def test_a_refusal_is_no_absence() -> None:
    connection = real()
    connection.delete("cache-layers:list")
    connection.rpush("cache-layers:list", b"x")
    try:
        store = ValkeyStore(connection, rest_s=60)
        assert store.get("cache-layers:list") is None
        store.put("cache-layers:well", b"1", 10)
        assert store.get("cache-layers:well") == b"1"
    finally:
        connection.delete("cache-layers:list", "cache-layers:well")


@pytest.mark.services
def test_values_expire() -> None:
    valkey().put("cache-layers:expires", b"1", 1)
    assert valkey().get("cache-layers:expires") == b"1"
    pause(1.2, "entries end by the clock of Valkey")
    assert valkey().get("cache-layers:expires") is None
