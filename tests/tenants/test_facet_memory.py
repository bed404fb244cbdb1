"""Facets in memory: the answers of Postgres after any changes, with a generation and without, and never older ones."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.datasets import metadata
from tenants.datasets.models import Asset, Blob, Facet
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import update_asset
from tenants.retrieval import filters
from tenants.retrieval.index import lifecycle, memory
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.index.registry import FileSegment
from tenants.retrieval.index.vectors import NewVector, add_vectors, record_changes, remove_vectors
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import FacetChange, Vector
from tenants.retrieval.query import lexical, ranking
from tenants.retrieval.query.ranking import Allowed, count_facets, row_mask
from tenants.retrieval.types import Query, Restriction, State
from tenants.scope import tenant_scope
from workers.base import run_job

from .test_columns import KEYS, SCHEMA, conditions, values

MODEL = default_model()
BUILT = 6
metadatas = st.dictionaries(st.sampled_from(KEYS), values, max_size=4)
steps = st.one_of(
    st.tuples(st.just("add"), metadatas),
    st.tuples(st.just("change"), st.integers(0, 20), metadatas),
    st.tuples(st.just("remove"), st.integers(0, 20)),
    st.tuples(st.just("embed"), st.integers(0, 20)),
    st.tuples(st.just("ask"), conditions),
    st.tuples(st.just("ask"), conditions),
    st.tuples(st.just("count"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True)),
)


def unit(seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=256).astype(np.float32)
    return found / np.linalg.norm(found)


class Shelf:
    """Assets made of rows alone, as no file matters here, and what is in memory of them."""

    def __init__(self, party) -> None:
        self.tenant_id = party.id
        with tenant_scope(party.id):
            self.dataset = create_dataset(name="one", metadata_schema=SCHEMA)
            self.blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain")
        self.cached = memory.TenantVectors(MODEL)
        self.assets: list[Asset] = []

    def add(self, given: dict[str, Any], *, vectors: int = 1) -> Asset:
        asset = Asset(dataset=self.dataset, blob=self.blob, modality="text", metadata=given, status="ready")
        asset.save(force_insert=True)
        self._write(asset)
        rows = [NewVector("text", unit(len(self.assets) + n)) for n in range(vectors)]
        add_vectors(model=MODEL, vectors=[(asset, rows)])
        self.assets.append(asset)
        return asset

    def change(self, n: int, given: dict[str, Any]) -> None:
        if self.assets:
            asset = self.assets[n % len(self.assets)]
            asset.metadata = given
            self._write(asset)
            record_changes([asset.id])

    def _write(self, asset: Asset) -> None:
        Facet.objects.filter(asset=asset).delete()
        Facet.objects.bulk_create(metadata.facets_of(asset.id, asset.metadata, self.dataset.metadata_schema))

    def remove(self, n: int) -> None:
        if self.assets:
            asset = self.assets.pop(n % len(self.assets))
            remove_vectors(asset_ids=[asset.id])
            Facet.objects.filter(asset=asset).delete()
            Asset.objects.filter(pk=asset.pk)._raw_delete(using="default")

    def embed(self, n: int) -> None:
        """Vectors anew, with the same metadata: what was in the generation is newer now."""
        if self.assets:
            asset = self.assets[n % len(self.assets)]
            remove_vectors(asset_ids=[asset.id])
            add_vectors(model=MODEL, vectors=[(asset, [NewVector("text", unit(n))])])

    def build(self) -> None:
        with tenant_scope(self.tenant_id):
            job = lifecycle.build(model=MODEL)
        assert job is not None
        run_job(str(job.id), str(self.tenant_id))
        with tenant_scope(self.tenant_id):
            assert isinstance(self.refresh()[0].base, FileSegment)

    def refresh(self) -> tuple[State, Any]:
        now = read_index_status(self.tenant_id, MODEL)
        return self.cached.refresh(now), now

    def restricted(self, parsed: list) -> tuple[State, Restriction]:
        state, now = self.refresh()
        return state, ranking.restriction(Query(conditions=parsed), state, now)

    def allowed(self, parsed: list) -> set[uuid.UUID]:
        state, only = self.restricted(parsed)
        found = set(state.assets.ids(state.rows.assets[row_mask(state, only)].tolist()))
        if state.base is not None:
            mask = state.base.allowed(state, only)
            numbers = range(state.base.asset_count) if mask is None else np.flatnonzero(mask).tolist()
            found |= set(state.base.ids(np.array(numbers, np.int64)))
        return found

    def ask(self, raw: dict[str, Any]) -> None:
        try:
            parsed = filters.parse(raw)
            expected = set(filters.matching_ids(parsed))
        except filters.Invalid:
            return
        embedded = set(Vector.objects.values_list("asset_id", flat=True))
        assert self.allowed(parsed) == expected & embedded

    def count(self, keys: list[str]) -> None:
        state, only = self.restricted([])
        embedded = set(Vector.objects.values_list("asset_id", flat=True))
        assert ranking.facet_counts(keys, state, only) == count_facets(keys, Allowed(embedded))

    def walk(self, taken: list[tuple]) -> None:
        with tenant_scope(self.tenant_id):
            for step, *given in taken:
                getattr(self, step)(*given)

    def clear(self) -> None:
        with tenant_scope(self.tenant_id):
            while self.assets:
                self.remove(0)


@pytest.fixture
def shelf(party) -> Shelf:
    return Shelf(party)


quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(taken=st.lists(steps, min_size=1, max_size=14))
def test_without_a_generation_memory_answers_as_postgres(shelf, taken) -> None:
    shelf.clear()
    shelf.walk(taken)


@pytest.fixture
def built(party, settings) -> Shelf:
    settings.INDEX_FLAT_MAX = BUILT - 1
    shelf = Shelf(party)
    with tenant_scope(party.id):
        for n in range(BUILT):
            shelf.add({"colour": "red" if n % 2 else "blue", "price": n, "tags": ["a", str(n)]})
    shelf.build()
    return shelf


@quick
@given(taken=st.lists(steps, min_size=1, max_size=14))
def test_beside_a_generation_memory_answers_as_postgres(built, taken) -> None:
    with tenant_scope(built.tenant_id):
        while len(built.assets) < BUILT:
            built.add({"colour": "red"})
    built.walk(taken)


def test_nothing_is_asked_where_nothing_is_new(shelf, django_assert_num_queries) -> None:
    red = filters.parse({"colour": "red"})
    with tenant_scope(shelf.tenant_id):
        assets = [shelf.add({"colour": "red"}), shelf.add({"colour": "blue"})]
        assert shelf.allowed(red) == {assets[0].id}
        state, now = shelf.refresh()
        with django_assert_num_queries(1):  # the types of the keys
            ranking.restriction(Query(conditions=red), state, now)


def test_an_update_counts_in_the_next_search(shelf) -> None:
    red = filters.parse({"colour": "red"})
    with tenant_scope(shelf.tenant_id):
        asset = shelf.add({"colour": "blue"})
        assert shelf.allowed(red) == set()
    for colour in ("red", "blue", "red"):
        with tenant_scope(shelf.tenant_id):
            update_asset(asset_id=asset.id, values={"colour": colour})
        with tenant_scope(shelf.tenant_id):
            assert shelf.allowed(red) == ({asset.id} if colour == "red" else set())


def test_a_change_of_what_the_generation_holds_counts_for_filters_and_counts(built) -> None:
    with tenant_scope(built.tenant_id):
        before = built.allowed(filters.parse({"colour": "red"}))
        asset = next(one for one in built.assets if one.id in before)
        update_asset(asset_id=asset.id, values={"colour": "green"})
        assert built.allowed(filters.parse({"colour": "red"})) == before - {asset.id}
        assert built.allowed(filters.parse({"colour": "green"})) == {asset.id}
        state, only = built.restricted([])
        told = ranking.facet_counts(["colour"], state, only)["colour"]["values"]
    assert {one["value"]: one["count"] for one in told} == {"blue": 3, "red": 2, "green": 1}


def test_changes_that_were_forgotten_are_read_anew(shelf, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "KEEP_CHANGES", 0)
    red = filters.parse({"colour": "red"})
    with tenant_scope(shelf.tenant_id):
        asset = shelf.add({"colour": "blue"})
        assert shelf.allowed(red) == set()
        shelf.change(0, {"colour": "red"})
        # Vectors have been followed, the facets have not.
        shelf.refresh()
        assert lifecycle.prune_changes() == 1 and not FacetChange.objects.exists()
        shelf.add({})
        assert shelf.allowed(red) == {asset.id}


def test_the_newest_changes_are_kept_for_those_who_follow(shelf) -> None:
    with tenant_scope(shelf.tenant_id):
        shelf.add({})
        shelf.change(0, {"colour": "red"})
        assert lifecycle.prune_changes() == 0


@pytest.mark.parametrize("place", ["shelf", "built"])
def test_too_many_for_memory_are_asked_of_postgres(place, request, monkeypatch) -> None:
    monkeypatch.setattr(memory, "MOST_ROWS", 1)
    shelf = request.getfixturevalue(place)
    with tenant_scope(shelf.tenant_id):
        for n in range(4):
            shelf.add({"colour": "red", "tags": ["a", str(n)], "price": n})
        shelf.change(0, {"colour": "green", "price": 7})
        for raw in ({"colour": "red"}, {"colour": {"ne": "red"}}, {"tags": "a", "price": {"gt": 1}}):
            shelf.ask(raw)
        shelf.count(["colour", "price"])
        state, _ = shelf.refresh()
        assert state.facets.known(state, ["colour"]) is None and state.facets.bytes == 0


def test_many_keys_do_not_fill_the_memory(shelf, monkeypatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEYS", 3)
    with tenant_scope(shelf.tenant_id):
        shelf.add(dict.fromkeys(KEYS, "red"))
        for key in KEYS:
            shelf.ask({key: {"exists": True}})
            state, _ = shelf.refresh()
            assert len(state.facets.known(state, [key]).keys) <= 3


def test_what_is_held_counts_as_memory(shelf) -> None:
    with tenant_scope(shelf.tenant_id):
        for n in range(20):
            shelf.add({"colour": f"colour {n}"})
        shelf.refresh()
        before = shelf.cached.bytes
        shelf.allowed(filters.parse({"colour": "red"}))
    assert shelf.cached.bytes - before > 20 * 150


@pytest.mark.parametrize("known_before", [True, False])
def test_words_find_an_asset_without_vectors_under_a_filter(shelf, known_before) -> None:
    red = filters.parse({"colour": "red"})
    with tenant_scope(shelf.tenant_id):
        shelf.add({"colour": "red"})
        if known_before:
            shelf.allowed(red)
        bare = shelf.add({"colour": "red"}, vectors=0)
        lexical.index_texts([lexical.Entry(bare.id, shelf.dataset.id, "text", "a silent film")])
        state, only = shelf.restricted(red)
        assert [one for one, _ in ranking.matching_words("silent", 5, only, state)] == [bare.id]
        state, only = shelf.restricted(filters.parse({"colour": "blue"}))
        assert ranking.matching_words("silent", 5, only, state) == []
