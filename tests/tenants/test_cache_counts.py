"""Counters by tenant that never jump, and never are more than so many."""

from __future__ import annotations

import threading
import uuid

import pytest

from tenants.retrieval import cache
from tenants.retrieval.cache import OTHER, LookupCounts


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


A, B, C = (uuid.UUID(int=n) for n in (1, 2, 3))


def looked_up(counts: LookupCounts, tenant: uuid.UUID, times: int = 1) -> None:
    for _ in range(times):
        counts.add("candidates", tenant, "miss")


def by_tenant(counts: LookupCounts) -> dict[str, int]:
    return {tenant: count for (_, _, tenant), count in counts.read().items()}


def test_counts_by_cache_layer_and_tenant() -> None:
    counts = LookupCounts()
    for name, tenant, layer in [
        ("candidates", A, "miss"),
        ("candidates", A, "process"),
        ("candidates", A, "process"),
        ("embedding", A, "valkey"),
        ("embedding", B, "miss"),
    ]:
        counts.add(name, tenant, layer)
    assert counts.read() == {
        ("candidates", "miss", str(A)): 1,
        ("candidates", "process", str(A)): 2,
        ("embedding", "valkey", str(A)): 1,
        ("embedding", "miss", str(B)): 1,
    }


def test_the_busiest_are_named_and_no_series_ever_jumps() -> None:
    clock = Clock()
    counts = LookupCounts(named=2, window_s=60, clock=clock)
    for tenant, times in ((A, 1), (B, 5), (C, 9)):
        looked_up(counts, tenant, times)
    assert by_tenant(counts) == {str(A): 1, str(B): 5, OTHER: 9}
    clock.now = 61
    looked_up(counts, C)
    # C has a name now and starts at 0; what the others have counted so far stays as it was.
    assert by_tenant(counts) == {str(B): 5, str(C): 1, OTHER: 9}
    looked_up(counts, A, 3)
    assert by_tenant(counts) == {str(B): 5, str(C): 1, OTHER: 12}


def test_an_idle_window_changes_no_names() -> None:
    clock = Clock()
    counts = LookupCounts(named=2, window_s=60, clock=clock)
    for tenant in (A, B):
        looked_up(counts, tenant)
    clock.now = 61
    looked_up(counts, B)
    clock.now = 122
    looked_up(counts, B)
    assert by_tenant(counts) == {str(A): 1, str(B): 3}


def test_many_tenants_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WATCHED", 100)
    clock = Clock()
    counts = LookupCounts(named=5, window_s=60, clock=clock)
    for n in range(1_000):
        looked_up(counts, uuid.UUID(int=n + 10))
    assert (len(counts._recent), len(counts.read())) == (100, 6)
    assert sum(counts.read().values()) == 1_000


def test_threads_lose_no_count() -> None:
    counts = LookupCounts()
    threads = [threading.Thread(target=looked_up, args=(counts, A, 2_000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert by_tenant(counts) == {str(A): 16_000}
