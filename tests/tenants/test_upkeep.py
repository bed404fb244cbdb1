"""Scheduled upkeep, over all tenants at once."""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection

from tenants.datasets import storage
from tenants.datasets.models import Blob
from tenants.datasets.services import collect_blobs, create_dataset
from tenants.events.models import IdempotentAnswer
from tenants.events.services import first_answer
from tenants.jobs.kinds import QUEUES
from tenants.pipeline.assets import services
from tenants.pipeline.upkeep import host, periodic
from tenants.scope import tenant_scope
from tests.waiting import pause


def test_what_an_interrupted_deletion_left_is_removed(party, stranger) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        kept = services.add_asset(dataset_id=dataset.id, text="kept").asset.blob
        left = Blob.objects.create(sha256="ab" * 32, bytes=4, media_type="text/plain", references=0)
        storage.put(storage.path_of(party.id, left.sha256), b"left")
    periodic.collect_garbage([party.id, stranger.id])
    with tenant_scope(party.id):
        assert [blob.pk for blob in Blob.objects.all()] == [kept.pk]
    assert not default_storage.exists(storage.path_of(party.id, left.sha256))
    assert default_storage.exists(storage.path_of(party.id, kept.sha256))


def test_answers_are_forgotten_after_a_day(party) -> None:
    with tenant_scope(party.id):
        first_answer(key="old", fingerprint="x")
        IdempotentAnswer.objects.update(created_at="2026-01-01T00:00:00Z")
        first_answer(key="new", fingerprint="x")
    periodic.collect_garbage([party.id])
    with tenant_scope(party.id):
        assert [row.key for row in IdempotentAnswer.objects.all()] == ["new"]


def test_only_old_spool_files_and_folders_go() -> None:
    spool, past = settings.SPOOL_DIR, time.time() - host.STALE_SPOOL_S - 60
    for folder in (spool / "dead", spool / "busy"):
        folder.mkdir()
    for path in (spool / "old", spool / "new", spool / "dead" / "row-1", spool / "busy" / "row-1"):
        path.write_bytes(b"x")
    for path in (spool / "old", spool / "dead" / "row-1", spool / "dead", spool / "busy"):
        os.utime(path, (past, past))
    host.look_through()
    assert [(spool / name).exists() for name in ("old", "new", "dead", "busy")] == [False, True, False, True]


def test_the_collector_locks_blobs_in_the_order_of_everyone(party) -> None:
    low, high = uuid.UUID(int=secrets.randbits(64)), uuid.UUID(int=(1 << 127) + secrets.randbits(64))
    with tenant_scope(party.id):
        for pk in (high, low):
            Blob.objects.create(pk=pk, sha256=pk.hex * 2, bytes=1, media_type="text/plain", references=0)
    errors = []

    def collect() -> None:
        try:
            with tenant_scope(party.id), connection.cursor() as cursor:
                # As the planner may choose: rows as they lie in the table.
                cursor.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
                collect_blobs()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    collector = threading.Thread(target=collect)
    with tenant_scope(party.id):
        Blob.objects.select_for_update().get(pk=low)
        collector.start()
        pause(0.3, "the collector meets the lock, and would hold others already")
        Blob.objects.select_for_update().get(pk=high)
    collector.join(10)
    assert errors == []
    with tenant_scope(party.id):
        assert Blob.objects.count() == 0


def test_a_canary_that_never_came_is_infinitely_old() -> None:
    periodic.note_canary("embed", time.time() - 7)
    ages = periodic.canary_ages()
    assert set(ages) == set(QUEUES)
    assert 7 <= ages["embed"] < 60
