"""Erasures and exports over the API: what is asked, what is answered, who may."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from tenants import age
from tenants.datasets.models import Asset
from tenants.pipeline.upkeep import periodic
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from workers.base import run_job

pytestmark = pytest.mark.guard


@pytest.fixture
def customers(add_text: Any) -> dict[str, str]:
    """Assets of two customers, by external_id."""
    people = {"a": "42", "b": "42", "c": "43"}
    added = {
        name: add_text(f"text of {name}", metadata={"customer_id": who}, external_id=name)
        for name, who in people.items()
    }
    return {name: answer["asset"]["id"] for name, answer in added.items()}


def left(party: Any) -> list[str]:
    with tenant_scope(party.id):
        return sorted(Asset.objects.values_list("external_id", flat=True))


def test_a_deletion_answers_as_ever_and_names_its_receipt(api: Api, party: Any, customers: Any) -> None:
    answer = api.call("DELETE", f"/assets/{customers['a']}")
    assert (answer.status_code, answer.content) == (204, b"")
    link = answer.headers["Link"]
    assert link.endswith('>; rel="describedby"')
    path = link[1 : link.index(">")].removeprefix("/api/v1")
    receipt = api.get(path).json()
    assert (receipt["kind"], receipt["target"], receipt["verified"]) == ("asset", customers["a"], False)
    periodic.collect_garbage([party.id])
    receipt = api.get(path).json()
    assert (receipt["verified"], receipt["removed"]["rows"]["asset"]) == (True, 1)
    assert [r["id"] for r in api.get(f"/erasures?target={customers['a']}").json()["results"]] == [
        receipt["id"]
    ]
    for nothing in (customers["b"], "no-id"):
        assert api.get(f"/erasures?target={nothing}").json()["results"] == []


def test_a_persons_data_is_looked_at_first_and_then_erased(
    api: Api, party: Any, dataset: str, customers: Any
) -> None:
    asked = {"filter": {"customer_id": "42"}, "dataset": dataset}
    preview = api.post("/erasures", {**asked, "dry_run": True})
    assert preview.status_code == 200
    assert preview.json() == {
        "matched": 2,
        "bytes": 18,
        "datasets": [{"id": dataset, "name": "things", "assets": 2, "bytes": 18}],
    }
    assert left(party) == ["a", "b", "c"]
    assert api.get("/erasures").json()["results"] == []
    answer = api.post("/erasures", asked, Idempotency_Key="once")
    again = api.post("/erasures", asked, Idempotency_Key="once")
    assert answer.status_code == again.status_code == 202
    assert again.json() == answer.json()
    job, receipt = answer.json()["job"], answer.json()["erasure"]
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    run_job(job["id"], str(party.id))
    assert left(party) == ["c"]
    done = api.get(f"/erasures/{receipt['id']}").json()
    assert (done["kind"], done["matched"], done["removed"]["assets"], done["verified"]) == (
        "subject",
        2,
        2,
        True,
    )
    assert done["job"] == job["id"]
    refused(api.post(f"/jobs/{job['id']}/cancel"), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({}, 422, "invalid"),
        ({"filter": {"price": {"lt": 3}}}, 422, "invalid"),
        ({"filter": []}, 422, "invalid"),
        ({"external_ids": [1]}, 422, "invalid"),
        ({"external_ids": ["a"], "dry_run": "yes"}, 422, "invalid"),
        ({"external_ids": ["a"], "sure": True}, 422, "invalid"),
        ({"external_ids": ["a"], "dataset": "no-id"}, 404, "not-found"),
        ({"external_ids": ["a"], "dataset": "01939393-0000-7000-8000-000000000000"}, 404, "not-found"),
    ],
)
def test_what_is_unclear_erases_nothing(
    api: Api, party: Any, customers: Any, body: Any, status: int, slug: str
) -> None:
    refused(api.post("/erasures", body), status, slug)
    assert left(party) == ["a", "b", "c"]
    assert api.get("/erasures").json()["results"] == []


def test_another_tenants_dataset_is_absent(api: Api, other: Api, dataset: str) -> None:
    refused(other.post("/erasures", {"external_ids": ["a"], "dataset": dataset}), 404, "not-found")


def test_an_export_is_made_and_fetched(api: Api, other: Api, party: Any, customers: Any) -> None:
    answer = api.post("/exports", {"vectors": True})
    assert answer.status_code == 202
    made, job = answer.json()["export"], answer.json()["job"]
    assert (made["ready"], made["with_vectors"], made["expires_at"]) == (False, True, None)
    refused(api.get(f"/exports/{made['id']}/content"), 409, "not-ready")
    refused(api.post("/exports", {}), 409, "conflict")
    run_job(job["id"], str(party.id))
    shown = api.get(f"/exports/{made['id']}").json()
    assert shown["ready"]
    assert [e["id"] for e in api.get("/exports").json()["results"]] == [made["id"]]
    content = api.get(f"/exports/{made['id']}/content")
    body = b"".join(content.streaming_content)
    assert (content.status_code, len(body)) == (200, shown["bytes"])
    assert content.headers["Content-Type"] == "application/zip"
    assert content.headers["Content-Disposition"].startswith("attachment")
    names = zipfile.ZipFile(io.BytesIO(body)).namelist()
    assert names[0] == "README.txt"
    assert names[-2:] == ["export.json", "export.sig"]
    part = api.get(f"/exports/{made['id']}/content", Range="bytes=0-3")
    assert (part.status_code, b"".join(part.streaming_content)) == (206, b"PK\x03\x04")
    for path in (f"/exports/{made['id']}", f"/exports/{made['id']}/content"):
        refused(other.get(path), 404, "not-found")


def test_an_export_is_encrypted_for_a_public_key(api: Api, party: Any, customers: Any) -> None:
    _, public = age.new_pair()
    refused(api.post("/exports", {"recipient": "age1x"}), 422, "invalid")
    refused(api.post("/exports", {"recipient": 7}), 422, "invalid")
    assert api.get("/exports").json()["results"] == []
    answer = api.post("/exports", {"recipient": public})
    assert (answer.status_code, answer.json()["export"]["recipient"]) == (202, public)
    run_job(answer.json()["job"]["id"], str(party.id))
    content = api.get(f"/exports/{answer.json()['export']['id']}/content")
    body = b"".join(content.streaming_content)
    assert body.startswith(b"age-encryption.org/v1\n")
    assert content.headers["Content-Type"] == "application/octet-stream"
    assert ".zip.age" in content.headers["Content-Disposition"]


def test_a_dataset_keeps_its_assets_for_some_days_or_ever(api: Api, dataset: str) -> None:
    path = f"/datasets/{dataset}"
    assert api.get(path).json()["retention_days"] is None
    for days in (30, None, 1):
        answer = api.call("PATCH", path, {"retention_days": days})
        assert (answer.status_code, answer.json()["retention_days"]) == (200, days)
    for days in (0, -1, 36_501, "7", 1.5, True):
        refused(api.call("PATCH", path, {"retention_days": days}), 422, "invalid", "/retention_days")
    assert api.get(path).json()["retention_days"] == 1


def test_that_nothing_is_scanned_is_said(api: Api, customers: Any) -> None:
    assert api.get("/me").json()["malware_scan"] == "off"
    assert api.get(f"/assets/{customers['a']}").json()["scan"]["state"] == "not_scanned"
