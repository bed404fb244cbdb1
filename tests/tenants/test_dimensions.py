"""Models of several dimensions: vectors of 256 numbers and of 512 lie side by side, and a search meets one kind."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ml.indexes.base import as_matrix
from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid, NotReady
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import cache, map_points, model_routing
from tenants.retrieval.index import lifecycle, memory
from tenants.retrieval.index.registry import opened
from tenants.retrieval.index.vectors import NewVector, add_vectors, dimension_of, replace_vectors
from tenants.retrieval.map_points import Wanted
from tenants.retrieval.model_store import default_model, model_of, spaces
from tenants.retrieval.models import IndexPointer
from tenants.retrieval.query import result_page
from tenants.retrieval.query.result_page import HYDRATED
from tenants.retrieval.query.searcher import Answer, search
from tenants.retrieval.types import Hit, Query
from tenants.scope import tenant_scope
from tests.tenants.test_export import export
from workers.base import run_job

COUNT = 60
DEFAULT = default_model()


def unit(seed: int, dimension: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return values / np.linalg.norm(values)


class TinySpace:
    """A space that places the text "seed" at a random vector of that seed."""

    version, near_duplicate = "1", 0.9

    def __init__(self, dimension: int) -> None:
        self.id, self.dimension = f"cman-{uuid.uuid4()}", dimension
        self.manifest = {"encoders": {"text": "tiny", "image": []}}

    def relevance_of(self, query: np.ndarray, words: str) -> None:
        return None

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([unit(int(text), self.dimension) for text in texts])

    query_texts = embed_texts

    def as_query(self, vectors: np.ndarray) -> np.ndarray:
        return vectors

    text_query = as_query


class Library:
    """Assets whose vector in each space is the random one of their number."""

    def __init__(self, tenant_id: uuid.UUID) -> None:
        self.tenant_id, self.dimensions = tenant_id, {DEFAULT: 256}
        with tenant_scope(tenant_id):
            self.dataset = create_dataset(name="d")
        self.assets: list[Asset] = []

    def add_space(self, dimension: int) -> str:
        """A model of the tenant's own, of so many dimensions."""
        space: Any = TinySpace(dimension)
        model = model_of(space)
        spaces._own[self.tenant_id, model] = (space, 1)
        self.dimensions[model] = dimension
        return model

    def put(self, seed: int, *models: str) -> Asset:
        with tenant_scope(self.tenant_id):
            asset = add_asset(dataset_id=self.dataset.id, text=f"text {seed}").asset
            replace_vectors(asset=asset, vectors=[self.vector(seed, model) for model in models])
        self.assets.append(asset)
        return asset

    def vector(self, seed: int, model: str) -> NewVector:
        return NewVector("text", unit(seed, self.dimensions[model]), model=model)

    def embed(self, model: str, seeds: range | None = None) -> None:
        """Vectors of a model for the assets that have none of it yet."""
        numbers = range(len(self.assets)) if seeds is None else seeds
        with tenant_scope(self.tenant_id):
            add_vectors(vectors=[(self.assets[n], [self.vector(n, model)]) for n in numbers])

    def build(self, model: str) -> Job:
        with tenant_scope(self.tenant_id):
            job = lifecycle.build(model=model)
        assert job is not None
        run_job(str(job.id), str(self.tenant_id))
        with tenant_scope(self.tenant_id):
            return Job.objects.get(pk=job.id)

    def find(self, **asked: Any) -> Answer:
        return search(tenant_id=self.tenant_id, query=Query(**asked), read=HYDRATED)

    def best(self, seed: int, dimension: int) -> tuple[str, float, str]:
        """The best asset, its score, and the model that answered."""
        answer = self.find(vector=unit(seed, dimension), top_k=3)
        asset, hit = answer.results[0]
        named = answer.meta["model"]
        assert named["dimension"] == dimension
        return asset.id, round(hit.score, 3), f"{named['id']}:{named['version']}"


@pytest.fixture
def library(party, settings) -> Iterator[Library]:
    settings.INDEX_FLAT_MAX = 50
    made = Library(party.id)
    yield made
    for model in made.dimensions:
        spaces.forget(party.id, model)


# --- From one dimension to another ---------------------------------------------------------------------


@pytest.mark.slow
def test_a_tenant_goes_from_256_to_512_and_back_and_no_search_fails(library: Library) -> None:
    for seed in range(COUNT):
        library.put(seed, DEFAULT)
    assert library.build(DEFAULT).state == "succeeded"
    seven = str(library.assets[7].id)
    assert library.best(7, 256) == (seven, 1.0, DEFAULT)

    large = library.add_space(512)
    model_routing.begin_dual_write(large, tenant_id=library.tenant_id)
    library.embed(large, range(COUNT // 2))
    # Broken off half-way, and gone on with later.
    with tenant_scope(library.tenant_id), pytest.raises(model_routing.Missing):
        model_routing.switch(large)
    assert library.best(7, 256) == (seven, 1.0, DEFAULT)
    library.embed(large, range(COUNT // 2, COUNT))
    with tenant_scope(library.tenant_id), pytest.raises(NotReady):
        model_routing.switch(large)
    assert library.best(7, 256) == (seven, 1.0, DEFAULT)
    job = library.build(large)
    assert (job.state, job.result["vectors"]) == ("succeeded", COUNT)
    with tenant_scope(library.tenant_id):
        made = {one.model: one.current_id for one in IndexPointer.objects.all()}
    folders = {model: opened.get(library.tenant_id, made[model], wait=True) for model in (DEFAULT, large)}
    assert {model: one.generation.manifest.dimension for model, one in folders.items() if one} == {
        DEFAULT: 256,
        large: 512,
    }
    assert library.best(7, 256) == (seven, 1.0, DEFAULT)

    with tenant_scope(library.tenant_id):
        model_routing.switch(large)
    assert library.best(7, 512) == (seven, 1.0, large)
    # Newer vectors of both models, which no generation knows.
    newest = str(library.put(COUNT, DEFAULT, large).id)
    assert library.best(COUNT, 512) == (newest, 1.0, large)
    with pytest.raises(Invalid, match="exactly 512 numbers") as refused:
        library.best(7, 256)
    assert refused.value.errors[0]["pointer"] == "/vector"

    with tenant_scope(library.tenant_id):
        model_routing.roll_back()
    assert library.best(COUNT, 256) == (newest, 1.0, DEFAULT)
    with pytest.raises(Invalid, match="exactly 256 numbers"):
        library.best(7, 512)


def test_words_and_assets_are_asked_in_the_space_that_answers(library: Library) -> None:
    small = library.add_space(64)
    for seed in range(5):
        library.put(seed, DEFAULT)
    model_routing.begin_dual_write(small, tenant_id=library.tenant_id)
    library.embed(small)
    with tenant_scope(library.tenant_id):
        model_routing.switch(small)
    assert library.best(3, 64)[0] == str(library.assets[3].id)
    for _ in range(2):
        # From the encoder, then from the cache.
        answer = library.find(text="2")
        assert (answer.results[0][0].id, round(answer.results[0][1].score, 3)) == (
            str(library.assets[2].id),
            1.0,
        )
    assert answer.layers["embedding"] == "process"
    like = library.find(like=[library.assets[1].id], group_duplicates=True)
    assert str(library.assets[1].id) not in {asset.id for asset, _ in like.results}
    assert len(like.results) == 4


def test_pages_of_a_search_keep_its_vector(library: Library) -> None:
    small = library.add_space(64)
    for seed in range(5):
        library.put(seed, DEFAULT)
    model_routing.begin_dual_write(small, tenant_id=library.tenant_id)
    library.embed(small)
    with tenant_scope(library.tenant_id):
        model_routing.switch(small)
    shown: list[str] = []
    answer = library.find(vector=unit(0, 64), top_k=2)
    shown += [asset.id for asset, _ in answer.results]
    while answer.next:
        answer = library.find(cursor=answer.next, top_k=2)
        shown += [asset.id for asset, _ in answer.results]
    order = sorted(range(5), key=lambda seed: -float(unit(seed, 64) @ unit(0, 64)))
    assert shown == [str(library.assets[seed].id) for seed in order]


def test_a_cursor_of_the_release_before_is_read(party) -> None:
    hit, vector = Hit(uuid.uuid4(), 0.5, "text"), unit(1, 256)
    body = result_page.pack_hits([hit], {"meta": {"a": 1}, "query": {}, "seq": 9})
    search_id = str(uuid.uuid4())
    cache.async_writer.put(
        result_page._cursor_key(party.id, search_id), b"s" + vector.tobytes() + body, seconds=60
    )
    seed = result_page.kept_ranking(party.id, search_id)
    assert isinstance(seed, result_page.Seed)
    assert (seed.vector.tobytes(), seed.seq, seed.hits[0].asset_id) == (vector.tobytes(), 9, hit.asset_id)


# --- What is stored ---------------------------------------------------------------------------------------


def test_vectors_of_one_model_have_one_dimension(library: Library) -> None:
    asset = library.put(0, DEFAULT)
    with tenant_scope(library.tenant_id):
        assert dimension_of(DEFAULT) == 256
        assert dimension_of("other:1") is None
        for given in ([unit(1, 64)], [unit(1, 256), unit(1, 64)]):
            with pytest.raises(ValueError, match=r"have 256 numbers"):
                add_vectors(vectors=[(asset, [NewVector("text", one) for one in given])], model=DEFAULT)
        with pytest.raises(ValueError, match=r"\[64, 65\]"):
            add_vectors(vectors=[(asset, [NewVector("text", unit(1, d)) for d in (64, 65)])], model="other:1")
    assert library.best(0, 256)[1] == 1.0


def test_stored_vectors_that_do_not_belong_together_are_no_matrix() -> None:
    assert as_matrix([]).shape == (0, 0)
    both = as_matrix([unit(0, 64).tobytes(), memoryview(unit(1, 64).tobytes())])
    assert both.shape == (2, 64) and (both[1] == unit(1, 64)).all()
    with pytest.raises(ValueError, match=r"\[64, 128\]"):
        as_matrix([unit(0, 64).tobytes(), unit(1, 128).tobytes()])


@pytest.mark.services
def test_samples_of_queries_are_those_of_the_dimension(tenant_id: uuid.UUID, monkeypatch) -> None:
    monkeypatch.setattr(cache, "SAMPLED_SHARE", 1)
    for dimension in (64, 64, 256):
        cache.note_query(tenant_id, "m:1", unit(dimension, dimension))
    cache.async_writer.flush()
    assert cache.sampled_queries(tenant_id, "m:1", 64).shape == (1, 64)
    assert cache.sampled_queries(tenant_id, "m:1", 256).shape == (1, 256)


@pytest.fixture
def tenant_id() -> uuid.UUID:
    return uuid.uuid4()


def test_a_map_is_read_and_drawn_in_any_dimension(library: Library) -> None:
    small = library.add_space(64)
    for seed in range(5):
        library.put(seed, DEFAULT, small)
    with tenant_scope(library.tenant_id):
        Asset.objects.filter(pk__in=[one.pk for one in library.assets]).update(status="ready")
        assert map_points.read_vectors(Wanted(small)).vectors.shape == (5, 64)
        assert map_points.read_vectors(Wanted(DEFAULT)).vectors.shape == (5, 256)
        assert map_points.read_vectors(Wanted("other:1")).vectors.shape == (0, 0)
    compared = map_points.compared(library.tenant_id, Wanted(DEFAULT), small)
    assert compared.after.shape == (5, 2)


def test_what_a_tenant_holds_in_memory_counts_the_numbers_of_its_vectors(library: Library) -> None:
    small = library.add_space(64)
    for seed in range(5):
        library.put(seed, DEFAULT, small)
    sizes = {}
    with tenant_scope(library.tenant_id):
        for model in (DEFAULT, small):
            held = memory.TenantVectors(model)
            held.refresh()
            sizes[model] = held.bytes
    assert sizes[DEFAULT] - sizes[small] == 5 * 4 * (256 - 64)


# --- Exports -----------------------------------------------------------------------------------------------


def test_an_export_holds_models_of_several_dimensions(library: Library, tmp_path) -> None:
    small = library.add_space(64)
    library.put(0, DEFAULT)
    tenant = Tenant.objects.get(pk=library.tenant_id)
    export(tenant, tmp_path / "one")
    library.put(1, DEFAULT, small)
    export(tenant, tmp_path / "two")
    one, two = (pq.read_table(tmp_path / name / "vectors.parquet") for name in ("one", "two"))
    assert str(one.schema.field("vector").type).startswith("fixed_size_list")
    lengths = {(row["model"], len(row["vector"])) for row in two.to_pylist()}
    assert lengths == {(DEFAULT, 256), (small, 64)}
