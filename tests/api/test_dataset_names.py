"""A dataset that is given by its name where its id is wanted: the answer says that, and how the id is found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api, refused
from tests.conftest import Party

pytestmark = pytest.mark.guard

NAME = "products"
VECTOR = [1.0] * 256


@pytest.fixture
def named(api: Api, other: Api) -> str:
    """A dataset of this name in this workspace, and one in another."""
    other.post("/datasets", {"name": NAME})
    return str(api.post("/datasets", {"name": NAME}).json()["id"])


CALLS = [
    ("GET", f"/datasets/{NAME}", None),
    ("PATCH", f"/datasets/{NAME}", {"description": "new"}),
    ("DELETE", f"/datasets/{NAME}", None),
    ("GET", f"/datasets/{NAME}/assets", None),
    ("POST", f"/datasets/{NAME}/assets", {"text": "new"}),
    ("POST", f"/datasets/{NAME}/merges", {}),
    ("GET", f"/datasets/{NAME}/imports", None),
    ("POST", f"/datasets/{NAME}/imports", {"source": "s3://bucket/prefix"}),
    ("POST", "/search", {"vector": VECTOR, "datasets": [NAME]}),
    ("POST", "/maps", {"name": "new", "datasets": [NAME]}),
    ("POST", "/finetunes", {"dataset": NAME}),
    ("POST", "/generations", {"prompt": "a red apple", "dataset": NAME}),
    ("POST", "/erasures", {"external_ids": ["nobody"], "dataset": NAME, "dry_run": True}),
    ("POST", "/reviews/bulk/preview", {"filter": {"dataset": NAME}, "decision": "allow"}),
    ("GET", f"/reviews?dataset={NAME}", None),
    ("POST", "/exports", {"dataset": NAME, "version": NAME}),
    ("POST", "/legal-holds", {"reason": "a case", "dataset": NAME}),
    ("GET", f"/datasets/{NAME}/versions", None),
    ("POST", f"/datasets/{NAME}/versions", {"name": "new"}),
    (
        "POST",
        "/stream-sources",
        {"name": "new", "kind": "redis", "url": "rediss://a.example", "topic": "a", "dataset": NAME},
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "body"), CALLS, ids=[f"{method} {path}" for method, path, _ in CALLS]
)
def test_a_name_where_an_id_is_wanted(api: Api, named: str, method: str, path: str, body: Any) -> None:
    detail = refused(api.call(method, path, body), 404, "not-found")["detail"]
    assert detail == (
        "This dataset does not exist. It is given by its id, not by its name: "
        "GET /api/v1/datasets?name=… answers with the dataset of that name."
    )


def test_the_general_dataset_of_a_finetune(api: Api, named: str) -> None:
    body = {"dataset": named, "stage": "full", "general_dataset": NAME}
    assert "?name=" in refused(api.post("/finetunes", body), 404, "not-found")["detail"]


def test_the_id_is_found_by_the_name(api: Api, named: str, other: Api, party: Party) -> None:
    """Of this workspace alone, and the whole name."""
    found = api.get(f"/datasets?name={NAME}").json()
    assert [one["id"] for one in found["results"]] == [named]
    assert found["next"] is None
    (theirs,) = other.get(f"/datasets?name={NAME}").json()["results"]
    assert theirs["id"] != named
    for unknown in ("product", "", "Products", "no%20such"):
        assert api.get(f"/datasets?name={unknown}").json()["results"] == []
    refused(api.get("/datasets?name=%00"), 422, "invalid", "/name")
