"""A tenant to a Milvus server and back while it is searched, filtered and written to: proof 11 of `make test-hosts`."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from django.db import connection

from tenants.datasets import metadata
from tenants.datasets.models import Asset, Blob, Dataset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import ServiceError
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import delete_asset, update_asset
from tenants.retrieval import engines, milvus
from tenants.retrieval.index import lifecycle, memory
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.index.vectors import NewVector, add_vectors, replace_vectors
from tenants.retrieval.models import IndexPointer
from tenants.retrieval.query import ranking
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Query
from tenants.scope import tenant_scope
from tests.hosts.milvus_server import milvus_server, missing
from tests.tenants.test_index_lifecycle import MODEL
from workers.base import run_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(900),
]
COUNT, CENTRES, TOP = 6_000, 60, 10
SCHEMA = {"n": {"type": "number"}, "colour": {"type": "text"}}
COLOURS = ("red", "green", "blue", "black")
# By the share of the assets that they leave: all, a quarter, a sixteenth and a two hundredth.
FILTERS: dict[str, list[tuple[str, str, Any]]] = {
    "without a filter": [],
    "colour, 25 %": [("colour", "eq", "red")],
    "range, 6 %": [("n", "lt", COUNT // 16)],
    "range, 0.5 %": [("n", "lt", COUNT // 200)],
}


@dataclass
class Truth:
    """What was committed, in this process: vectors, numbers and colours by asset."""

    vectors: dict[uuid.UUID, np.ndarray] = field(default_factory=dict)
    values: dict[uuid.UUID, dict[str, Any]] = field(default_factory=dict)

    def meets(self, asset_id: uuid.UUID, name: str) -> bool:
        known = self.values[asset_id]
        return all(
            known[key] == value if operator == "eq" else known[key] < value
            for key, operator, value in FILTERS[name]
        )

    def best(self, query: np.ndarray, name: str) -> set[uuid.UUID]:
        ids = [asset_id for asset_id in self.vectors if self.meets(asset_id, name)]
        scores = np.array([self.vectors[asset_id] for asset_id in ids]) @ query
        return {ids[place] for place in np.argsort(-scores)[:TOP]}


@dataclass
class Figures:
    searches: int = 0
    found: dict[str, int] = field(default_factory=dict)
    possible: dict[str, int] = field(default_factory=dict)
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    stale: int = 0
    refused: list[str] = field(default_factory=list)
    writes: int = 0
    engines: set[str] = field(default_factory=set)

    def recall(self, name: str) -> float:
        return self.found[name] / max(1, self.possible[name])


class World:
    """A tenant in which one thread writes and another searches, one after the other by a lock: so that it is known
    what was committed before a search. Moves know nothing of that lock."""

    def __init__(self, tenant_id: uuid.UUID) -> None:
        self.tenant_id, self.random = tenant_id, random.Random(11)
        self.rng = np.random.default_rng(11)
        self.centres = self.rng.normal(size=(CENTRES, 256))
        self.truth, self.lock, self.ended = Truth(), threading.Lock(), threading.Event()
        self.cached = memory.TenantVectors(MODEL)
        with tenant_scope(tenant_id):
            self.dataset: Dataset = create_dataset(name="moved", metadata_schema=SCHEMA)
            self.blob = Blob.objects.create(
                sha256=uuid.uuid4().hex * 2, bytes=1, media_type="text/plain", references=10 * COUNT
            )

    def vector(self) -> np.ndarray:
        values = self.centres[self.random.randrange(CENTRES)] + 1.5 * self.rng.normal(size=256)
        return (values / np.linalg.norm(values)).astype(np.float32)

    def put(self, count: int) -> None:
        values = [
            {"n": self.random.randrange(COUNT), "colour": self.random.choice(COLOURS)} for _ in range(count)
        ]
        vectors = [self.vector() for _ in values]
        with tenant_scope(self.tenant_id):
            assets = [
                Asset(dataset=self.dataset, blob=self.blob, modality="text", status="ready", metadata=one)
                for one in values
            ]
            Asset.objects.bulk_create(assets)
            facets = [
                metadata.facets_of(one.id, one.metadata, self.dataset.metadata_schema) for one in assets
            ]
            Facet.objects.bulk_create(facet for some in facets for facet in some)
            named = [(one, [NewVector("text", vector)]) for one, vector in zip(assets, vectors, strict=True)]
            add_vectors(model=MODEL, vectors=named)
        self.truth.vectors |= {one.id: vector for one, vector in zip(assets, vectors, strict=True)}
        self.truth.values |= {one.id: value for one, value in zip(assets, values, strict=True)}

    def write(self) -> None:
        asset_id = self.random.choice(list(self.truth.vectors))
        match self.random.randrange(4):
            case 0:
                self.put(1)
            case 1:
                with tenant_scope(self.tenant_id):
                    delete_asset(asset_id=asset_id)
                del self.truth.vectors[asset_id], self.truth.values[asset_id]
            case 2:
                vector = self.vector()
                with tenant_scope(self.tenant_id):
                    asset = Asset.objects.get(pk=asset_id)
                    replace_vectors(asset=asset, model=MODEL, vectors=[NewVector("text", vector)])
                self.truth.vectors[asset_id] = vector
            case _:
                changed = {"n": self.random.randrange(COUNT), "colour": self.random.choice(COLOURS)}
                with tenant_scope(self.tenant_id):
                    update_asset(asset_id=asset_id, values=changed)
                self.truth.values[asset_id] = changed

    def search(self, figures: Figures) -> None:
        name = self.random.choice(list(FILTERS))
        query = self.vector()
        started = time.perf_counter()
        try:
            with tenant_scope(self.tenant_id):
                now = read_index_status(self.tenant_id, MODEL)
                state = self.cached.refresh(now)
                only = ranking.restriction(Query(conditions=FILTERS[name]), state, now)
                hits = rank(state, query, TOP, only).hits
        except ServiceError as error:
            figures.refused.append(f"{error.slug}: {error.detail}")
            return
        figures.milliseconds.setdefault(name, []).append(1000 * (time.perf_counter() - started))
        figures.searches += 1
        figures.engines.add(state.base.kind if state.base else "flat")
        right = self.truth.best(query, name)
        for hit in hits:
            known = self.truth.vectors.get(hit.asset_id)
            gone = known is None or not self.truth.meets(hit.asset_id, name)
            figures.stale += gone or abs(float(known @ query) - hit.score) > 1e-4
        figures.found[name] = figures.found.get(name, 0) + len(right & {hit.asset_id for hit in hits})
        figures.possible[name] = figures.possible.get(name, 0) + len(right)

    def run(self, figures: Figures) -> None:
        try:
            while not self.ended.is_set():
                with self.lock:
                    self.write()
                    figures.writes += 1
                    self.search(figures)
        finally:
            connection.close()

    def move(self, to: str) -> Job:
        with tenant_scope(self.tenant_id):
            job = lifecycle.move(model=MODEL, to=to)
        assert job is not None
        run_job(str(job.id), str(self.tenant_id))
        with tenant_scope(self.tenant_id):
            return Job.objects.get(pk=job.id)

    @property
    def engine(self) -> str:
        with tenant_scope(self.tenant_id):
            return IndexPointer.objects.get(model=MODEL).engine


@pytest.fixture
def engine(
    tmp_path_factory: pytest.TempPathFactory, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[milvus.MilvusEngine]:
    settings.INDEX_FLAT_MAX, settings.MILVUS_TIMEOUT_S = 500, 20.0
    with milvus_server(tmp_path_factory.mktemp("milvus")) as settings.MILVUS_URL:
        made = milvus.MilvusEngine()
        monkeypatch.setitem(engines.ENGINES, "milvus", made)
        # So that Milvus answers for what Postgres would answer at this size.
        monkeypatch.setattr(milvus.MilvusSegment, "exact_assets", 100)
        yield made


@pytest.mark.proof(11)
def test_proof_11_a_tenant_to_milvus_and_back_under_writes(
    party, engine: milvus.MilvusEngine, tell: Callable[[str], None]
) -> None:
    world, figures = World(party.id), Figures()
    for _ in range(COUNT // 1_000):
        world.put(1_000)
    with tenant_scope(party.id):
        # So many writes have asked for one already.
        job = lifecycle.build(model=MODEL) or Job.objects.get(kind=lifecycle.JOB)
    run_job(str(job.id), str(party.id))
    thread = threading.Thread(target=world.run, args=(figures,), name="search-and-write")
    thread.start()
    try:
        there = world.move("milvus")
        assert (there.state, there.error, world.engine) == ("succeeded", None, "milvus")
        # In Milvus for as long as in both moves.
        before = figures.searches
        while figures.searches < before + 400 and thread.is_alive():
            world.ended.wait(0.05)
        back = world.move("files")
        assert (back.state, back.error, world.engine) == ("succeeded", None, "memory")
        before = figures.searches
        while figures.searches < before + 50 and thread.is_alive():
            world.ended.wait(0.05)
    finally:
        world.ended.set()
        thread.join()
    with tenant_scope(party.id):
        lifecycle.tidy()
        assert list(engine.segments()) == []
    tell(f"proof 11: {engine.describe()}, {COUNT} assets")
    tell(f"proof 11: {figures.searches} searches, {figures.writes} writes")
    took = there.result
    tell(
        f"proof 11: {took['copy_s']} s to copy, {took['index_s']} s to index, recall@10 {took['recall']:.4f}"
    )
    tell(f"proof 11: answered by {', '.join(sorted(figures.engines))}")
    for name, spent in figures.milliseconds.items():
        tell(
            f"proof 11: {name}: recall@10 {figures.recall(name):.4f}, {np.median(spent):.1f} ms at the median"
        )
    tell(f"proof 11: {figures.stale} stale, {len(figures.refused)} refused")
    assert engine.kind in figures.engines
    assert (figures.stale, figures.refused) == (0, [])
    assert {name: figures.recall(name) >= 0.99 for name in FILTERS} == dict.fromkeys(FILTERS, True)
