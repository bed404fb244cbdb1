"""The tenant's vectors in memory against the database: fresh, exact, and gone when they are gone."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset, delete_asset
from tenants.retrieval.index import memory, vectors
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import Tombstone, Vector, VectorClock
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Hit, Restriction
from tenants.scope import tenant_scope

MODEL = default_model()


def _unit(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=256).astype(np.float32)
    return values / np.linalg.norm(values)


class Shelf:
    """A dataset with assets whose vectors are known."""

    def __init__(self, party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset = create_dataset(name=uuid.uuid4().hex)
        self.cached = memory.TenantVectors(MODEL)

    def put(self, seed: int, *more: int) -> Asset:
        with tenant_scope(self.party.id):
            asset = add_asset(dataset_id=self.dataset.id, text=f"text {seed}").asset
            self.embed(asset, seed, *more)
            return asset

    def embed(self, asset: Asset, *seeds: int) -> int:
        with tenant_scope(self.party.id):
            rows = [NewVector("text", _unit(seed)) for seed in seeds]
            return replace_vectors(asset=asset, model=MODEL, vectors=rows)

    def find(self, seed: int, count: int = 10, **only) -> tuple[list[Hit], int]:
        with tenant_scope(self.party.id):
            found = rank(self.cached.refresh(), _unit(seed), count, Restriction(**only))
        assert found.recall == 1
        return found.hits, found.total


@pytest.fixture
def shelf(party) -> Shelf:
    return Shelf(party)


def test_no_one_and_two_assets(shelf) -> None:
    assert shelf.find(1) == ([], 0)
    first = shelf.put(1)
    hits, total = shelf.find(1)
    assert (total, [hit.asset_id for hit in hits]) == (1, [first.id])
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    second = shelf.put(2)
    assert [hit.asset_id for hit in shelf.find(2)[0]] == [second.id, first.id]


def test_the_ranking_is_exact(shelf) -> None:
    assets = [shelf.put(seed) for seed in range(40)]
    scores = {asset.id: float(_unit(99) @ _unit(seed)) for seed, asset in enumerate(assets)}
    hits, total = shelf.find(99, count=7)
    assert total == 40
    assert [hit.asset_id for hit in hits] == sorted(scores, key=scores.get, reverse=True)[:7]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values(), reverse=True)[:7], abs=1e-5)


def test_an_asset_counts_once_with_its_best_vector(shelf) -> None:
    many = shelf.put(1, 2, 3, 4)
    other = shelf.put(5)
    hits, total = shelf.find(3, count=2)
    assert total == 2
    assert [hit.asset_id for hit in hits] == [many.id, other.id]
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_deleted_asset_is_gone_from_a_reader_that_had_it(shelf) -> None:
    gone, kept = shelf.put(1), shelf.put(2)
    assert len(shelf.find(1)[0]) == 2
    with tenant_scope(shelf.party.id):
        delete_asset(asset_id=gone.id)
    hits, total = shelf.find(1)
    assert (total, [hit.asset_id for hit in hits]) == (1, [kept.id])
    with tenant_scope(shelf.party.id):
        assert not Vector.objects.filter(asset_id=gone.id).exists()


def test_new_vectors_replace_the_old_ones(shelf) -> None:
    asset = shelf.put(1, 2)
    shelf.find(1)
    assert shelf.embed(asset, 3) == -1
    hits, _ = shelf.find(3)
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert shelf.find(1)[0][0].score < 0.9
    assert shelf.cached.state.size == 1


def test_a_reader_that_starts_late_agrees_with_one_that_followed(shelf) -> None:
    kept = [shelf.put(seed) for seed in range(6)]
    shelf.find(0)
    with tenant_scope(shelf.party.id):
        for asset in kept[::2]:
            delete_asset(asset_id=asset.id)
    shelf.embed(kept[1], 50)
    followed = shelf.find(50)
    shelf.cached = memory.TenantVectors(MODEL)
    assert shelf.find(50) == followed
    assert followed[1] == 3


def test_a_refresh_that_breaks_off_half_way_leaves_no_rows_behind(shelf, monkeypatch) -> None:
    assets = [shelf.put(seed) for seed in range(3)]
    shelf.find(0)
    assets += [shelf.put(seed) for seed in range(3, 9)]
    append, calls = memory._append, []

    def break_off(*arguments):
        calls.append(append(*arguments))
        if len(calls) == 2:
            raise ConnectionError("the database went away")
        return calls[-1]

    monkeypatch.setattr(memory, "CHUNK", 2)
    monkeypatch.setattr(memory, "_append", break_off)
    with pytest.raises(ConnectionError):
        shelf.find(0)
    monkeypatch.setattr(memory, "_append", append)
    for seed, asset in enumerate(assets):
        hits, total = shelf.find(seed)
        assert (total, hits[0].asset_id) == (9, asset.id)
        assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_reader_behind_the_pruned_tombstones_loads_anew(shelf) -> None:
    gone, kept = shelf.put(1), shelf.put(2)
    shelf.find(1)
    with tenant_scope(shelf.party.id):
        delete_asset(asset_id=gone.id)
        Tombstone.objects.update(created_at="2020-01-01T00:00:00Z")
        assert vectors.prune_tombstones() == 1
        clock = VectorClock.objects.get()
    assert clock.pruned == clock.last
    hits, total = shelf.find(1)
    assert (total, [hit.asset_id for hit in hits]) == (1, [kept.id])


def test_restrictions(shelf) -> None:
    first, second = shelf.put(1), shelf.put(2)
    assert shelf.find(1, assets=[second.id])[1] == 1
    assert [hit.asset_id for hit in shelf.find(1, assets=[second.id])[0]] == [second.id]
    assert shelf.find(1, assets=[]) == ([], 0)
    assert shelf.find(1, assets=[uuid.uuid4()]) == ([], 0)
    assert shelf.find(1, datasets=[shelf.dataset.id])[1] == 2
    assert shelf.find(1, datasets=[uuid.uuid4()]) == ([], 0)
    assert shelf.find(1, modalities=["image"]) == ([], 0)
    assert shelf.find(1, modalities=["text"])[0][0].asset_id == first.id
    assert shelf.find(1, hidden_datasets=[shelf.dataset.id]) == ([], 0)


def test_another_tenants_vectors_are_never_loaded(shelf, stranger) -> None:
    shelf.put(1)
    other = Shelf(stranger)
    assert other.find(1) == ([], 0)


def test_the_cache_drops_the_least_recently_used_tenant(shelf, stranger) -> None:
    cache = memory.VectorCache(budget_bytes=1)
    first = cache.of(shelf.party.id, MODEL)
    assert cache.of(shelf.party.id, MODEL) is first
    shelf.put(1)
    with tenant_scope(shelf.party.id):
        first.refresh()
    cache.of(stranger.id, MODEL)
    assert cache.of(shelf.party.id, MODEL) is not first


@pytest.mark.parametrize(
    "values", [np.zeros(0), np.zeros((1, 256)), np.full(256, np.nan), np.full(256, np.inf)]
)
def test_a_vector_of_another_shape_or_not_finite_is_refused(values) -> None:
    with pytest.raises(ValueError, match="finite numbers in a row"):
        vectors.as_bytes(values)
