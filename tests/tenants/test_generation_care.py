"""What becomes of generations where data are erased, exported and taken over elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import call_command

from tenants.accounts.models import Tenant
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import create_dataset
from tenants.events.models import Erasure
from tenants.generation import services
from tenants.generation.models import Generation, GenerationOutput
from tenants.generation.wishes import Wanted
from tenants.jobs.models import Job
from tenants.learning import pairs
from tenants.pipeline import erasure, subjects
from tenants.pipeline.services import add_asset, delete_dataset
from tenants.scope import tenant_scope
from workers import tasks


def upload(dataset: Dataset, text: str, **values: Any) -> Asset:
    return add_asset(dataset_id=dataset.id, text=text, values=values).asset


def made(row: Generation) -> Asset:
    """As the job stores it."""
    dataset = Dataset.objects.get(pk=row.dataset_id)
    asset = upload(dataset, f"made of {row.prompt}", generated=True)
    Asset.objects.filter(pk=asset.pk).update(generation_id=row.id, labels=[Asset.GENERATED])
    GenerationOutput.objects.create(generation=row, kind="image", asset=asset, how="model", model="m")
    return asset


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return create_dataset(name="d")


def remix(source: Asset) -> Generation:
    return services.request_generation(wanted=Wanted(), remix_of=source.id)[0]


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
        criteria = subjects.check_criteria(values={"uploader": "ann"})
        assert subjects.preview_subject(criteria)["matched"] == 2
        asked, job = subjects.request_erasure(criteria=criteria)
    tasks.erase_subject(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert set(Asset.objects.values_list("pk", flat=True)) == {other.id, kept.id}
        assert [row.remix_of_id for row in Generation.objects.all()] == [other.id]
        receipt = Erasure.objects.get(pk=asked.pk)
        assert (receipt.verified, receipt.removed["assets"]) == (True, 2)
        assert not Asset.objects.filter(pk=result.pk).exists()


def test_a_dataset_goes_with_the_prompts_of_what_it_held(party, dataset) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(wanted=Wanted(prompt="mine"), dataset_id=dataset.id)
        services.vary_generation(generation_id=row.id)
        made(row)
        job = delete_dataset(dataset_id=dataset.id)
    tasks.delete_dataset(str(job.id), str(party.id))
    with tenant_scope(party.id):
        assert Job.objects.get(pk=job.id).state == "succeeded"
        assert not Generation.objects.exists()
        assert not Dataset.objects.exists()
        receipt = Erasure.objects.get(target=dataset.id)
        assert receipt.removed["rows"]["generation"] == 2


def test_exports_tell_what_was_asked_and_imports_keep_that_it_was_made(party, dataset, tmp_path) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(wanted=Wanted(prompt="a cat"), dataset_id=dataset.id)
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
        assert there.labels == ["ai-generated"]
        assert not Generation.objects.exists()


def lines(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_leaves_out_what_was_made_here_unless_it_is_asked_for(party, dataset) -> None:
    with tenant_scope(party.id):
        row, _ = services.request_generation(wanted=Wanted(prompt="a cat"), dataset_id=dataset.id)
        result, own = made(row), upload(dataset, "mine")
        both = Asset.objects.filter(pk__in=[result.id, own.id])
        both.update(modality="image", status="ready", caption="a cat")
        assert pairs.counts([dataset.id])[dataset.id] == 1
        assert pairs.counts([dataset.id], generated=True)[dataset.id] == 2
    found = [one.asset_id for one in pairs.Pairs(party.id, str(dataset.id)).after(None)]
    assert found == [own.id]
    everything = pairs.Pairs(party.id, str(dataset.id), generated=True).after(None)
    assert {one.asset_id for one in everything} == {own.id, result.id}
