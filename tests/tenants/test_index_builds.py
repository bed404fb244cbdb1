"""Builds that break off, and generations that cannot be opened: what is tried again, what stays, what is let go."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError

from tenants.jobs.models import Job
from tenants.retrieval.index import building, lifecycle, memory
from tenants.retrieval.index.generation_files import folder_of
from tenants.retrieval.index.registry import opened
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import COUNT, MODEL, Library, library

__all__ = ["library"]
pytestmark = pytest.mark.slow


def queued(library: Library) -> Job:
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
    assert job is not None
    return job


def state_of(library: Library, generation_id) -> str:
    with tenant_scope(library.tenant_id):
        return IndexGeneration.objects.get(pk=generation_id).state


def follow(library: Library) -> None:
    """Search until the published generation serves."""
    while library.base_id != library.pointer.current_id:
        assert library.agrees(1)


# --- Builds ----------------------------------------------------------------------------------------------


def test_a_builder_that_always_dies_is_given_up(library: Library, monkeypatch) -> None:
    library.fill()
    job = queued(library)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert [library.run(job).state for _ in range(3)] == ["queued", "queued", "failed"]
    assert library.folders == set()
    assert library.agrees(1)
    with tenant_scope(library.tenant_id):
        assert set(IndexGeneration.objects.values_list("state", flat=True)) == {"failed"}


def test_a_build_whose_files_are_removed_is_tried_again(library: Library, monkeypatch) -> None:
    library.fill()
    job, run = queued(library), building._run_builder

    def robbed(*args):
        shutil.rmtree(folder_of(library.tenant_id, library.tenant_id).parent)
        return run(*args)

    with monkeypatch.context() as patch:
        patch.setattr(building, "_run_builder", robbed)
        assert library.run(job).state == "queued"
    assert library.run(job).state == "succeeded"
    follow(library)


def test_a_publication_whose_confirmation_is_lost_stays(library: Library, monkeypatch) -> None:
    library.fill()
    publish = building._publish

    def unheard(*args) -> None:
        publish(*args)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(building, "_publish", unheard)
    assert library.build().state == "succeeded"
    current = library.pointer.current_id
    assert (state_of(library, current), library.folders) == ("ready", {str(current)})
    library.cached = memory.TenantVectors(MODEL)
    assert library.agrees(1, 2)
    assert library.base_id == current


# --- Opened ones -----------------------------------------------------------------------------------------


def test_files_may_go_once_a_generation_is_open(library: Library) -> None:
    assets = library.fill()
    library.build()
    follow(library)
    shutil.rmtree(folder_of(library.tenant_id, library.pointer.current_id))
    assert library.agrees(1, 2)
    found = library.filtered(1, [("n", "lt", 10)], count=COUNT)
    assert {hit.asset_id for hit in found.hits} == {asset.id for asset in assets[:10]}


@contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_without_file_handles_does_not_throw_an_index_away(library: Library) -> None:
    library.fill()
    library.build()
    current = library.pointer.current_id
    opened.forget(current)
    library.cached = memory.TenantVectors(MODEL)
    library.truth(1)
    with no_more_files():
        found = library.find(1)
    assert [hit.asset_id for hit in found.hits] == library.truth(1)
    assert library.base_id is None
    assert (state_of(library, current), library.pointer.current_id) == ("ready", current)
    follow(library)


def test_who_notices_damage_second_changes_nothing(library: Library) -> None:
    library.fill()
    library.build()
    damaged = library.pointer.current_id
    for reason in ("vectors.f32 was changed", "no manifest"):
        lifecycle.repair(tenant_id=library.tenant_id, generation_id=damaged, reason=reason)
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=damaged).reason == "vectors.f32 was changed"
        job = Job.objects.get(kind="build_index", state="queued")
    library.run(job)
    lifecycle.repair(tenant_id=library.tenant_id, generation_id=damaged, reason="no manifest")
    with tenant_scope(library.tenant_id):
        assert not Job.objects.filter(kind="build_index", state="queued").exists()


def test_a_generation_that_was_replaced_is_let_go(library: Library) -> None:
    library.fill()
    library.build()
    follow(library)
    first = weakref.ref(library.cached.state.base)
    library.build()
    follow(library)
    gc.collect()
    assert first() is None


def test_the_cache_drops_generations_that_go_over_the_budget(library: Library, stranger) -> None:
    cache, other = memory.VectorCache(budget_mapped=1), Library(stranger)
    for one in (library, other):
        one.fill()
        one.build()
        one.cached = cache.of(one.tenant_id, MODEL)
        follow(one)
    # The newest stays, whatever it takes; the one before is gone at the next turn.
    kept = weakref.ref(library.cached.state.base)
    library.cached = memory.TenantVectors(MODEL)
    gc.collect()
    assert kept() is None
    assert cache.of(other.tenant_id, MODEL) is other.cached
    assert cache.bytes() == 0
