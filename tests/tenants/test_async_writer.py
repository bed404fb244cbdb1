"""Writes to Valkey that nobody waits for."""

from __future__ import annotations

import threading
import uuid

import pytest
import redis

from tenants.errors import CursorExpired
from tenants.retrieval import cache
from tenants.retrieval.cache import AsyncWriter
from tenants.retrieval.query import result_page
from tenants.retrieval.types import Hit
from tenants.valkey import client
from tests.waiting import PATIENCE_S, until


def key() -> str:
    return f"test:{uuid.uuid4().hex}"


def test_it_counts_at_once_and_reaches_valkey_with_its_time_to_live() -> None:
    later, name = AsyncWriter(), key()
    assert later.put(name, b"value", 60)
    assert later.get(name) == b"value"
    assert until(lambda: client().get(name) == b"value")
    assert 0 < client().ttl(name) <= 60
    assert until(lambda: later.get(name) is None), "what was sent is Valkey's"


def test_many_writes_are_one_round_trip() -> None:
    trips = []

    class Counted:
        def pipeline(self, **options):
            trips.append(1)
            return client().pipeline(**options)

    later, names = AsyncWriter(Counted), [key() for _ in range(50)]
    for name in names:
        later.put(name, name.encode(), 60)
    assert until(lambda: client().mget(names) == [name.encode() for name in names])
    assert len(trips) < 10


def test_the_newer_value_of_a_key_is_kept_while_the_older_one_is_sent() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    class Slow:
        def pipeline(self, **options):
            begun.set()
            goes_on.wait(PATIENCE_S)
            return client().pipeline(**options)

    later, name = AsyncWriter(Slow), key()
    later.put(name, b"older", 60)
    assert begun.wait(PATIENCE_S)
    later.put(name, b"newer", 60)
    goes_on.set()
    assert until(lambda: client().get(name) == b"newer")
    assert until(lambda: later.get(name) is None)


def test_without_valkey_nothing_is_kept_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "REST_S", 0.2)
    away = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.1)
    later, name = AsyncWriter(lambda: away), key()
    assert later.put(name, b"value", 60), "nobody knows yet"
    assert until(lambda: not later.put(name, b"value", 60))
    assert until(lambda: later.get(name) is None), "what is lost is not served either"
    later._connection = client
    assert until(lambda: later.put(name, b"again", 60)), "it tries again after its rest"
    assert until(lambda: client().get(name) == b"again")


def test_a_full_backlog_is_written_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_GATHERED", 10)
    monkeypatch.setattr(cache, "GATHER_S", 60.0)
    later, names = AsyncWriter(), [key() for _ in range(11)]
    for name in names:
        later.put(name, b"1", 60)
    assert client().exists(*names) == 11


def test_a_cursor_that_another_process_is_about_to_write_is_waited_for() -> None:
    tenant, search_id = uuid.uuid4(), str(uuid.uuid4())
    ranking = result_page.KeptRanking([Hit(uuid.uuid4(), 0.5, "text")], {"total_candidates": 1})
    result_page.keep_ranking(tenant, search_id, ranking)
    cache.async_writer.flush()
    name = result_page._cursor_key(tenant, search_id)
    raw = client().getdel(name)
    threading.Timer(0.015, lambda: client().set(name, raw, ex=60)).start()
    found = result_page.kept_ranking(tenant, search_id)
    assert isinstance(found, result_page.KeptRanking)
    assert [hit.asset_id for hit in found.hits] == [hit.asset_id for hit in ranking.hits]
    client().delete(name)
    with pytest.raises(CursorExpired):
        result_page.kept_ranking(tenant, search_id)
