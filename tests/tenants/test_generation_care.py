"""What becomes of generations where data are erased, exported and taken over elsewhere."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection

from tenants.accounts import quotas
from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset, Blob, Dataset
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, NotFound
from tenants.events import endpoints
from tenants.events.models import AuditEvent, Erasure, WebhookEvent
from tenants.generation import previews, services
from tenants.generation.models import Generation, GenerationOutput
from tenants.generation.validation import GenerationSpec
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import pairs
from tenants.pipeline.assets.services import add_asset, delete_dataset
from tenants.pipeline.care import erasure, erasure_receipts, subject_erasure
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import Tombstone, Vector
from tenants.scope import tenant_scope
from workers.base import run_job


def upload(dataset: Dataset, text: str, **values: Any) -> Asset:
    return add_asset(dataset_id=dataset.id, text=text, values=values).asset


def made(row: Generation) -> Asset:
    """As the job stores it."""
    dataset = Dataset.objects.get(pk=row.dataset_id)
    asset = upload(dataset, f"made of {row.prompt}", generated=True)
    Asset.objects.filter(pk=asset.pk).update(
        generation_id=row.id, labels=[Asset.GENERATED], prompt=row.prompt
    )
    GenerationOutput.objects.create(generation=row, kind="image", asset=asset, how="model", model="m")
    return asset


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


def remix(source: Asset) -> Generation:
    return services.request_generation(wanted=GenerationSpec(), remix_of=source.id, anyway=True)[0]


def test_an_asset_takes_its_output_along_and_what_was_asked_of_it(party, dataset) -> None:
    with tenant_scope(party.id):
        source = upload(dataset, "ann's words")
        row = remix(source)
        result = made(row)
        receipt = erasure.erase_asset(asset_id=result.id)
        assert receipt.removed["rows"]["generation_output"] == 1
        assert Generation.objects.filter(pk=row.pk).exists()
        receipt = erasure.erase_asset(asset_id=source.id)
        assert receipt.removed["rows"]["generation"] == 1
        assert not Generation.objects.exists()


def test_a_persons_data_includes_what_was_made_from_it(party, dataset) -> None:
    with tenant_scope(party.id):
        mine, other = upload(dataset, "ann's words", uploader="ann"), upload(dataset, "bob's", uploader="bob")
        result, kept = made(remix(mine)), made(remix(other))
        criteria = subject_erasure.check_criteria(values={"uploader": "ann"})
        assert subject_erasure.preview_subject(criteria).matched == 2
        asked, job = subject_erasure.request_erasure(criteria=criteria)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert set(Asset.objects.values_list("pk", flat=True)) == {other.id, kept.id}
        assert [row.remix_of_id for row in Generation.objects.all()] == [other.id]
        receipt = Erasure.objects.get(pk=asked.pk)
        assert (receipt.verified, receipt.removed["assets"]) == (True, 2)
        assert not Asset.objects.filter(pk=result.pk).exists()


def test_a_dataset_goes_with_the_prompts_of_what_it_held(party, dataset) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(
            wanted=GenerationSpec(prompt="a cat of mine"), dataset_id=dataset.id
        )
        services.vary_generation(generation_id=row.id)
        made(row)
        job = delete_dataset(dataset_id=dataset.id)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).state == "succeeded"
        assert not Generation.objects.exists()
        assert not Dataset.objects.exists()
        receipt = Erasure.objects.get(target=dataset.id)
        assert receipt.removed["rows"]["generation"] == 2


def test_exports_tell_what_was_asked_and_imports_keep_that_it_was_made(party, dataset, tmp_path) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(wanted=GenerationSpec(prompt="a cat"), dataset_id=dataset.id)
        result, own = made(row), upload(dataset, "mine")
    call_command("export_tenant", party.tenant.slug, "--to", str(tmp_path / "x"))
    [asked] = lines(tmp_path / "x" / "generations.jsonl")
    [output] = lines(tmp_path / "x" / "generation_outputs.jsonl")
    assert (asked["id"], asked["prompt"], asked["seed"]) == (str(row.id), "a cat", row.seed)
    assert (output["generation_id"], output["asset_id"]) == (str(row.id), str(result.id))
    by_id = {line["id"]: line["generation_id"] for line in lines(tmp_path / "x" / "assets.jsonl")}
    assert by_id == {str(result.id): str(row.id), str(own.id): None}
    slug = f"{party.tenant.slug}-new"
    call_command("import_tenant", str(tmp_path / "x"), slug=slug)
    with tenant_scope(Tenant.objects.get(slug=slug).id):
        taken = {asset.excerpt: asset for asset in Asset.objects.all()}
        assert taken["mine"].generation_id is None
        there = taken["made of a cat"]
        assert there.generation_id not in (None, row.id)
        assert (there.labels, there.prompt) == (["ai-generated"], "a cat")
        assert not Generation.objects.exists()


def lines(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_leaves_out_what_was_made_here_unless_it_is_asked_for(party, dataset) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(wanted=GenerationSpec(prompt="a cat"), dataset_id=dataset.id)
        result, own = made(row), upload(dataset, "mine")
        both = Asset.objects.filter(pk__in=[result.id, own.id])
        both.update(modality="image", status="ready")
        Asset.objects.filter(pk=own.id).update(caption="a cat")
        # Of the other one the words are what it was made from, until it gets a caption.
        assert pairs.counts([dataset.id])[dataset.id] == 1
        assert pairs.counts([dataset.id], generated=True)[dataset.id] == 2
    found = [one.asset_id for one in pairs.Pairs(party.id, str(dataset.id)).after(None)]
    assert found == [own.id]
    everything = list(pairs.Pairs(party.id, str(dataset.id), generated=True).after(None))
    assert {one.asset_id for one in everything} == {own.id, result.id}
    assert {one.captions for one in everything} == {("a cat",)}


# --- A generation with what it made --------------------------------------------------------------------------


def everything(party: Any) -> dict[str, Any]:
    """All that a deletion changes."""
    with tenant_scope(party.id):
        tables = (Generation, GenerationOutput, Asset, Blob, Vector, Tombstone, Erasure, AuditEvent)
        rows = {model.__name__: list(model.objects.order_by("pk").values()) for model in tables}
        return {**rows, "quotas": quotas.summary()}


def asked(dataset: Dataset, prompt: str = "a cat") -> Generation:
    return services.request_generation(wanted=GenerationSpec(prompt=prompt), dataset_id=dataset.id)[0]


def test_what_was_made_goes_along_with_receipts_events_and_quota(party, dataset) -> None:
    with tenant_scope(party.id):
        endpoints.create_webhook(url="https://hooks.example/in", actor="x")
        own = upload(dataset, "mine")
        row, other = asked(dataset), asked(dataset, "a dog")
        first, kept = made(row), made(other)
        second = upload(dataset, "music of a cat")
        Asset.objects.filter(pk=second.pk).update(generation_id=row.id)
        begun = remix(first)
        unit = NewVector("text", np.eye(1, 256, dtype=np.float32)[0])
        replace_vectors(asset=first, model=default_model(), vectors=[unit])
        before = quotas.summary()["assets"]["used"]
        receipts = erasure.erase_generation(generation_id=row.id, actor="key:x")
        assert [receipt.target for receipt in receipts] == [first.id, second.id]
        assert {receipt.kind for receipt in receipts} == {Erasure.Kind.ASSET}
        # Its own row is no part of what an asset takes along; what was asked to be made from the asset is.
        assert [receipt.removed["rows"].get("generation") for receipt in receipts] == [1, None]
        assert set(Asset.objects.values_list("pk", flat=True)) == {own.id, kept.id}
        assert set(Generation.objects.values_list("pk", flat=True)) == {other.id}
        assert not Generation.objects.filter(pk=begun.pk).exists()
        assert [tombstone.asset_id for tombstone in Tombstone.objects.all()] == [first.id]
        assert not Vector.objects.filter(asset_id=first.id).exists()
        assert quotas.summary()["assets"]["used"] == before - 2
        verbs = AuditEvent.objects.filter(actor="key:x").order_by("pk").values_list("verb", "target")
        assert [*verbs] == [
            ("asset.deleted", str(first.id)),
            ("asset.deleted", str(second.id)),
            ("generation.deleted", str(row.id)),
        ]
        told = WebhookEvent.objects.filter(type="asset.deleted").order_by("id")
        assert [json.loads(event.body)["data"]["asset"] for event in told] == [str(first.id), str(second.id)]
        Job.objects.filter(kind="embed_asset").update(state="succeeded")
    with tenant_scope(party.id):
        assert erasure_receipts.settle() == 2
        assert all(Erasure.objects.values_list("verified", flat=True))


@pytest.mark.parametrize("moderation", ["quarantined", "block", "review", ""])
def test_it_goes_whatever_the_policy_decided_as_a_single_asset_does(party, dataset, moderation) -> None:
    with tenant_scope(party.id):
        alone, row = made(asked(dataset, "a dog")), asked(dataset)
        along = made(row)
        Asset.objects.filter(pk__in=[alone.id, along.id]).update(moderation=moderation)
        one = erasure.erase_asset(asset_id=alone.id)
        [other] = erasure.erase_generation(generation_id=row.id)
        assert one.removed == {**other.removed, "bytes": one.removed["bytes"]}
        assert not Asset.objects.exists()


def test_a_file_that_an_upload_shares_stays(party, dataset) -> None:
    with tenant_scope(party.id):
        row = asked(dataset)
        made(row)
        own = upload(dataset, "made of a cat")
        [receipt] = erasure.erase_generation(generation_id=row.id)
        assert receipt.remains["shared_blobs"] == 1
        assert Blob.objects.get().references == 1
        assert Asset.objects.get() == own


def test_all_of_it_goes_or_nothing(party, dataset, monkeypatch) -> None:
    with tenant_scope(party.id):
        row = asked(dataset)
        for text in ("made of a cat", "music of a cat"):
            Asset.objects.filter(pk=upload(dataset, text).pk).update(generation_id=row.id)
    before = everything(party)
    done: list[Any] = []

    def fail_at_the_second(assets: Any, *more: Any) -> Any:
        if done:
            raise OSError("the disk has gone")
        done.append(assets)
        return whole(assets, *more)

    whole = erasure.erase_batch
    monkeypatch.setattr(erasure, "erase_batch", fail_at_the_second)
    with tenant_scope(party.id), pytest.raises(OSError, match="gone"):
        erasure.erase_generation(generation_id=row.id)
    assert len(done) == 1
    assert everything(party) == before


def test_one_under_way_stops_and_has_made_nothing(party, dataset) -> None:
    with tenant_scope(party.id):
        row = asked(dataset)
        previews.keep(party.id, row.id, b"png")
        assert erasure.erase_generation(generation_id=row.id) == []
        assert Job.objects.get(pk=row.job_id).state == "cancelled"
        assert not Generation.objects.exists()
    assert previews.newest(party.id, row.id) is None


def test_one_that_ends_in_this_moment_is_no_conflict(party, dataset, monkeypatch) -> None:
    def ended(**_: Any) -> None:
        raise Conflict("The job has succeeded already.")

    monkeypatch.setattr(jobs, "cancel", ended)
    with tenant_scope(party.id):
        row, other = asked(dataset), asked(dataset)
        result = made(row)
        assert [one.target for one in erasure.erase_generation(generation_id=row.id)] == [result.id]
        services.delete_generation(generation_id=other.id)
        assert not Generation.objects.exists()


def test_what_is_not_there_or_anothers_is_not_deleted(party, stranger, dataset) -> None:
    with tenant_scope(party.id):
        row = asked(dataset)
        made(row)
    before = everything(party)
    with tenant_scope(stranger.id):
        for missing in (row.id, uuid.uuid4(), None):
            with pytest.raises(NotFound):
                erasure.erase_generation(generation_id=missing)
    assert everything(party) == before


def test_two_who_delete_at_once_do_not_wait_for_each_other_for_ever(party, dataset) -> None:
    """One takes the generation with its assets, the other the assets alone: both end, and each asset goes once."""
    with tenant_scope(party.id):
        row = asked(dataset)
        made(row)
        Job.objects.filter(pk=row.job_id).update(state="succeeded")
        for text in ("b", "c"):
            Asset.objects.filter(pk=upload(dataset, text).pk).update(generation_id=row.id)
        ids = list(Asset.objects.order_by("pk").values_list("pk", flat=True))

    def whole() -> int:
        try:
            with tenant_scope(party.id):
                return len(erasure.erase_generation(generation_id=row.id))
        finally:
            connection.close()

    def each() -> int:
        done = 0
        try:
            for asset_id in reversed(ids):
                with suppress(NotFound), tenant_scope(party.id):
                    erasure.erase_asset(asset_id=asset_id)
                    done += 1
            return done
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(whole), pool.submit(each)
        assert first.result(60) + second.result(60) == len(ids)
    with tenant_scope(party.id):
        assert not Asset.objects.exists()
        assert not Generation.objects.exists()
        assert Erasure.objects.count() == len(ids)
