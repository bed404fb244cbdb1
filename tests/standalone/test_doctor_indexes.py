"""What operators are told about indexes: by `manage.py doctor`, and by the figures in `/metrics`."""

from __future__ import annotations

import shutil

import pytest

from config import metrics
from standalone.doctor import findings, indexes
from standalone.doctor.findings import Options
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.generation_files import folder_of
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope
from tests.tenants.test_index_lifecycle import MODEL, Library

pytestmark = pytest.mark.slow
SHALLOW, DEEP = Options(), Options(deep=True)


@pytest.fixture(autouse=True)
def _all_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests leave tenants behind that are in the same state."""
    monkeypatch.setattr(findings, "SHOWN", 10_000)


def a_generation(party, settings) -> Library:
    settings.INDEX_FLAT_MAX = 10
    library = Library(party)
    library.fill(12)
    library.build()
    return library


def test_lost_and_damaged_indexes_are_named(party, settings) -> None:
    library, slug = a_generation(party, settings), party.tenant.slug
    assert slug not in indexes.files_intact(DEEP).what
    generation = library.pointer.current
    vectors = folder_of(party.id, generation.pk) / "vectors.f32"
    content = vectors.read_bytes()
    vectors.write_bytes(bytes(byte ^ 1 for byte in content[:8]) + content[8:])
    assert slug not in indexes.files_intact(SHALLOW).what
    told = indexes.files_intact(DEEP)
    assert (told.verdict, f"{slug}: vectors.f32 was changed" in told.what) == ("warn", True)
    vectors.write_bytes(content[:-1])
    assert f"{slug}: vectors.f32 has {len(content) - 1} bytes" in indexes.files_intact(SHALLOW).what
    shutil.rmtree(vectors.parent)
    # Absent is not damaged: it is fetched when it is asked for.
    assert slug not in indexes.files_intact(DEEP).what
    lifecycle.remove_copy(party.id, generation.pk)
    told = indexes.files_intact(SHALLOW)
    assert f"{slug}: the stored copy of {generation.pk} is gone" in told.what
    assert "built anew" in told.advice
    with tenant_scope(party.id):
        IndexGeneration.objects.update(archived=False)
    assert f"{slug}: the files of {generation.pk} are gone" in indexes.files_intact(SHALLOW).what
    lifecycle.repair(tenant_id=party.id, generation_id=generation.pk, reason="test")
    assert slug not in indexes.files_intact(DEEP).what


def test_indexes_that_nobody_builds_are_named(party, settings) -> None:
    library, slug = Library(party), party.tenant.slug
    library.fill(12)
    assert slug not in indexes.built(SHALLOW).what
    settings.INDEX_FLAT_MAX = 10
    assert (indexes.built(SHALLOW).verdict, slug in indexes.built(SHALLOW).what) == ("fail", True)
    settings.INDEX_RECALL = 1.01
    library.build()
    assert f"{slug}: RecallMissed: recall@10 of 1.01 was not reached" in indexes.built(SHALLOW).what
    settings.INDEX_RECALL = 0.99
    with tenant_scope(party.id):
        job = lifecycle.build(model=MODEL)
    assert slug not in indexes.built(SHALLOW).what
    library.run(job)
    assert slug not in indexes.built(SHALLOW).what
    with tenant_scope(party.id):
        IndexGeneration.objects.update(kind="exact")
    # For tenants of other tests: nobody is due.
    settings.INDEX_FLAT_MAX = 10**6
    assert f"{slug} (12 vectors)" in indexes.built(SHALLOW).what


def test_figures_of_indexes_for_metrics(party, settings) -> None:
    before = lifecycle.gather_figures()
    library = a_generation(party, settings)
    settings.INDEX_RECALL = 1.01
    library.build()
    lifecycle.note_figures()
    told = lifecycle.read_figures()
    assert told is not None
    assert told.states["ready"] == before.states["ready"] + 1
    assert told.states["failed"] == before.states["failed"] + 1
    assert (told.vectors, told.failed) == (before.vectors + 12, before.failed + 1)
    generation = library.pointer.current
    assert (told.last_recall, told.last_seconds) == (generation.recall, generation.details["build_s"])
    assert told.lowest_recall is not None
    text = metrics.render().decode()
    assert f'crosslight_index_generations{{state="ready"}} {told.states["ready"]}' in text
    assert f"crosslight_index_vectors {told.vectors}" in text
    assert f'crosslight_index_recall{{of="last"}} {generation.recall}' in text
    library.find(1)
    mapped = next(
        line for line in metrics.render().decode().splitlines() if line.startswith("crosslight_index_mapped")
    )
    assert float(mapped.split()[1]) >= generation.bytes
