"""`/datasets/{id}/versions` and `/datasets/{id}/health` from outside."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tenants.datasets.models import Asset, DatasetVersion
from tenants.jobs.models import Job
from tenants.learning import dataset_versions
from tenants.learning.models import LearntModel
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.learning.world import add_pairs, new_dataset
from workers.base import run_job


@pytest.fixture
def assets(api: Api, dataset: str) -> list[str]:
    """Three texts; the last one has the tag `new`."""
    sent = [{"text": f"text {n}", "metadata": {"tags": ["new"]} if n == 2 else {}} for n in range(3)]
    return [api.post(f"/datasets/{dataset}/assets", one).json()["asset"]["id"] for one in sent]


def test_a_version_is_made_listed_and_deleted(api: Api, dataset: str, assets: list[str]) -> None:
    path = f"/datasets/{dataset}/versions"
    asked = {"name": " spring ", "note": "before the sale", "tag": "new"}
    answer = api.post(path, asked, Idempotency_Key="once")
    made = answer.json()["version"]
    assert (answer.status_code, answer.json()["job"]) == (201, None)
    assert answer.headers["Location"] == f"/api/v1{path}/{made['id']}"
    assert (made["name"], made["note"], made["state"], made["made_from"]) == (
        "spring", "before the sale", "ready", {"tag": "new"},
    )  # fmt: skip
    assert (made["assets"], made["kinds"], made["gone"], len(made["digest"])) == (1, {"text": 1}, 0, 64)
    assert made["created_by"].startswith("key:")
    again = api.post(path, asked, Idempotency_Key="once")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (answer.content, "true")
    refused(api.post(path, {**asked, "tag": "old"}, Idempotency_Key="once"), 422, "invalid")
    assert api.get(path).json() == {"results": [made], "next": None}
    assert api.get(f"{path}/{made['id']}").json() == {**made, "models": []}
    listed = api.get(f"{path}/{made['id']}/assets").json()
    assert ([one["id"] for one in listed["results"]], listed["next"]) == (assets[2:], None)
    assert api.call("DELETE", f"{path}/{made['id']}").status_code == 204
    refused(api.get(f"{path}/{made['id']}"), 404, "not-found")
    assert api.get(f"/assets/{assets[2]}").status_code == 200


def test_pages_and_comparison(api: Api, dataset: str, assets: list[str]) -> None:
    path = f"/datasets/{dataset}/versions"
    first = api.post(path, {"name": "1", "assets": assets[:2]}).json()["version"]
    second = api.post(path, {"name": "2", "assets": assets[1:]}).json()["version"]
    page = api.get(f"{path}/{first['id']}/assets?limit=1").json()
    assert [one["id"] for one in page["results"]] == [assets[1]]
    page = api.get(f"{path}/{first['id']}/assets?limit=1&cursor={page['next']}").json()
    assert ([one["id"] for one in page["results"]], page["next"]) == ([assets[0]], None)
    assert api.get(f"{path}/{first['id']}/assets?modality=image").json()["results"] == []
    compared = api.get(f"{path}/{second['id']}/compare?with={first['id']}").json()
    assert [one["id"] for one in compared.pop("results")] == [assets[2]]
    assert compared == {
        "version": second["id"], "before": first["id"], "alike": False, "next": None,
        "added": 1, "removed": 1, "changed": 0, "same": 1,
    }  # fmt: skip
    compared = api.get(f"{path}/{second['id']}/compare?with={first['id']}&change=removed").json()
    assert [one["id"] for one in compared["results"]] == [assets[0]]
    assert api.get(f"{path}/{first['id']}/compare?with={first['id']}").json()["alike"] is True
    api.call("DELETE", f"/assets/{assets[1]}")
    assert api.get(f"{path}/{first['id']}").json()["gone"] == 1
    for query, pointer in (("", "/with"), (f"?with={first['id']}&change=x", "/change"), ("?wit=1", "/wit")):
        refused(api.get(f"{path}/{second['id']}/compare{query}"), 422, "invalid", pointer)
    refused(api.get(f"{path}/{second['id']}/compare?with=none"), 404, "not-found")


def test_what_is_refused(api: Api, other: Api, party: Party, dataset: str, assets: list[str]) -> None:
    path = f"/datasets/{dataset}/versions"
    theirs = other.post("/datasets", {"name": "theirs"}).json()["id"]
    foreign = other.post(f"/datasets/{theirs}/assets", {"text": "x"}).json()["asset"]["id"]
    for ids in ([foreign], [assets[0], str(uuid.uuid4())], ["none"]):
        refused(api.post(path, {"name": "1", "assets": ids}), 404, "not-found")
    for body, pointer in (
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "n" * 101}, "/name"),
        ({"name": "1", "assets": []}, "/assets"),
        ({"name": "1", "assets": assets, "tag": "new"}, "/assets"),
        ({"name": "1", "status": "gone"}, "/status"),
        ({"name": "1", "filter": {"price": {"near": 1}}}, "/filter/price/near"),
        ({"name": "1", "tag": "none"}, ""),
        ({"name": "1", "colour": "red"}, "/colour"),
    ):
        refused(api.post(path, body), 422, "invalid", pointer)
    refused(api.post(f"/datasets/{theirs}/versions", {"name": "1"}), 404, "not-found")
    with tenant_scope(party.id):
        assert not DatasetVersion.objects.exists()
    assert api.post(path, {"name": "1"}).status_code == 201
    refused(api.post(path, {"name": "1"}), 409, "conflict")


def test_a_large_one_answers_with_its_job(
    api: Api, party: Party, dataset: str, assets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_versions, "AT_ONCE", 2)
    path = f"/datasets/{dataset}/versions"
    answer = api.post(path, {"name": "1"})
    version, job = answer.json()["version"], answer.json()["job"]
    assert (answer.status_code, version["state"], version["digest"]) == (202, "making", None)
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    refused(api.get(f"{path}/{version['id']}/assets"), 409, "not-ready")
    run_job(job["id"], str(party.id))
    assert len(api.get(f"{path}/{version['id']}/assets").json()["results"]) == 3


def test_a_training_from_a_version(api: Api, party: Party, dataset: str, assets: list[str]) -> None:
    with tenant_scope(party.id):
        made = new_dataset("shapes")
        add_pairs(made, 3)
        ids = [str(one) for one in Asset.objects.filter(dataset=made).values_list("pk", flat=True)[:2]]
    path = f"/datasets/{made.id}/versions"
    version = api.post(path, {"name": "two", "assets": ids}).json()["version"]
    elsewhere = api.post(f"/datasets/{dataset}/versions", {"name": "texts"}).json()["version"]
    asked = {"dataset": str(made.id), "version": version["id"]}
    for wrong in ("none", elsewhere["id"]):
        refused(api.post("/finetunes", {**asked, "version": wrong}), 404, "not-found")
    refused(
        api.post("/finetunes", {"dataset": dataset, "version": elsewhere["id"]}), 422, "invalid", "/version"
    )
    model = api.post("/finetunes", asked).json()["model"]
    said = model["data"]["datasets"][0]["version"]
    assert (said["id"], said["name"], said["digest"]) == (version["id"], "two", version["digest"])
    assert model["estimate"]["pairs"] == 2
    named = [{"id": model["id"], "name": model["name"]}]
    assert api.get(f"{path}/{version['id']}").json()["models"] == named
    one = f"{path}/{version['id']}"
    body = refused(api.call("DELETE", f"{one}?confirm=true"), 409, "version-in-use")
    assert "is learning from this version" in body["detail"]
    api.post(f"/jobs/{model['job']}/cancel")
    assert "was trained on this version" in refused(api.call("DELETE", one), 409, "version-in-use")["detail"]
    refused(api.call("DELETE", f"{one}?confirm=yes"), 422, "invalid", "/confirm")
    assert api.call("DELETE", f"{one}?confirm=true").status_code == 204
    assert api.get(f"/models/{model['id']}").json()["data"]["datasets"][0]["version"]["name"] == "two"
    with tenant_scope(party.id):
        assert LearntModel.objects.count() == 1


def test_health_is_examined_and_read(api: Api, party: Party, dataset: str) -> None:
    path = f"/datasets/{dataset}/health"
    nothing: dict[str, Any] = api.get(path).json()
    assert {name for name, value in nothing.items() if value is not None} == {"failed_assets"}
    answer = api.post(path, Idempotency_Key="once")
    job = answer.json()["job"]
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/v1/jobs/{job['id']}")
    assert api.post(path, Idempotency_Key="once").content == answer.content
    refused(api.post(path), 409, "conflict")
    assert api.get(path).json()["job"]["id"] == job["id"]
    run_job(job["id"], str(party.id))
    found = api.get(path).json()
    assert (found["job"], found["total"], found["compared"], found["groups"]) == (None, 0, 0, 0)
    assert found["found"] == {"duplicate": 0, "outlier": 0, "unindexed": 0, "uncaptioned": 0}
    assert found["left"] == {"duplicate": 0, "outlier": 0, "unindexed": 0}
    with tenant_scope(party.id):
        ended = Job.objects.get(pk=job["id"]).finished_at
    assert ended is not None
    assert found["examined_at"] == ended.isoformat().replace("+00:00", "Z")
    assert 0 <= found["age_s"] < 600


def test_an_export_of_a_version_names_both(api: Api, dataset: str, assets: list[str]) -> None:
    version = api.post(f"/datasets/{dataset}/versions", {"name": "1"}).json()["version"]
    refused(api.post("/exports", {"version": version["id"]}), 422, "invalid", "/dataset")
    refused(api.post("/exports", {"dataset": dataset}), 422, "invalid", "/version")
    for wrong in ({"dataset": dataset, "version": "none"}, {"dataset": "none", "version": version["id"]}):
        refused(api.post("/exports", wrong), 404, "not-found")
    answer = api.post("/exports", {"dataset": dataset, "version": version["id"]}).json()
    assert answer["job"]["kind"] == "export_dataset_version"
    assert answer["export"]["version"] == {
        "dataset": dataset, "id": version["id"], "name": "1", "digest": version["digest"],
    }  # fmt: skip
