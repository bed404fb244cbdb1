"""Generations that nobody searches go to the storage and come back; never half, and never for good."""

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
from tenants.retrieval.index import lifecycle, memory, registry
from tenants.retrieval.index.registry import folder_of, opened
from tenants.retrieval.models import IndexGeneration, IndexPointer
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import MODEL, Library
from tests.waiting import answers, until

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
    top = f"{library.tenant_id}/{registry.KIND}/"
    return {path for path in tenant_erasure.files_of(library.tenant_id) if path.startswith(top)}


def fall_quiet(library: Library) -> IndexGeneration:
    with tenant_scope(library.tenant_id):
        IndexGeneration.objects.exclude(ready_at=None).update(ready_at=LONG_AGO)
        IndexPointer.objects.update(searched_at=LONG_AGO)
    return library.pointer.current


def upkeep(library: Library) -> None:
    lifecycle.look_after_archive(library.tenant_id, time.monotonic() + 60)


def archived(library: Library) -> IndexGeneration:
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


def test_what_nobody_searches_goes_to_the_storage_and_the_next_search_fetches_it(library: Library) -> None:
    library.find(1)
    upkeep(library)
    assert copies(library) == set()
    generation = archived(library)
    names = {path.split("/", 3)[3] for path in copies(library)}
    assert {"manifest.json", "vectors.f32", "columns/asset_ids.npy"} <= names
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=generation.pk).archived
    # What came and went meanwhile counts, before it is back and after.
    library.put(7000)
    comes_back(library, generation)
    assert library.folders == {str(generation.pk)}
    with tenant_scope(library.tenant_id):
        assert not Job.objects.filter(kind=lifecycle.JOB).exclude(state="succeeded").exists()
    # Immutable: the copy stays, and the next time only the files go.
    sent = copies(library)
    put, stored = storage.put, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "put", lambda path, content: stored.append(put(path, content)))
        archived(library)
    assert (copies(library), stored) == (sent, [])
    comes_back(library, generation)


def test_the_generation_before_is_archived_too_and_can_be_rolled_back_to(library: Library) -> None:
    first = library.pointer.current
    library.build()
    archived(library)
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.filter(archived=True).count() == 2
        assert lifecycle.roll_back(model=MODEL).pk == first.pk
    comes_back(library, first)


def test_a_large_tenant_is_told_to_wait_while_it_comes_back(library: Library, settings, monkeypatch) -> None:
    generation, gate = archived(library), threading.Event()
    fetch = registry._fetch

    def slow(*args) -> None:
        assert gate.wait(20)
        fetch(*args)

    monkeypatch.setattr(registry, "_fetch", slow)
    settings.INDEX_EXACT_MAX = 5
    for _ in range(3):
        with pytest.raises(IndexRebuilding):
            library.find(1)
    gate.set()
    until(lambda: answers(lambda: library.find(1), IndexRebuilding)() and library.base_id == generation.pk)
    assert library.agrees(1, 2)


def test_several_processes_fetch_it_at_once(library: Library) -> None:
    generation, found = archived(library), []
    threads = [
        threading.Thread(
            target=lambda: found.append(registry.open_kept(library.tenant_id, generation.pk, lambda: None))
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
    generation = archived(library)
    path = registry.path_of(library.tenant_id, generation.pk, name)
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
    until(lambda: not copies(library))


def test_a_storage_that_is_away_for_a_moment_is_waited_for(library: Library, monkeypatch) -> None:
    generation, copy_to, calls = archived(library), storage.copy_to, []

    def flaky(*args) -> None:
        calls.append(args)
        if len(calls) < 3:
            raise ConnectionError("away")
        copy_to(*args)

    monkeypatch.setattr(registry, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(storage, "copy_to", flaky)
    comes_back(library, generation)


def test_a_storage_that_stays_away_does_not_keep_the_tenant_without_an_index(
    library: Library, monkeypatch
) -> None:
    generation = archived(library)

    def away(*args) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(registry, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(storage, "copy_to", away)
    library.find(1)
    until(lambda: library.pointer.current is None)
    with tenant_scope(library.tenant_id):
        reason = IndexGeneration.objects.get(pk=generation.pk).reason
        assert reason == "GenerationDamaged: Its archive cannot be read: away"
        assert Job.objects.filter(kind=lifecycle.JOB, state="queued").exists()


def test_a_full_disk_gives_nothing_up(library: Library, monkeypatch) -> None:
    generation = archived(library)
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(StorageFull):
            registry.open_kept(library.tenant_id, generation.pk, lambda: None)
        assert library.agrees(1, 2)
        until(lambda: generation.pk not in opened._opening)
    assert library.pointer.current_id == generation.pk
    assert library.folders == set()
    comes_back(library, generation)


def test_an_archiving_that_is_killed_goes_on_later(library: Library, monkeypatch) -> None:
    generation, put, sent = fall_quiet(library), storage.put, []

    def killed(path, content) -> None:
        if len(sent) == 3:
            raise SystemExit
        sent.append(path)
        put(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "put", killed)
        with pytest.raises(SystemExit):
            upkeep(library)
    # Half a copy is no copy: the files are there, and serve.
    assert library.folders == {str(generation.pk)}
    with tenant_scope(library.tenant_id):
        assert not IndexGeneration.objects.filter(archived=True).exists()
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1)
    assert library.base_id == generation.pk
    # Killed after the commit: the files are still there, and go with the next upkeep.
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "put_away", lambda *args: None)
        upkeep(library)
    assert library.folders == {str(generation.pk)}
    assert library.agrees(1)
    assert archived(library).pk == generation.pk
    comes_back(library, generation)


def test_a_removal_that_is_killed_half_way_leaves_an_index_that_comes_back(library: Library) -> None:
    generation = archived(library)
    folder = folder_of(library.tenant_id, generation.pk)
    gone = folder.with_name(f"{generation.pk}{lifecycle.GONE}")
    for left in (folder / "columns", gone / "columns"):
        left.mkdir(parents=True)
    comes_back(library, generation)
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.folders == {str(generation.pk)}


def test_tidying_leaves_what_is_being_fetched(library: Library) -> None:
    generation = archived(library)
    folder = folder_of(library.tenant_id, generation.pk)
    young, old = (folder.with_name(f"{generation.pk}.{name}{registry.FETCHED}") for name in ("1", "2"))
    for part in (young, old):
        (part / "columns").mkdir(parents=True)
        (part / "vectors.f32").write_bytes(b"x")
    past = time.time() - lifecycle.STALE_S - 60
    for path in (old, *old.rglob("*")):
        os.utime(path, (past, past))
    with tenant_scope(library.tenant_id):
        lifecycle.tidy()
    assert library.folders == {young.name}


def test_a_search_that_comes_while_files_are_archived_keeps_them(library: Library, monkeypatch) -> None:
    generation, copy = fall_quiet(library), lifecycle._copy

    def searched_meanwhile(one: IndexGeneration) -> None:
        copy(one)
        notes = memory.Activity()
        notes.note(library.tenant_id, MODEL)
        notes.flush()

    monkeypatch.setattr(lifecycle, "_copy", searched_meanwhile)
    upkeep(library)
    assert library.folders == {str(generation.pk)}
    with tenant_scope(library.tenant_id):
        assert not IndexGeneration.objects.filter(archived=True).exists()


def test_nothing_is_archived_where_that_is_off(library: Library, settings) -> None:
    fall_quiet(library)
    settings.INDEX_ARCHIVE_DAYS = 0
    upkeep(library)
    assert copies(library) == set()


def test_copies_go_with_their_generation(library: Library, monkeypatch) -> None:
    first = archived(library)
    library.build()
    library.build()
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=first.pk).state == "retired"
    assert copies(library) == set()
    # Where the storage was away when it was retired, and where half a copy was left: collected when it is old.
    archived(library)
    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "remove_copy", lambda *args: None)
        with tenant_scope(library.tenant_id):
            lifecycle.demote(model=MODEL)
    assert copies(library)
    storage.put(registry.path_of(library.tenant_id, uuid.uuid4(), "vectors.f32"), b"half")
    upkeep(library)
    assert copies(library)
    monkeypatch.setattr(lifecycle, "STALE_S", -60)
    upkeep(library)
    assert copies(library) == set()


def test_searches_are_noted_once_an_hour(library: Library) -> None:
    notes = memory.Activity()
    with tenant_scope(library.tenant_id):
        IndexPointer.objects.update(searched_at=LONG_AGO)
    notes.note(library.tenant_id, MODEL)
    notes.flush()
    first = library.pointer.searched_at
    assert first.year > 2025
    assert (first - library.pointer.current.ready_at).total_seconds() > 0
    notes.note(library.tenant_id, MODEL)
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
        notes.note(library.tenant_id, MODEL)
        with pytest.raises(ConnectionError):
            notes.flush()
    notes.flush()
    assert library.pointer.searched_at is not None
