"""A generation's candidates: right, found again, shared, and never from another generation, tenant or vector."""

from __future__ import annotations

import struct
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.retrieval import cache
from tenants.retrieval.cache import (
    ENTRY_BYTES,
    LEAST_DEPTH,
    CandidateCache,
    CandidateList,
    LookupCounts,
    ValkeyStore,
    depth_class,
)
from tenants.valkey import client, tenant_key
from tests.waiting import PATIENCE_S, pause

BUDGET = 32 << 20


class Fake:
    """A generation of random vectors, searched exactly; it counts its searches."""

    def __init__(self, size: int, seed: int) -> None:
        values = np.random.default_rng(seed).normal(size=(size, 256)).astype(np.float32)
        self.id = uuid.uuid4()
        self.vectors = values / np.linalg.norm(values, axis=1, keepdims=True)
        self.searches = 0

    def best(self, vector: np.ndarray, count: int = LEAST_DEPTH) -> tuple[np.ndarray, np.ndarray]:
        scores = self.vectors @ vector
        rows = np.argsort(-scores, kind="stable")[:count].astype(np.int64)
        return scores[rows], rows

    def search(
        self, vector: np.ndarray, count: int = LEAST_DEPTH
    ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        def compute() -> tuple[np.ndarray, np.ndarray]:
            self.searches += 1
            return self.best(vector, count)

        return compute


def unit(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=256).astype(np.float32)
    return values / np.linalg.norm(values)


def same(found: CandidateList, expected: tuple[np.ndarray, np.ndarray]) -> bool:
    """To the last bit, order and type included."""
    types = (found.scores.dtype, found.rows.dtype) == (np.float32, np.int64)
    return types and np.array_equal(found.scores, expected[0]) and np.array_equal(found.rows, expected[1])


def keys_of(tenant_id: uuid.UUID) -> list[bytes]:
    return sorted(client().scan_iter(tenant_key(tenant_id, "*")))


@pytest.fixture
def tenant() -> uuid.UUID:
    return uuid.uuid4()


@pytest.mark.services
def test_each_layer_returns_what_was_computed(tenant: uuid.UUID) -> None:
    here, there, generation, vector = CandidateCache(BUDGET), CandidateCache(BUDGET), Fake(2_000, 1), unit(2)
    layers = []
    for one in (here, here, there, there):
        found = one.get(tenant, generation.id, vector, 10, generation.search(vector))
        assert same(found, generation.best(vector))
        layers.append((found.layer, found.hit))
    assert layers == [("miss", False), ("process", True), ("valkey", True), ("process", True)]
    assert generation.searches == 1


def test_what_is_returned_cannot_spoil_what_is_kept(tenant: uuid.UUID) -> None:
    cache, generation, vector = CandidateCache(BUDGET), Fake(2_000, 1), unit(2)
    expected = generation.best(vector)
    mine = (expected[0].copy(), expected[1].copy())
    found = cache.get(tenant, generation.id, vector, 10, lambda: mine)
    for array in mine:
        array[:] = 0
    for array in (found.scores, found.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert same(found, expected)
    assert same(cache.get(tenant, generation.id, vector, 10, lambda: mine), expected)


def test_tenants_generations_vectors_and_depths_are_apart(tenant: uuid.UUID) -> None:
    cache, generation, vector = CandidateCache(BUDGET), Fake(2_000, 1), unit(2)
    nearly = vector.copy()
    nearly[0] = np.nextafter(nearly[0], 2)
    for args in (
        (tenant, generation.id, vector, 10),
        (uuid.uuid4(), generation.id, vector, 10),
        (tenant, uuid.uuid4(), vector, 10),
        (tenant, generation.id, nearly, 10),
        (tenant, generation.id, vector, LEAST_DEPTH + 1),
    ):
        assert cache.get(*args, generation.search(vector)).layer == "miss"
        assert cache.get(*args, generation.search(vector)).layer == "process"
    assert generation.searches == 5


def test_depths_of_one_class_share_a_list(tenant: uuid.UUID) -> None:
    assert [depth_class(n) for n in (1, LEAST_DEPTH, LEAST_DEPTH + 1, 1_000, 1_025)] == [
        64,
        64,
        256,
        1_024,
        4_096,
    ]
    cache, generation, vector = CandidateCache(BUDGET), Fake(2_000, 1), unit(2)
    first = cache.get(tenant, generation.id, vector, 300, generation.search(vector, depth_class(300)))
    second = cache.get(tenant, generation.id, vector, 1_000, generation.search(vector, depth_class(1_000)))
    assert (len(first.rows), second.layer, len(second.rows)) == (1_024, "process", 1_024)


def test_very_deep_lists_are_found_and_not_kept(tenant: uuid.UUID) -> None:
    cache, generation, vector = CandidateCache(BUDGET), Fake(6_000, 1), unit(2)
    for _ in range(2):
        found = cache.get(tenant, generation.id, vector, 5_000, generation.search(vector, 5_000))
        assert found.layer == "miss" and same(found, generation.best(vector, 5_000))
    assert (len(cache.local), keys_of(tenant)) == (0, [])


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.services
def test_small_generations_have_short_lists(tenant: uuid.UUID, size: int) -> None:
    here, there, generation, vector = CandidateCache(BUDGET), CandidateCache(BUDGET), Fake(size, 1), unit(2)
    for one, layer in ((here, "miss"), (here, "process"), (there, "valkey")):
        found = one.get(tenant, generation.id, vector, 10, generation.search(vector))
        assert found.layer == layer and same(found, generation.best(vector)) and len(found.rows) == size


def test_large_row_numbers_and_odd_scores_survive(tenant: uuid.UUID) -> None:
    scores = np.array([1.0, -0.0, -1.0, np.float32(1e-45)], np.float32)
    rows = np.array([2**32 - 1, 2**31, 0, 5], np.int64)
    for one in (CandidateCache(BUDGET), CandidateCache(BUDGET)):
        found = one.get(tenant, uuid.UUID(int=1), unit(1), 10, lambda: (scores, rows))
        assert found.scores.tobytes() == scores.tobytes() and found.rows.tolist() == rows.tolist()


@pytest.mark.parametrize("rows", [[-1, 0], [0, 2**32], [0]])
def test_what_is_no_list_of_rows_is_refused_and_not_kept(tenant: uuid.UUID, rows: list[int]) -> None:
    cache = CandidateCache(BUDGET)
    with pytest.raises(ValueError):
        cache.get(tenant, uuid.uuid4(), unit(1), 10, lambda: (np.zeros(2, np.float32), np.array(rows)))
    assert (len(cache.local), keys_of(tenant)) == (0, [])


def _with_two_rows_swapped(raw: bytes) -> bytes:
    return raw[:-8] + raw[-4:] + raw[-8:-4]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: b"\0",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0" * 8,
        lambda raw: bytes(len(raw)),
        lambda raw: raw[:20] + bytes([raw[20] ^ 1]) + raw[21:],
        lambda raw: struct.pack("<I", 2**32 - 1) + raw[4:],
        lambda raw: b"another program's value",
        _with_two_rows_swapped,
    ],
)
def test_damaged_values_are_computed_anew_and_repaired(tenant: uuid.UUID, damage: Callable) -> None:
    generation, vector = Fake(500, 1), unit(2)

    def ask() -> CandidateList:
        return CandidateCache(BUDGET).get(tenant, generation.id, vector, 10, generation.search(vector))

    ask()
    [key] = keys_of(tenant)
    client().set(key, damage(client().get(key)), ex=60)
    found = ask()
    assert found.layer == "miss" and same(found, generation.best(vector))
    assert ask().layer == "valkey"


def test_a_key_of_another_type_is_no_failure(tenant: uuid.UUID) -> None:
    generation, vector = Fake(500, 1), unit(2)

    def ask() -> CandidateList:
        return CandidateCache(BUDGET).get(tenant, generation.id, vector, 10, generation.search(vector))

    ask()
    [key] = keys_of(tenant)
    client().delete(key)
    client().rpush(key, b"x")
    assert same(ask(), generation.best(vector))


def test_valkey_holds_row_numbers_only_under_the_tenants_name_and_for_an_hour(tenant: uuid.UUID) -> None:
    generation, vector = Fake(2_000, 1), unit(2)
    CandidateCache(BUDGET).get(tenant, generation.id, vector, 10, generation.search(vector))
    [key] = keys_of(tenant)
    assert key.decode().startswith(f"t:{tenant}:candidates:1:{generation.id.hex}:")
    assert len(client().get(key)) == 8 + 8 * LEAST_DEPTH
    assert 3_500 < client().ttl(key) <= 3_600
    # Erasing an asset drops the pages of searches, which hold ids; these lists hold none and stay.
    assert list(client().scan_iter(tenant_key(tenant, "search", "*"))) == []


def test_without_valkey_the_process_still_remembers(tenant: uuid.UUID) -> None:
    away = redis.Redis("127.0.0.1", 1, socket_connect_timeout=0.05, retry=Retry(NoBackoff(), 0))
    store = ValkeyStore(away)
    cache, generation = CandidateCache(BUDGET, lambda: store), Fake(500, 1)
    for seed in range(100):
        for layer in ("miss", "process"):
            found = cache.get(tenant, generation.id, unit(seed), 10, generation.search(unit(seed)))
            assert found.layer == layer and same(found, generation.best(unit(seed)))


def test_sixteen_threads_with_a_new_query_search_once(
    tenant: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = LookupCounts()
    cache, generation, vector = CandidateCache(BUDGET, counted=counts), Fake(2_000, 1), unit(2)
    barrier, join, joined = threading.Barrier(16), cache._flights.do, threading.Semaphore(0)
    monkeypatch.setattr(cache._flights, "do", lambda *given: (joined.release(), join(*given))[1])

    def slowly() -> tuple[np.ndarray, np.ndarray]:
        # Itself, and another one.
        assert joined.acquire(timeout=PATIENCE_S) and joined.acquire(timeout=PATIENCE_S)
        pause(0.3, "the other one waits for this one meanwhile")
        return generation.search(vector)()

    def ask(_: int) -> CandidateList:
        barrier.wait(PATIENCE_S)
        return cache.get(tenant, generation.id, vector, 10, slowly)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert generation.searches == 1
    assert all(same(each, generation.best(vector)) for each in found)
    layers = Counter(each.layer for each in found)
    # A thread that was held up until all was over has it from the process.
    assert layers["miss"] == 1 and layers["shared"] + layers["process"] == 15 and layers["shared"] > 0
    assert counts.read() == {("candidates", layer, str(tenant)): count for layer, count in layers.items()}


def test_a_failed_search_is_everyones_and_the_next_one_tries_again(tenant: uuid.UUID) -> None:
    cache, generation, vector = CandidateCache(BUDGET), Fake(500, 1), unit(2)

    def fail() -> tuple[np.ndarray, np.ndarray]:
        raise OSError("the file is damaged")

    with pytest.raises(OSError, match="damaged"):
        cache.get(tenant, generation.id, vector, 10, fail)
    assert cache.get(tenant, generation.id, vector, 10, generation.search(vector)).layer == "miss"


def zipf(distinct: int, queries: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which query is asked when, and each one's probability; s = 1.0."""
    weights = 1 / np.arange(1, distinct + 1)
    probabilities = weights / weights.sum()
    return np.random.default_rng(seed).choice(distinct, queries, p=probabilities), probabilities


def expected_misses(probabilities: np.ndarray, queries: int) -> tuple[float, float]:
    """Mean and a bound on the deviation of how many distinct queries are among so many: each misses once."""
    seen = 1 - (1 - probabilities) ** queries
    # Occurrences are negatively correlated, so the sum varies at most as much as independent ones.
    return float(seen.sum()), float(np.sqrt((seen * (1 - seen)).sum()))


@pytest.mark.services
def test_a_zipf_trace_hits_as_often_as_theory_says_and_never_sees_the_old_generation(
    tenant: uuid.UUID,
) -> None:
    trace, probabilities = zipf(1_000, 4_000, seed=11)
    vectors = [unit(n) for n in range(1_000)]
    halves = [(Fake(1_500, 1), trace[:2_000]), (Fake(1_500, 2), trace[2_000:])]
    # Room for two hundred lists in the process; the others come from Valkey.
    counts = LookupCounts()
    cache = CandidateCache(200 * (8 + 8 * LEAST_DEPTH + ENTRY_BYTES), counted=counts)
    hits = 0
    for generation, queries in halves:
        truth = {n: generation.best(vectors[n]) for n in set(queries.tolist())}
        for n in queries.tolist():
            found = cache.get(tenant, generation.id, vectors[n], 10, generation.search(vectors[n]))
            assert same(found, truth[n])
            hits += found.hit
        assert generation.searches == len(truth)
    mean, deviation = expected_misses(probabilities, 2_000)
    assert abs((4_000 - hits) - 2 * mean) < 4 * deviation * np.sqrt(2)
    assert hits / 4_000 > 0.65
    looked = {layer: count for (_, layer, _), count in counts.read().items()}
    assert looked["process"] + looked["valkey"] == hits and looked["miss"] == 4_000 - hits
    assert looked["process"] > looked["valkey"] > 0


def test_the_one_of_the_process_is_what_modules_call() -> None:
    assert cache.get_candidates.__self__ is cache.candidate_cache
