"""The contract of engines (`tenants.retrieval.engines`) against a real Milvus server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tenants.datasets.services import create_dataset
from tenants.errors import Unavailable
from tenants.pipeline.assets.services import update_asset
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval import engines, milvus
from tenants.retrieval.engines import NewRow
from tenants.retrieval.index import building, lifecycle, memory
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Prefetched, Restriction, SegmentGone
from tenants.scope import tenant_scope
from tests.hosts.milvus_server import milvus_server, missing
from tests.tenants.test_engines import Moved
from tests.tenants.test_index_lifecycle import COUNT, MODEL, unit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with milvus_server(tmp_path_factory.mktemp("milvus")) as address:
        yield address


@pytest.fixture(params=["ivf-sq8", "hnsw"])
def engine(address: str, request: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> milvus.MilvusEngine:
    settings.MILVUS_URL, settings.MILVUS_INDEX, settings.MILVUS_TIMEOUT_S = address, request.param, 20.0
    settings.ENGINE_ABOVE = 10
    made = milvus.MilvusEngine()
    monkeypatch.setitem(engines.ENGINES, "milvus", made)
    # So few would be answered by Postgres.
    monkeypatch.setattr(milvus.MilvusSegment, "exact_assets", 0)
    return made


class InMilvus(Moved):
    def move(self, to: str = "milvus") -> Any:
        return super().move(to)


@pytest.fixture
def library(party, settings, monkeypatch, engine) -> Iterator[InMilvus]:
    settings.INDEX_FLAT_MAX = 50
    monkeypatch.setattr(building, "QUERIES", 16)
    library = InMilvus(party)
    yield library
    with tenant_scope(party.id):
        engines.tidy(())


def test_there_and_back_with_the_same_answers(library: InMilvus, engine) -> None:
    library.fill()
    library.put(1000, 1001, 1002)
    library.build()
    before = [library.find(seed) for seed in (3, 1001, 5000)]
    job = library.move()
    assert (job.state, job.error) == ("succeeded", None)
    assert (job.result["kind"], job.result["vectors"]) == (engine.kind, COUNT + 3)
    assert job.result["bytes"] > COUNT * 1024
    assert library.copies == {library.pointer.current_id}
    after = [library.find(seed) for seed in (3, 1001, 5000)]
    assert library.kind == engine.kind
    for old, new in zip(before, after, strict=True):
        assert [(hit.asset_id, hit.segment, hit.modality) for hit in new.hits] == [
            (hit.asset_id, hit.segment, hit.modality) for hit in old.hits
        ]
        assert [h.score for h in new.hits] == pytest.approx([h.score for h in old.hits], abs=1e-6)
        assert (new.total, new.recall) == (old.total, job.result["recall"])
    assert library.move("").state == "succeeded"
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.copies == set()
    assert library.agrees(3, 1001, 5000)


def test_what_came_went_and_changed_since_counts(library: InMilvus) -> None:
    assets = library.fill()
    library.move()
    library.find(0)
    library.delete(assets[7])
    library.embed(assets[8], 2000)
    new = library.put(3000)
    assert library.agrees(7, 8, 2000, 3000, 4000)
    assert library.find(3000).hits[0].asset_id == new.id
    every = library.find(7, count=COUNT + 5)
    assert assets[7].id not in {hit.asset_id for hit in every.hits}
    assert len(every.hits) == every.total == COUNT
    library.cached = memory.TenantVectors(MODEL)
    assert library.find(7, count=COUNT + 5) == every


def test_restrictions_and_filters_hold_as_of_now(library: InMilvus, party, monkeypatch) -> None:
    assets = library.fill()
    first = library.dataset
    with tenant_scope(party.id):
        library.dataset = create_dataset(name="second")
    second, other = library.dataset, library.put(501)
    library.move()
    new = library.put(500, values={"n": 1})
    assert library.find(1, datasets=[first.id]).total == COUNT
    in_second = library.find(500, datasets=[second.id])
    assert [hit.asset_id for hit in in_second.hits] == [new.id, other.id]
    assert library.find(1, datasets=[uuid.uuid4()]).total == 0
    assert library.find(1, hidden_datasets=[first.id]).total == 2
    assert library.find(1, modalities=["image"]).total == 0
    assert library.find(1, modalities=["text"]).total == COUNT + 2
    named = library.find(1, assets=[assets[4].id, new.id])
    assert {hit.asset_id for hit in named.hits} == {assets[4].id, new.id}
    early = library.find(1, count=COUNT, until=10)
    assert {hit.asset_id for hit in early.hits} == {asset.id for asset in assets[:10]}
    with tenant_scope(party.id):
        update_asset(asset_id=assets[30].id, values={"n": 5})
        update_asset(asset_id=assets[3].id, values={"n": 99})
    library.delete(assets[5])
    wanted = {*(one.id for one in assets[:10]), assets[30].id, new.id} - {assets[3].id, assets[5].id}
    # By nearest rows that are sifted, by rows that are named, and by Postgres alone.
    for limits in ({}, {"MOST_FOUND": 4}, {"MOST_NAMED": 3, "MOST_FOUND": 4}):
        for name, limit in limits.items():
            monkeypatch.setattr(milvus, name, limit)
        found = library.filtered(1, [("n", "lt", 10)], count=COUNT)
        assert {hit.asset_id for hit in found.hits} == wanted
        assert found.total == len(wanted)
    monkeypatch.setattr(milvus.MilvusSegment, "exact_assets", COUNT)
    found = library.filtered(1, [("n", "lt", 10)], count=COUNT)
    assert ({hit.asset_id for hit in found.hits}, found.recall) == (wanted, 1.0)


def test_an_asset_may_have_many_rows(library: InMilvus, party, settings) -> None:
    settings.INDEX_FLAT_MAX = 10_000
    assets = library.fill(4)
    rows = np.random.default_rng(5).normal(size=(400, 256)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with tenant_scope(party.id):
        vectors = [NewVector("text", row, {"start_char": n, "end_char": n + 1}) for n, row in enumerate(rows)]
        add_vectors(model=MODEL, vectors=[(asset, vectors[n::4]) for n, asset in enumerate(assets)])
    assert library.move().state == "succeeded"
    assert {hit.asset_id for hit in library.find(9, count=4).hits} == {asset.id for asset in assets}
    assert library.agrees(1, 9, 7000)


def test_a_tenant_can_name_no_copy_of_another(library: InMilvus, party, stranger, engine) -> None:
    library.fill()
    library.move()
    copy_id = library.pointer.current_id
    assert (party.id, copy_id) in set(engine.everything())
    with tenant_scope(stranger.id):
        assert list(engine.segments()) == []
        assert engine.is_there(copy_id) is False
        assert engine.drop(copy_id) is False
        with pytest.raises(SegmentGone):
            engine.add(copy_id, [NewRow(1, copy_id, copy_id, 0, 0)], np.zeros((1, 256), np.float32))
        engines.tidy(())
    assert library.copies == {copy_id}
    # Even a segment that was forged in another tenant's name finds nothing that its tenant could not read.
    library.find(1)
    segment = library.cached.state.base
    forged = type(segment)(**{**vars(segment), "tenant_id": stranger.id})
    with pytest.raises(SegmentGone):
        forged.nearest(unit(1), 5, "", 8)
    with tenant_scope(stranger.id):
        assert forged.scored(unit(1), list(range(1, COUNT))) == {}


def test_a_copy_that_is_gone_is_noticed_and_no_search_is_wrong(library: InMilvus, engine) -> None:
    library.fill()
    library.move()
    library.find(0)
    copy = library.cached.state.base
    prefetched = Prefetched(copy.id, *copy.candidates(unit(5), 64))
    with tenant_scope(library.tenant_id):
        found = rank(library.cached.refresh(), unit(5), 5, Restriction(), prefetched=prefetched)
        assert [hit.asset_id for hit in found.hits] == library.truth(5)
        assert engine.drop(copy.id)
    with pytest.raises(SegmentGone):
        rank(library.cached.state, unit(1), 5, Restriction())
    with tenant_scope(library.tenant_id):
        lifecycle.consider_all()
    assert (library.engine, library.pointer.current_id) == ("memory", None)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)


def test_while_milvus_is_away(library: InMilvus, engine, settings) -> None:
    library.fill()
    library.move()
    library.find(0)
    settings.MILVUS_URL, settings.MILVUS_TIMEOUT_S = "http://127.0.0.1:9", 0.5
    engine.server._client = None
    # So few vectors are compared one by one.
    assert library.agrees(1, 2)
    settings.INDEX_EXACT_MAX = 10
    with pytest.raises(Unavailable):
        library.find(2)
    with tenant_scope(library.tenant_id):
        # Nothing is built anew, and nothing forgotten.
        lifecycle.consider_all()
    assert library.engine == "milvus"
    job = library.move()
    assert (job.state, job.error["type"]) == ("queued", "unavailable")
    assert library.engine == "milvus"


def test_an_erased_tenant_leaves_no_collection(library: InMilvus, party, engine) -> None:
    library.fill(20)
    library.move()
    assert tenant_erasure.find_traces(party.id)["copies"] == 1
    assert tenant_erasure.erase_tenant(slug=party.tenant.slug).verified
    assert party.id not in {tenant_id for tenant_id, _ in engine.everything()}
