"""Imports beside other work, over their limits, and with a full disk: nothing is lost, hung or free of charge."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from tenants.accounts import quotas
from tenants.accounts.models import Plan, QuotaCounter
from tenants.datasets import storage
from tenants.datasets.models import Asset, Import, ImportRow
from tenants.datasets.services import lock_dataset, update_dataset
from tenants.errors import QuotaExceeded, StorageFull
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets import bulk
from tenants.pipeline.transfer import import_batches, import_sources, imports
from tenants.retrieval.index.vectors import take_numbers
from tenants.scope import tenant_scope
from tests.waiting import PATIENCE_S, pause

pytestmark = pytest.mark.slow

CSV = "sku,description\na,a red apple\nb,a bicycle\nc,opening hours\n"


def _receipt(party: Any, job: Job) -> list[tuple[int, str, str]]:
    with tenant_scope(party.id):
        rows = ImportRow.objects.filter(job_import__job_id=job.id).order_by("row")
        return [(row.row, row.outcome, row.reason) for row in rows]


def _limit(party: Any, **limits: float) -> None:
    plan = Plan.objects.create(slug=f"tiny-{party.id}"[:50], name="tiny", limits=limits)
    type(party.tenant).objects.filter(pk=party.id).update(plan=plan)


def test_an_import_and_a_deletion_lock_clock_and_counters_in_one_order(
    party, dataset, start, run, monkeypatch
) -> None:
    job, attach = start(CSV, "shop.csv"), bulk._attach
    holds_clock, may_go_on = threading.Event(), threading.Event()
    errors = []

    def delete() -> None:
        try:
            with tenant_scope(party.id):
                take_numbers(1)
                holds_clock.set()
                may_go_on.wait(PATIENCE_S)
                quotas.give_back(amounts={"assets": 0})
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    def attach_soon(*args: Any) -> None:
        threading.Timer(0.3, may_go_on.set).start()
        attach(*args)

    monkeypatch.setattr(bulk, "_attach", attach_soon)
    other = threading.Thread(target=delete)
    other.start()
    holds_clock.wait(PATIENCE_S)
    job = run(job)
    other.join(PATIENCE_S)
    assert (errors, job.state, job.result["imported"]) == ([], "succeeded", 3)


def test_an_import_is_made_and_started_beside_an_upload(party, dataset, tmp_path) -> None:
    holds_dataset, errors = threading.Event(), []

    def upload() -> None:
        try:
            with tenant_scope(party.id):
                lock_dataset(dataset.id)
                holds_dataset.set()
                pause(0.3, "the import waits for the dataset meanwhile")
                quotas.charge(amounts={"bytes": 1})
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    (tmp_path / "t.csv").write_text(CSV)
    with tenant_scope(party.id):
        source = imports.inspect_source(path=tmp_path / "t.csv", filename="t.csv")
    other = threading.Thread(target=upload)
    other.start()
    holds_dataset.wait(PATIENCE_S)
    with tenant_scope(party.id):
        row = imports.create_import(dataset_id=dataset.id, source=source)
        assert imports.start_import(import_id=row.id)[1].state == "queued"
    other.join(PATIENCE_S)
    assert errors == []


def test_a_repeated_id_counts_from_the_first_row_that_fits(party, dataset, start, run) -> None:
    with tenant_scope(party.id):
        schema = {"colour": {"type": "text", "values": ["red"]}}
        update_dataset(dataset_id=dataset.id, metadata_schema=schema)
    table = "id,text,colour\na,the same words,green\na,the same words,red\na,the same words,red\n"
    job = run(start(table, "t.csv"))
    assert _receipt(party, job) == [
        (1, "failed", "colour: Expected one of red."),
        (2, "imported", ""),
        (3, "duplicate", "The same as line 3."),
    ]
    with tenant_scope(party.id):
        ids = ImportRow.objects.exclude(outcome="failed").values_list("asset_id", flat=True)
        assert set(ids) == {Asset.objects.get().id}


def test_a_row_that_repeats_a_row_that_fails_fails_as_well(party, dataset, start, run, monkeypatch) -> None:
    prepare = import_batches._prepare_texts

    def spoil(entries: list[bulk.Entry]) -> float:
        entries[0].fail("spoilt")
        return prepare(entries[1:])

    monkeypatch.setattr(import_batches, "_prepare_texts", spoil)
    job = run(start("id,text\na,first\na,first\nb,second\n", "t.csv"))
    assert _receipt(party, job) == [(1, "failed", "spoilt"), (2, "failed", "spoilt"), (3, "imported", "")]


def test_a_full_disk_costs_no_row(party, dataset, start, run, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "write_blob", refuse)
        job = start(CSV, "shop.csv")
        for _ in range(2):
            job = run(job)
            assert (job.state, job.error["type"]) == ("queued", "storage-full")
    job = run(job)
    assert _receipt(party, job) == [(1, "imported", ""), (2, "imported", ""), (3, "imported", "")]


def test_out_of_cpu_seconds_nothing_is_imported(party, dataset, start, run) -> None:
    _limit(party, cpu_s=100)
    with tenant_scope(party.id):
        QuotaCounter.objects.create(resource="cpu_s", period=quotas.current_period(), used=101)
    job = run(start(CSV, "shop.csv"))
    assert (job.state, job.error["type"], _receipt(party, job)) == ("failed", "quota-exceeded", [])


def test_an_import_stops_where_the_cpu_seconds_end_and_they_are_paid_for(
    party, dataset, start, run, monkeypatch
) -> None:
    _limit(party, cpu_s=100)
    prepare = import_batches._prepare_texts
    monkeypatch.setattr(import_batches, "FULL", 2)
    monkeypatch.setattr(import_batches, "_prepare_texts", lambda entries: prepare(entries) + 60)
    job = run(start("text\n" + "".join(f"text number {n}\n" for n in range(10)), "t.csv"))
    assert (job.state, job.error["type"]) == ("failed", "quota-exceeded")
    # Two batches are beyond the limit; a third was being prepared when the second was stored.
    assert [row for row, outcome, _ in _receipt(party, job) if outcome == "imported"] == [1, 2, 3, 4, 5, 6]
    with tenant_scope(party.id):
        counter = quotas.summary()["cpu_s"]
    assert (counter["used"], counter["reserved"]) == (pytest.approx(job.cost_cpu_s), 0)
    assert 180 <= job.cost_cpu_s < 190


def test_a_cancelled_import_pays_for_what_it_has_used(party, dataset, start, run, monkeypatch) -> None:
    prepare, store = import_batches._prepare_texts, bulk.store
    monkeypatch.setattr(import_batches, "_prepare_texts", lambda entries: prepare(entries) + 100)

    def cancel_and_store(**kwargs: Any) -> None:
        Job.objects.filter(pk=job.id).update(cancel_requested=True)
        store(**kwargs)

    monkeypatch.setattr(bulk, "store", cancel_and_store)
    job = start(CSV, "shop.csv")
    job = run(job)
    assert (job.state, job.cost_cpu_s >= 100) == ("cancelled", True)
    with tenant_scope(party.id):
        assert quotas.summary()["cpu_s"]["used"] == pytest.approx(job.cost_cpu_s)


def _draft(party: Any, dataset: Any, path: Any, **kwargs: Any) -> Import:
    path.write_text("text\n" + "x" * 55)
    with tenant_scope(party.id):
        source = imports.inspect_source(path=path, filename="t.csv")
        return imports.create_import(dataset_id=dataset.id, source=source, **kwargs)


def test_files_of_waiting_and_failed_imports_fit_the_quota_together(party, dataset, tmp_path) -> None:
    _limit(party, bytes=100)
    first = _draft(party, dataset, tmp_path / "first")
    with pytest.raises(QuotaExceeded, match="wait or have failed"):
        _draft(party, dataset, tmp_path / "second")
    with tenant_scope(party.id):
        imports.delete_import(import_id=first.id)
    done = _draft(party, dataset, tmp_path / "third")
    with tenant_scope(party.id):
        job = imports.start_import(import_id=done.id)[1]
        assert jobs.claim(job_id=job.id, tenant_id=party.id) is not None
        Job.objects.filter(pk=job.id).update(state=Job.State.SUCCEEDED)
    _draft(party, dataset, tmp_path / "fourth")


def test_upkeep_leaves_a_source_alone_whose_import_is_being_made(party, dataset, tmp_path) -> None:
    def collect() -> None:
        with tenant_scope(party.id):
            import_sources.collect_sources()
        connection.close()

    path = tmp_path / "uploaded-long-ago"
    path.write_text(CSV)
    os.utime(path, (1, 1))
    with tenant_scope(party.id):
        source = imports.inspect_source(path=path, filename="t.csv")
        row = imports.create_import(dataset_id=dataset.id, source=source)
        upkeep = threading.Thread(target=collect)
        upkeep.start()
        upkeep.join(PATIENCE_S)
    assert default_storage.exists(storage.import_path(party.id, row.id))


def test_credentials_of_an_import_that_never_ended_are_forgotten(party, dataset) -> None:
    with tenant_scope(party.id):
        common = {"dataset": dataset, "source": "bucket", "location": "s3://b/p", "format": "files"}
        old, new = (
            Import.objects.create(**common, secret=import_sources.sealed({"key": "k"})) for _ in range(2)
        )
        Import.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=8))
        import_sources.collect_sources()
        assert import_sources.secret_of(Import.objects.get(pk=old.pk)) is None
        assert import_sources.secret_of(Import.objects.get(pk=new.pk)) == {"key": "k"}
