"""Scheduled upkeep, over all tenants at once."""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid
from datetime import timedelta

import pytest
from celery.beat import ScheduleEntry
from celery.result import AsyncResult
from celery.schedules import schedule
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config import celery_app, celery_classes
from config.celery_classes import OncePerPeriod, may_send
from tenants.accounts import leases
from tenants.accounts.models import Tenant
from tenants.accounts.operator_models import Lease, UpkeepRange
from tenants.datasets import storage
from tenants.datasets.models import Blob
from tenants.datasets.services import collect_blobs, create_dataset
from tenants.events.models import IdempotentAnswer
from tenants.events.services import first_answer
from tenants.jobs.kinds import QUEUES
from tenants.pipeline.assets import services
from tenants.pipeline.upkeep import host, periodic, ranges
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable, client
from tests.waiting import PATIENCE_S, pause, until


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
    collector.join(PATIENCE_S)
    assert errors == []
    with tenant_scope(party.id):
        assert Blob.objects.count() == 0


def test_a_canary_that_never_came_is_infinitely_old() -> None:
    periodic.note_canary("embed", time.time() - 7)
    ages = periodic.canary_ages()
    assert set(ages) == set(QUEUES)
    assert 7 <= ages["embed"] < 60


# --- Ranges of tenants -----------------------------------------------------------------------------------


@pytest.fixture
def all_due() -> None:
    UpkeepRange.objects.all().delete()


def test_each_tenant_is_looked_after_once_in_a_period(party, stranger, all_due) -> None:
    calls: list[list[uuid.UUID]] = []
    assert ranges.tend_due(lambda tenants, _: calls.append(tenants)) == ranges.RANGES
    seen = [tenant for tenants in calls for tenant in tenants]
    assert sorted(seen) == sorted(Tenant.objects.values_list("pk", flat=True))
    assert ranges.tend_due(lambda *_: calls.append([])) == 0
    ago = timezone.now() - timedelta(seconds=ranges.PERIOD_S + 1)
    UpkeepRange.objects.filter(number=7).update(started_at=ago)
    assert ranges.tend_due(lambda tenants, runs: calls.append([runs])) == 1
    assert calls[-1] == [2]


def test_two_workers_never_look_after_the_same_range(all_due) -> None:
    """What a worker has begun, others leave to it; what one that died had begun, they take."""
    begun, goes_on, told = threading.Event(), threading.Event(), []

    def first(tenants: list[uuid.UUID], runs: int) -> None:
        if not begun.is_set():
            begun.set()
            goes_on.wait(PATIENCE_S)

    def other_process() -> None:
        ranges._tend_range(3, first)
        connection.close()

    ranges._make()
    slow = threading.Thread(target=other_process)
    slow.start()
    assert begun.wait(PATIENCE_S)
    ranges.want_all()
    assert ranges.tend_due(lambda *_: told.append(1)) == ranges.RANGES - 1
    Lease.objects.filter(name="upkeep:03").update(until=timezone.now() - timedelta(seconds=1))
    assert ranges.tend_due(lambda *_: told.append(1)) == 1
    goes_on.set()
    slow.join(PATIENCE_S)
    assert len(told) == ranges.RANGES


def test_one_thread_of_a_process_looks_after_tenants(all_due) -> None:
    nested: list[int] = []
    ranges.tend_due(lambda *_: nested.append(ranges.tend_due(lambda *_: None)))
    assert nested == [0] * ranges.RANGES


def test_a_lease_is_renewed_while_its_work_goes_on() -> None:
    name = f"test:{uuid.uuid4()}"
    with leases.held(name, seconds=0.6) as mine:
        assert mine
        first = Lease.objects.get(name=name).until
        until(lambda: Lease.objects.get(name=name).until > first + timedelta(seconds=1))
        with leases.held(name) as other:
            assert not other
    assert not Lease.objects.filter(name=name).exists()


def test_what_upkeep_asks_the_database_of_a_tenant(party) -> None:
    """The bound that docs/scaling.md computes with: a tenant in which nothing is to be done."""
    periodic._tend([party.id], 0)
    with CaptureQueriesContext(connection) as asked:
        periodic._tend([party.id], 1)
    assert len(asked) <= 150, len(asked)


def test_what_is_due_is_sent_by_one_scheduler_a_period(monkeypatch) -> None:
    name = f"entry-{uuid.uuid4()}"
    assert [may_send(name, 30.0) for _ in range(3)] == [True, False, False]
    assert 26_000 < client().pttl(f"beat:{name}") <= 27_000
    client().delete(f"beat:{name}")
    assert may_send(name, 30.0)

    def away(*_: object, **__: object) -> None:
        raise Unavailable

    monkeypatch.setattr(client(), "set", away)
    assert may_send(name, 30.0)


def test_the_scheduler_of_this_installation_sends_once() -> None:
    """Of two that run beside each other, as Celery makes them."""
    sent: list[str] = []
    made = [OncePerPeriod(app=celery_app, lazy=True) for _ in range(2)]
    entry = made[0].Entry(
        name=f"entry-{uuid.uuid4()}", task="workers.sweep_jobs", schedule=timedelta(seconds=5), app=celery_app
    )
    for scheduler in made:
        scheduler.apply_async = lambda entry, producer=None, **_: sent.append(entry.name) or AsyncResult("x")
        scheduler.apply_entry(entry)
    assert sent == [entry.name]


class InMemory(OncePerPeriod):
    """With its entries in memory, in place of a file."""

    entries: dict[str, ScheduleEntry] = {}
    schedule = property(lambda self: self.entries)

    def sync(self) -> None:
        pass


def test_a_clock_that_is_set_back_stops_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sent = [timezone.now()], []
    monkeypatch.setattr(celery_classes, "may_send", lambda name, period_s: True)
    scheduler = InMemory(app=celery_app, lazy=True)
    every = schedule(timedelta(seconds=5), nowfun=lambda: clock[0], app=celery_app)
    entry = scheduler.Entry(
        name="sweep", task="workers.sweep_jobs", schedule=every, app=celery_app, last_run_at=clock[0]
    )
    monkeypatch.setattr(InMemory, "entries", {entry.name: entry})
    scheduler.apply_async = lambda entry, producer=None, **_: sent.append(clock[0]) or AsyncResult("x")

    def after(seconds: float) -> int:
        """How many there were sent, once all that is due was."""
        clock[0] += timedelta(seconds=seconds)
        while (rest := scheduler.tick()) == 0:
            pass
        assert 0 < rest <= 5
        return len(sent)

    assert [after(3), after(3), after(1), after(5)] == [0, 1, 1, 2]
    assert after(-3600) == 2
    assert [after(4), after(2), after(5)] == [2, 3, 4]
    # And forward again, to where it was.
    assert [after(3600), after(1), after(5)] == [5, 5, 6]
