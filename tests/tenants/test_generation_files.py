"""Generations lie in the storage; a host lets go those that it does not search and fetches them; never half."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid

import pytest
from django.core.files.storage import default_storage

from tenants.datasets import storage
from tenants.errors import IndexRebuilding, StorageFull
from tenants.jobs.models import Job
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval.index import generation_files, lifecycle, memory
from tenants.retrieval.index.generation_files import NotHere, folder_of
from tenants.retrieval.index.registry import opened
from tenants.retrieval.models import IndexGeneration, IndexPointer
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import MODEL, Library
from tests.waiting import PATIENCE_S, answers, until

pytestmark = pytest.mark.slow
LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture
def library(party, settings) -> Library:
    settings.INDEX_FLAT_MAX = 10
    settings.INDEX_ARCHIVE_DAYS = 7
    library = Library(party)
    library.fill(12)
    library.build()
    return library


def copies(library: Library) -> set[str]:
    """The stored files of its generations, without the tenant's name."""
    top = f"{library.tenant_id}/{generation_files.KIND}/"
    return {path for path in tenant_erasure.files_of(library.tenant_id) if path.startswith(top)}


def stored_ids(library: Library) -> set[str]:
    return {path.split("/")[2] for path in copies(library)}


def fall_quiet(library: Library) -> IndexGeneration:
    past = time.time() - 30 * 24 * 3600
    for name in library.folders:
        os.utime(folder_of(library.tenant_id, uuid.UUID(name)), (past, past))
    return library.pointer.current


def upkeep(library: Library) -> None:
    lifecycle.look_after_stored(library.tenant_id, time.monotonic() + 60)
    lifecycle.tidy_local(library.tenant_id)


def let_go(library: Library) -> IndexGeneration:
    """Its current generation, away from the disk, in a process that has forgotten it."""
    generation = fall_quiet(library)
    upkeep(library)
    library.cached = memory.TenantVectors(MODEL)
    assert library.folders == set()
    return generation


def comes_back(library: Library, generation: IndexGeneration) -> None:
    """Searched, exactly at first, until it answers from the generation again."""

    def is_back() -> bool:
        assert library.agrees(3, 7000)
        return library.base_id == generation.pk

    until(is_back)
    assert library.agrees(3, 7000)


def test_what_a_host_does_not_search_goes_from_its_disk_and_the_next_search_fetches_it(
    library: Library,
) -> None:
    library.find(1)
    upkeep(library)
    # Stored before it was published; searched lately it stays here as well.
    generation = library.pointer.current
    assert generation.archived
    assert library.folders == {str(generation.pk)}
    sent = copies(library)
    assert {"manifest.json", "vectors.f32", "columns/asset_ids.npy"} <= {
        path.split("/", 3)[3] for path in sent
    }
    assert let_go(library) == generation
    # What came and went meanwhile counts, before it is back and after.
    library.put(7000)
    comes_back(library, generation)
    assert library.folders == {str(generation.pk)}
    with tenant_scope(library.tenant_id):
        assert not Job.objects.filter(kind=lifecycle.JOB).exclude(state="succeeded").exists()
    # Immutable: the copy stays, and only the files go.
    let_go(library)
    assert copies(library) == sent
    comes_back(library, generation)


def test_a_search_waits_for_a_fetch_that_is_quick(library: Library, settings) -> None:
    generation = let_go(library)
    settings.INDEX_EXACT_MAX = 5
    assert library.agrees(1)
    assert library.base_id == generation.pk


def test_only_some_requests_wait_for_fetches(library: Library, monkeypatch, settings) -> None:
    let_go(library)
    gate, fetch = threading.Event(), generation_files._fetch

    def slow(*args) -> None:
        assert gate.wait(PATIENCE_S)
        fetch(*args)

    settings.INDEX_EXACT_MAX, settings.INDEX_FETCH_WAIT_S = 5, 20
    monkeypatch.setattr(generation_files, "_fetch", slow)
    monkeypatch.setattr(opened, "_waiting", threading.BoundedSemaphore(1))
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(library.agrees(1)))
    waiting.start()
    until(lambda: opened._waiting._value == 0)
    # Not the lock of the first one's memory: another process would have its own.
    other = memory.TenantVectors(MODEL)
    with tenant_scope(library.tenant_id), pytest.raises(IndexRebuilding):
        other.refresh()
    gate.set()
    waiting.join(PATIENCE_S)
    assert found == [True]


def test_the_generation_before_is_let_go_too_and_can_be_rolled_back_to(library: Library) -> None:
    first = library.pointer.current
    library.build()
    let_go(library)
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.filter(archived=True).count() == 2
        assert lifecycle.roll_back(model=MODEL).pk == first.pk
    comes_back(library, first)


def test_a_generation_is_published_only_when_all_of_it_is_stored(library: Library, monkeypatch) -> None:
    before, put_copy, sent = library.pointer.current_id, storage.put_copy, []

    def breaks(path, source) -> None:
        if len(sent) == 3:
            raise ConnectionError("away")
        sent.append(path)
        put_copy(path, source)

    stored = copies(library)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "put_copy", breaks)
        job = library.build()
    assert (job.state, library.pointer.current_id) == ("queued", before)
    assert library.folders == {str(before)}
    # The half that was sent is gone again.
    assert copies(library) == stored
    assert library.run(job).state == "succeeded"
    assert library.pointer.current.archived


def test_what_an_earlier_release_left_on_this_host_is_stored(library: Library) -> None:
    generation = library.pointer.current
    generation_files.remove_copy(library.tenant_id, generation.pk)
    with tenant_scope(library.tenant_id):
        IndexGeneration.objects.update(archived=False)
    # Not stored yet, it is not let go, however quiet.
    fall_quiet(library)
    lifecycle.tidy_local(library.tenant_id)
    assert library.folders == {str(generation.pk)}
    lifecycle.look_after_stored(library.tenant_id, time.monotonic() + 60)
    assert library.pointer.current.archived
    let_go(library)
    comes_back(library, generation)


def test_a_fetch_that_is_repeated_does_not_write_into_what_is_stored(library: Library, tmp_path) -> None:
    path = generation_files.path_of(library.tenant_id, library.pointer.current_id, "manifest.json")
    content = storage.open_blob(path).read()
    for _ in range(3):
        storage.fetch(path, tmp_path / "manifest.json")
        assert (tmp_path / "manifest.json").read_bytes() == content
    assert storage.open_blob(path).read() == content


def test_folders_are_linked_into_a_folder_storage_and_back(library: Library) -> None:
    generation = library.pointer.current
    inner = folder_of(library.tenant_id, generation.pk) / "vectors.f32"
    assert inner.stat().st_nlink == 2
    let_go(library)
    comes_back(library, generation)
    assert inner.stat().st_nlink == 2


def test_a_large_tenant_is_told_to_wait_while_it_comes_back(library: Library, settings, monkeypatch) -> None:
    generation, gate = let_go(library), threading.Event()
    fetch = generation_files._fetch

    def slow(*args) -> None:
        assert gate.wait(PATIENCE_S)
        fetch(*args)

    monkeypatch.setattr(generation_files, "_fetch", slow)
    settings.INDEX_FETCH_WAIT_S = 0.05
    settings.INDEX_EXACT_MAX = 5
    for _ in range(3):
        with pytest.raises(IndexRebuilding):
            library.find(1)
    gate.set()
    until(lambda: answers(lambda: library.find(1), IndexRebuilding)() and library.base_id == generation.pk)
    assert library.agrees(1, 2)


def test_several_processes_fetch_it_at_once(library: Library) -> None:
    generation, found = let_go(library), []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                generation_files.open_kept(library.tenant_id, generation.pk, lambda: None)
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.manifest.seq for one in found] == [generation.seq] * 4
    assert library.folders == {str(generation.pk)}


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("manifest.json", "missing"),
        ("manifest.json", "cut"),
        ("vectors.f32", "missing"),
        ("vectors.f32", "changed"),
        ("columns/owners.npy", "cut"),
    ],
)
def test_a_copy_that_is_missing_or_damaged_is_given_up_and_the_index_built_anew(
    library: Library, name: str, damage: str
) -> None:
    generation = let_go(library)
    path = generation_files.path_of(library.tenant_id, generation.pk, name)
    content = storage.open_blob(path).read()
    default_storage.delete(path)
    if damage == "cut":
        storage.put(path, content[:-9])
    if damage == "changed":
        storage.put(path, content[:-9] + bytes(byte ^ 1 for byte in content[-9:]))
    library.find(1)

    def is_given_up() -> bool:
        assert library.agrees(1, 2)
        return library.pointer.current is None

    until(is_given_up)
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=generation.pk).state == "failed"
        job = Job.objects.get(kind=lifecycle.JOB, state="queued")
    library.run(job)
    comes_back(library, library.pointer.current)
    assert library.folders == {str(library.base_id)}
    until(lambda: stored_ids(library) == {str(library.base_id)})


def test_a_storage_that_is_away_for_a_moment_is_waited_for(library: Library, monkeypatch) -> None:
    generation, fetch, calls = let_go(library), storage.fetch, []

    def flaky(*args) -> None:
        calls.append(args)
        if len(calls) < 3:
            raise ConnectionError("away")
        fetch(*args)

    monkeypatch.setattr(generation_files, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(storage, "fetch", flaky)
    comes_back(library, generation)


def test_a_storage_that_stays_away_damages_nothing(library: Library, monkeypatch) -> None:
    generation = let_go(library)

    def away(*args) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(generation_files, "PAUSES_S", (0.01, 0.01, 0.01))
    with monkeypatch.context() as patch:
        patch.setattr(storage, "fetch", away)
        with pytest.raises(NotHere):
            generation_files.open_kept(library.tenant_id, generation.pk)
        # Exactly, from the database.
        assert library.agrees(1, 2)
        until(lambda: generation.pk not in opened._opening)
    assert library.pointer.current_id == generation.pk
    with tenant_scope(library.tenant_id):
        assert not Job.objects.filter(kind=lifecycle.JOB).exclude(state="succeeded").exists()
    comes_back(library, generation)


def test_a_full_disk_gives_nothing_up(library: Library, monkeypatch) -> None:
    generation = let_go(library)
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(StorageFull):
            generation_files.open_kept(library.tenant_id, generation.pk, lambda: None)
        assert library.agrees(1, 2)
        until(lambda: generation.pk not in opened._opening)
    assert library.pointer.current_id == generation.pk
    assert library.folders == set()
    comes_back(library, generation)


def test_a_removal_that_is_killed_half_way_leaves_an_index_that_comes_back(library: Library) -> None:
    generation = let_go(library)
    folder = folder_of(library.tenant_id, generation.pk)
    gone = folder.with_name(f"{generation.pk}.1{generation_files.GONE}")
    for left in (folder / "columns", gone / "columns"):
        left.mkdir(parents=True)
    comes_back(library, generation)
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.folders == {str(generation.pk)}


def test_tidying_leaves_what_is_being_fetched(library: Library) -> None:
    generation = let_go(library)
    folder = folder_of(library.tenant_id, generation.pk)
    young, old = (
        folder.with_name(f"{generation.pk}.{name}{generation_files.FETCHED}") for name in ("1", "2")
    )
    for part in (young, old):
        (part / "columns").mkdir(parents=True)
        (part / "vectors.f32").write_bytes(b"x")
    past = time.time() - lifecycle.STALE_S - 60
    for path in (old, *old.rglob("*")):
        os.utime(path, (past, past))
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.folders == {young.name}


def test_a_host_may_keep_all(library: Library, settings) -> None:
    fall_quiet(library)
    settings.INDEX_ARCHIVE_DAYS = 0
    upkeep(library)
    assert library.folders == {str(library.pointer.current_id)}


def test_a_host_lets_go_what_no_pointer_names(library: Library) -> None:
    generation = library.pointer.current
    stray = folder_of(library.tenant_id, uuid.uuid4())
    (stray / "columns").mkdir(parents=True)
    lifecycle.tidy_local(library.tenant_id)
    assert library.folders == {str(generation.pk)}


def test_copies_go_with_their_generation(library: Library, monkeypatch) -> None:
    first = let_go(library)
    library.build()
    library.build()
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=first.pk).state == "retired"
    assert stored_ids(library) == {str(library.pointer.current_id), str(library.pointer.previous_id)}
    # Where the storage was away when it was retired, and where half a copy was left: collected when it is old.
    let_go(library)
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "remove_copy", lambda *args: None)
        with tenant_scope(library.tenant_id):
            lifecycle.demote(model=MODEL)
    assert copies(library)
    storage.put(generation_files.path_of(library.tenant_id, uuid.uuid4(), "vectors.f32"), b"half")
    upkeep(library)
    assert copies(library)
    monkeypatch.setattr(lifecycle, "STALE_S", -60)
    upkeep(library)
    assert copies(library) == set()


def test_searches_are_noted_once_an_hour(library: Library) -> None:
    notes = memory.Activity()
    with tenant_scope(library.tenant_id):
        IndexPointer.objects.update(searched_at=LONG_AGO)
    notes.note(library.tenant_id, MODEL, library.pointer.current_id)
    notes.flush()
    first = library.pointer.searched_at
    assert first.year > 2025
    assert (first - library.pointer.current.ready_at).total_seconds() > 0
    notes.note(library.tenant_id, MODEL, library.pointer.current_id)
    notes.flush()
    assert library.pointer.searched_at == first


def test_a_note_that_cannot_be_told_waits_for_the_database(library: Library, monkeypatch) -> None:
    notes = memory.Activity()

    def away(*args) -> None:
        raise ConnectionError("away")

    with tenant_scope(library.tenant_id):
        IndexPointer.objects.update(searched_at=None)
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_tell", away)
        notes.note(library.tenant_id, MODEL, library.pointer.current_id)
        with pytest.raises(ConnectionError):
            notes.flush()
    notes.flush()
    assert library.pointer.searched_at is not None
