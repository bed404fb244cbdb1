"""Exports: what goes out comes in again, elsewhere, and hostile ones do not come in at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tenants.accounts import quotas, services
from tenants.accounts.models import Tenant
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, Dataset, Facet, TranscriptSegment
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Conflict, NotFound, NotReady
from tenants.events import endpoints
from tenants.events.models import AuditEvent, Export, Webhook
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.pipeline.assets import services as pipeline
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.transfer import export_layout, export_reading, export_writing, exports, tenant_import
from tenants.pipeline.upkeep import periodic
from tenants.retrieval.index.vectors import NewVector, add_vectors, replace_vectors
from tenants.retrieval.models import Vector
from tenants.retrieval.query import encoding, lexical
from tenants.scope import tenant_scope
from tests.api.conftest import picture
from workers.base import run_job

RANDOM = np.random.default_rng(7)


def unit() -> np.ndarray:
    values = RANDOM.normal(size=256).astype(np.float32)
    return values / np.linalg.norm(values)


def ready(asset: Asset, model: str, *modalities: str) -> None:
    """As the embed job leaves an asset."""
    vectors = [
        NewVector(m, unit(), {"start_char": 0, "end_char": 3} if m == "text" else None) for m in modalities
    ]
    replace_vectors(asset=asset, model=model, vectors=vectors)
    Asset.objects.filter(pk=asset.id).update(status="ready")


@pytest.fixture
def full(party: Any) -> Any:
    """A tenant with one of everything that an export holds."""
    model = encoding.model_id()
    with tenant_scope(party.id):
        shop = create_dataset(name="店", description="Äpfel", metadata_schema={"price": {"type": "number"}})
        update_dataset(dataset_id=shop.id, retention_days=400, duplicates="skip")
        empty = create_dataset(name="other")
        text = pipeline.add_asset(
            dataset_id=shop.id,
            text="=1+1 早上好",
            values={"price": 1.5, "tags": ["a", "b"]},
            external_id="x/1",
        ).asset
        ready(text, model, "text", "text")
        png = picture()
        upload = check_upload(io.BytesIO(png), "a caption", captions=["another"], filename="红色.png")
        image = pipeline.add_asset(dataset_id=shop.id, upload=upload).asset
        again = pipeline.add_asset(dataset_id=empty.id, file=io.BytesIO(png)).asset
        Blob.objects.filter(pk=image.blob_id).update(
            width=40,
            height=30,
            has_thumbnail=True,
            clean_type="image/png",
            details={"duration_s": 1.5, "has_sound": True, "examined": {}, "peaks": [1, 2]},
        )
        for kind, content in (("thumbnail", picture(kind="WEBP")), ("clean", picture("blue"))):
            storage.put(storage.path_of(party.id, image.blob.sha256, kind), content)
        ready(image, model, "image", "text")
        ready(again, "another-model:1", "image")
        failed = pipeline.add_asset(dataset_id=shop.id, text="<svg onload='x'>").asset
        Asset.objects.filter(pk=failed.id).update(
            status="failed", error={"type": "corrupt", "detail": "It is."}
        )
        TranscriptSegment.objects.create(asset=image, start_s=0.5, end_s=2, text="hello", confidence=0.9)
        Asset.objects.filter(pk=text.id).update(created_at="2020-02-02T02:02:02.5Z")
        gone = create_dataset(name="gone")
        pipeline.add_asset(dataset_id=gone.id, text="deleted")
        pipeline.delete_dataset(dataset_id=gone.id)
    return party


def export(tenant: Tenant, folder: Path, *options: str) -> dict[str, Any]:
    call_command("export_tenant", tenant.slug, "--to", str(folder), *options, stdout=io.StringIO())
    return json.loads((folder / "export.json").read_text())


def admit(path: Path, plan: str = "demo") -> Tenant:
    slug = f"t-{secrets.token_hex(6)}"
    call_command("import_tenant", str(path), "--slug", slug, "--plan", plan, stdout=io.StringIO())
    return Tenant.objects.get(slug=slug)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def content(folder: Path) -> dict[str, Any]:
    """An export with each id replaced by what it stands for."""
    names = {row["id"]: row["name"] for row in rows(folder, "datasets.jsonl")}
    assets = {}
    for row in rows(folder, "assets.jsonl"):
        assets[row["id"]] = {**row, "id": None, "dataset_id": names[row["dataset_id"]]}
    what = {old: (a["dataset_id"], a["sha256"]) for old, a in assets.items()}
    vectors = pq.read_table(folder / "vectors.parquet").to_pylist()
    blobs = rows(folder, "blobs.jsonl")
    for row in blobs:
        # A scan is of this installation, and made anew.
        row["scan"] = None
    return {
        "datasets": [{**row, "id": None} for row in rows(folder, "datasets.jsonl")],
        "assets": list(assets.values()),
        "blobs": blobs,
        "transcripts": [{**r, "asset_id": what[r["asset_id"]]} for r in rows(folder, "transcripts.jsonl")],
        "vectors": sorted(
            (what[v["asset_id"]], v["modality"], v["segment"] or "", v["vector"])
            for v in vectors
            if v["model"] == encoding.model_id()
        ),
        "files": {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("files/*/*/*")},
    }


def test_what_goes_out_comes_in_elsewhere_and_goes_out_the_same(full, tmp_path) -> None:
    header = export(full.tenant, tmp_path / "a")
    assert header["counts"] == {
        "assets.jsonl": 4,
        "audit.jsonl": 6,
        "blobs.jsonl": 4,
        "datasets.jsonl": 2,
        "files/clean": 1,
        "files/original": 4,
        "files/thumbnail": 1,
        "transcripts.jsonl": 1,
        "vectors.parquet": 5,
        "webhooks.jsonl": 0,
        "generations.jsonl": 0,
        "generation_outputs.jsonl": 0,
    }
    tenant = admit(tmp_path / "a")
    second = export(tenant, tmp_path / "b")
    one, two = content(tmp_path / "a"), content(tmp_path / "b")
    # The file of the dataset that is being deleted has no asset in the export.
    assert len(one["blobs"]) == 4
    assert [row["sha256"] for row in two["blobs"]] == sorted({row["sha256"] for row in one["assets"]})
    one["blobs"] = [row for row in one["blobs"] if row["sha256"] in {a["sha256"] for a in one["assets"]}]
    one["files"] = {name: body for name, body in one["files"].items() if name in two["files"]}
    # The picture whose vector is of another model waits to be embedded.
    assert [a["status"] for a in one["assets"]] == ["ready", "ready", "ready", "failed"]
    assert [a["status"] for a in two["assets"]] == ["ready", "ready", "pending", "failed"]
    one["assets"][2]["status"] = "pending"
    for part in one:
        assert two[part] == one[part], part
    assert second["counts"]["vectors.parquet"] == 4
    assert set(two["files"]) == {
        *(export_layout.file_name("original", row["sha256"]) for row in two["blobs"]),
        *(export_layout.file_name(kind, one["assets"][1]["sha256"]) for kind in ("clean", "thumbnail")),
    }


def test_what_came_in_works(full, tmp_path) -> None:
    export(full.tenant, tmp_path / "a")
    tenant = admit(tmp_path / "a")
    assert (tenant.state, tenant.name) == ("active", full.tenant.name)
    with tenant_scope(tenant.id):
        text = Asset.objects.get(external_id="x/1")
        assert text.created_at.isoformat() == "2020-02-02T02:02:02.500000+00:00"
        assert sorted(Facet.objects.filter(asset=text).values_list("key", "text")) == [
            ("price", "1.5"),
            ("tags", "a"),
            ("tags", "b"),
        ]
        assert Dataset.objects.get(name="店").retention_days == 400
        image = Asset.objects.get(caption="a caption")
        assert (image.blob.references, image.blob.scan["state"]) == (2, "not_scanned")
        assert [job.kind for job in Job.objects.all()] == ["embed_asset"]
        assert Vector.objects.count() == 4
        used = {name: quotas.summary()[name]["used"] for name in ("assets", "vectors")}
        assert used == {"assets": 4, "vectors": 4}
        assert AuditEvent.objects.get(verb="tenant.imported").details["assets"] == 4
        assert [found for found, _ in lexical.matching("早上好", 10)] == [text.id]
        assert [found for found, _ in lexical.matching("hello", 10)] == [image.id]
        mine = set(Asset.objects.values_list("pk", flat=True))
    with tenant_scope(full.id):
        assert mine.isdisjoint(Asset.objects.values_list("pk", flat=True))


def test_every_field_that_somebody_adds_is_exported_or_left_out_on_purpose() -> None:
    left_out = {
        Dataset: {"tenant", "deleted_at"},
        # Counted anew where it arrives.
        Asset: {"tenant", "dataset", "blob", "metadata_bytes"},
        Blob: {"tenant", "id", "references"},
        TranscriptSegment: {"tenant", "id", "asset"},
        AuditEvent: {"tenant"},
        Webhook: {
            *("tenant", "sealed_secret", "sealed_previous", "previous_until"),
            *("reason", "failing_since", "created_by"),
        },
        Generation: {"tenant", "dataset", "variation_of", "job_id"},
        GenerationOutput: {"tenant", "generation", "asset"},
    }
    tables = (
        (Dataset, export_layout.DATASET),
        (Asset, export_layout.ASSET),
        (Blob, export_layout.BLOB),
        (TranscriptSegment, export_layout.TRANSCRIPT),
        (AuditEvent, export_layout.AUDIT),
        (Webhook, export_layout.WEBHOOK),
        (Generation, export_layout.GENERATION),
        (GenerationOutput, export_layout.OUTPUT),
    )
    for model, fields in tables:
        assert {f.name for f in model._meta.local_fields} - left_out[model] <= set(fields), model


def test_an_export_needs_a_new_folder(full, tmp_path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(CommandError, match="not empty"):
        call_command("export_tenant", full.tenant.slug, "--to", str(tmp_path))
    with pytest.raises(CommandError, match="no tenant"):
        call_command("export_tenant", "nobody-here", "--to", str(tmp_path / "y"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_that_is_missing_in_the_storage_is_not_passed_over(full, tmp_path) -> None:
    with tenant_scope(full.id):
        sha256 = Asset.objects.get(external_id="x/1").blob.sha256
    default_storage.delete(storage.path_of(full.id, sha256))
    with pytest.raises(CommandError, match=f"original/{sha256} is missing"):
        call_command("export_tenant", full.tenant.slug, "--to", str(tmp_path / "x"))


def test_pages_are_complete(full, tmp_path, monkeypatch) -> None:
    export(full.tenant, tmp_path / "a")
    monkeypatch.setattr(export_writing, "PAGE", 1)
    monkeypatch.setattr(tenant_import, "BATCH", 1)
    export(full.tenant, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    tenant = admit(tmp_path / "b")
    assert export(tenant, tmp_path / "c")["counts"]["vectors.parquet"] == 4


def test_webhooks_are_listed_without_secrets(full, tmp_path) -> None:
    with tenant_scope(full.id):
        row, secret = endpoints.create_webhook(
            url="https://hooks.example/", events=["job.failed"], actor="key:x"
        )
    export(full.tenant, tmp_path / "a")
    (line,) = map(json.loads, (tmp_path / "a" / "webhooks.jsonl").read_text().splitlines())
    assert (line["id"], line["url"], line["events"]) == (str(row.id), row.url, ["job.failed"])
    everything = "".join(path.read_text("utf-8", "replace") for path in (tmp_path / "a").glob("*.*"))
    assert secret not in everything
    assert bytes(row.sealed_secret).decode() not in everything


def test_people_are_listed_without_secrets_and_as_no_formula(full, tmp_path) -> None:
    full.owner.name = "=cmd|' /C calc'!A0"
    full.owner.save()
    export(full.tenant, tmp_path / "a")
    (line,) = csv.DictReader((tmp_path / "a" / "members.csv").open(newline=""))
    assert (line["email"], line["name"], line["role"]) == (full.owner.email, "'=cmd|' /C calc'!A0", "owner")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert full.owner.password.encode() not in everything
    assert full.token.partition(".")[2].encode() not in everything


# --- Through the API's job -------------------------------------------------------------------------------


def run(party: Any, **options: Any) -> Export:
    with tenant_scope(party.id):
        made, job = exports.request_export(actor="key:cl1", **options)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        made.refresh_from_db()
        job.refresh_from_db()
    assert job.state == "succeeded", job.error
    return made


def test_a_job_makes_one_file_that_another_installation_takes(full, tmp_path) -> None:
    made = run(full, with_vectors=True)
    rendition = exports.content_of(made)
    with storage.open_blob(rendition.path) as stream:
        body = stream.read()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (made.bytes, made.sha256)
    assert (made.expires_at - made.finished_at).days == 7
    (tmp_path / "x.zip").write_bytes(body)
    zipfile.ZipFile(tmp_path / "x.zip").extractall(tmp_path / "x")
    export(full.tenant, tmp_path / "y")
    one, two = content(tmp_path / "x"), content(tmp_path / "y")
    assert one == two
    tenant = admit(tmp_path / "x.zip")
    with tenant_scope(tenant.id):
        assert (Asset.objects.count(), Vector.objects.count()) == (4, 4)


def test_without_vectors_everything_is_embedded_anew(full, tmp_path) -> None:
    made = run(full)
    with storage.open_blob(exports.content_of(made).path) as stream:
        (tmp_path / "x.zip").write_bytes(stream.read())
    tenant = admit(tmp_path / "x.zip")
    with tenant_scope(tenant.id):
        assert Vector.objects.count() == 0
        assert Job.objects.filter(kind="embed_asset").count() == 3


def test_one_export_at_a_time(party, stranger) -> None:
    with tenant_scope(party.id):
        made, _ = exports.request_export()
        with pytest.raises(Conflict, match="already"):
            exports.request_export()
        with pytest.raises(NotReady):
            exports.content_of(made)
        assert Export.objects.count() == Job.objects.count() == 1
    with tenant_scope(stranger.id):
        with pytest.raises(NotFound):
            exports.get_export(made.id)
        exports.request_export()


def test_two_who_ask_at_once_get_one_export(party) -> None:
    together = threading.Barrier(2)

    def ask(_: int) -> bool:
        try:
            with tenant_scope(party.id):
                together.wait()
                exports.request_export()
            return True
        except Conflict:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ask, range(2))) == [False, True]
    with tenant_scope(party.id):
        assert Export.objects.count() == 1


def test_an_export_expires(party) -> None:
    made = run(party)
    path = exports.content_of(made).path
    assert default_storage.exists(path)
    with tenant_scope(party.id):
        Export.objects.update(expires_at=timezone.now())
        with pytest.raises(NotFound):
            exports.get_export(made.id)
    periodic.collect_garbage([party.id])
    with tenant_scope(party.id):
        assert not Export.objects.exists()
    assert not default_storage.exists(path)


# --- Memory --------------------------------------------------------------------------------------------


def _many(count: int) -> Tenant:
    """A tenant with so many assets and vectors, all of one small file."""
    slug = f"t-{secrets.token_hex(6)}"
    tenant = services.create_tenant(slug=slug, name=slug, plan="demo")
    with tenant_scope(tenant.id):
        dataset = create_dataset(name="d")
        first = pipeline.add_asset(dataset_id=dataset.id, text="text").asset
        assets = [
            Asset(dataset=dataset, blob_id=first.blob_id, modality="text", caption="x" * 200, status="ready")
            for _ in range(count - 1)
        ]
        Asset.objects.bulk_create(assets)
        Blob.objects.update(references=count)
        add_vectors(model=encoding.model_id(), vectors=[(a, [NewVector("text", unit())]) for a in assets])
    return tenant


def _peak(act: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_flat(tmp_path, monkeypatch) -> None:
    for module, name in (
        (export_writing, "PAGE"),
        (tenant_import, "BATCH"),
        (export_reading, "VECTORS_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, 20)
    monkeypatch.setattr(export_reading, "CHUNK", 1 << 14)
    peaks: dict[int, tuple[int, int]] = {}
    # The first one only warms up what is loaded once.
    for count in (50, 50, 500):
        tenant, folder = _many(count), tmp_path / secrets.token_hex(4)
        out = _peak(lambda tenant=tenant, folder=folder: export(tenant, folder))
        peaks[count] = out, _peak(lambda folder=folder: admit(folder))
    for small, large in zip(peaks[50], peaks[500], strict=True):
        assert large < 1.5 * small, peaks
