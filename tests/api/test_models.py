"""`/models` and `/golden-queries` from outside: shapes, refusals, the way of a model into service and back."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tenants.learning.models import LearntModel, Promotion
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.learning.world import add_picture, drawing, embed, new_dataset, new_model, unit, with_files
from workers.base import run_job

PRIOR = {"id": "prior-2", "name": "prior-2", "built_in": True, "space": "prior:2", "state": "live"}


@pytest.fixture
def model(party: Party, tmp_path) -> LearntModel:
    return with_files(new_model(party.id, name="mine"), tmp_path)


@pytest.fixture
def pictures(party: Party) -> list[str]:
    with tenant_scope(party.id):
        made = [add_picture(new_dataset(), drawing("small red circle", n)) for n in range(3)]
        for n, asset in enumerate(made):
            embed(asset, model_routing.default_model(), unit(1, n))
    return [str(asset.id) for asset in made]


def test_built_in_spaces_stand_before_the_workspaces_own(api: Api, model: LearntModel) -> None:
    results = api.get("/models").json()["results"]
    ids = [one["id"] for one in results]
    assert ids[0] == "prior-2"
    assert ids[-1] == str(model.id)
    assert PRIOR.items() <= results[0].items()
    assert (results[-1]["parent"], results[-1]["state"], results[-1]["built_in"]) == (
        "prior-2",
        "candidate",
        False,
    )


def test_pages_go_from_the_built_in_to_the_own(api: Api, party: Party) -> None:
    made = [str(new_model(party.id).id) for _ in range(3)]
    seen, cursor = [], ""
    while True:
        page = api.get(f"/models?limit=2{cursor}").json()
        assert 1 <= len(page["results"]) <= 2
        seen += [one["id"] for one in page["results"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [one for one in seen if one not in ("prior-2", "prior-1", "open-1", "open-2")] == made[::-1]
    assert seen[0] == "prior-2"
    assert len(seen) == len(set(seen))


def test_one_model_by_id_or_slug(api: Api, other: Api, model: LearntModel) -> None:
    body = api.get(f"/models/{model.id}").json()
    assert (body["name"], body["curves"], body["promotion"]) == ("mine", [], None)
    assert api.get("/models/prior-2").json()["encoders"]["text"] == "bundled:bilingual"
    for name in (str(model.id), "prior-99", str(uuid.uuid4()), str(model.id).upper()):
        refused(other.get(f"/models/{name}"), 404, "not-found")


def test_the_way_into_service_and_back(
    api: Api, party: Party, model: LearntModel, pictures: list[str]
) -> None:
    answer = api.post(f"/models/{model.id}/promote", {}, Idempotency_Key="once")
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{body['job']['id']}"
    assert (body["promotion"]["state"], body["promotion"]["replaces"]) == ("embedding", "prior-2")
    assert api.post(f"/models/{model.id}/promote", {}, Idempotency_Key="once").content == answer.content
    refused(api.post(f"/models/{model.id}/promote", {}), 409, "conflict")
    with tenant_scope(party.id):
        for asset in Promotion.objects.get().model and pictures:
            embed(_asset(asset), model.space, unit(1, pictures.index(asset)))
    run_job(body["job"]["id"], str(party.id))
    now = api.get(f"/models/{model.id}").json()
    assert (now["state"], now["promotion"]["state"]) == ("live", "switched")
    assert api.get("/models/prior-2").json()["state"] == "candidate"
    found = api.post("/search", {"vector": [1.0] * 256}).json()
    assert found["model"] == {"id": str(model.id), "version": "1", "dimension": 256}
    assert api.get(f"/models/{found['model']['id']}").json()["id"] == str(model.id)
    refused(api.call("DELETE", f"/models/{model.id}"), 409, "conflict")
    back = api.post(f"/models/{model.id}/rollback")
    assert back.status_code == 200
    assert (back.json()["model"]["state"], back.json()["live"]["id"]) == ("retired", "prior-2")
    found = api.post("/search", {"vector": [1.0] * 256}).json()["model"]
    assert (found["id"], api.get(f"/models/{found['id']}").json()["state"]) == ("prior-2", "live")
    refused(api.post(f"/models/{model.id}/rollback"), 409, "conflict")
    assert api.call("DELETE", f"/models/{model.id}").status_code == 204
    refused(api.get(f"/models/{model.id}"), 404, "not-found")


def _asset(asset_id: str):
    from tenants.datasets.models import Asset

    return Asset.objects.get(pk=asset_id)


def test_a_worse_model_needs_an_override_with_a_reason(api: Api, party: Party, tmp_path) -> None:
    figure = {"difference": -0.2, "interval": [-0.3, -0.1]}
    metrics = {"domain": {"differences": {"parent": {"text>image": {"mrr": figure}}}}}
    path = f"/models/{with_files(new_model(party.id, metrics=metrics), tmp_path).id}/promote"
    body = refused(api.post(path, {}), 409, "worse-model")
    assert "text>image" in body["reasons"][0]
    refused(api.post(path, {"override": True}), 422, "invalid", "/reason")
    refused(api.post(path, {"reason": "x"}), 422, "invalid", "/reason")
    refused(api.post(path, {"override": "yes", "reason": "x"}), 422, "invalid", "/override")
    answer = api.post(path, {"override": True, "reason": "We know."})
    assert (answer.status_code, answer.json()["promotion"]["override_reason"]) == (202, "We know.")


def test_what_would_be_lost_is_said_before_it_is(api: Api, party: Party) -> None:
    body = refused(api.post("/models/prior-1/promote"), 409, "worse-model")
    assert body["reasons"] == [
        "Searches in Chinese would no longer be understood: this model reads English only."
    ]
    asked = {"override": True, "reason": "English only."}
    assert api.post("/models/prior-1/promote", asked).status_code == 202
    # The way out that DELETE and the promotion itself name.
    back = api.post("/models/prior-1/rollback").json()
    assert (back["model"]["promotion"]["state"], back["live"]["id"]) == ("abandoned", "prior-2")


def test_a_space_whose_weights_are_not_here_is_not_promoted(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    body = refused(api.post("/models/open-1/promote"), 409, "not-ready")
    assert "clip-vit-b16" in body["detail"]
    assert "requirements-weights.txt" in body["detail"]
    assert api.get("/models/prior-2").json()["state"] == "live"


def test_promoting_needs_no_body(api: Api, model: LearntModel) -> None:
    assert api.post(f"/models/{model.id}/promote").status_code == 202


def test_a_built_in_space_cannot_be_deleted(api: Api) -> None:
    refused(api.call("DELETE", "/models/prior-2"), 409, "conflict")


# --- Golden queries ---------------------------------------------------------------------------------------


def test_golden_queries_come_and_go(api: Api, other: Api, pictures: list[str]) -> None:
    by_text = api.post("/golden-queries", {"text": "a circle", "relevant": pictures[1:]})
    by_picture = api.post("/golden-queries", {"image": {"asset": pictures[0]}, "relevant": [pictures[1]]})
    assert (by_text.status_code, by_picture.status_code) == (201, 201)
    assert by_text.json()["relevant"] == pictures[1:]
    path = by_picture.headers["Location"].removeprefix("/api/v1")
    assert api.get(path).json() == by_picture.json()
    listed = api.get("/golden-queries").json()["results"]
    assert [one["id"] for one in listed] == [by_picture.json()["id"], by_text.json()["id"]]
    refused(other.call("DELETE", path), 404, "not-found")
    assert api.call("DELETE", path).status_code == 204
    refused(api.get(path), 404, "not-found")


def test_golden_queries_name_the_tenants_own_assets(api: Api, other: Api, pictures: list[str]) -> None:
    for body in (
        {"text": "x", "relevant": pictures[:1]},
        {"image": {"asset": pictures[0]}, "relevant": pictures[1:]},
        {"text": "x", "relevant": ["nothing"]},
    ):
        refused(other.post("/golden-queries", body), 404, "not-found")
    refused(api.post("/golden-queries", {"relevant": pictures[:1]}), 422, "invalid", "/text")
    refused(api.post("/golden-queries", {"text": "x", "relevant": []}), 422, "invalid", "/relevant")
    refused(api.post("/golden-queries", {"text": "x"}), 422, "invalid", "/relevant")
