"""How often a search asks the database, and that asking less makes nothing stale."""

from __future__ import annotations

import sys
import uuid
from types import FrameType

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.services import create_dataset
from tenants.retrieval.index.vectors import NewVector, remove_vectors, replace_vectors
from tenants.retrieval.query import encoding, searcher
from tenants.retrieval.query.result_page import HYDRATED
from tenants.retrieval.query.searcher import Answer, search
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope

MODEL = encoding.model_id()


def towards(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(256).astype(np.float32)
    return vector / np.linalg.norm(vector)


class Shelf:
    def __init__(self, tenant_id: uuid.UUID) -> None:
        self.tenant_id = tenant_id
        with tenant_scope(tenant_id):
            self.dataset = create_dataset(name="d")

    def put(self, seed: int) -> uuid.UUID:
        with tenant_scope(self.tenant_id):
            blob = Blob.objects.create(sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain")
            asset = Asset.objects.create(dataset=self.dataset, blob=blob, modality="text", status="ready")
            given = [NewVector("text", towards(seed))]
            replace_vectors(asset=asset, model=MODEL, vectors=given)
        return asset.id

    def find(self, seed: int, **more) -> Answer:
        return search(tenant_id=self.tenant_id, query=Query(vector=towards(seed), **more), read=HYDRATED)

    def found(self, seed: int, **more) -> list[str]:
        return [asset.id for asset, _ in self.find(seed, **more).results]


@pytest.fixture
def shelf(party) -> Shelf:
    return Shelf(party.id)


def test_where_nothing_is_new_a_search_asks_once(shelf: Shelf) -> None:
    ids = [str(shelf.put(seed)) for seed in range(3)]
    shelf.find(0)  # loads them, and prepares the statement on this connection
    shelf.find(0)
    with CaptureQueriesContext(connection) as queries:
        answer = shelf.find(1)
    assert len(queries) == 1, [one["sql"][:80] for one in queries]
    assert answer.results[0][0].id == ids[1]
    assert {asset.id for asset, _ in answer.results} == set(ids)
    with CaptureQueriesContext(connection) as queries:
        assert shelf.found(2, modalities=["image"]) == []
    assert len(queries) == 1


def test_what_was_guessed_is_given_up_when_something_is_new(shelf: Shelf) -> None:
    first = shelf.put(0)
    assert shelf.found(1) == [str(first)]
    added = shelf.put(1)
    assert shelf.found(1) == [str(added), str(first)]
    with tenant_scope(shelf.tenant_id):
        remove_vectors(asset_ids=[added])
        Asset.objects.filter(pk=added).delete()
    assert shelf.found(1) == [str(first)]


def test_a_dataset_that_is_being_deleted_is_not_found_though_no_vector_changed(shelf: Shelf) -> None:
    first = shelf.put(0)
    other = Shelf.__new__(Shelf)
    other.tenant_id = shelf.tenant_id
    with tenant_scope(shelf.tenant_id):
        other.dataset = create_dataset(name="going")
    going = other.put(1)
    assert shelf.found(1, top_k=1) == [str(going)]
    with tenant_scope(shelf.tenant_id):
        Dataset.objects.filter(pk=other.dataset.id).update(deleted_at=timezone.now())
    # Not merely left out of the page: the next best takes its place.
    assert shelf.found(1, top_k=1) == [str(first)]


def test_a_change_of_a_row_alone_is_seen(shelf: Shelf) -> None:
    asset = shelf.put(0)
    shelf.find(0)
    with tenant_scope(shelf.tenant_id):
        Asset.objects.filter(pk=asset).update(caption="new words")
    assert shelf.find(0).results[0][0].caption == "new words"


def test_nothing_is_guessed_where_more_is_asked(shelf: Shelf) -> None:
    shelf.put(0)
    shelf.find(0)
    for more in (
        {"facets": ["a"]},
        {"conditions": [("a", "eq", 1)]},
        {"exact": True},
        {"group_duplicates": True},
    ):
        asked = searcher.SearchRequest(towards(0), "", Query(vector=towards(0), **more), MODEL)
        assert searcher.optimistic_search(shelf.tenant_id, asked, 10, None) is None
    asked = searcher.SearchRequest(towards(0), "", Query(vector=towards(0)), MODEL)
    assert searcher.optimistic_search(shelf.tenant_id, asked, 10, None) is not None
    assert searcher.optimistic_search(uuid.uuid4(), asked, 10, None) is None


def test_a_stranger_follows_a_text_search_through_few_modules(shelf: Shelf) -> None:
    """Modules of the package whose functions run for a search by words, warm: what one has to read."""
    shelf.put(0)
    query = Query(text="red apples")
    search(tenant_id=shelf.tenant_id, query=query, read=HYDRATED)
    met: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("tenants.retrieval"):
            met.add(name)

    for text in ("red apples", "green pears"):  # one is in the caches, one is not
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            search(tenant_id=shelf.tenant_id, query=Query(text=text), read=HYDRATED)
        finally:
            sys.setprofile(before)
    assert "tenants.retrieval.query.searcher" in met
    assert len(met) <= 15, sorted(met)
