"""Exports: what goes out comes in again, elsewhere, and hostile ones do not come in at all."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import secrets
import threading
import tracemalloc
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tenants import age
from tenants.accounts import quotas, services
from tenants.accounts.models import Membership, Tenant
from tenants.datasets import storage
from tenants.datasets.models import Asset, Blob, Dataset, DatasetVersion, Facet, TranscriptSegment
from tenants.datasets.services import create_dataset, update_dataset
from tenants.errors import Conflict, Invalid, NotFound, NotReady
from tenants.events import endpoints
from tenants.events.models import AuditEvent, Export, Webhook
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job
from tenants.learning import dataset_versions
from tenants.pipeline.assets import services as pipeline
from tenants.pipeline.assets.uploads import check_upload
from tenants.pipeline.care.erasure import erase_asset
from tenants.pipeline.transfer import export_layout, export_reading, export_writing, exports, tenant_import
from tenants.pipeline.upkeep import periodic
from tenants.retrieval import saved, standing
from tenants.retrieval.index.vectors import NewVector, add_vectors, replace_vectors
from tenants.retrieval.models import StandingQuery, StandingVector, Vector
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
        "saved_searches.jsonl": 0,
        "standing_queries.jsonl": 0,
        "generation_outputs.jsonl": 0,
        "dataset_versions.jsonl": 0,
        "dataset_version_assets.jsonl": 0,
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
    everything = b"".join(path.read_bytes() for path in (tmp_path / "a").glob("*.*"))
    sealed = bytes(row.sealed_secret)
    written = (secret.encode(), sealed, base64.b64encode(sealed), sealed.hex().encode())
    assert [one for one in written if one in everything] == []


def test_saved_searches_are_listed_but_for_private_ones(full, tmp_path) -> None:
    member = Membership.objects.filter(tenant=full.tenant)[0]
    with tenant_scope(full.id):
        who = saved.Who(str(member.user_id), member.pk)
        for name, shared in (("ours", True), ("mine", False)):
            saved.save_search(who=who, name=name, query={"text": "红"}, shared=shared)
        saved.note_recent(member_id=member.pk, query={"text": "lately"})
    export(full.tenant, tmp_path / "a")
    [line] = rows(tmp_path / "a", "saved_searches.jsonl")
    assert (line["name"], line["query"], line["created_by"]) == ("ours", {"text": "红"}, str(member.user_id))


def test_standing_queries_come_in_with_the_ids_of_here(full, tmp_path) -> None:
    with tenant_scope(full.id):
        dataset = str(Dataset.objects.get(name="other").id)
    asked = {"text": "红", "datasets": [dataset], "min_relevance": 0.5}
    prepared = standing.prepare(tenant_id=full.id, query=asked, min_score=0.4)
    with tenant_scope(full.id):
        made = standing.create_standing(
            who=saved.Who("key:x"), name="red", prepared=prepared, muted=True, frequency="hourly"
        )
        standing.change_standing(who=saved.Who("key:x"), standing_id=made.pk, state="paused")
        alone = standing.Prepared({"audit": {"decision": ["block"]}})
        standing.create_standing(who=saved.Who("key:x"), name="blocked", prepared=alone, inbox=False)
        # Of a picture that was sent, which no export holds.
        lost = standing.Prepared({"image": {"file": str(uuid.uuid4())}})
        standing.create_standing(
            who=saved.Who("key:x"), name="lost", prepared=replace(lost, models=prepared.models)
        )
    export(full.tenant, tmp_path / "a")
    tenant = admit(tmp_path / "a")
    with tenant_scope(tenant.id):
        here = str(Dataset.objects.get(name="other").id)
        rows = StandingQuery.objects.order_by("name")
        columns = ("name", "query", "state", "muted", "inbox", "frequency")
        assert list(rows.values_list(*columns)) == [
            ("blocked", {"audit": {"decision": ["block"]}}, "active", False, False, "at_once"),
            ("red", {**asked, "datasets": [here]}, "paused", True, True, "hourly"),
        ]
        assert StandingVector.objects.get().standing_query.name == "red"


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


def test_an_encrypted_export_opens_by_its_private_key_alone(full, tmp_path, settings) -> None:
    private, public = age.new_pair()
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_DIR.mkdir()
    made = run(full, with_vectors=True, recipient=f" {public} ")
    rendition = exports.content_of(made)
    assert (made.recipient, rendition.path[-8:]) == (public, ".zip.age")
    assert rendition.media_type == "application/octet-stream"
    with storage.open_blob(rendition.path) as stream:
        body = stream.read()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (made.bytes, made.sha256)
    assert body.startswith(b"age-encryption.org/v1\n")
    assert (b"assets.jsonl" in body, list(settings.SPOOL_DIR.iterdir())) == (False, [])
    (tmp_path / "x.zip.age").write_bytes(body)
    (tmp_path / "key").write_text(f"# mine\n{private}\n")
    (tmp_path / "another").write_text(age.new_pair()[0])
    (tmp_path / "cut.age").write_bytes(body[:-20])
    given, out = ["--identity", str(tmp_path / "key")], io.StringIO()
    call_command("verify_export", str(tmp_path / "x.zip.age"), *given, stdout=out)
    assert out.getvalue().startswith(f"whole: {full.tenant.slug}")
    for path, options, words in (
        ("x.zip.age", [], "name a file with the private key by --identity"),
        ("x.zip.age", ["--identity", str(tmp_path / "another")], "it is for another key"),
        ("x.zip.age", ["--identity", str(tmp_path / "x.zip.age")], "cannot be read"),
        ("cut.age", given, "damaged or cut off"),
    ):
        with pytest.raises(CommandError, match=words):
            call_command("verify_export", str(tmp_path / path), *options)
    slug = f"t-{secrets.token_hex(6)}"
    call_command(
        "import_tenant", str(tmp_path / "x.zip.age"), "--slug", slug, "--plan", "demo", *given, stdout=out
    )
    with tenant_scope(Tenant.objects.get(slug=slug).id):
        assert (Asset.objects.count(), Vector.objects.count()) == (4, 4)


def test_no_plain_file_of_another_release_is_handed_out_or_left(full) -> None:
    made = run(full, recipient=age.new_pair()[1])
    encrypted = exports.content_of(made).path
    plain = encrypted.removesuffix(".age")
    storage.put(plain, b"by a worker of the release before")
    with tenant_scope(full.id):
        assert exports.withdraw_exports() == 1
    assert [default_storage.exists(path) for path in (plain, encrypted)] == [False, False]


def test_what_is_no_public_key_is_refused_and_nothing_is_queued(party) -> None:
    private, public = age.new_pair()
    for given, words in (
        ("age1x", "no public key"),
        (public[:-1], "no public key"),
        (private, "a private key"),
    ):
        with tenant_scope(party.id), pytest.raises(Invalid, match=words) as refused:
            exports.request_export(recipient=given)
        assert (refused.value.errors[0]["pointer"], given in refused.value.detail) == ("/recipient", False)
    with tenant_scope(party.id):
        assert (Export.objects.count(), Job.objects.count()) == (0, 0)


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


def test_versions_go_out_and_come_in_with_what_is_left_of_them(full: Any, tmp_path: Path) -> None:
    with tenant_scope(full.id):
        shop = Dataset.objects.get(name="店")
        whole, _ = dataset_versions.make_version(dataset_id=shop.id, name="whole", note="n", actor="key:x")
        first = Asset.objects.filter(dataset=shop).order_by("id").first()
        assert first is not None
        erase_asset(asset_id=first.id)
        left, _ = dataset_versions.make_version(dataset_id=shop.id, name="left")
    export(full.tenant, tmp_path / "a")
    assert len(rows(tmp_path / "a", "dataset_version_assets.jsonl")) == 4
    tenant = admit(tmp_path / "a")
    with tenant_scope(tenant.id):
        came = {row.name: row for row in DatasetVersion.objects.all()}
        told = {name: (row.asset_count, row.gone, row.digest, row.state) for name, row in came.items()}
        assert told == {"whole": (3, 1, whole.digest, "ready"), "left": (2, 0, left.digest, "ready")}
        assert (came["whole"].note, came["whole"].created_by) == ("n", "key:x")
        assert came["whole"].created_at == whole.created_at
        assert dataset_versions.compare(came["whole"], came["left"]) == dataset_versions.Comparison(
            0, 0, 0, 2
        )
        assert dataset_versions.count_changed(came["left"].id) == 0


def test_an_export_of_a_version_holds_what_it_lists_and_names_it(full: Any, tmp_path: Path) -> None:
    with tenant_scope(full.id):
        shop = Dataset.objects.get(name="店")
        picked = Asset.objects.select_related("blob").get(dataset=shop, modality="image")
        chosen = dataset_versions.Chosen(assets=[picked.id])
        version, _ = dataset_versions.make_version(dataset_id=shop.id, name="one", chosen=chosen)
        made, job = exports.request_export(with_vectors=True, dataset_id=shop.id, version_id=version.id)
        assert made.version == {
            "dataset": str(shop.id), "id": str(version.id), "name": "one", "digest": version.digest,
        }  # fmt: skip
        with pytest.raises(Conflict):
            exports.request_export()
    run_job(str(job.id), str(full.id))
    with tenant_scope(full.id):
        path = exports.content_of(exports.get_export(made.id)).path
    (tmp_path / "x.zip").write_bytes(default_storage.open(path).read())
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        header = json.loads(archive.read("export.json"))
        files = {name for name in archive.namelist() if name.startswith("files/original/")}
    assert header["dataset_version"] == {
        "dataset": str(shop.id), "id": str(version.id), "name": "one", "digest": version.digest, "assets": 1, "gone": 0,
    }  # fmt: skip
    assert header["counts"] == {
        "assets.jsonl": 1, "blobs.jsonl": 1, "dataset_version_assets.jsonl": 1, "dataset_versions.jsonl": 1,
        "datasets.jsonl": 1, "files/clean": 1, "files/original": 1, "files/thumbnail": 1, "transcripts.jsonl": 1,
        "vectors.parquet": 2,
    }  # fmt: skip
    assert files == {export_layout.file_name("original", picked.blob.sha256)}
    tenant = admit(tmp_path / "x.zip")
    with tenant_scope(tenant.id):
        assert (Asset.objects.count(), DatasetVersion.objects.get().digest) == (1, version.digest)


def test_an_export_of_a_version_that_is_deleted_meanwhile_is_not_made(full: Any) -> None:
    with tenant_scope(full.id):
        shop = Dataset.objects.get(name="店")
        version, _ = dataset_versions.make_version(dataset_id=shop.id, name="one")
        other = Dataset.objects.get(name="other")
        with pytest.raises(NotFound):
            exports.request_export(dataset_id=other.id, version_id=version.id)
        _made, job = exports.request_export(dataset_id=shop.id, version_id=version.id)
        dataset_versions.delete_version(dataset_id=shop.id, version_id=version.id)
    run_job(str(job.id), str(full.id))
    with tenant_scope(full.id):
        assert Job.objects.get(pk=job.id).state == "failed"
        assert exports.forget_exports() == 1
