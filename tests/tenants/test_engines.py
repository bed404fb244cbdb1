"""Another engine than files: there and back with the same answers, and what holds while a tenant is there.

The engine is a slow one in another process (tests.tenants.slow_engine), which keeps the contract true.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from standalone.doctor.findings import Options
from standalone.doctor.indexes import CHECKS
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Unavailable
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import update_asset
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval import engines
from tenants.retrieval.index import building, lifecycle, memory
from tenants.retrieval.index.generation_files import folder_of
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.models import IndexGeneration, IndexPointer, VectorClock
from tenants.retrieval.query import lexical, ranking
from tenants.retrieval.query.lexical import Entry
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Prefetched, Query, Restriction, SegmentGone
from tenants.scope import tenant_scope
from tests.tenants.slow_engine import KIND, slow_engine
from tests.tenants.test_index_lifecycle import COUNT, MODEL, Library, unit
from tests.waiting import until
from workers.base import run_job

pytestmark = pytest.mark.slow
BELOW_TEN = [("n", "lt", 10)]


class Moved(Library):
    """A library that can be moved."""

    def move(self, to: str = "slow") -> Job:
        with tenant_scope(self.tenant_id):
            job = lifecycle.build(model=MODEL, engine=to)
        assert job is not None
        return self.run(job)

    @property
    def engine(self) -> str:
        return self.pointer.engine

    @property
    def kind(self) -> str:
        base = self.cached.state.base
        return base.kind if base else "flat"

    @property
    def copies(self) -> set[uuid.UUID]:
        with tenant_scope(self.tenant_id):
            return {copy_id for _, copy_id in engines.of_tenant()}


@pytest.fixture(scope="module")
def process() -> Iterator[Any]:
    with slow_engine() as engine:
        yield engine


@pytest.fixture
def slow(process: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(engines.ENGINES, "slow", process)
    process.meet(fail=0, hang=0)
    return process


@pytest.fixture
def library(party, settings, monkeypatch, slow) -> Moved:
    settings.INDEX_FLAT_MAX = 50
    monkeypatch.setattr(building, "QUERIES", 16)
    return Moved(party)


def test_there_and_back_with_the_same_answers(library: Moved) -> None:
    library.fill()
    library.put(1000, 1001, 1002)
    library.build()
    before = [library.find(seed) for seed in (3, 1001, 5000)]
    job = library.move()
    assert (job.state, job.error) == ("succeeded", None)
    result = job.result
    # Of two efforts the first finds half, so the other one is chosen.
    assert (result["kind"], result["vectors"], result["recall"], result["effort"]) == (
        KIND,
        COUNT + 3,
        1.0,
        2,
    )
    assert library.engine == "slow"
    assert library.copies == {library.pointer.current_id}
    after = [library.find(seed) for seed in (3, 1001, 5000)]
    assert library.kind == KIND
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
    assert library.kind == KIND
    back = library.move("")
    assert (back.state, back.error) == ("succeeded", None)
    assert library.engine == "memory"
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.copies == set()
    assert library.agrees(3, 1001, 5000)
    assert library.base_id == library.pointer.current_id


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
    assert library.kind == KIND


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


def test_filters_see_metadata_as_it_is_now(library: Moved, party) -> None:
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
        now = read_index_status(party.id, MODEL)
        state = library.cached.refresh(now)
        only = ranking.restriction(Query(conditions=BELOW_TEN), state, now)
        found = ranking.matching_words("xyzzy", 100, only, state)
    assert {asset_id for asset_id, _ in found} == {asset.id for asset in assets[:10]}


def test_an_asset_may_have_many_rows(library: Moved, party, settings) -> None:
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


def test_another_tenant_neither_sees_nor_drops_a_copy(library: Moved, party, stranger, slow) -> None:
    library.fill()
    library.move()
    copy_id = library.pointer.current_id
    assert Moved(stranger).copies == set()
    with tenant_scope(stranger.id):
        assert slow.is_there(copy_id) is False
        assert slow.drop(copy_id) is False
        with pytest.raises(SegmentGone):
            slow.partitions(copy_id)
        with pytest.raises(ValueError, match="already exists"):
            slow.begin(copy_id)
        engines.tidy(())
    assert library.copies == {copy_id}
    with tenant_scope(party.id), pytest.raises(ValueError, match="takes no more rows"):
        slow.add(copy_id, [], np.zeros((0, 256), np.float32))


def test_an_engine_that_does_not_answer_builds_nothing_and_changes_nothing(library: Moved, slow) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    slow.meet(fail=100)
    job = library.move()
    slow.meet(fail=0)
    # Another attempt may fare better.
    assert (job.state, job.error["type"]) == ("queued", "unavailable")
    assert (library.engine, library.pointer.current_id) == ("memory", current)
    assert library.agrees(1)


def test_a_search_outlives_one_failure_and_says_when_the_engine_is_away(library: Moved, slow) -> None:
    library.fill()
    library.move()
    assert library.agrees(1)
    for fault in ("fail", "hang"):
        slow.meet(**{fault: 1})
        assert library.agrees(2)
        slow.meet(**{fault: 2})
        with pytest.raises(Unavailable):
            library.find(2)
        assert library.agrees(2)


def test_killed_between_chunks_the_old_engine_serves_and_another_build_succeeds(
    library: Moved, monkeypatch
) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL, engine="slow")
    real, calls = building._chunk, []

    def killed(*args):
        calls.append(args)
        if len(calls) > 2:
            raise SystemExit
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(building, "COPY_CHUNK", 10)
        patch.setattr(building, "_chunk", killed)
        patch.setattr(building, "_give_up", lambda *args: None)
        with pytest.raises(SystemExit):
            run_job(str(job.id), str(library.tenant_id))
    assert len(library.copies) == 1
    assert (library.engine, library.pointer.current_id) == ("memory", current)
    assert library.agrees(1)
    with tenant_scope(library.tenant_id):
        Job.objects.filter(pk=job.id).update(state="queued", lease_until=None)
    assert library.run(job).state == "succeeded"
    assert library.copies == {library.pointer.current_id}
    with tenant_scope(library.tenant_id):
        states = sorted(IndexGeneration.objects.values_list("state", flat=True))
    assert states == ["failed", "ready", "ready"]


def test_a_cancelled_build_leaves_nothing(library: Moved) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL, engine="slow")
        assert lifecycle.build(model=MODEL) is None
        Job.objects.filter(pk=job.id).update(cancel_requested=True)
    assert library.run(job).state == "cancelled"
    assert library.copies == set()
    assert library.agrees(1)


def test_an_engine_that_finds_too_little_is_not_published(library: Moved, slow, monkeypatch) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    monkeypatch.setattr(type(slow), "efforts", (1,))
    job = library.move()
    assert (job.state, job.error["type"]) == ("failed", "index-not-moved")
    assert (library.engine, library.pointer.current_id, library.copies) == ("memory", current, set())


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
    assert (job.kind, job.arguments["engine"]) == ("build_index", "slow")
    assert library.run(job).state == "succeeded"
    pointer = library.pointer
    assert (pointer.engine, pointer.previous) == ("slow", None)
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.copies == {pointer.current_id} != {first}
    assert library.agrees(1, 30, 210)
    assert library.base_id == pointer.current_id


def considered(library: Moved) -> str | None:
    """The engine that a tenant's index is moved to now; None where it stays."""
    with tenant_scope(library.tenant_id):
        job = lifecycle.consider(model=MODEL)
    if job is None:
        return None
    ended = library.run(job)
    assert (ended.state, ended.error) == ("succeeded", None)
    return str(job.arguments.get("engine", ""))


def test_a_large_tenant_moves_by_itself_and_comes_back_well_below(library: Moved, slow, monkeypatch) -> None:
    assets = library.fill()
    library.build()
    monkeypatch.setattr(slow, "above", COUNT)
    assert considered(library) is None
    monkeypatch.setattr(slow, "above", COUNT - 1)
    assert considered(library) == "slow"
    assert library.agrees(1, 2)
    # Somewhat below it stays, so that it does not come and go.
    monkeypatch.setattr(slow, "above", COUNT + 20)
    for asset in assets[:5]:
        library.delete(asset)
    assert considered(library) is None
    monkeypatch.setattr(slow, "above", 2 * COUNT)
    assert considered(library) == ""
    assert library.engine == "memory"
    assert library.agrees(10, 20)


def test_who_was_put_somewhere_stays_there(library: Moved, slow, monkeypatch) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.move(model=MODEL, to="slow")
        with pytest.raises(Conflict, match="is being built"):
            lifecycle.move(model=MODEL, to="slow")
    library.run(job)
    # Small, and stays.
    monkeypatch.setattr(slow, "above", 10 * COUNT)
    assert (library.engine, considered(library)) == ("slow", None)
    with tenant_scope(library.tenant_id):
        job = lifecycle.move(model=MODEL, to="files")
    library.run(job)
    # Large, and stays.
    monkeypatch.setattr(slow, "above", 1)
    assert (library.engine, considered(library)) == ("memory", None)
    with tenant_scope(library.tenant_id):
        assert lifecycle.move(model=MODEL, to="").arguments["engine"] == "slow"
        with pytest.raises(engines.EngineMissing, match="no engine nowhere"):
            lifecycle.move(model=MODEL, to="nowhere")


def test_after_a_move_that_failed_it_stays_for_a_day_and_is_kept_up(
    library: Moved, slow, monkeypatch
) -> None:
    assets = library.fill()
    library.build()
    monkeypatch.setattr(slow, "above", 1)
    monkeypatch.setattr(type(slow), "efforts", (1,))
    with tenant_scope(library.tenant_id):
        job = lifecycle.consider(model=MODEL)
    assert (job.arguments["engine"], library.run(job).state) == ("slow", "failed")
    with tenant_scope(library.tenant_id):
        Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - lifecycle.REST)
    assert considered(library) is None
    for number, asset in enumerate(assets[:26]):
        library.embed(asset, 200 + number)
    assert considered(library) == ""
    assert library.agrees(1, 210)


def test_upkeep_goes_on_while_an_engine_is_away(library: Moved, slow) -> None:
    library.fill()
    library.move()
    slow.meet(fail=100)
    with tenant_scope(library.tenant_id):
        lifecycle.consider_all()
        assert not Job.objects.filter(kind="build_index", state="queued").exists()
    slow.meet(fail=0)
    assert library.engine == "slow"
    assert library.agrees(1)


def test_a_doctor_says_whether_an_engine_answers_and_what_nobody_uses(
    library: Moved, slow, monkeypatch
) -> None:
    library.fill()
    library.move()
    check, all_of = next(check for check in CHECKS if check.name == "engines"), slow.everything
    # Other tests leave copies there.
    mine = library.tenant_id
    monkeypatch.setattr(slow, "everything", lambda: [pair for pair in all_of() if pair[0] == mine])
    assert check.ask(Options()).what.startswith("the slow engine answers and holds")
    with tenant_scope(library.tenant_id):
        slow.begin(orphan := uuid.uuid4())
    told = check.ask(Options())
    assert told.verdict == "warn"
    assert f"slow: {orphan} of {library.tenant_id}" in told.what
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert check.ask(Options()).verdict == "ok"
    slow.meet(fail=100)
    told = check.ask(Options())
    slow.meet(fail=0)
    assert (told.verdict, told.what) == ("fail", "slow: The engine does not answer.")


def test_a_copy_that_is_gone_is_noticed_answered_without_and_built_anew(library: Moved, slow) -> None:
    """As after a restore of a backup, which has no copies in it."""
    library.fill()
    library.move()
    with tenant_scope(library.tenant_id):
        slow.drop(library.pointer.current_id)
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
        slow.drop(library.pointer.current_id)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)


def test_a_copy_dropped_under_a_search_is_no_wrong_answer(library: Moved, slow) -> None:
    library.fill()
    library.move()
    library.find(0)
    copy = library.cached.state.base
    with tenant_scope(library.tenant_id):
        slow.drop(copy.id)
    with pytest.raises(SegmentGone):
        rank(library.cached.state, unit(1), 5, Restriction())


def test_cached_candidates_of_a_copy_are_checked_against_what_is_gone(library: Moved) -> None:
    assets = library.fill()
    library.move()
    library.find(0)
    copy = library.cached.state.base
    prefetched = Prefetched(copy.id, *copy.candidates(unit(5), 64))
    library.delete(assets[5])
    library.delete(second := assets[6])
    with tenant_scope(library.tenant_id):
        state = library.cached.refresh()
        found = rank(state, unit(5), 5, Restriction(), prefetched=prefetched)
    assert [hit.asset_id for hit in found.hits] == library.truth(5)
    assert second.id not in {hit.asset_id for hit in found.hits}


def test_folders_and_copies_do_not_mix(library: Moved) -> None:
    library.fill()
    library.move()
    assert library.folders == set()
    assert not folder_of(library.tenant_id, library.pointer.current_id).exists()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
        jobs.cancel(job_id=job.id)
    assert library.copies == {library.pointer.current_id}


def test_an_erased_tenant_leaves_no_copy(library: Moved, party) -> None:
    library.fill(20)
    library.move()
    assert tenant_erasure.find_traces(party.id)["copies"] == 1
    assert tenant_erasure.erase_tenant(slug=party.tenant.slug).verified
    assert tenant_erasure.find_traces(party.id) == {}
    assert library.copies == set()


# --- An engine of an earlier release ---------------------------------------------------------------------


def left_in_pgvector(library: Library) -> IndexGeneration:
    """The rows of a tenant whose index an earlier release moved to pgvector; the copy itself is gone."""
    with tenant_scope(library.tenant_id):
        seq = VectorClock.objects.get().last
        details = {"shelves": [], "efforts": [[1.0, 40, 0.99, 5.0]]}
        made = IndexGeneration.objects.create(
            model=MODEL, state="ready", kind="pgvector-hnsw", seq=seq, vectors=COUNT, details=details
        )
        IndexPointer.objects.bulk_create([IndexPointer(model=MODEL, engine="pgvector", current=made)])
    library.cached = memory.TenantVectors(MODEL)
    return made


def test_who_was_in_pgvector_is_answered_until_its_generation_is_built(party, settings) -> None:
    settings.INDEX_FLAT_MAX = 50
    # Also where a tenant so large waits for its index otherwise.
    settings.INDEX_EXACT_MAX = 10
    library = Library(party)
    assets = library.fill()
    left = left_in_pgvector(library)
    assert library.agrees(1, 2)
    assert library.base_id is None
    library.delete(assets[7])
    library.put(3000)
    assert library.agrees(7, 3000)
    with tenant_scope(party.id):
        assert lifecycle.is_due(MODEL)
        lifecycle.consider_all()
        job = Job.objects.get(kind="build_index", state="queued")
        assert lifecycle.consider(model=MODEL) is None
    assert library.run(job).state == "succeeded"
    pointer = library.pointer
    assert (pointer.engine, pointer.current.is_external, pointer.previous) == ("memory", False, None)
    assert library.agrees(1, 3000)
    with tenant_scope(party.id):
        assert IndexGeneration.objects.get(pk=left.pk).state == "retired"


def test_a_small_one_that_was_in_pgvector_needs_no_index(party, settings) -> None:
    settings.INDEX_FLAT_MAX = 1_000
    library = Library(party)
    library.fill(20)
    left_in_pgvector(library)
    assert library.agrees(1, 2)
    with tenant_scope(party.id):
        assert lifecycle.consider(model=MODEL) is None
    assert (library.pointer.engine, library.pointer.current_id) == ("memory", None)
    assert library.agrees(1, 2)


def test_a_queued_move_of_an_earlier_release_ends_and_the_build_follows(party, settings) -> None:
    settings.INDEX_FLAT_MAX = 50
    library = Library(party)
    library.fill()
    left_in_pgvector(library)
    with tenant_scope(party.id):
        job = Job.objects.create(kind="move_index", arguments={"model": MODEL, "to": "pgvector"})
        assert lifecycle.consider(model=MODEL) is None
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).state in Job.TERMINAL
        assert lifecycle.build(model=MODEL).kind == "build_index"
