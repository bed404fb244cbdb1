"""The import task's body on the real database, readers and models, without a broker between."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.utils import timezone

from tenants.accounts import quotas
from tenants.accounts.models import Plan
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, Facet, Import, ImportRow
from tenants.datasets.scanning import Infected
from tenants.jobs import selectors
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.moderation import policies
from tenants.pipeline.assets import bulk, services
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.transfer import import_batches, import_job, import_receipts, imports
from tenants.retrieval.models import Vector, VectorClock
from tenants.retrieval.query.searcher import Query, search
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg
from tests.servers import EICAR
from workers.base import run_job

pytestmark = pytest.mark.slow

CSV = (
    "sku,description,price\n"
    "a,a red apple from the market,1.5\n"
    "b,how to repair a bicycle,20\n"
    "c,opening hours of the museum,3\n"
)


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def _receipt(party, job: Job) -> list[tuple[int, str, str]]:
    with tenant_scope(party.id):
        rows = ImportRow.objects.filter(job_import__job_id=job.id).order_by("row")
        return [(row.row, row.outcome, row.reason) for row in rows]


def test_a_table_becomes_assets_that_are_found_and_filtered(party, dataset, start, run) -> None:
    job = run(start(CSV, "shop.csv"))
    assert (job.state, job.progress_done, job.progress_total) == ("succeeded", 3, 3)
    assert job.result["imported"] == 3
    assert (job.result["duplicate"], job.result["failed"], job.result["failures"]) == (0, 0, [])
    best = search(tenant_id=party.id, query=Query(text="fix my bike", top_k=1)).results[0][0]
    assert (best.external_id, best.metadata, best.excerpt) == (
        "b",
        {"price": 20},
        "how to repair a bicycle",
    )
    cheap = Query(text="fruit", conditions=[("price", "lt", 2)])
    assert [asset.external_id for asset, _ in search(tenant_id=party.id, query=cheap).results] == ["a"]
    with tenant_scope(party.id):
        used = {name: quotas.summary()[name]["used"] for name in ("assets", "vectors", "bytes")}
        size = sum(a.blob.bytes + a.metadata_bytes for a in Asset.objects.select_related("blob"))
        assert used == {"assets": 3, "vectors": 3, "bytes": size}
        assert set(Blob.objects.values_list("references", flat=True)) == {1}
        with storage.open_blob(storage.path_of(party.id, best.blob.sha256)) as stream:
            assert stream.read() == b"how to repair a bicycle"
    assert not default_storage.exists(storage.import_path(party.id, job.result["import"]))


def test_metadata_over_the_limit_fails_its_row_and_the_rest_is_charged(party, dataset, start, run) -> None:
    note = "x" * 20_000
    job = run(start(f"sku,description,note\na,a red apple,short\nb,a bicycle,{note}\n", "shop.csv"))
    assert [(row, outcome) for row, outcome, _ in _receipt(party, job)] == [(1, "imported"), (2, "failed")]
    assert "the plan allows 16384 for each asset" in _receipt(party, job)[1][2]
    with tenant_scope(party.id):
        kept = Asset.objects.get()
        assert kept.metadata_bytes == len('{"note":"short"}')
        assert quotas.summary()["bytes"]["used"] == len("a red apple") + kept.metadata_bytes
        services.delete_asset(asset_id=kept.id)
        assert quotas.summary()["bytes"]["used"] == 0


@pytest.mark.guard
def test_the_same_file_again_imports_nothing_twice(party, dataset, start, run) -> None:
    run(start(CSV, "shop.csv"))
    with tenant_scope(party.id):
        before = (list(Asset.objects.order_by("id").values()), VectorClock.objects.get().last)
    again = run(start(CSV, "shop.csv"))
    assert (again.result["imported"], again.result["duplicate"], again.result["failed"]) == (0, 3, 0)
    with tenant_scope(party.id):
        assert (list(Asset.objects.order_by("id").values()), VectorClock.objects.get().last) == before


def test_rows_without_an_id_are_known_by_their_content(party, dataset, start, run) -> None:
    table = "text,colour\nthe same words,red\nthe same words,red\nthe same words,blue\n"
    job = run(start(table, "t.csv"))
    assert _receipt(party, job) == [
        (1, "imported", ""),
        (2, "duplicate", "The same as line 2."),
        (3, "imported", ""),
    ]
    again = run(start(table, "t.csv"))
    assert (again.result["imported"], again.result["duplicate"]) == (0, 3)
    with tenant_scope(party.id):
        assert Blob.objects.get().references == 2


def test_one_bad_row_loses_no_other(party, dataset, start, run) -> None:
    with tenant_scope(party.id):
        services.add_asset(dataset_id=dataset.id, text="something else", external_id="taken")
    lines = [
        {"id": "1", "text": "fine"},
        {"id": "taken", "text": "other content"},
        {"id": "2", "text": "x" * 100_001},
        {"id": "3", "text": "   "},
        {"id": "1", "text": "not the first one"},
        {"id": "4", "text": "fine too", "when": "2026-01-01"},
    ]
    job = run(start("\n".join(map(json.dumps, lines)) + "\n{broken\n", "rows.jsonl"))
    assert (job.state, job.result["imported"], job.result["failed"]) == ("succeeded", 2, 5)
    receipt = {row: reason for row, outcome, reason in _receipt(party, job) if outcome == "failed"}
    assert receipt[2] == "The id 'taken' stands for other content in this dataset."
    assert "100000" in receipt[3]
    assert receipt[5] == "The id '1' stands for other content in line 1."
    assert set(receipt) == {2, 3, 4, 5, 7}
    assert [failure["row"] for failure in job.result["failures"]] == [2, 3, 4, 5, 7]


ROWS = [
    {
        "sku": "a",
        "description": "a red apple",
        "formula": "=1+1",
        "price": -5,
        "note": "'quoted'",
        "tags": "x;y",
    },
    {
        "sku": "b",
        "description": " ",
        "formula": "@SUM(A1)",
        "price": -2.5,
        "note": "+49 30 1234",
        "tags": "y",
    },
    {"sku": "c", "description": "x" * 100_001, "formula": "-cmd", "price": 7, "note": "''", "tags": "z, w"},
]


def _written(kind: str) -> bytes:
    if kind == "jsonl":
        return "\n".join(map(json.dumps, ROWS)).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue()
    table = io.StringIO()
    writer = csv.DictWriter(table, ROWS[0])
    writer.writeheader()
    writer.writerows(ROWS)
    return table.getvalue().encode()


def _failed_rows(party, job: Job) -> str:
    import_id = job.result["import"]
    return b"".join(import_receipts.failed_rows(tenant_id=party.id, import_id=import_id)).decode("utf-8-sig")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_failed_rows_are_mended_and_imported_again(party, dataset, start, run, kind: str) -> None:
    job = run(start(_written(kind), f"shop.{kind}"))
    assert (job.result["imported"], job.result["failed"]) == (1, 2)
    first = job.result["failures"][0]
    assert (first["row"], first["external_id"], first["text"]) == (2, "b", "")
    assert job.result["failures"][1]["external_id"] == "c"
    assert job.result["failures"][1]["text"] == "x" * 200

    table = _failed_rows(party, job)
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert list(rows[0]) == ["import_line", "import_reason", *ROWS[0]]
    assert [row["import_line"] for row in rows] == [failure["name"] for failure in job.result["failures"]]
    assert rows[0]["import_reason"] == "The row has neither a text nor a file."
    # Nothing that a spreadsheet runs, and numbers as they are.
    assert [row["formula"] for row in rows] == ["'@SUM(A1)", "'-cmd"]
    assert [float(row["price"]) for row in rows] == [-2.5, 7]
    assert rows[0]["note"] == "'+49 30 1234"

    rows[0]["description"], rows[1]["description"] = "a green pear", "a plum"
    mended = io.StringIO()
    writer = csv.DictWriter(mended, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    again = run(start("\ufeff" + mended.getvalue(), "shop-failed.csv"))
    assert (again.result["imported"], again.result["failed"]) == (2, 0)
    with tenant_scope(party.id):
        found = {asset.external_id: asset for asset in Asset.objects.all()}
    for row in ROWS[1:]:
        metadata = found[row["sku"]].metadata
        assert {name: metadata[name] for name in ("formula", "price", "note")} == {
            name: row[name] for name in ("formula", "price", "note")
        }
        # Tags are a list, however they were written.
        assert metadata["tags"] == str(row["tags"]).split(", ")
        assert not {"import_line", "import_reason"} & metadata.keys()


def test_rows_that_could_not_be_read_are_kept_as_far_as_they_were(party, dataset, start, run) -> None:
    job = run(start("sku,description\na,fine\nb,too,many\nc\n", "shop.csv"))
    rows = list(csv.reader(io.StringIO(_failed_rows(party, job), newline="")))
    assert rows[0] == ["import_line", "import_reason", "sku", "description"]
    assert [row[2:] for row in rows[1:]] == [["b", "too"], ["c", ""]]
    assert job.result["failures"][0]["external_id"] == "b"


def test_what_is_kept_of_failed_rows_is_bounded_and_forgotten(party, dataset, start, run) -> None:
    lines = [
        {"id": "1", "text": "\x00", "odd": {"deep": ["\x00", "\\u0000"]}},
        {"id": "2", "text": "x" * 300_000},
    ]
    job = run(start("\n".join(map(json.dumps, lines)), "rows.jsonl"))
    assert job.result["failed"] == 2
    with tenant_scope(party.id):
        rows = ImportRow.objects.order_by("row")
        assert [row.record is None for row in rows] == [False, True]
        assert dict(rows[0].record)["odd"] == {"deep": ["\ufffd", "\\ufffd"]}
        assert import_receipts.forget_rows() == 0
        Import.objects.update(created_at=timezone.now() - import_receipts.KEEP_ROWS - dt.timedelta(hours=1))
        assert import_receipts.forget_rows() == 1
        assert not ImportRow.objects.exclude(record=None).exists()
    assert len(_failed_rows(party, job).splitlines()) == 3


def test_an_archive_of_pictures_and_texts(party, dataset, start, run) -> None:
    files = {
        "a/one.jpg": jpeg(1),
        "a/two.jpg": jpeg(2),
        "note.txt": b"a note beside",
        "bad.jpg": jpeg(3)[:200],
    }
    job = run(start(_zip(files), "folder.zip"))
    assert (job.state, job.result["imported"], job.result["failed"]) == ("succeeded", 3, 1)
    assert job.result["failures"][0]["name"] == "bad.jpg"
    assert job.result["failures"][0]["reason"].startswith("corrupt: ")
    with tenant_scope(party.id):
        found = {a.external_id: a for a in Asset.objects.select_related("blob")}
        assert {name: a.modality for name, a in found.items()} == {
            "a/one.jpg": "image",
            "a/two.jpg": "image",
            "note.txt": "text",
        }
        picture = found["a/one.jpg"].blob
        assert (picture.has_thumbnail, picture.references) == (True, 1)
    with storage.open_blob(storage.path_of(party.id, picture.sha256)) as stream:
        assert stream.read() == files["a/one.jpg"]


def test_over_quota_an_import_says_where_it_stopped_and_goes_on_after(party, dataset, start, run) -> None:
    plan = Plan.objects.create(slug=f"tiny-{party.id}"[:50], name="tiny", limits={"assets": 2})
    type(party.tenant).objects.filter(pk=party.id).update(plan=plan)
    job = run(start(CSV, "shop.csv"))
    assert (job.state, job.error["type"]) == ("failed", "quota-exceeded")
    assert job.error["detail"].startswith("Stopped before line 4: ")
    assert (job.result["imported"], _receipt(party, job)) == (2, [(1, "imported", ""), (2, "imported", "")])
    Plan.objects.filter(pk=plan.pk).update(limits={"assets": 3})
    with tenant_scope(party.id):
        jobs.retry(job_id=job.id)
    job = run(job)
    assert (job.state, job.result["imported"], len(_receipt(party, job))) == ("succeeded", 3, 3)


@pytest.mark.guard
def test_a_killed_attempt_goes_on_after_what_was_stored(party, dataset, start, run, monkeypatch) -> None:
    monkeypatch.setattr(import_batches, "FULL", 2)
    job = start("text\n" + "".join(f"text number {n}\n" for n in range(7)), "t.csv")
    stored = import_job.ImportRun._store
    seen: list[int] = []

    def die_after_two(self, batch):
        stored(self, batch)
        seen.append(len(batch.entries) if batch else 0)
        if len(seen) == 2:
            raise SystemExit  # as a killed process: nobody records anything

    monkeypatch.setattr(import_job.ImportRun, "_store", die_after_two)
    with pytest.raises(SystemExit):
        run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Import.objects.get().position == 4
        Job.objects.filter(pk=job.id).update(lease_until=None)
    monkeypatch.setattr(import_job.ImportRun, "_store", stored)
    job = run(job)
    assert (job.state, job.result["imported"], job.result["duplicate"]) == ("succeeded", 7, 0)
    assert [row for row, _, _ in _receipt(party, job)] == list(range(1, 8))
    with tenant_scope(party.id):
        assert Asset.objects.count() == Vector.objects.count() == 7


@pytest.mark.guard
def test_the_row_that_kills_twice_is_passed_over(party, dataset, start, run, monkeypatch) -> None:
    job = start("text\nfine\npoison\nfine too\n", "t.csv")
    prepare = import_batches._prepare_texts

    def die(entries):
        if any("poison" in entry.upload.text for entry in entries):
            raise SystemExit
        return prepare(entries)

    monkeypatch.setattr(import_batches, "_prepare_texts", die)
    # In the batch, and twice alone.
    for _ in range(3):
        with pytest.raises(SystemExit):
            run_job(str(job.id), str(party.id))
        with tenant_scope(party.id):
            Job.objects.filter(pk=job.id).update(lease_until=None)
    job = run(job)
    assert job.state == "succeeded"
    assert _receipt(party, job) == [
        (1, "imported", ""),
        (2, "failed", "The worker stopped twice while it read this row."),
        (3, "imported", ""),
    ]


@pytest.mark.parametrize("poison", [0, 1])
def test_a_row_is_blamed_for_its_own_deaths_only(party, dataset, start, run, monkeypatch, poison) -> None:
    """A worker that is killed while it tries a row, and a database that goes away, cost the import nothing."""
    job = start("text\nfirst\nsecond\nthird\n", "t.csv")
    monkeypatch.setattr(import_batches, "FULL", 1)
    store = import_job.ImportRun._store_at_once
    ends: list[type[BaseException]] = [
        SystemExit,
        SystemExit,
        OperationalError,
        OperationalError,
        OperationalError,
    ]

    def end(self, entries):
        if ends and entries[0].row == poison + 1:
            raise ends.pop(0)
        store(self, entries)

    monkeypatch.setattr(import_job.ImportRun, "_store_at_once", end)
    while ends:
        with suppress(SystemExit):
            run_job(str(job.id), str(party.id))
        with tenant_scope(party.id):
            assert Job.objects.get(pk=job.id).state in ("queued", "running")
            Job.objects.filter(pk=job.id).update(lease_until=None)
    job = run(job)
    assert [outcome for _, outcome, _ in _receipt(party, job)] == ["imported"] * 3


def test_a_cancelled_import_keeps_what_it_has_and_can_go_on(party, dataset, start, run, monkeypatch) -> None:
    monkeypatch.setattr(import_batches, "FULL", 2)
    job = start("text\n" + "".join(f"text number {n}\n" for n in range(6)), "t.csv")
    store = bulk.store

    def cancel_then_store(**kwargs):
        Job.objects.filter(pk=job.id).update(cancel_requested=True)
        store(**kwargs)

    monkeypatch.setattr(bulk, "store", cancel_then_store)
    job = run(job)
    assert (job.state, job.result["imported"]) == ("cancelled", 2)
    monkeypatch.setattr(bulk, "store", store)
    with tenant_scope(party.id):
        jobs.retry(job_id=job.id)
    assert run(job).result["imported"] == 6


def test_one_import_of_a_tenant_at_a_time(party, dataset, start, run) -> None:
    first, second = start(CSV, "a.csv"), start("text\nanother\n", "b.csv")
    assert jobs.claim(job_id=first.id, tenant_id=party.id) is not None
    assert (run(second).state, run(second).attempts) == ("queued", 0)
    with tenant_scope(party.id):
        assert Asset.objects.count() == 0


def test_a_turn_ends_while_others_wait_and_the_rest_comes_later(
    party, dataset, start, run, monkeypatch
) -> None:
    monkeypatch.setattr(import_batches, "FULL", 2)
    monkeypatch.setattr(import_job, "TURN_S", 0.0)
    monkeypatch.setattr(import_job.fair_queue, "is_waiting", lambda queue: queue == "import")
    job = start("text\n" + "".join(f"text number {n}\n" for n in range(5)), "t.csv")
    states = []
    for _ in range(5):
        job = run(job)
        states.append((job.state, len(_receipt(party, job))))
        if job.state == "succeeded":
            break
    assert states == [("queued", 2), ("queued", 4), ("queued", 5), ("succeeded", 5)]


def test_deleting_the_dataset_takes_the_import_and_its_file_along(party, dataset, start) -> None:
    job = start(CSV, "shop.csv")
    with tenant_scope(party.id):
        path = storage.import_path(party.id, Import.objects.get().id)
        assert default_storage.exists(path)
        deletion = services.delete_dataset(dataset_id=dataset.id)
    run_job(str(deletion.id), str(party.id))
    run_job(str(job.id), str(party.id))
    assert not default_storage.exists(path)
    with tenant_scope(party.id):
        assert (
            Import.objects.count()
            == ImportRow.objects.count()
            == Asset.objects.count()
            == Facet.objects.count()
            == 0
        )
        assert Job.objects.get(pk=job.id).state == "succeeded"


def test_a_folder_with_a_link_in_it(party, dataset, run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("inside")
    (tmp_path / "secret.txt").write_text("outside")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with tenant_scope(party.id):
        row = imports.create_folder_import(
            dataset_id=dataset.id, folder=tmp_path / "in", mapping=None, actor="x"
        )
        job = imports.start_import(import_id=row.id)[1]
    job = run(job)
    assert (job.result["imported"], job.result["failed"]) == (1, 1)
    with tenant_scope(party.id):
        assert list(Asset.objects.values_list("external_id", "excerpt")) == [("a.txt", "inside")]


def test_files_of_an_import_are_scanned(party, start, run, clamd) -> None:
    infected = jpeg(2) + EICAR
    job = run(start(_zip({"a.txt": b"a red apple", "b.jpg": jpeg(1), "c.jpg": infected}), "files.zip"))
    assert [outcome for _, outcome, _ in _receipt(party, job)] == ["imported", "imported", "failed"]
    assert "Eicar-Signature" in _receipt(party, job)[2][2]
    with tenant_scope(party.id):
        states = {blob.media_type: blob.scan and blob.scan["state"] for blob in Blob.objects.all()}
    # A text is no file any more when its row is read.
    assert states == {"text/plain": None, "image/jpeg": "clean"}


def test_a_text_file_is_scanned(clamd) -> None:
    assert check_upload(io.BytesIO(b"a red apple"), "").scan["state"] == "clean"
    with pytest.raises(Infected):
        check_upload(io.BytesIO(EICAR), "")
    assert check_upload(None, EICAR.decode()).scan is None


def test_the_audits_that_an_import_asks_for_are_its_parts(party, dataset, start, run) -> None:
    with tenant_scope(party.id):
        document = {"rules": [], "audit_uploads": True}
        policy, _ = policies.create_policy(name="p", document=document)
        policies.activate(policy_id=policy.id, number=1, mode="enforce", ratio=1.0)
    job = run(start("text,external_id\nred,1\nblue,2\n", "notes.csv"))
    with tenant_scope(party.id):
        assert [part.kind for part in selectors.children(job.id)] == ["audit_item"] * 2
        lines = [line.text for line in selectors.log_of(job.id)]
    assert lines == ["Up to row 2: 2 imported, 0 known, 0 failed."]
