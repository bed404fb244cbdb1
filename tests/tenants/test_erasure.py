"""Erasure with receipts: of an asset, of a person's data, of a dataset."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from tenants.accounts import quotas
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, Dataset, Facet, Import, ImportRow, TranscriptSegment
from tenants.datasets.services import create_dataset
from tenants.errors import Invalid, NotFound
from tenants.events.models import AuditEvent, Erasure, Export, IdempotentAnswer
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.pipeline.assets import services
from tenants.pipeline.care import erasure, erasure_receipts, subject_erasure
from tenants.pipeline.transfer import exports
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import Vector
from tenants.scope import tenant_scope
from tenants.valkey import client, tenant_key
from tests.tenants.test_pipeline import PNG
from workers.base import run_job

pytestmark = pytest.mark.guard

UNIT = np.eye(1, 256, dtype=np.float32)[0]


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


def add(party: Any, dataset: Any, text: str = "", **fields: Any) -> Asset:
    """An asset with one vector, a transcript line, a line in an import's receipt and a replayable answer."""
    with tenant_scope(party.id):
        added = services.add_asset(dataset_id=dataset.id, text=text, **fields)
        asset = added.asset
        replace_vectors(asset=asset, model=default_model(), vectors=[NewVector("text", UNIT)])
        quotas.settle(owner=added.job.id, used={"vectors": 1})
        Job.objects.filter(pk=added.job.id).update(state="succeeded", result={"asset": str(asset.id)})
        TranscriptSegment.objects.create(asset=asset, start_s=0, end_s=1, text=text)
        job_import, _ = Import.objects.get_or_create(
            dataset=dataset, source="upload", location="x.zip", format="zip", job_id=added.job.id
        )
        ImportRow.objects.create(
            job_import=job_import, row=0, name="secret.png", outcome="imported", asset_id=asset.id
        )
        body = {"asset": {"id": str(asset.id), "dataset": str(dataset.id), "sha256": "x"}, "job": None}
        IdempotentAnswer.objects.create(key=str(asset.id), fingerprint="f", status=202, body=json.dumps(body))
    return asset


def rows(party: Any) -> dict[str, int]:
    with tenant_scope(party.id):
        tables = (Asset, Blob, Vector, Facet, TranscriptSegment, IdempotentAnswer)
        return {m._meta.db_table: m.objects.count() for m in tables}


def files(party: Any, sha256: str) -> list[str]:
    paths = {kind: storage.path_of(party.id, sha256, kind) for kind in storage.KINDS}
    return [kind for kind, path in paths.items() if default_storage.exists(path)]


def settle(party: Any) -> int:
    with tenant_scope(party.id):
        return erasure_receipts.settle()


def test_an_asset_goes_everywhere_and_the_receipt_says_where(party, dataset) -> None:
    asset = add(party, dataset, "top secret words", values={"a": "x", "b": 1}, external_id="e")
    with tenant_scope(party.id):
        Blob.objects.filter(pk=asset.blob_id).update(has_thumbnail=True, clean_type="image/png")
    for kind in ("clean", "thumbnail"):
        storage.put(storage.path_of(party.id, asset.blob.sha256, kind), b"x")
    with tenant_scope(party.id):
        receipt = erasure.erase_asset(asset_id=asset.id, actor="key:cl1")
    assert files(party, asset.blob.sha256) == []
    assert (receipt.kind, receipt.target, receipt.verified) == ("asset", asset.id, False)
    assert settle(party) == 1
    assert rows(party) == dict.fromkeys(rows(party), 0)
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        assert receipt.verified
        assert receipt.removed == {
            "assets": 1,
            "rows": {"asset": 1, "facet": 2, "vector": 1, "transcript_segment": 1, "import_row": 1},
            "files": {"original": 1, "clean": 1, "thumbnail": 1},
            "bytes": len("top secret words"),
            "jobs": 1,
            "answers": 1,
        }
        assert [place["where"] for place in receipt.remains["places"]] == [
            "backups",
            "audit log",
            "tombstones",
            "pages of searches",
            "logs of the processes",
        ]
        line = ImportRow.objects.get()
        assert (line.name, line.asset_id, line.outcome) == ("", None, "imported")
        job = Job.objects.get()
        assert (job.arguments, job.error) == ({"asset": erasure_receipts.NOBODY, "revision": 0}, None)
        assert str(asset.id) not in json.dumps([job.arguments, job.result])
        assert "secret" not in repr(erasure_receipts.erasure_shape(receipt))
        assert AuditEvent.objects.filter(verb="asset.deleted", target=str(asset.id)).count() == 1
    assert settle(party) == 0


def test_a_job_about_an_erased_asset_can_still_be_retried(party, dataset) -> None:
    asset = add(party, dataset, "words")
    with tenant_scope(party.id):
        Job.objects.update(state="failed", error={"type": "corrupt", "detail": "words"})
        erasure.erase_asset(asset_id=asset.id)
    settle(party)
    with tenant_scope(party.id):
        assert Job.objects.get().error["type"] == "erased"
        job = jobs.retry(job_id=Job.objects.get().id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get().state == "succeeded"


def test_a_file_that_another_asset_has_stays_and_is_named(party, dataset) -> None:
    with tenant_scope(party.id):
        first = services.add_asset(dataset_id=dataset.id, file=io.BytesIO(PNG)).asset
        services.add_asset(dataset_id=dataset.id, file=io.BytesIO(PNG))
        receipt = erasure.erase_asset(asset_id=first.id)
    assert files(party, first.blob.sha256) == ["original"]
    assert receipt.removed["files"] == {"original": 0, "clean": 0, "thumbnail": 0}
    assert receipt.remains["shared_blobs"] == 1


def test_another_tenants_asset_is_absent(party, stranger, dataset) -> None:
    asset = add(party, dataset, "mine")
    with tenant_scope(stranger.id), pytest.raises(NotFound):
        erasure.erase_asset(asset_id=asset.id)
    assert rows(party)["asset"] == 1
    with tenant_scope(stranger.id):
        assert not Erasure.objects.exists()


# --- A person's data -------------------------------------------------------------------------------------


def criteria(party: Any, **asked: Any) -> dict[str, Any]:
    with tenant_scope(party.id):
        return subject_erasure.check_criteria(**asked)


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({}, "/filter"),
        ({"values": {}}, "/filter"),
        ({"values": []}, "/filter"),
        ({"values": {"price": {"lt": 3}}}, "/filter/price"),
        ({"values": {"price": {"in": [1], "eq": 1}}}, "/filter/price"),
        ({"values": {"who": {"in": []}}}, "/filter/who"),
        ({"values": {"who": None}}, "/filter/who"),
        ({"values": {"who": ""}}, "/filter/who"),
        ({"values": {"who": [{"a": 1}]}}, "/filter/who"),
        ({"values": {"who": "\x00"}}, "/filter/who"),
        ({"external_ids": "x"}, "/external_ids"),
        ({"external_ids": [""]}, "/external_ids"),
        ({"external_ids": ["x"] * 1001}, "/external_ids"),
    ],
)
def test_who_is_meant_must_be_exact(party, asked, pointer) -> None:
    with pytest.raises(Invalid) as refusal:
        criteria(party, **asked)
    assert refusal.value.errors[0]["pointer"] == pointer


def test_a_dataset_of_another_tenant_is_absent(stranger, dataset) -> None:
    with pytest.raises(NotFound):
        criteria(stranger, values={"a": 1}, dataset_id=dataset.id)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"values": {"customer": "42"}}, ["list", "number", "text"]),
        ({"values": {"customer": 42}}, ["list", "number", "text"]),
        ({"values": {"customer": {"in": ["42", "43"]}}}, ["list", "number", "other", "text"]),
        ({"values": {"customer": "42", "kind": "photo"}}, ["text"]),
        ({"values": {"customer": "4"}}, []),
        ({"external_ids": ["other"]}, ["other"]),
        ({"external_ids": ["other"], "values": {"kind": "photo"}}, ["other", "text"]),
        ({"values": {"customer": "last"}}, ["long"]),
    ],
)
def test_whose_data_is_found(party, dataset, asked, found) -> None:
    with tenant_scope(party.id):
        for name, values in (
            ("text", {"customer": "42", "kind": "photo"}),
            ("number", {"customer": 42}),
            ("list", {"customer": ["7", "42"]}),
            ("other", {"customer": "43"}),
            ("none", {"kind": "text"}),
            # Facets hold only the first hundred values; an erasure must see all.
            ("long", {"customer": [*map(str, range(1000, 1150)), "last"]}),
        ):
            services.add_asset(dataset_id=dataset.id, text=name, values=values, external_id=name)
        wanted = subject_erasure.check_criteria(**asked)
        assert sorted(subject_erasure.matching(wanted).values_list("external_id", flat=True)) == found
        assert subject_erasure.preview_subject(wanted).matched == len(found)


def test_a_persons_data_goes_and_everybody_elses_stays(party, dataset, stranger, monkeypatch) -> None:
    monkeypatch.setattr(subject_erasure, "BATCH", 2)
    with tenant_scope(party.id):
        other = create_dataset(name="other")
    for n in range(5):
        add(party, dataset if n % 2 else other, "the same words", values={"customer_id": "42"})
    kept = add(party, dataset, "kept", values={"customer_id": "43"})
    with tenant_scope(stranger.id):
        foreign = create_dataset(name="f")
    add(stranger, foreign, "the same words", values={"customer_id": "42"})
    page = tenant_key(party.id, "search", "x")
    client().set(page, b"ranking", ex=60)
    wanted = criteria(party, values={"customer_id": "42"})
    with tenant_scope(party.id):
        preview = subject_erasure.preview_subject(wanted)
        assert preview.matched == 5
        assert [(d.name, d.assets) for d in preview.datasets] == [("d", 2), ("other", 3)]
        receipt, job = subject_erasure.request_erasure(criteria=wanted, actor="key:cl1")
        assert receipt.subject_hash == subject_erasure.subject_hash(receipt.id, wanted)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        job.refresh_from_db()
        receipt.refresh_from_db()
        assert (job.state, job.progress_done, job.progress_total) == ("succeeded", 5, 5)
        assert job.result == {"erasure": str(receipt.id), "assets": 5, "verified": True}
        assert receipt.removed == {
            "assets": 5,
            "rows": {"asset": 5, "facet": 5, "vector": 5, "transcript_segment": 5, "import_row": 5},
            # Five assets shared one file, which went with the last of them, and none stays.
            "files": {"original": 1, "clean": 0, "thumbnail": 0},
            "bytes": len("the same words"),
            "jobs": 5,
            "answers": 5,
            "search_pages": 1,
        }
        assert (receipt.verified, receipt.matched, receipt.remains["shared_blobs"]) == (True, 5, 0)
        assert receipt.criteria is None
        everything = repr([erasure_receipts.erasure_shape(receipt), job.arguments, job.result])
        assert "customer_id" not in everything
        assert Asset.objects.get().id == kept.id
        assert quotas.summary()["assets"]["used"] == 1
        assert quotas.summary()["vectors"]["used"] == 1
    assert client().get(page) is None
    assert rows(stranger)["asset"] == 1


def test_a_killed_erasure_counts_each_asset_once(party, dataset, monkeypatch) -> None:
    monkeypatch.setattr(subject_erasure, "BATCH", 2)
    for n in range(5):
        add(party, dataset, f"text {n}", values={"customer_id": "42"})
    with tenant_scope(party.id):
        receipt, job = subject_erasure.request_erasure(
            criteria=subject_erasure.check_criteria(values={"customer_id": "42"})
        )
    calls = iter(range(10))

    class Killed(BaseException):
        pass

    def dying(*args: Any, **kwargs: Any) -> None:
        if next(calls) == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(jobs, "progress", dying)
        run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Asset.objects.count() == 1
        Job.objects.update(lease_until=timezone.now())
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        assert (receipt.removed["assets"], receipt.removed["rows"]["vector"], receipt.verified) == (
            5,
            5,
            True,
        )


def test_an_erasure_whose_job_was_lost_is_taken_up(party, dataset) -> None:
    add(party, dataset, "text", values={"customer_id": "42"})
    with tenant_scope(party.id):
        receipt, job = subject_erasure.request_erasure(
            criteria=subject_erasure.check_criteria(values={"customer_id": "42"})
        )
        assert subject_erasure.resume_erasures() == 0
        Job.objects.filter(pk=job.id).update(state="failed")
        assert subject_erasure.resume_erasures() == 1
        receipt.refresh_from_db()
    run_job(str(receipt.job_id), str(party.id))
    assert rows(party)["asset"] == 0


def exported(party: Any) -> tuple[Export, str]:
    with tenant_scope(party.id):
        made, job = exports.request_export()
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        made.refresh_from_db()
    return made, exports.content_of(made).path


def test_exports_go_with_a_persons_data(party, dataset) -> None:
    asset = add(party, dataset, "text", values={"customer_id": "42"})
    add(party, dataset, "other", values={"customer_id": "43"})
    _, path = exported(party)
    assert str(asset.id) in zipfile.ZipFile(default_storage.open(path)).read("assets.jsonl").decode()
    with tenant_scope(party.id):
        receipt, job = subject_erasure.request_erasure(
            criteria=subject_erasure.check_criteria(values={"customer_id": "42"})
        )
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        assert not Export.objects.exists()
    assert not default_storage.exists(path)
    assert (receipt.removed["assets"], receipt.removed["exports"], receipt.verified) == (1, 1, True)
    assert "exports" not in [place["where"] for place in receipt.remains["places"]]


def test_an_export_that_is_made_meanwhile_fails_and_leaves_no_file(party, dataset, monkeypatch) -> None:
    add(party, dataset, "text", values={"customer_id": "42"})
    with tenant_scope(party.id):
        made, job = exports.request_export()
    path = exports._path(made)

    write = exports._write

    def write_and_withdraw(*args: Any) -> None:
        write(*args)
        with tenant_scope(party.id):
            assert exports.withdraw_exports() == 1

    with monkeypatch.context() as patch:
        patch.setattr(exports, "_write", write_and_withdraw)
        run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        job.refresh_from_db()
        assert (job.state, job.error["detail"]) == ("failed", exports.REMOVED)
        assert not Export.objects.exists()
    assert not default_storage.exists(path)


def test_an_asset_in_an_export_is_said_to_remain_there(party, dataset) -> None:
    asset = add(party, dataset, "text")
    made, _ = exported(party)
    with tenant_scope(party.id):
        receipt = erasure.erase_asset(asset_id=asset.id)
    (place,) = [place for place in receipt.remains["places"] if place["where"] == "exports"]
    assert place["what"] == "1 files made before; they may hold it"
    assert place["until"] == made.expires_at.isoformat()


def test_what_keeps_coming_in_is_never_said_to_be_gone(party, dataset, monkeypatch) -> None:
    wanted = {"customer_id": "42"}
    add(party, dataset, "text", values=wanted)
    with tenant_scope(party.id):
        receipt, job = subject_erasure.request_erasure(criteria=subject_erasure.check_criteria(values=wanted))
    clear, sent = subject_erasure.clear_derived, iter(range(100))

    def and_more(tenant_id: Any) -> dict[str, int]:
        add(party, dataset, f"text {next(sent)}", values=wanted)
        return clear(tenant_id)

    with monkeypatch.context() as patch:
        patch.setattr(subject_erasure, "clear_derived", and_more)
        run_job(str(job.id), str(party.id))
    settle(party)
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        job.refresh_from_db()
        assert (receipt.verified, receipt.finished_at, receipt.removed["assets"]) == (False, None, 5)
        # It waits and goes on by itself: upkeep has nothing to queue.
        assert (job.state, job.result, subject_erasure.resume_erasures()) == ("queued", None, 0)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        assert (receipt.verified, receipt.removed["assets"], receipt.criteria) == (True, 6, None)
        assert not Asset.objects.exists()


def test_finding_nothing_is_worth_a_receipt_too(party) -> None:
    with tenant_scope(party.id):
        wanted = subject_erasure.check_criteria(external_ids=["nobody"])
        receipt, job = subject_erasure.request_erasure(criteria=wanted)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        receipt.refresh_from_db()
        assert (receipt.verified, receipt.removed["assets"]) == (True, 0)


def test_the_hash_is_of_this_receipt_and_this_request(party) -> None:
    one, two = criteria(party, values={"a": "42"}), criteria(party, values={"a": "43"})
    with tenant_scope(party.id):
        receipts = [subject_erasure.request_erasure(criteria=wanted)[0] for wanted in (one, one, two)]
    assert len({receipt.subject_hash for receipt in receipts}) == 3


# --- A dataset -------------------------------------------------------------------------------------------


def test_a_dataset_goes_with_a_receipt(party, dataset, monkeypatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    for n in range(3):
        add(party, dataset, f"text {n % 2}")
    with tenant_scope(party.id):
        job = services.delete_dataset(dataset_id=dataset.id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert not Dataset.objects.exists()
        receipt = Erasure.objects.get()
        job.refresh_from_db()
        assert (job.state, job.result["dataset"]) == ("succeeded", str(dataset.id))
        assert (receipt.kind, receipt.target, receipt.verified) == ("dataset", dataset.id, True)
        assert (receipt.removed["assets"], receipt.removed["files"]["original"]) == (3, 2)
    assert rows(party) == dict.fromkeys(rows(party), 0)
