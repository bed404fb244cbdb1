"""The page about data: exports, a person's data, receipts, and how long a dataset keeps what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import create_dataset
from tenants.events.models import Erasure, Export
from tenants.jobs.models import Job
from tenants.pipeline.assets.services import add_asset
from tenants.scope import tenant_scope
from tests.conftest import Party
from workers.base import run_job


@pytest.fixture
def dataset(party: Party) -> Dataset:
    with tenant_scope(party.id):
        made = create_dataset(name="Customers")
        for name, who in (("a", "42"), ("b", "42"), ("c", "43")):
            add_asset(dataset_id=made.id, text=f"text {name}", values={"customer_id": who}, external_id=name)
    return made


def left(party: Party) -> list[str]:
    with tenant_scope(party.id):
        return sorted(Asset.objects.values_list("external_id", flat=True))


def test_a_persons_data_is_shown_and_erased_only_when_its_number_is_typed(
    party: Party, owner: Client, dataset: Dataset
) -> None:
    asked = {"key": "customer_id", "value": "42", "external_ids": "", "dataset": str(dataset.id)}
    shown = owner.post("/data/erase", asked)
    text = shown.content.decode()
    assert shown.status_code == 200
    assert "Type <strong>2</strong>" in text
    assert "Customers" in text
    assert owner.post("/data/erase", {**asked, "count": "3"}).status_code == 422
    assert left(party) == ["a", "b", "c"]
    begun = owner.post("/data/erase", {**asked, "count": "2"})
    with tenant_scope(party.id):
        receipt, job = Erasure.objects.get(), Job.objects.get(kind="erase_subject")
    assert (begun.status_code, begun["Location"]) == (302, f"/data/erasures/{receipt.id}")
    assert receipt.requested_by == str(owner.user.pk)
    assert "Not finished yet" in owner.get(begun["Location"]).content.decode()
    run_job(str(job.id), str(party.id))
    assert left(party) == ["c"]
    page = owner.get(begun["Location"]).content.decode()
    assert "Nothing left" in page
    assert "backups" in page
    assert "customer_id" not in page
    assert f"/data/erasures/{receipt.id}" in owner.get("/data").content.decode()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Say whose data"),
        ({"key": "customer_id", "value": ""}, "texts, numbers"),
        ({"external_ids": "a", "dataset": "no-id"}, "Enter a valid UUID"),
    ],
)
def test_what_is_unclear_is_said_and_erases_nothing(
    party: Party, owner: Client, dataset: Dataset, fields: dict[str, str], words: str
) -> None:
    answer = owner.post("/data/erase", {**fields, "count": "3"})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert left(party) == ["a", "b", "c"]


def test_external_ids_one_a_line(party: Party, owner: Client, dataset: Dataset) -> None:
    asked = {"external_ids": " a \r\n\r\nc\r\nnobody"}
    assert "Type <strong>2</strong>" in owner.post("/data/erase", asked).content.decode()


def test_an_export_for_what_is_no_public_key_is_refused(
    party: Party, owner: Client, dataset: Dataset
) -> None:
    shown = owner.post("/data/export", {"recipient": "age1x"}, follow=True).content.decode()
    assert "This is no public key of age." in shown
    with tenant_scope(party.id):
        assert not Export.objects.exists()


def test_an_export_is_asked_for_and_fetched(party: Party, owner: Client, dataset: Dataset) -> None:
    begun = owner.post("/data/export", {"vectors": "on"})
    with tenant_scope(party.id):
        export, job = Export.objects.get(), Job.objects.get(kind="export_tenant")
    assert (begun.status_code, begun["Location"]) == (302, f"/jobs/{job.id}")
    assert export.with_vectors
    assert "being made already" in owner.post("/data/export", {}, follow=True).content.decode()
    run_job(str(job.id), str(party.id))
    link = f"/data/exports/{export.id}"
    assert link in owner.get("/data").content.decode()
    answer = owner.get(link)
    assert answer["Content-Disposition"].startswith("attachment")
    assert b"".join(answer.streaming_content)[:4] == b"PK\x03\x04"


def test_how_long_a_dataset_keeps_its_assets(party: Party, owner: Client, dataset: Dataset) -> None:
    address = f"/datasets/{dataset.id}/edit"

    def kept() -> int | None:
        with tenant_scope(party.id):
            return Dataset.objects.get(pk=dataset.id).retention_days

    for typed, days in (("30", 30), ("", None), ("7", 7)):
        assert owner.post(address, {"name": "Customers", "retention_days": typed}).status_code == 302
        assert kept() == days
    assert owner.post(address, {"name": "Customers", "retention_days": "0"}).status_code == 422
    assert kept() == 7
    assert 'value="7"' in owner.get(f"/datasets/{dataset.id}").content.decode()


def test_deleting_an_asset_leaves_a_receipt(party: Party, owner: Client, dataset: Dataset) -> None:
    with tenant_scope(party.id):
        asset = Asset.objects.get(external_id="a")
    owner.post(f"/assets/{asset.id}/delete")
    with tenant_scope(party.id):
        assert Erasure.objects.get().target == asset.id


def test_an_editor_sees_none_of_it(person: Callable[..., Client], dataset: Dataset) -> None:
    editor: Any = person("editor")
    assert editor.get("/data").status_code == 403
    assert "/data" not in editor.get("/").content.decode().split('aria-label="Main"')[1].split("</nav>")[
        0
    ].split('"')
