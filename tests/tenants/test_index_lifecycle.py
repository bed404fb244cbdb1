"""The life of an index: promoted, followed, compacted, rolled back, repaired, let go; and never a wrong answer."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
from django.utils import timezone

from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, IndexRebuilding, NotFound
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets.bulk import Entry, store
from tenants.pipeline.assets.prepared import Prepared
from tenants.pipeline.assets.services import add_asset, delete_asset, update_asset
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.care.erasure import erase_asset
from tenants.pipeline.upkeep import host
from tenants.retrieval.index import building, lifecycle, memory
from tenants.retrieval.index.generation_files import folder_of
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.index.registry import opened
from tenants.retrieval.index.vectors import NewVector, prune_tombstones, replace_vectors
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import IndexGeneration, IndexPointer, Vector
from tenants.retrieval.query import ranking
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.types import Query, Ranking, Restriction
from tenants.scope import tenant_scope
from tests.waiting import until
from workers.base import run_job

pytestmark = pytest.mark.slow
MODEL = default_model()
COUNT = 60


def unit(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=256).astype(np.float32)
    return values / np.linalg.norm(values)


class Library:
    """A tenant's assets with known vectors, and a brute-force search of what the database says."""

    def __init__(self, party) -> None:
        self.party, self.tenant_id = party, party.id
        with tenant_scope(party.id):
            self.dataset: Dataset = create_dataset(name=uuid.uuid4().hex)
        self.cached = memory.TenantVectors(MODEL)

    def put(self, *seeds: int, values: dict | None = None, modality: str = "text") -> Asset:
        with tenant_scope(self.tenant_id):
            asset = add_asset(dataset_id=self.dataset.id, text=f"text {seeds}", values=values or {}).asset
            self.embed(asset, *seeds)
        return asset

    def fill(self, count: int = COUNT, first: int = 0) -> list[Asset]:
        """So many at once, as an import stores them."""
        entries = [
            Entry(
                n,
                f"row {n}",
                uuid.uuid4().hex,
                upload=check_upload(None, f"text {(n,)}"),
                values={"n": n},
                prepared=Prepared(vectors=[NewVector("text", unit(n), None, MODEL)], parts=1),
            )
            for n in range(first, first + count)
        ]
        with tenant_scope(self.tenant_id):
            store(dataset_id=self.dataset.id, entries=entries)
            found = Asset.objects.in_bulk([entry.asset_id for entry in entries])
        return [found[entry.asset_id] for entry in entries]

    def embed(self, asset: Asset, *seeds: int) -> None:
        many = len(seeds) > 1
        rows = [
            NewVector("text", unit(s), {"start_char": s, "end_char": s + 1} if many else None) for s in seeds
        ]
        with tenant_scope(self.tenant_id):
            replace_vectors(asset=asset, model=MODEL, vectors=rows)

    def delete(self, asset: Asset) -> None:
        with tenant_scope(self.tenant_id):
            delete_asset(asset_id=asset.id)

    def build(self) -> Job:
        with tenant_scope(self.tenant_id):
            job = lifecycle.build(model=MODEL)
        assert job is not None
        return self.run(job)

    def run(self, job: Job) -> Job:
        run_job(str(job.id), str(self.tenant_id))
        with tenant_scope(self.tenant_id):
            return Job.objects.get(pk=job.id)

    def find(self, seed: int, count: int = 5, **only) -> Ranking:
        with tenant_scope(self.tenant_id):
            return rank(self.cached.refresh(), unit(seed), count, Restriction(**only))

    def filtered(self, seed: int, conditions: list, count: int = 5) -> Ranking:
        with tenant_scope(self.tenant_id):
            now = read_index_status(self.tenant_id, MODEL)
            state = self.cached.refresh(now)
            only = ranking.restriction(Query(conditions=conditions), state, now)
            return rank(state, unit(seed), count, only)

    def truth(self, seed: int, count: int = 5) -> list[uuid.UUID]:
        best: dict[uuid.UUID, float] = {}
        with tenant_scope(self.tenant_id):
            for asset_id, data in Vector.objects.filter(model=MODEL).values_list("asset_id", "data"):
                score = float(np.frombuffer(bytes(data), "<f4") @ unit(seed))
                best[asset_id] = max(score, best.get(asset_id, -2.0))
        return sorted(best, key=lambda asset_id: -best[asset_id])[:count]

    def agrees(self, *seeds: int) -> bool:
        return all([hit.asset_id for hit in self.find(s).hits] == self.truth(s) for s in seeds)

    @property
    def pointer(self) -> IndexPointer:
        with tenant_scope(self.tenant_id):
            return IndexPointer.objects.select_related("current", "previous").get(model=MODEL)

    @property
    def folders(self) -> set[str]:
        folder = folder_of(self.tenant_id, uuid.UUID(int=0)).parent
        return {path.name for path in folder.iterdir()} if folder.exists() else set()

    @property
    def base_id(self) -> uuid.UUID | None:
        base = self.cached.state.base
        return base.id if base else None


@pytest.fixture
def library(party, settings) -> Library:
    settings.INDEX_FLAT_MAX = 50
    return Library(party)


def test_a_tenant_that_grows_gets_a_generation_and_answers_as_before(library: Library) -> None:
    library.fill()
    library.put(1000, 1001, 1002)
    before = [library.find(seed) for seed in (3, 1001, 5000)]
    job = library.build()
    assert (job.state, job.result["vectors"]) == ("succeeded", COUNT + 3)
    assert library.pointer.current.state == "ready"
    assert library.folders == {str(library.pointer.current_id)}
    library.cached = memory.TenantVectors(MODEL)
    after = [library.find(seed) for seed in (3, 1001, 5000)]
    assert library.base_id == library.pointer.current_id
    for old, new in zip(before, after, strict=True):
        assert [hit.asset_id for hit in new.hits] == [hit.asset_id for hit in old.hits]
        assert [hit.segment for hit in new.hits] == [hit.segment for hit in old.hits]
        assert [h.score for h in new.hits] == pytest.approx([h.score for h in old.hits], abs=1e-5)
        assert new.total == old.total == COUNT + 1


def test_what_came_went_and_changed_since_the_build_counts(library: Library) -> None:
    assets = library.fill()
    library.build()
    library.find(0)
    library.delete(assets[7])
    library.embed(assets[8], 2000)
    new = library.put(3000)
    assert library.agrees(7, 8, 2000, 3000, 4000)
    found = library.find(3000)
    assert (found.hits[0].asset_id, found.total) == (new.id, COUNT)
    assert library.find(2000).hits[0].asset_id == assets[8].id
    assert assets[7].id not in {hit.asset_id for hit in library.find(7, count=COUNT).hits}
    # Who starts now sees the same.
    followed, library.cached = library.find(7, count=COUNT), memory.TenantVectors(MODEL)
    assert library.find(7, count=COUNT) == followed


def test_restrictions_hold_in_the_generation_and_in_what_is_newer(library: Library, party) -> None:
    old = library.fill()
    first, library.dataset = library.dataset, None
    with tenant_scope(party.id):
        library.dataset = create_dataset(name="second")
    library.build()
    new = library.put(500)
    second = library.dataset
    assert library.find(1, datasets=[first.id]).total == COUNT
    assert library.find(1, datasets=[second.id]).total == 1
    assert [hit.asset_id for hit in library.find(1, datasets=[second.id]).hits] == [new.id]
    assert library.find(1, datasets=[uuid.uuid4()]).total == 0
    assert library.find(1, hidden_datasets=[first.id]).total == 1
    assert library.find(1, modalities=["image"]).total == 0
    assert library.find(1, modalities=["text"]).total == COUNT + 1
    named = library.find(1, assets=[old[4].id, new.id])
    assert {hit.asset_id for hit in named.hits} == {old[4].id, new.id}
    left = library.find(1, count=3, without=frozenset([old[1].id]))
    assert [hit.asset_id for hit in left.hits] == [i for i in library.truth(1, 4) if i != old[1].id][:3]


def test_filters_see_metadata_that_is_newer_than_the_generation(library: Library, party) -> None:
    assets = library.fill()
    library.build()
    library.find(0)

    def below_ten() -> set[uuid.UUID]:
        found = library.filtered(1, [("n", "lt", 10)], count=COUNT)
        assert found.total == len(found.hits)
        return {hit.asset_id for hit in found.hits}

    assert below_ten() == {asset.id for asset in assets[:10]}
    with tenant_scope(party.id):
        update_asset(asset_id=assets[30].id, values={"n": 5})
        update_asset(asset_id=assets[3].id, values={"n": 99})
    new = library.put(700, values={"n": 1})
    wanted = {*(asset.id for asset in assets[:10]), assets[30].id, new.id} - {assets[3].id}
    assert below_ten() == wanted
    library.build()
    assert below_ten() == wanted
    library.cached = memory.TenantVectors(MODEL)
    assert below_ten() == wanted


def test_a_swap_while_searches_go_on_and_a_rollback(library: Library) -> None:
    assets = library.fill()
    library.build()
    first = library.pointer.current_id
    library.find(0)
    library.delete(assets[0])
    library.put(800)
    library.build()
    pointer = library.pointer
    assert pointer.previous_id == first
    assert library.folders == {str(first), str(pointer.current_id)}
    # The one before answers until the new one is open, and is caught up all the while.
    assert library.agrees(0, 800)
    while library.base_id != pointer.current_id:
        assert library.agrees(800)
    with tenant_scope(library.tenant_id):
        assert lifecycle.roll_back(model=MODEL).id == first
    assert library.agrees(0, 800)
    library.build()
    third = library.pointer
    assert third.previous_id == first
    assert library.folders == {str(first), str(third.current_id)}
    with tenant_scope(library.tenant_id):
        states = dict(IndexGeneration.objects.values_list("id", "state"))
    assert states == {first: "ready", pointer.current_id: "retired", third.current_id: "ready"}


def test_what_is_due(library: Library, settings) -> None:
    def due() -> bool:
        with tenant_scope(library.tenant_id):
            job = lifecycle.consider(model=MODEL)
            if job:
                jobs.cancel(job_id=job.id)
            return job is not None

    assets = library.fill(settings.INDEX_FLAT_MAX)
    assert not due()
    assets.append(library.put(999))
    assert due()
    library.build()
    assert not due()
    for asset in assets[:26]:
        library.embed(asset, 1)
    assert due()
    for asset in assets[:26]:
        library.delete(asset)
    # Small again: searched in memory, and the files go.
    assert library.pointer.current_id is not None
    assert not due()
    assert library.pointer.current_id is None
    assert library.folders == set()
    assert library.agrees(30, 31)


def test_pruned_tombstones_never_bring_a_deleted_asset_back(library: Library) -> None:
    assets = library.fill()
    library.build()
    library.delete(assets[5])
    with tenant_scope(library.tenant_id):
        from tenants.retrieval.models import Tombstone

        Tombstone.objects.update(created_at="2020-01-01T00:00:00Z")
        kept = lifecycle.oldest_kept()
        assert prune_tombstones(needed_above=kept) == 0
        library.cached = memory.TenantVectors(MODEL)
    assert assets[5].id not in {hit.asset_id for hit in library.find(5, count=COUNT).hits}
    with tenant_scope(library.tenant_id):
        assert prune_tombstones() == 1
        library.cached = memory.TenantVectors(MODEL)
    # Too old to be caught up with: searched exactly without it, and due for another.
    assert library.agrees(5, 6)
    assert library.base_id is None
    with tenant_scope(library.tenant_id):
        assert lifecycle.consider(model=MODEL) is not None


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


def damage_vectors(folder: Path) -> None:
    with (folder / "vectors.f32").open("r+b") as file:
        file.seek(1500)
        file.write(b"\xff\xff\xff")


def cut_column(folder: Path) -> None:
    with (folder / "columns" / "owners.npy").open("r+b") as file:
        file.truncate(150)


def lose_all(folder: Path) -> None:
    """Here and in the storage."""
    lifecycle.remove_copy(uuid.UUID(folder.parent.name), folder.name)
    shutil.rmtree(folder)


# In a folder storage the stored files are these same ones.
def lose_one(folder: Path) -> None:
    next(folder.glob("vectors*")).unlink()


def change_ids(folder: Path) -> None:
    """In place, as a disk does: what is mapped changes as well, and so does the stored file, which is the same one."""
    with (folder / "columns" / "asset_ids.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


def size_in_memory(library: Library) -> int:
    with tenant_scope(library.tenant_id):
        state = memory.vector_cache.of(library.tenant_id, MODEL).refresh()
    assert state.base is not None
    return state.size


def test_the_size_is_exact_where_assets_have_several_vectors(library: Library) -> None:
    library.fill()
    several = library.put(100, 101, 102, 103)
    library.build()
    assert size_in_memory(library) == COUNT + 4
    library.delete(several)
    assert size_in_memory(library) == COUNT


def test_a_file_that_is_lost_under_a_search_is_noticed_and_fetched(library: Library) -> None:
    library.fill()
    library.build()
    before = library.pointer.current_id
    assert size_in_memory(library) == COUNT
    assert [one for one in opened.damaged() if one[1] == before] == []
    lose_one(folder_of(library.tenant_id, before))
    host.mend_open_indexes()
    # The stored copy is whole: nothing is built.
    assert size_in_memory(library) == COUNT
    assert library.pointer.current_id == before
    assert (folder_of(library.tenant_id, before) / "vectors.f32").exists()


def test_a_file_that_changes_under_a_search_is_noticed_and_another_is_built_beside_it(
    library: Library,
) -> None:
    assets = library.fill()
    library.build()
    before = library.pointer.current_id
    assert size_in_memory(library) == COUNT
    change_ids(folder_of(library.tenant_id, before))
    # Deleted, and not found by its id.
    library.delete(max(assets, key=lambda one: one.id.bytes))
    assert size_in_memory(library) == COUNT
    host.mend_open_indexes()
    # It answers until the other one is there.
    assert library.pointer.current_id == before
    with tenant_scope(library.tenant_id):
        job = Job.objects.get(kind="build_index", state="queued")
    library.run(job)
    assert library.pointer.current_id != before
    # It is opened beside the searches.
    until(lambda: size_in_memory(library) == COUNT - 1)


@pytest.mark.parametrize("damage", [lose_all, damage_manifest, damage_vectors, cut_column])
def test_lost_and_damaged_files_are_noticed_answered_without_and_built_anew(
    library: Library, damage, settings
) -> None:
    library.fill()
    library.build()
    broken = library.pointer.current_id
    damage(folder_of(library.tenant_id, broken))
    opened.forget(broken)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)
    assert library.base_id is None
    assert library.pointer.current_id is None
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=broken).state == "failed"
        job = Job.objects.get(kind="build_index", state="queued")
    library.run(job)
    assert library.agrees(1, 2)
    assert library.folders == {str(library.pointer.current_id)}
    # One too large to be searched without an index says so.
    settings.INDEX_EXACT_MAX = 10
    lose_all(folder_of(library.tenant_id, library.pointer.current_id))
    opened.forget(library.pointer.current_id)
    library.cached = memory.TenantVectors(MODEL)
    with pytest.raises(IndexRebuilding):
        library.find(1)


def of_its_own(folder: Path) -> None:
    """The folder's files as another file system would have them: not the stored ones."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    copy.rename(folder)


@pytest.mark.parametrize("damage", [shutil.rmtree, damage_manifest, damage_vectors, cut_column])
def test_what_is_lost_or_damaged_on_one_host_is_fetched_and_not_built(library: Library, damage) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    of_its_own(folder_of(library.tenant_id, current))
    damage(folder_of(library.tenant_id, current))
    opened.forget(current)
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)
    assert library.base_id == library.pointer.current_id == current
    with tenant_scope(library.tenant_id):
        assert Job.objects.filter(kind="build_index").count() == 1


def test_a_killed_build_leaves_nothing_and_another_succeeds(library: Library, monkeypatch) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)

    def killed(*args) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(building, "_run_builder", killed)
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        patch.setattr(building, "_note_failure", lambda *args: None)
        with pytest.raises(SystemExit):
            run_job(str(job.id), str(library.tenant_id))
    assert len(library.folders) == 1
    assert library.agrees(1)
    with tenant_scope(library.tenant_id):
        Job.objects.filter(pk=job.id).update(state="queued", lease_until=None)
    assert library.run(job).state == "succeeded"
    assert library.folders == {str(library.pointer.current_id)}
    with tenant_scope(library.tenant_id):
        assert sorted(IndexGeneration.objects.values_list("state", flat=True)) == ["failed", "ready"]


def test_a_cancelled_build_publishes_nothing(library: Library) -> None:
    library.fill()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
        assert lifecycle.build(model=MODEL) is None
        Job.objects.filter(pk=job.id).update(cancel_requested=True)
    assert library.run(job).state == "cancelled"
    assert library.folders == set()
    with tenant_scope(library.tenant_id):
        assert not IndexPointer.objects.filter(model=MODEL, current__isnull=False).exists()


def test_rolling_back_to_nothing_or_too_far(library: Library) -> None:
    library.fill()
    with tenant_scope(library.tenant_id), pytest.raises(NotFound):
        lifecycle.roll_back(model=MODEL)
    library.build()
    library.build()
    library.delete(library.put(4))
    with tenant_scope(library.tenant_id):
        from tenants.retrieval.models import Tombstone

        Tombstone.objects.update(created_at="2020-01-01T00:00:00Z")
        prune_tombstones()
        with pytest.raises(Conflict):
            lifecycle.roll_back(model=MODEL)


def test_another_tenant_has_none_of_it(library: Library, stranger) -> None:
    library.fill()
    library.build()
    other = Library(stranger)
    other.put(1)
    assert other.find(1).total == 1
    assert other.folders == set()


def test_changes_that_a_first_build_under_way_needs_are_kept(library: Library, monkeypatch) -> None:
    """The upkeep comes while a build is running that has read the metadata, and before it is published."""
    assets, run = library.fill(), building._run_builder

    def meanwhile(*args):
        built = run(*args)
        with tenant_scope(library.tenant_id):
            update_asset(asset_id=assets[30].id, values={"n": 5})
            assert lifecycle.oldest_kept() is not None
            lifecycle.prune_changes()
        return built

    monkeypatch.setattr(building, "_run_builder", meanwhile)
    library.build()
    found = library.filtered(1, [("n", "lt", 10)], count=COUNT)
    assert library.base_id == library.pointer.current_id
    assert {hit.asset_id for hit in found.hits} == {*(asset.id for asset in assets[:10]), assets[30].id}
    monkeypatch.undo()
    with tenant_scope(library.tenant_id):
        assert lifecycle.prune_changes() == 0
    # All generations in use have it in them: it can go.
    library.build()
    library.build()
    with tenant_scope(library.tenant_id):
        assert lifecycle.prune_changes() == 1


def test_tombstones_that_a_build_under_way_needs_are_kept(library: Library, monkeypatch) -> None:
    assets, run = library.fill(), building._run_builder
    from tenants.retrieval.models import Tombstone

    def meanwhile(*args):
        library.delete(assets[5])
        with tenant_scope(library.tenant_id):
            Tombstone.objects.update(created_at="2020-01-01T00:00:00Z")
            assert prune_tombstones(needed_above=lifecycle.oldest_kept()) == 0
        return run(*args)

    monkeypatch.setattr(building, "_run_builder", meanwhile)
    library.build()
    assert assets[5].id not in {hit.asset_id for hit in library.find(5, count=COUNT).hits}
    assert library.base_id == library.pointer.current_id
    assert library.agrees(5, 6)


def test_a_model_whose_vectors_went_before_the_build_needs_no_index(library: Library) -> None:
    assets = library.fill()
    library.build()
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
    for asset in assets:
        library.delete(asset)
    job = library.run(job)
    assert (job.state, job.result) == ("succeeded", {"note": "There are no vectors."})
    assert library.pointer.current_id is None
    assert library.folders == set()
    with tenant_scope(library.tenant_id):
        assert not any(map(lifecycle.is_due, lifecycle.indexed_models()))


def considered(library: Library) -> Job | None:
    with tenant_scope(library.tenant_id):
        return lifecycle.consider(model=MODEL)


def test_a_generation_that_misses_the_target_is_not_published(library: Library, settings) -> None:
    library.fill()
    library.build()
    before = library.pointer.current_id
    settings.INDEX_RECALL = 1.01
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL, kind="hnsw")
    job = library.run(job)
    assert (job.state, job.error["type"]) == ("failed", "index-not-built")
    assert "recall@10 of 1.01 was not reached: hnsw" in job.error["detail"]
    assert library.pointer.current_id == before
    assert library.folders == {str(before)}
    assert library.agrees(1, 2)


def test_how_long_a_build_rests(library: Library, settings) -> None:
    def ended(ago: dt.timedelta) -> None:
        with tenant_scope(library.tenant_id):
            Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - ago)

    library.fill()
    # One that said why it cannot be built.
    settings.INDEX_RECALL = 1.01
    job = library.build()
    assert job.state == "failed"
    assert considered(library) is None
    ended(lifecycle.REST - dt.timedelta(minutes=1))
    assert considered(library) is None
    ended(lifecycle.REST)
    settings.INDEX_RECALL = 0.99
    job = considered(library)
    assert job is not None
    # One that somebody cancelled.
    with tenant_scope(library.tenant_id):
        jobs.cancel(job_id=job.id)
    assert considered(library) is None
    ended(lifecycle.CANCELLED_REST)
    job = considered(library)
    # Attempts that were interrupted are the same job's: another worker goes on with it, at once.
    for state in ("running", "queued"):
        with tenant_scope(library.tenant_id):
            Job.objects.filter(pk=job.id).update(state=state, lease_until="2020-01-01T00:00:00Z")
            lifecycle.tidy()
        assert considered(library) is None
    assert library.run(job).state == "succeeded"
    # Whoever asks by himself is never made to wait, and being small again is not a build.
    settings.INDEX_RECALL = 1.01
    assert library.build().state == "failed"
    settings.INDEX_FLAT_MAX = 1000
    assert considered(library) is None
    assert library.pointer.current_id is None


def test_what_was_deleted_leaves_the_files_within_a_week(library: Library) -> None:
    from tenants.retrieval.models import Tombstone

    assets = library.fill()
    library.build()
    library.build()
    with tenant_scope(library.tenant_id):
        places = {place["where"]: place for place in erase_asset(asset_id=assets[5].id).remains["places"]}
    assert (
        places["indexes"]["until"] > (timezone.now() + lifecycle.FORGET - dt.timedelta(minutes=5)).isoformat()
    )
    assert considered(library) is None
    with tenant_scope(library.tenant_id):
        Tombstone.objects.update(created_at=timezone.now() - lifecycle.FORGET)
    first = library.pointer
    job = considered(library)
    assert job is not None
    # The one before holds it as well, and nobody may roll back to it.
    assert library.pointer.previous_id is None
    assert library.folders == {str(first.current_id)}
    library.run(job)
    assert considered(library) is None
    assert library.folders == {str(library.pointer.current_id)}
    assert library.pointer.current_id != first.current_id
    library.find(0)
    assert library.agrees(5, 6)


def test_records_of_generations_are_kept_for_a_month(library: Library) -> None:
    library.fill()
    for _ in range(3):
        library.build()
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
        assert IndexGeneration.objects.count() == 3
        IndexGeneration.objects.update(created_at=timezone.now() - lifecycle.KEEP_RECORDS)
        lifecycle.tidy()
        kept = set(IndexGeneration.objects.values_list("id", flat=True))
    assert kept == {library.pointer.current_id, library.pointer.previous_id}
