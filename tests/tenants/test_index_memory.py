"""Many tenants in one process: what it holds stays within its budgets, and who was asked last stays."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from django.test import override_settings

from tenants.accounts.services import create_tenant
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.index import memory
from tenants.retrieval.index.registry import opened
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Restriction
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import MODEL, Library, unit

pytestmark = pytest.mark.slow
SMALL, LARGE, EACH, BUILT = 60, 3, 30, 300


class Small:
    """A tenant with one asset of many vectors."""

    def __init__(self, number: int) -> None:
        self.id = create_tenant(
            slug=f"m-{np.random.default_rng().integers(1 << 60):x}", name="m", plan="demo"
        ).id
        seeds = range(1000 * number, 1000 * number + EACH)
        with tenant_scope(self.id):
            asset = add_asset(dataset_id=create_dataset(name="d").id, text=f"text {number}").asset
            rows = [NewVector("text", unit(seed), {"start_char": seed}) for seed in seeds]
            replace_vectors(asset=asset, model=MODEL, vectors=rows)
        self.asset_id, self.seed = asset.id, seeds[7]

    def asks(self) -> None:
        with tenant_scope(self.id):
            found = rank(memory.vector_cache.of(self.id, MODEL).refresh(), unit(self.seed), 3, Restriction())
        assert [hit.asset_id for hit in found.hits] == [self.asset_id]
        assert found.hits[0].score == pytest.approx(1, abs=1e-4)


class Large(Small):
    """One with a generation."""

    def __init__(self, party) -> None:
        self.id = party.id
        library = Library(party)
        self.asset_id = library.put(*range(BUILT)).id
        library.build()
        self.seed = 7
        self.generation = library.pointer.current


@pytest.fixture(scope="module")
def crowd() -> list[Small]:
    return [Small(number) for number in range(SMALL)]


@pytest.fixture
def giants(make_party, settings) -> list[Large]:
    settings.INDEX_FLAT_MAX = 200
    return [Large(make_party()) for _ in range(LARGE)]


def starts(monkeypatch: pytest.MonkeyPatch, **budgets: int) -> None:
    """A process with these budgets that has asked nothing yet."""
    memory.vector_cache.clear()
    with override_settings(**budgets):
        monkeypatch.setattr(memory, "vector_cache", memory.VectorCache())
    gc.collect()


def held(tenants: list[Small]) -> list[bool]:
    return [(tenant.id, MODEL) in memory.vector_cache._entries for tenant in tenants]


def mapped(giants: list[Large]) -> list[bool]:
    """Whether the kernel has a generation's vectors mapped into this process."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return [f"{giant.generation.pk}/vectors.f32" in maps for giant in giants]


def test_small_tenants_stay_within_the_budget(crowd: list[Small], monkeypatch) -> None:
    starts(monkeypatch, INDEX_MEMORY_BYTES=1 << 30)
    crowd[0].asks()
    one = memory.vector_cache.bytes()
    assert one >= EACH * (memory.ROW_BYTES + 4 * 256)
    starts(monkeypatch, INDEX_MEMORY_BYTES=20 * one)
    for _ in range(3):
        for tenant in crowd:
            tenant.asks()
            # What is loaded for the tenant at hand comes on top.
            assert memory.vector_cache.bytes() <= 21 * one
    # Round robin: the last ones are left.
    assert held(crowd) == [False] * (SMALL - 21) + [True] * 21
    # Who is asked again and again is never loaded again.
    entry = memory.vector_cache.of(crowd[-1].id, MODEL)
    for tenant in crowd[:-1]:
        tenant.asks()
        crowd[-1].asks()
    assert memory.vector_cache.of(crowd[-1].id, MODEL) is entry


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads mappings in /proc")
def test_generations_stay_within_the_budget(crowd: list[Small], giants: list[Large], monkeypatch) -> None:
    def ask(number: int) -> None:
        giants[number].asks()
        for tenant in crowd[:5]:
            tenant.asks()

    size = max(giant.generation.bytes for giant in giants)
    starts(monkeypatch, INDEX_MAPPED_BYTES=2 * size + 1000, INDEX_MEMORY_BYTES=1 << 30)
    assert mapped(giants) == [False] * LARGE
    # Of tests before this one.
    others = opened.bytes()
    for turn in range(2 * LARGE):
        ask(turn % LARGE)
        assert opened.bytes() <= others + 2 * size + 1000
        # The kernel says the same: least recently asked goes first, and its mapping with it.
        now = mapped(giants)
        assert (now[turn % LARGE], sum(now)) == (True, min(turn + 1, 2))
    # Who is asked again and again keeps what is open.
    base = memory.vector_cache.of(giants[0].id, MODEL).state.base if mapped(giants)[0] else None
    for number in (0, 1, 0, 2, 0, 1, 0):
        ask(number)
        found = memory.vector_cache.of(giants[0].id, MODEL).state.base
        base = base or found
        assert found is base
    # A budget too small for anything keeps nobody from being answered.
    del base, found
    starts(monkeypatch, INDEX_MAPPED_BYTES=1, INDEX_MEMORY_BYTES=1)
    for _ in range(2):
        for tenant in (*giants, *crowd[:5]):
            tenant.asks()
    assert mapped(giants) == [False] * LARGE
    assert sum(held(crowd)) == 1
