"""Scheduled upkeep, over all tenants at once."""

from __future__ import annotations

import os
import time

from django.conf import settings
from django.core.files.storage import default_storage

from tenants.datasets import storage
from tenants.datasets.models import Blob
from tenants.datasets.services import create_dataset
from tenants.events.models import IdempotentAnswer
from tenants.events.services import first_answer
from tenants.jobs.kinds import QUEUES
from tenants.pipeline import services, upkeep
from tenants.scope import tenant_scope


def test_what_an_interrupted_deletion_left_is_removed(party, stranger) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        kept = services.add_asset(dataset_id=dataset.id, text="kept").asset.blob
        left = Blob.objects.create(sha256="ab" * 32, bytes=4, media_type="text/plain", references=0)
        storage.put(storage.path_of(party.id, left.sha256), b"left")
    upkeep.collect_garbage()
    with tenant_scope(party.id):
        assert [blob.pk for blob in Blob.objects.all()] == [kept.pk]
    assert not default_storage.exists(storage.path_of(party.id, left.sha256))
    assert default_storage.exists(storage.path_of(party.id, kept.sha256))


def test_answers_are_forgotten_after_a_day(party) -> None:
    with tenant_scope(party.id):
        first_answer(key="old", fingerprint="x")
        IdempotentAnswer.objects.update(created_at="2026-01-01T00:00:00Z")
        first_answer(key="new", fingerprint="x")
    upkeep.collect_garbage()
    with tenant_scope(party.id):
        assert [row.key for row in IdempotentAnswer.objects.all()] == ["new"]


def test_only_old_spool_files_go() -> None:
    old, new = settings.SPOOL_DIR / "old", settings.SPOOL_DIR / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    past = time.time() - upkeep.STALE_SPOOL_S - 60
    os.utime(old, (past, past))
    upkeep.collect_garbage()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_canary_that_never_came_is_infinitely_old() -> None:
    upkeep.note_canary("embed", time.time() - 7)
    ages = upkeep.canary_ages()
    assert set(ages) == set(QUEUES)
    assert 7 <= ages["embed"] < 60
