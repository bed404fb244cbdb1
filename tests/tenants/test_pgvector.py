"""pgvector as a second engine: there and back with the answers compared, and what holds while a tenant is there."""

from __future__ import annotations

import uuid

import numpy as np
import psycopg2
import pytest
from django.db import DatabaseError, connection, transaction

from tenants.datasets.services import create_dataset
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import update_asset
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval import copies, lexical, lifecycle, memory, moving, overlap, pgvector, restricting
from tenants.retrieval.engines import Copy
from tenants.retrieval.lexical import Entry
from tenants.retrieval.models import IndexGeneration
from tenants.retrieval.opened import folder_of
from tenants.retrieval.opening import opening
from tenants.retrieval.queries import Query
from tenants.retrieval.ranking import rank
from tenants.retrieval.vectors import NewVector, add_vectors
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import COUNT, MODEL, Library, unit
from tests.waiting import until
from workers.base import run_job

pytestmark = pytest.mark.slow
BELOW_TEN = [("n", "lt", 10)]


class Moved(Library):
    """A library that can be moved."""

    def move(self, to: str = "pgvector") -> Job:
        with tenant_scope(self.tenant_id):
            job = lifecycle.move(model=MODEL, to=to)
        assert job is not None
        return self.run_move(job)

    def run_move(self, job: Job) -> Job:
        run_job(str(job.id), str(self.tenant_id))
        with tenant_scope(self.tenant_id):
            return Job.objects.get(pk=job.id)

    @property
    def engine(self) -> str:
        return self.pointer.engine

    @property
    def kind(self) -> str:
        base = self.cached.state.base
        return base.kind if base else "flat"

    @property
    def tables(self) -> set[uuid.UUID]:
        with tenant_scope(self.tenant_id):
            return {copy_id for _, copy_id in copies.of_tenant()}


@pytest.fixture
def library(party, settings, monkeypatch) -> Moved:
    settings.INDEX_FLAT_MAX = 50
    monkeypatch.setattr(moving, "GRACE_S", 0)
    monkeypatch.setattr(overlap, "QUERIES", 48)
    return Moved(party)


def test_there_and_back_with_the_answers_compared(library: Moved) -> None:
    library.fill()
    library.put(1000, 1001, 1002)
    library.build()
    before = [library.find(seed) for seed in (3, 1001, 5000)]
    job = library.move()
    assert (job.state, job.error) == ("succeeded", None)
    result = job.result
    assert (result["engine"], result["kind"], result["vectors"]) == ("pgvector", "pgvector-hnsw", COUNT + 3)
    assert result["overlap"] == result["recall"] == 1.0
    assert result["queries"] == 48
    assert library.engine == "pgvector"
    assert library.tables == {library.pointer.current_id}
    after = [library.find(seed) for seed in (3, 1001, 5000)]
    assert library.kind == "pgvector-hnsw"
    for old, new in zip(before, after, strict=True):
        assert [hit.asset_id for hit in new.hits] == [hit.asset_id for hit in old.hits]
        assert [hit.segment for hit in new.hits] == [hit.segment for hit in old.hits]
        assert [h.score for h in new.hits] == pytest.approx([h.score for h in old.hits], abs=1e-6)
        assert (new.total, new.recall) == (old.total, result["recall"])
    # The generation before stays for a rollback, and a rollback is a change of engines too.
    with tenant_scope(library.tenant_id):
        lifecycle.roll_back(model=MODEL)
    assert library.engine == "memory"
    assert library.agrees(3, 5000)
    with tenant_scope(library.tenant_id):
        lifecycle.roll_back(model=MODEL)
    # Who still has the copy open when it is dropped waits for the generation.
    assert library.agrees(3)
    assert library.kind == "pgvector-hnsw"
    back = library.move("memory")
    assert (back.state, back.error) == ("succeeded", None)
    assert (back.result["engine"], back.result["overlap"]) == ("memory", 1.0)
    assert library.engine == "memory"
    assert library.tables == set()
    assert library.agrees(3, 1001, 5000)
    assert library.base_id == library.pointer.current_id


def test_a_small_tenant_goes_back_to_no_index(library: Moved, settings) -> None:
    library.fill(20)
    assert library.move().state == "succeeded"
    assert library.agrees(1, 2)
    back = library.move("memory")
    assert (back.result["kind"], back.result["overlap"]) == ("flat", 1.0)
    assert (library.engine, library.pointer.current_id, library.tables) == ("memory", None, set())
    assert library.agrees(1, 2)


def test_what_came_went_and_changed_since_the_move_counts(library: Moved) -> None:
    assets = library.fill()
    library.move()
    library.find(0)
    library.delete(assets[7])
    library.embed(assets[8], 2000)
    new = library.put(3000)
    assert library.agrees(7, 8, 2000, 3000, 4000)
    found = library.find(3000)
    assert (found.hits[0].asset_id, found.total) == (new.id, COUNT)
    assert library.find(2000).hits[0].asset_id == assets[8].id
    every = library.find(7, count=COUNT + 5)
    assert assets[7].id not in {hit.asset_id for hit in every.hits}
    assert len(every.hits) == every.total == COUNT
    # Who starts now sees the same.
    library.cached = memory.TenantVectors(MODEL)
    assert library.find(7, count=COUNT + 5) == every
    assert library.kind == "pgvector-hnsw"


def test_restrictions_hold_in_the_copy_and_in_what_is_newer(library: Moved, party) -> None:
    old = library.fill()
    first = library.dataset
    library.move()
    with tenant_scope(party.id):
        library.dataset = create_dataset(name="second")
    new, second = library.put(500), library.dataset
    assert library.find(1, datasets=[first.id]).total == COUNT
    assert library.find(1, datasets=[second.id]).total == 1
    assert [hit.asset_id for hit in library.find(1, datasets=[second.id]).hits] == [new.id]
    assert library.find(1, datasets=[uuid.uuid4()]).total == 0
    hidden = library.find(1, count=COUNT, hidden_datasets=[first.id])
    assert (hidden.total, [hit.asset_id for hit in hidden.hits]) == (1, [new.id])
    assert library.find(1, modalities=["image"]).total == 0
    assert library.find(1, modalities=["text"]).total == COUNT + 1
    named = library.find(1, assets=[old[4].id, new.id])
    assert {hit.asset_id for hit in named.hits} == {old[4].id, new.id}
    left = library.find(1, count=3, without=frozenset([old[1].id]))
    assert [hit.asset_id for hit in left.hits] == [i for i in library.truth(1, 4) if i != old[1].id][:3]
    early = library.find(1, count=COUNT, until=10)
    assert {hit.asset_id for hit in early.hits} == {asset.id for asset in old[:10]}


def below_ten(library: Moved) -> set[uuid.UUID]:
    found = library.filtered(1, BELOW_TEN, count=COUNT)
    assert found.total == len(found.hits)
    return {hit.asset_id for hit in found.hits}


@pytest.mark.parametrize("exact_assets", [pgvector.EXACT_ASSETS, 0], ids=["each looked at", "by the index"])
def test_filters_see_metadata_as_it_is_now(library: Moved, party, monkeypatch, exact_assets) -> None:
    monkeypatch.setattr(pgvector.PgvectorCopy, "exact_assets", exact_assets)
    assets = library.fill()
    library.move()
    library.find(0)
    assert below_ten(library) == {asset.id for asset in assets[:10]}
    with tenant_scope(party.id):
        update_asset(asset_id=assets[30].id, values={"n": 5})
        update_asset(asset_id=assets[3].id, values={"n": 99})
    new = library.put(700, values={"n": 1})
    library.delete(assets[4])
    library.embed(assets[5], 4)
    wanted = {*(asset.id for asset in assets[:10]), assets[30].id, new.id} - {assets[3].id, assets[4].id}
    assert below_ten(library) == wanted
    found = library.filtered(1, [("n", "ne", 5), ("n", "lte", 7)], count=COUNT)
    assert {hit.asset_id for hit in found.hits} == {new.id, *(assets[n].id for n in (0, 1, 2, 6, 7))}
    library.move()
    library.cached = memory.TenantVectors(MODEL)
    assert below_ten(library) == wanted


def test_words_and_filters_together(library: Moved, party) -> None:
    assets = library.fill()
    library.move()
    with tenant_scope(party.id):
        lexical.index_texts([Entry(asset.id, asset.dataset_id, "text", "xyzzy") for asset in assets])
        now = opening(party.id, MODEL)
        state = library.cached.refresh(now)
        only = restricting.restriction(Query(conditions=BELOW_TEN), state, now)
        found = restricting.matching_words("xyzzy", 100, only, state)
    assert {asset_id for asset_id, _ in found} == {asset.id for asset in assets[:10]}


def test_the_index_of_the_copy_is_used_and_good(library: Moved, party, settings) -> None:
    """Enough vectors that Postgres prefers the index; an asset may have many."""
    settings.INDEX_FLAT_MAX = 10_000
    assets = library.fill(4)
    rows = np.random.default_rng(5).normal(size=(4_000, 256)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with tenant_scope(party.id):
        vectors = [NewVector("text", row, {"start_char": n, "end_char": n + 1}) for n, row in enumerate(rows)]
        add_vectors(model=MODEL, vectors=[(asset, vectors[n::4]) for n, asset in enumerate(assets)])
    job = library.move()
    assert job.state == "succeeded", job.error
    assert job.result["recall"] >= 0.99
    library.find(0)
    copy = library.cached.state.base
    assert isinstance(copy, Copy)
    with tenant_scope(party.id), connection.cursor() as cursor:
        cursor.execute(
            f"SET LOCAL enable_sort = off; EXPLAIN SELECT seq FROM copies.copy_{copy.id.hex} "
            "ORDER BY embedding OPERATOR(pgvector.<#>) %s::pgvector.halfvec LIMIT 10",
            [pgvector._text(unit(1))],
        )
        assert "_embedding_idx" in str(cursor.fetchall())
    assert {hit.asset_id for hit in library.find(9, count=4).hits} == {asset.id for asset in assets}


def test_another_tenant_neither_sees_nor_drops_a_copy(library: Moved, party, stranger) -> None:
    library.fill()
    library.move()
    copy_id = library.pointer.current_id
    table = f"copies.copy_{copy_id.hex}"

    def rows(statement: str) -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    assert Moved(stranger).tables == set()
    with tenant_scope(stranger.id):
        assert rows(f"SELECT count(*) FROM {table}") == [(0,)]
        assert copies.ENGINES["pgvector"].drop(copy_id) is False
        with pytest.raises(DatabaseError, match="no such copy"), transaction.atomic():
            rows(f"SELECT copies.index_copy('{copy_id}', 16, 64, 64, 1)")
        copies.tidy(())
    assert library.tables == {copy_id}
    assert rows(f"SELECT count(*) FROM {table}") == [(0,)]
    with pytest.raises(DatabaseError, match="no tenant is set"), transaction.atomic():
        rows(f"SELECT copies.drop_copy('{copy_id}')")
    # Not the tenant itself either, but through the functions; and a finished copy takes no more rows.
    for statement in (
        f"DROP TABLE {table}",
        f"DELETE FROM {table}",
        f"INSERT INTO {table} SELECT * FROM {table}",
    ):
        with tenant_scope(party.id), pytest.raises(DatabaseError), transaction.atomic():
            rows(statement)
    with tenant_scope(party.id):
        assert rows(f"SELECT count(*) FROM {table}") == [(COUNT,)]
        flags = f"SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = '{table}'::regclass"
        assert rows(flags) == [(True, True)]
    # Somebody who creates a copy under a name that another tenant has.
    with (
        tenant_scope(stranger.id),
        pytest.raises(DatabaseError, match="already exists"),
        transaction.atomic(),
    ):
        copies.ENGINES["pgvector"].begin(copy_id)


def test_without_the_extension_a_move_is_refused_and_nothing_changes(library: Moved, monkeypatch) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    # What Postgres answers where the extension is not in its schema.
    monkeypatch.setattr(pgvector, "EXTENSION_SCHEMA", "elsewhere")
    job = library.move()
    assert (job.state, job.error["type"]) == ("failed", "engine-missing")
    assert "provision.sql" in job.error["detail"]
    assert (library.engine, library.pointer.current_id, library.tables) == ("memory", current, set())
    assert library.agrees(1)


def test_killed_between_chunks_the_old_engine_serves_and_another_move_succeeds(
    library: Moved, monkeypatch
) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    with tenant_scope(library.tenant_id):
        job = lifecycle.move(model=MODEL, to="pgvector")
    real, calls = moving._chunk, []

    def killed(*args):
        calls.append(args)
        if len(calls) > 2:
            raise SystemExit
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(moving, "CHUNK", 10)
        patch.setattr(moving, "_chunk", killed)
        patch.setattr(moving, "_give_up", lambda *args: None)
        with pytest.raises(SystemExit):
            run_job(str(job.id), str(library.tenant_id))
    assert len(library.tables) == 1
    assert (library.engine, library.pointer.current_id) == ("memory", current)
    assert library.agrees(1)
    with tenant_scope(library.tenant_id):
        Job.objects.filter(pk=job.id).update(state="queued", lease_until=None)
    assert library.run_move(job).state == "succeeded"
    assert library.tables == {library.pointer.current_id}
    with tenant_scope(library.tenant_id):
        states = sorted(IndexGeneration.objects.values_list("state", flat=True))
    assert states == ["failed", "ready", "ready"]


def test_a_cancelled_move_leaves_nothing(library: Moved) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.move(model=MODEL, to="pgvector")
        assert lifecycle.build(model=MODEL) is None
        Job.objects.filter(pk=job.id).update(cancel_requested=True)
    assert library.run_move(job).state == "cancelled"
    assert library.tables == set()
    assert library.agrees(1)


def test_an_engine_that_finds_too_little_is_not_published(library: Moved, monkeypatch) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    measured = pgvector.PgvectorCopy.measured
    monkeypatch.setattr(pgvector.PgvectorCopy, "measured", lambda *args: measured(*args)[1:])
    job = library.move()
    assert (job.state, job.error["type"]) == ("failed", "index-not-moved")
    assert "0.9000" in job.error["detail"]
    assert (library.engine, library.pointer.current_id, library.tables) == ("memory", current, set())


def test_what_is_due_is_copied_anew(library: Moved) -> None:
    assets = library.fill()
    library.move()
    first = library.pointer.current_id
    with tenant_scope(library.tenant_id):
        assert lifecycle.consider(model=MODEL) is None
    for number, asset in enumerate(assets[:26]):
        library.embed(asset, 200 + number)
    with tenant_scope(library.tenant_id):
        job = lifecycle.consider(model=MODEL)
    assert (job.kind, job.arguments["to"]) == ("move_index", "pgvector")
    assert library.run_move(job).state == "succeeded"
    pointer = library.pointer
    assert (pointer.engine, pointer.previous) == ("pgvector", None)
    assert library.tables == {pointer.current_id} != {first}
    assert library.agrees(1, 30, 210)
    assert library.base_id == pointer.current_id


def test_a_copy_that_is_gone_is_noticed_answered_without_and_built_anew(library: Moved, settings) -> None:
    """As after a restore of a backup, which has no copies in it."""
    library.fill()
    library.move()
    with tenant_scope(library.tenant_id):
        copies.ENGINES["pgvector"].drop(library.pointer.current_id)
        lifecycle.consider_all()
        job = Job.objects.get(kind="build_index", state="queued")
    assert (library.engine, library.pointer.current_id) == ("memory", None)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)
    library.run(job)
    # Opened beside the searches, which are answered without it meanwhile.
    until(lambda: not library.agrees(1, 2) or library.base_id is not None)
    assert library.base_id == library.pointer.current_id
    assert library.agrees(1, 2)
    assert library.folders == {str(library.pointer.current_id)}
    # Or by a search.
    library.move()
    with tenant_scope(library.tenant_id):
        copies.ENGINES["pgvector"].drop(library.pointer.current_id)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)


def test_a_copy_dropped_under_a_search_is_no_wrong_answer(library: Moved) -> None:
    library.fill()
    library.move()
    library.find(0)
    copy = library.cached.state.base
    with tenant_scope(library.tenant_id):
        copies.ENGINES["pgvector"].drop(copy.id)
    with pytest.raises(pgvector.CopyGone):
        rank(library.cached.state, unit(1), 5, restricting.Restriction())


def test_cached_candidates_of_a_copy_are_checked_against_what_is_gone(library: Moved) -> None:
    from tenants.retrieval.ranking import Ahead
    from tenants.retrieval.state import Restriction

    assets = library.fill()
    library.move()
    library.find(0)
    copy = library.cached.state.base
    ahead = Ahead(copy.id, *copy.ahead(unit(5), 64))
    library.delete(assets[5])
    library.delete(library_second := assets[6])
    with tenant_scope(library.tenant_id):
        state = library.cached.refresh()
        found = rank(state, unit(5), 5, Restriction(), ahead=ahead)
    assert [hit.asset_id for hit in found.hits] == library.truth(5)
    assert library_second.id not in {hit.asset_id for hit in found.hits}


def test_folders_and_copies_do_not_mix(library: Moved) -> None:
    library.fill()
    library.move()
    assert library.folders == set()
    assert not folder_of(library.tenant_id, library.pointer.current_id).exists()
    with tenant_scope(library.tenant_id):
        job = lifecycle.move(model=MODEL, to="memory")
        jobs.cancel(job_id=job.id)
    assert library.tables == {library.pointer.current_id}


def test_the_application_may_not_make_tables_there() -> None:
    denied = pytest.raises(DatabaseError, match="permission denied")
    with denied as refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE copies.copy_x (n int)")
    assert isinstance(refused.value.__cause__, psycopg2.errors.InsufficientPrivilege)


def test_an_erased_tenant_leaves_no_copy(library: Moved, party) -> None:
    library.fill(20)
    library.move()
    assert tenant_erasure.find_traces(party.id)["copies"] == 1
    assert tenant_erasure.erase_tenant(slug=party.tenant.slug).verified
    assert tenant_erasure.find_traces(party.id) == {}
    assert library.tables == set()
