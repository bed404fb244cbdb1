"""`POST /finetunes` from outside: what is answered, and what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tenants.datasets.models import Dataset
from tenants.jobs.models import Job
from tenants.learning.models import LearntModel
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.learning.world import WORDS, add_pairs, add_picture, drawing, new_dataset, new_model


@pytest.fixture
def dataset(party: Party) -> str:
    """With a pair."""
    with tenant_scope(party.id):
        made = new_dataset()
        add_pairs(made, 1)
    return str(made.id)


def test_a_dataset_with_nothing_to_learn_from_is_refused(api: Api, party: Party) -> None:
    empty = api.post("/datasets", {"name": "empty"}).json()["id"]
    body = refused(api.post("/finetunes", {"dataset": empty}), 422, "invalid", "/dataset")
    assert "'empty': it has no pictures with a caption. Add some" in body["detail"]
    with tenant_scope(party.id):
        add_picture(Dataset.objects.get(pk=empty), drawing(WORDS[0]), WORDS[0], ready=False)
    body = refused(api.post("/finetunes", {"dataset": empty}), 409, "not-ready")
    assert "1 pictures with a caption are still being embedded" in body["detail"]
    with tenant_scope(party.id):
        assert not LearntModel.objects.exists()
        assert not Job.objects.filter(kind="finetune").exists()


def test_a_draft_and_its_job(api: Api, dataset: str) -> None:
    asked = {"dataset": dataset, "epochs": 3, "group_by": "product", "name": "ours"}
    answer = api.post("/finetunes", asked, Idempotency_Key="once")
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{body['job']['id']}"
    assert (body["job"]["kind"], body["job"]["state"]) == ("finetune", "queued")
    model = body["model"]
    assert (model["name"], model["state"], model["stage"], model["method"]) == (
        "ours",
        "draft",
        "adapt",
        "heads",
    )
    assert (model["parent"], model["job"]) == ("prior-2", body["job"]["id"])
    assert model["settings"] == {
        "epochs": 3,
        "seed": 0,
        "group_by": "product",
        "include_generated": False,
    }
    assert api.post("/finetunes", asked, Idempotency_Key="once").content == answer.content
    refused(api.post("/finetunes", {**asked, "epochs": 4}, Idempotency_Key="once"), 422, "invalid")
    assert api.get(f"/models/{model['id']}").json()["state"] == "draft"


def test_a_second_one_waits_for_the_first(api: Api, dataset: str) -> None:
    first = api.post("/finetunes", {"dataset": dataset}).json()
    body = refused(api.post("/finetunes", {"dataset": dataset}), 403, "quota-exceeded")
    assert (body["resource"], body["limit"]) == ("finetunes", 1)
    assert api.post(f"/jobs/{first['job']['id']}/cancel").status_code == 200
    shown = api.get(f"/models/{first['model']['id']}").json()
    assert (shown["state"], shown["error"]["type"]) == ("draft", "cancelled")
    assert api.post("/finetunes", {"dataset": dataset}).status_code == 202


def test_what_belongs_to_others_is_absent(api: Api, other: Api, party: Party, dataset: str) -> None:
    theirs = str(new_model(party.id).id)
    mine = other.post("/datasets", {"name": "d"}).json()["id"]
    for body in (
        {"dataset": dataset},
        {"dataset": "nothing"},
        {"dataset": mine, "base": theirs},
        {"dataset": mine, "base": str(uuid.uuid4())},
        {"dataset": mine, "stage": "full", "general_dataset": dataset},
        {"dataset": mine, "stage": "full", "general_dataset": "nothing"},
    ):
        refused(other.post("/finetunes", body), 404, "not-found")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"epochs": 0}, "/epochs"),
        ({"epochs": 201}, "/epochs"),
        ({"epochs": 2.5}, "/epochs"),
        ({"base": "open-1", "method": "lora"}, "/method"),
        ({"stage": "other"}, "/stage"),
        ({"method": "other"}, "/method"),
        ({"stage": "full"}, "/general_dataset"),
        ({"seed": -1}, "/seed"),
        ({"name": ""}, "/name"),
        ({"group_by": "x" * 101}, "/group_by"),
        ({"other": 1}, "/other"),
    ],
)
def test_values_that_cannot_be(
    api: Api, party: Party, dataset: str, fields: dict[str, Any], pointer: str
) -> None:
    refused(api.post("/finetunes", {"dataset": dataset, **fields}), 422, "invalid", pointer)
    with tenant_scope(party.id):
        assert not LearntModel.objects.exists()
        assert not Job.objects.filter(kind="finetune").exists()


def test_a_name_is_used_once(api: Api, party: Party, dataset: str) -> None:
    new_model(party.id, name="ours")
    refused(api.post("/finetunes", {"dataset": dataset, "name": "ours"}), 409, "conflict")
