"""`/legal-holds`: set and listed by a key, and what a held thing answers."""

from __future__ import annotations

from typing import Any

import pytest

from tenants.datasets import holds
from tenants.datasets.models import Asset, Dataset, LegalHold
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused


@pytest.fixture
def hold(api: Api, party: Any, dataset: str) -> Any:
    answer = api.post("/legal-holds", {"reason": "Doe v. Roe", "reference": "7 O 12/26", "dataset": dataset})
    assert answer.status_code == 201
    yield answer.json()
    with tenant_scope(party.id):
        for one in LegalHold.objects.filter(released_at=None):
            holds.release_hold(hold_id=one.id, actor="test", owner=True, by_operator=True)


def test_what_is_held_answers_409_and_stays(
    api: Api, other: Api, party: Any, dataset: str, hold: Any
) -> None:
    asset = api.post(f"/datasets/{dataset}/assets", {"text": "evidence", "external_id": "e"}).json()["asset"][
        "id"
    ]
    for method, path, body in (
        ("DELETE", f"/assets/{asset}", None),
        ("PATCH", f"/assets/{asset}", {"metadata": {"a": 1}}),
        ("DELETE", f"/datasets/{dataset}", None),
        ("POST", "/erasures", {"external_ids": ["e"]}),
    ):
        answer = api.call(method, path, body)
        refused(answer, 409, "legal-hold")
        assert answer.json()["hold"] == hold["id"]
    with tenant_scope(party.id):
        assert list(Asset.objects.values_list("pk", "metadata")) == [(Asset.objects.get().pk, {})]
        assert Dataset.objects.get().deleted_at is None
    assert api.get(f"/legal-holds/{hold['id']}").json() == hold
    assert [one["id"] for one in api.get("/legal-holds").json()["results"]] == [hold["id"]]
    assert (hold["dataset"], hold["released_at"], hold["by_operator"]) == (dataset, None, False)
    refused(other.get(f"/legal-holds/{hold['id']}"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({}, 422, "invalid"),
        ({"reason": " "}, 422, "invalid"),
        ({"reason": "x", "until": "2030"}, 422, "invalid"),
        ({"reason": "x", "dataset": "none"}, 404, "not-found"),
        ({"reason": "x", "dataset": "01939393-0000-7000-8000-000000000000"}, 404, "not-found"),
    ],
)
def test_what_is_unclear_sets_no_hold(api: Api, body: dict[str, Any], status: int, slug: str) -> None:
    refused(api.post("/legal-holds", body), status, slug)
    assert api.get("/legal-holds").json()["results"] == []


def test_a_key_does_not_release(api: Api, hold: Any) -> None:
    for method in ("DELETE", "PATCH", "PUT", "POST"):
        assert api.call(method, f"/legal-holds/{hold['id']}", {}).status_code == 405
    assert api.get(f"/legal-holds/{hold['id']}").json()["released_at"] is None
