"""Standing queries and alerts in the API: made of a search or a saved one, once for a key; what is refused; who may."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tenants.accounts import keys
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval.models import StandingAlert, StandingQuery
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.relevance import RELEVANCE

VECTOR = [1.0] + [0.0] * 255


def kept(party: Party) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(StandingQuery.objects.order_by("id").values("id", "name", "query", "state", "muted"))


def test_a_search_is_kept_and_changed_and_asked_once_for_a_key(party: Party) -> None:
    api = Api(party.token)
    sent = {"name": " Kettles  in stock", "query": {"vector": VECTOR, "top_k": 24}, "min_score": 0.4}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answer = api.post("/standing-queries", sent, **key)
    made = answer.json()
    assert answer.status_code == 201, made
    assert answer.headers["Location"] == f"/api/v1/standing-queries/{made['id']}"
    assert api.post("/standing-queries", sent, **key).json() == made
    told = (made["name"], made["state"], made["muted"], made["min_score"], made["problem"])
    assert told == ("Kettles in stock", "active", False, 0.4, None)
    assert api.get("/standing-queries").json() == {"results": [made], "next": None}
    path = f"/standing-queries/{made['id']}"
    changed = api.call("PATCH", path, {"state": "paused", "muted": True}).json()
    assert (changed["state"], changed["muted"], changed["query"]) == ("paused", True, made["query"])
    changed = api.call("PATCH", path, {"query": {"filter": {"price": {"lt": 20}}}}).json()
    assert (changed["query"], changed["min_score"]) == ({"filter": {"price": {"lt": 20}}}, None)
    assert api.call("DELETE", path).status_code == 204
    assert kept(party) == []


def test_a_saved_search_becomes_one(party: Party, stranger: Party) -> None:
    api = Api(party.token)
    query = {"text": "x", "modalities": ["text"]}
    saved = api.post("/saved-searches", {"name": "kettles", "query": query}).json()
    theirs = Api(stranger.token).post("/saved-searches", {"name": "k", "query": query}).json()
    sent = {"saved_search": saved["id"], "min_score": 0.2}
    made = api.post("/standing-queries", sent).json()
    assert (made["name"], made["query"]) == ("kettles", query)
    refused(api.post("/standing-queries", {**sent, "saved_search": theirs["id"]}), 404, "not-found")
    assert len(kept(party)) == 1


def test_what_no_search_takes_is_not_kept(party: Party, stranger: Party) -> None:
    api = Api(party.token)
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="d").id
    away = {"name": "n", "query": {"text": "x", "datasets": [str(theirs)], "top_k": 0}}
    refused(api.post("/standing-queries", away), 404, "not-found")
    for fields in (
        {"name": "n", "query": {}},
        {"name": "n", "query": {"text": " "}},
        {"name": "n", "query": {"text": "x", "cursor": "y"}},
        {"name": "n", "query": {"filter": {"a": {"like": 1}}}},
        {"name": "n", "query": {"modalities": ["text"]}, "min_score": 0.5},
        {"name": "n", "query": {"vector": VECTOR}},
        {"name": "n", "query": {"vector": VECTOR}, "min_score": 1.5},
        {"name": "n", "query": {"vector": VECTOR, "min_relevance": 0.5}},
        {"name": "n", "query": {"vector": VECTOR[1:]}, "min_score": 0.5},
        {"name": " ", "query": {"modalities": ["text"]}},
        {"name": "n" * 101, "query": {"modalities": ["text"]}},
        {"query": {"modalities": ["text"]}},
        {"name": "n", "query": {"modalities": ["text"]}, "saved_search": str(uuid.uuid4())},
        {"name": "n", "query": {"modalities": ["text"]}, "muted": "yes"},
        {"name": "n", "query": {"modalities": ["text"]}, "deliver": ["mail"]},
        {"name": "n", "query": {"modalities": ["text"]}, "deliver": "inbox"},
        {"name": "n", "query": {"modalities": ["text"]}, "deliver": ["inbox"], "muted": False},
        {"name": "n", "query": {"modalities": ["text"]}, "frequency": "daily"},
        {"name": "n", "query": {"modalities": ["text"]}, "min_relevance": 0.5},
        {"name": "n", "query": {"text": "x"}, "min_relevance": 1.5},
        {"name": "n", "query": {"text": "x", "min_relevance": 0.5}, "min_relevance": 0.6},
        {"name": "n", "query": {"filter": [1]}},
        {"name": "n"},
        [],
    ):
        assert refused(api.post("/standing-queries", fields), 422, "invalid")["status"] == 422, fields
    assert kept(party) == []
    made = api.post("/standing-queries", {"name": "n", "query": {"modalities": ["text"]}}).json()
    before = kept(party)
    for fields in ({}, {"state": "gone"}, {"min_score": 0.5}, {"muted": 1}, {"query": {}}):
        refused(api.call("PATCH", f"/standing-queries/{made['id']}", fields), 422, "invalid")
    assert kept(party) == before


def test_alerts_are_listed_and_read(party: Party, stranger: Party) -> None:
    api = Api(party.token)
    made = api.post("/standing-queries", {"name": "n", "query": {"modalities": ["text"]}}).json()
    with tenant_scope(party.id):
        dataset = create_dataset(name="d").id
        row = StandingQuery.objects.get()
        assets = [add_asset(dataset_id=dataset, text=f"asset {n}").asset for n in range(3)]
        rows = [StandingAlert.objects.create(standing_query=row, asset=asset) for asset in assets]
    ids = [str(one.id) for one in reversed(rows)]
    listed = api.get(f"/alerts?standing_query={made['id']}").json()["results"]
    assert [one["id"] for one in listed] == ids
    assert (listed[0]["asset"], listed[0]["matched"]) == (str(assets[2].id), None)
    assert api.get(f"/alerts/{ids[0]}").json() == listed[0]
    assert api.call("PATCH", f"/alerts/{ids[0]}", {"read": True}).json() == {**listed[0], "read": True}
    assert [one["id"] for one in api.get("/alerts?read=false").json()["results"]] == ids[1:]
    assert api.post("/alerts/read", {"alerts": [ids[0], ids[1]]}).json() == {"changed": 1}
    assert api.post("/alerts/read", {}).json() == {"changed": 1}
    assert api.get("/alerts?read=false").json()["results"] == []
    refused(api.get("/alerts?read=maybe"), 422, "invalid")
    refused(api.get("/alerts?unread=true"), 422, "invalid")
    refused(api.get(f"/alerts?standing_query={uuid.uuid4()}"), 404, "not-found")
    other = Api(stranger.token)
    refused(other.get(f"/alerts/{ids[0]}"), 404, "not-found")
    assert other.post("/alerts/read", {"alerts": ids}).json() == {"changed": 0}


def test_what_outside_clients_rely_on(party: Party, stranger: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)
    api = Api(party.token)
    sent = {"name": "n", "query": {"text": "ripe apples"}, "min_relevance": 0.7, "deliver": ["inbox"]}
    answer = api.post("/standing-queries", sent)
    made = answer.json()
    assert answer.status_code == 201, made
    assert made["query"] == {"text": "ripe apples", "min_relevance": 0.7}
    assert (made["deliver"], made["muted"], made["frequency"]) == (["inbox"], True, "at_once")
    path = f"/standing-queries/{made['id']}"
    told = api.call(
        "PATCH", path, {"deliver": ["webhook"], "frequency": "hourly", "min_relevance": 0.8}
    ).json()
    assert (told["deliver"], told["muted"], told["frequency"]) == (["webhook"], False, "hourly")
    assert told["query"] == {"text": "ripe apples", "min_relevance": 0.8}
    both = api.post("/standing-queries", {"name": "n", "query": {"modalities": ["text"]}}).json()
    assert both["deliver"] == ["webhook", "inbox"]
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=create_dataset(name="d").id, text="x").asset
        given = {"asset": asset, "modality": "text", "relevance": 0.9, "segment": {"start_char": 0}}
        row = StandingAlert.objects.create(standing_query_id=uuid.UUID(made["id"]), **given)
    listed = api.get(f"{path}/alerts").json()
    assert listed == {"results": [api.get(f"/alerts/{row.id}").json()], "next": None}
    (alert,) = listed["results"]
    assert (alert["asset"], alert["relevance"], alert["segment"]) == (str(asset.id), 0.9, {"start_char": 0})
    assert alert["at"] == alert["created_at"]
    assert api.get(f"/standing-queries/{both['id']}/alerts").json() == {"results": [], "next": None}
    refused(Api(stranger.token).get(f"{path}/alerts"), 404, "not-found")
    refused(api.get(f"/standing-queries/{uuid.uuid4()}/alerts"), 404, "not-found")
    refused(api.get(f"{path}/alerts?read=true"), 422, "invalid")


def test_a_standing_query_of_audits_needs_moderate_and_the_checks_of_policies(
    party: Party, stranger: Party
) -> None:
    with tenant_scope(party.id):
        moderating, searching = (
            Api(keys.create_key(name=n, scopes=scopes)[1])
            for n, scopes in (("m", ["search", "moderate"]), ("s", ["search"]))
        )
    with tenant_scope(stranger.id):
        theirs = str(create_dataset(name="d").id)
    query = {"audit": {"decision": ["block"], "when": "item.modality == 'image'"}}
    sent = {"name": "blocked", "query": query}
    refused(searching.post("/standing-queries", sent), 403, "not-allowed")
    made = moderating.post("/standing-queries", sent).json()
    assert (made["query"], made["min_score"], made["state"]) == (query, None, "active")
    assert moderating.get("/standing-queries").json()["results"] == [made]
    assert searching.get("/standing-queries").json()["results"] == []
    path = f"/standing-queries/{made['id']}"
    refused(searching.get(path), 404, "not-found")
    refused(searching.get(f"{path}/alerts"), 404, "not-found")
    changed = moderating.call("PATCH", path, {"query": {"audit": {"rules": ["meds"]}}}).json()
    assert changed["query"] == {"audit": {"rules": ["meds"]}}
    before = kept(party)
    for query, more in (
        ({"audit": {}}, {}),
        ({"audit": []}, {}),
        ({"audit": {"when": 1}}, {}),
        ({"audit": {"when": "item.modality =="}}, {}),
        ({"audit": {"when": "item.nothing == 1"}}, {}),
        ({"audit": {"when": "x" * 20_000}}, {}),
        ({"audit": {"decision": ["gone"]}}, {}),
        ({"audit": {"decision": "block"}}, {}),
        ({"audit": {"rules": []}}, {}),
        ({"audit": {"rules": [1]}}, {}),
        ({"audit": {"rules": ["r" * 101]}}, {}),
        ({"audit": {"decision": ["block"], "x": 1}}, {}),
        ({"audit": {"decision": ["block"]}, "text": "x"}, {}),
        ({"audit": {"decision": ["block"]}, "datasets": []}, {}),
        ({"audit": {"decision": ["block"]}}, {"min_relevance": 0.5}),
        ({"audit": {"decision": ["block"]}}, {"min_score": 0.5}),
    ):
        answer = moderating.post("/standing-queries", {"name": "n", "query": query, **more})
        assert refused(answer, 422, "invalid")["status"] == 422, query
    away = {"name": "n", "query": {"audit": {"decision": ["block"]}, "datasets": [theirs]}}
    refused(moderating.post("/standing-queries", away), 404, "not-found")
    away["query"]["datasets"] = ["x"]
    refused(moderating.post("/standing-queries", away), 404, "not-found")
    assert kept(party) == before


def test_only_its_maker_changes_one(party: Party) -> None:
    with tenant_scope(party.id):
        one, other = (keys.create_key(name=n, scopes=["search"])[1] for n in ("one", "other"))
    made = Api(one).post("/standing-queries", {"name": "n", "query": {"modalities": ["text"]}}).json()
    before, path = kept(party), f"/standing-queries/{made['id']}"
    refused(Api(other).call("PATCH", path, {"state": "paused"}), 403, "not-allowed")
    refused(Api(other).call("DELETE", path), 403, "not-allowed")
    assert kept(party) == before
