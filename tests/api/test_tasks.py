"""Tasks, feedback and the gate over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.retrieval.cache import async_writer
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.models import Feedback, SearchGate
from tenants.retrieval.query import encoding, feedback, fusion_weights
from tenants.scope import tenant_scope
from tenants.valkey import client, tenant_key
from tests.api.conftest import Api, refused
from tests.conftest import Party


def towards(degrees: float) -> np.ndarray:
    vector = np.zeros(256, np.float32)
    vector[0], vector[1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


@pytest.fixture
def put(party: Party, add_text: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """A ready asset with a text's vector, and with those of other modalities that are named."""

    def put(degrees: float, **more: float) -> str:
        asset_id: str = add_text(f"at {degrees} {uuid.uuid4()}")["asset"]["id"]
        vectors = [NewVector("text", towards(degrees))]
        vectors += [NewVector(modality, towards(angle)) for modality, angle in more.items()]
        with tenant_scope(party.id):
            replace_vectors(asset=Asset.objects.get(pk=asset_id), model=encoding.model_id(), vectors=vectors)
            Asset.objects.filter(pk=asset_id).update(status="ready")
        return asset_id

    return put


def search(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/search", {"vector": towards(0).tolist(), **fields})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


NODULE = {"when": ["nodule"], "weights": {"image": 0.8}}


# --- Tasks -------------------------------------------------------------------------------------------------


def test_a_task_of_ones_own(api: Api) -> None:
    body = {
        "slug": "x-rays",
        "description": "Lungs",
        "weights": {"text": 0.4, "image": 0.6},
        "rules": [NODULE],
    }
    made = api.post("/tasks", body)
    assert made.status_code == 201
    assert made.headers["Location"] == "/api/v1/tasks/x-rays"
    shape = made.json()
    assert {**shape, "created_at": None} == {**body, "dynamic": True, "built_in": False, "created_at": None}
    assert api.get("/tasks/x-rays").json() == shape
    listed = api.get("/tasks").json()
    assert listed["results"] == [shape]
    assert [task["slug"] for task in listed["built_in"]] == ["general", "ecommerce", "medical", "support"]
    changed = api.call("PATCH", "/tasks/x-rays", {"dynamic": False, "rules": []})
    assert changed.json() == {**shape, "dynamic": False, "rules": []}
    assert api.call("DELETE", "/tasks/x-rays").status_code == 204
    refused(api.get("/tasks/x-rays"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"slug": "Not this", "weights": {"text": 1}}, "/slug"),
        ({"slug": "a", "weights": {}}, "/weights"),
        ({"slug": "a", "weights": {"text": 0}}, "/weights"),
        ({"slug": "a", "weights": {"smell": 1}}, "/weights/smell"),
        ({"slug": "a", "weights": {"text": -1}}, "/weights/text"),
        ({"slug": "a", "weights": {"text": True}}, "/weights/text"),
        ({"slug": "a"}, "/weights"),
        (
            {"slug": "a", "weights": {"text": 1}, "rules": [{"when": [], "weights": {"text": 1}}]},
            "/rules/0/when",
        ),
        (
            {"slug": "a", "weights": {"text": 1}, "rules": [{"when": ["  "], "weights": {"text": 1}}]},
            "/rules/0/when",
        ),
        (
            {"slug": "a", "weights": {"text": 1}, "rules": [{"when": ["b"], "weights": {}}]},
            "/rules/0/weights",
        ),
    ],
)
def test_what_is_no_task(api: Api, body: dict[str, Any], pointer: str) -> None:
    problem = refused(api.post("/tasks", body), 422, "invalid")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert api.get("/tasks").json()["results"] == []


def test_built_in_tasks_stay_as_they_are_and_names_are_used_once(api: Api, other: Api) -> None:
    refused(api.post("/tasks", {"slug": "medical", "weights": {"text": 1}}), 409, "conflict")
    refused(api.call("PATCH", "/tasks/general", {"weights": {"text": 1}}), 409, "conflict")
    refused(api.call("DELETE", "/tasks/general"), 409, "conflict")
    assert api.get("/tasks/medical").json()["rules"][0]["weights"]["image"] == 0.8
    body = {"slug": "mine", "weights": {"text": 1}}
    assert api.post("/tasks", body).status_code == 201
    refused(api.post("/tasks", body), 409, "conflict")
    assert other.post("/tasks", body).status_code == 201


def test_a_search_takes_the_tenants_own_task_and_no_others(
    api: Api, other: Api, dataset: str, put: Callable[..., str]
) -> None:
    liked = put(20)
    api.post("/tasks", {"slug": "mine", "weights": {"vector": 3, "like": 1}})
    fields = {"like": {"assets": [liked]}, "task": "mine"}
    assert search(api, **fields)["weights"] == {"vector": 0.75, "like": 0.25}
    api.call("PATCH", "/tasks/mine", {"weights": {"vector": 1, "like": 1}})
    assert search(api, **fields)["weights"] == {"vector": 0.5, "like": 0.5}
    assert search(api, **fields, weights={"like": 3})["weights"] == {"vector": 0.25, "like": 0.75}
    for task in ("mine", "nobody's", "x\0y"):
        problem = refused(other.post("/search", {"vector": [1.0] * 256, "task": task}), 422, "invalid")
        assert problem["errors"][0]["pointer"] == "/task"


def test_the_explanation_says_why(api: Api, dataset: str, put: Callable[..., str]) -> None:
    liked = put(20)
    rule = {"when": ["nodule"], "weights": {"like": 3}}
    api.post("/tasks", {"slug": "mine", "weights": {"vector": 1, "like": 1}, "rules": [rule]})
    found = search(api, like={"assets": [liked]}, task="mine", explain=True)["explain"]["weighing"]
    assert (found["task"], found["gate"], found["factors"]) == ("mine", None, {})
    assert found["prior"] == {"vector": 0.5, "like": 0.5}
    assert found["why"][0] == "Task mine: like 0.50, vector 0.50."
    assert len(found["why"]) == 2


# --- Feedback ----------------------------------------------------------------------------------------------


def test_feedback_on_what_was_shown(api: Api, party: Party, dataset: str, put: Callable[..., str]) -> None:
    near, far = put(10), put(60)
    search_id = search(api)["search_id"]
    body = {"search_id": search_id, "asset": far, "kind": "click"}
    made = api.post("/feedback", body)
    assert made.status_code == 201, made.content
    shape = made.json()
    assert {**body, "rank": 2} == {name: shape[name] for name in (*body, "rank")}
    again = api.post("/feedback", body)
    assert (again.status_code, again.json()) == (200, shape)
    for kind in ("relevant", "irrelevant"):
        assert api.post("/feedback", {**body, "kind": kind}).status_code == 201
    with tenant_scope(party.id):
        assert sorted(Feedback.objects.values_list("kind", flat=True)) == ["click", "irrelevant"]
    assert near != far


def test_feedback_on_what_was_not(
    api: Api, other: Api, party: Party, dataset: str, put: Callable[..., str]
) -> None:
    shown, hidden = put(10), put(60)
    search_id = search(api, top_k=1)["search_id"]
    problem = refused(
        api.post("/feedback", {"search_id": search_id, "asset": hidden, "kind": "click"}), 422, "invalid"
    )
    assert problem["errors"][0]["pointer"] == "/asset"
    body = {"search_id": search_id, "asset": shown, "kind": "click"}
    for wrong in (
        {"search_id": str(uuid.uuid4())},
        {"search_id": "none"},
        {"asset": str(uuid.uuid4())},
        {"asset": "x"},
    ):
        refused(api.post("/feedback", {**body, **wrong}), 404, "not-found")
    refused(api.post("/feedback", {**body, "kind": "liked"}), 422, "invalid")
    refused(other.post("/feedback", body), 404, "not-found")
    async_writer.flush()
    client().delete(tenant_key(party.id, "search", "trace", search_id))
    refused(api.post("/feedback", body), 404, "not-found")
    with tenant_scope(party.id):
        assert not Feedback.objects.exists()


def test_further_pages_count_on(api: Api, dataset: str, put: Callable[..., str]) -> None:
    placed = [put(10 * n) for n in range(5)]
    first = search(api, top_k=2)
    second = api.post("/search", {"cursor": first["next"], "top_k": 2}).json()
    api.post("/search", {"cursor": second["next"], "top_k": 2})
    for rank, asset in enumerate(placed, 1):
        body = {"search_id": first["search_id"], "asset": asset, "kind": "click"}
        assert api.post("/feedback", body).json()["rank"] == rank


def test_feedback_goes_with_its_asset(api: Api, party: Party, dataset: str, put: Callable[..., str]) -> None:
    asset = put(10)
    body = {"search_id": search(api)["search_id"], "asset": asset, "kind": "click"}
    api.post("/feedback", body)
    assert api.call("DELETE", f"/assets/{asset}").status_code == 204
    with tenant_scope(party.id):
        assert not Feedback.objects.exists()
    refused(api.post("/feedback", body), 404, "not-found")


def test_a_query_of_several_parts_is_weighed_told_and_learnt_from(
    api: Api, party: Party, dataset: str, put: Callable[..., str]
) -> None:
    seen, said, wanted = put(0, image=5), put(90, audio=80), put(30)
    body = {"image": {"asset": seen}, "audio": {"asset": said}, "explain": True}
    answer = api.post("/search", body).json()
    assert sum(answer["weights"].values()) == pytest.approx(1, abs=1e-3)
    why = answer["explain"]["weighing"]
    assert (why["gate"], why["prior"]) == ("gate", {"image": 0.5, "audio": 0.5})
    assert why["agreement"] == {"image audio": pytest.approx(np.cos(np.radians(75)), abs=1e-3)}
    assert set(why["factors"]) == {"image", "audio"}
    assert why["why"][-1].startswith("So: image ")
    mine = {**body, "weights": {"image": 1, "audio": 3}}
    assert api.post("/search", mine).json()["weights"] == {"image": 0.25, "audio": 0.75}
    told = {"search_id": answer["search_id"], "asset": wanted, "kind": "relevant"}
    assert api.post("/feedback", told).status_code == 201
    assert api.get("/gate").json()["feedback"]["usable"] == 1


# --- The gate ----------------------------------------------------------------------------------------------


def test_a_gate_needs_feedback_and_says_how_much(api: Api) -> None:
    assert api.get("/gate").json() == {
        "source": "built-in",
        "number": None,
        "trained_at": None,
        "feedback": {"usable": 0, "needed": feedback.NEEDED},
    }
    problem = refused(api.post("/gate/train"), 409, "not-ready")
    assert (problem["needed"], problem["found"]) == (feedback.NEEDED, 0)
    assert api.call("DELETE", "/gate").status_code == 204


def test_a_tenants_gate_serves_and_is_given_up(api: Api, party: Party) -> None:
    from ml.alignment.gating import pack

    with tenant_scope(party.id):
        content = pack(fusion_weights.built_in().network)
        row = SearchGate.objects.create(number=1, live=True, content=content, report={"searches": 60})
    fusion_weights.forget_gate(party.id)
    assert fusion_weights.serving_gate(party.id).id == str(row.id)
    shown = api.get("/gate").json()
    assert (shown["source"], shown["number"], shown["report"]) == ("own", 1, {"searches": 60})
    assert api.call("DELETE", "/gate").status_code == 204
    assert fusion_weights.serving_gate(party.id).id == "gate"
    with tenant_scope(party.id):
        SearchGate.objects.update(live=True, content=b"\x80\x04nonsense")
    fusion_weights.forget_gate(party.id)
    assert fusion_weights.serving_gate(party.id).id == "gate", "a damaged one never serves"


def test_traces_keep_no_words(api: Api, party: Party, dataset: str, put: Callable[..., str]) -> None:
    put(10)
    search_id = search(api)["search_id"]
    found = fusion_weights.find_trace(party.id, uuid.UUID(search_id))
    assert found is not None
    assert (found.task, found.vectors, found.inputs) == ("general", {}, None)
    async_writer.flush()
    key = tenant_key(party.id, "search", "trace", search_id)
    assert len(client().get(key)) < 200
    assert 23 * 3600 < client().ttl(key) <= 24 * 3600
