"""Saved searches in the API: what is kept can be sent again; who may see and change which."""

from __future__ import annotations

import uuid
from typing import Any

from tenants.accounts import keys
from tenants.accounts.models import Membership
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import saved
from tenants.retrieval.models import SavedSearch
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.people import new_member

VECTOR = [1.0] + [0.0] * 255


def kept(party: Party) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(SavedSearch.objects.order_by("id").values("id", "name", "query"))


def test_what_is_saved_is_the_search_again(party: Party) -> None:
    api = Api(party.token)
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        asset = add_asset(dataset_id=dataset.id, text="a kettle").asset
    query = {
        "text": "red kettle",
        "datasets": [str(dataset.id)],
        "modalities": ["text", "image"],
        "filter": {"price": {"lt": 20}, "label": "x"},
        "unlike": {"assets": [str(asset.id)], "text": "rust"},
        "group": "duplicates",
        "top_k": 24,
        "task": "ecommerce",
    }
    sent = {"name": " Kettles  in stock", "query": {**query, "explain": True, "cursor": None}}
    answer = api.post("/saved-searches", sent)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/saved-searches/{made['id']}"
    assert (made["name"], made["query"], made["shared"]) == ("Kettles in stock", query, True)
    assert api.get("/saved-searches").json() == {"results": [made], "next": None}
    assert api.get(f"/saved-searches/{made['id']}").json() == made
    # Of an asset that is not embedded nothing is unlike.
    asked = {**made["query"], "unlike": {"text": "rust"}}
    assert api.post("/search", asked).status_code == 200
    changed = api.call("PATCH", f"/saved-searches/{made['id']}", {"query": {"vector": VECTOR}}).json()
    assert (changed["name"], changed["query"]) == ("Kettles in stock", {"vector": VECTOR})
    assert api.post("/search", changed["query"]).status_code == 200
    assert api.call("DELETE", f"/saved-searches/{made['id']}").status_code == 204
    assert kept(party) == []


def test_what_no_search_takes_is_not_saved(party: Party, stranger: Party) -> None:
    api = Api(party.token)
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="d")
        asset = add_asset(dataset_id=theirs.id, text="x").asset
    for query in (
        {"text": "x", "datasets": [str(theirs.id)]},
        {"like": {"assets": [str(asset.id)]}, "top_k": 0},
    ):
        refused(api.post("/saved-searches", {"name": "n", "query": query}), 404, "not-found")
    for fields in (
        {"name": "n", "query": {}},
        {"name": "n", "query": {"text": "x", "cursor": "y"}},
        {"name": "n", "query": {"text": "x", "unknown": 1}},
        {"name": "n", "query": {"text": "x\0"}},
        {"name": "n", "query": {"text": "x", "filter": {"a": {"like": 1}}}},
        {"name": "n", "query": {"text": "x", "task": "none-of-this-name"}},
        {"name": "n", "query": {"text": "x", "filter": {"a": {"in": ["y" * 1_000] * 40}}}},
        {"name": "n", "query": "text"},
        {"name": "   ", "query": {"text": "x"}},
        {"name": "n\0", "query": {"text": "x"}},
        {"name": "n" * 101, "query": {"text": "x"}},
        {"name": 7, "query": {"text": "x"}},
        {"query": {"text": "x"}},
        [],
    ):
        assert refused(api.post("/saved-searches", fields), 422, "invalid")["status"] == 422, fields
    assert kept(party) == []


def test_a_key_changes_its_own_and_one_of_an_owner_all_that_is_shared(party: Party, stranger: Party) -> None:
    user = new_member(party.tenant, "owner")
    owner = Membership.objects.get(user=user, tenant=party.tenant)
    with tenant_scope(party.id):
        one, other = (keys.create_key(name=n, scopes=["search"])[1] for n in ("one", "other"))
        _, owners = keys.create_key(name="owners", scopes=["search"], created_by=user)
        own = saved.Who(str(user.pk), owner.pk)
        private = saved.save_search(who=own, name="mine", query={"text": "x"}, shared=False)
    made = Api(one).post("/saved-searches", {"name": "n", "query": {"text": "x"}}).json()
    before = kept(party)
    path = f"/saved-searches/{made['id']}"
    refused(Api(other).call("PATCH", path, {"name": "taken"}), 403, "not-allowed")
    refused(Api(other).call("DELETE", path), 403, "not-allowed")
    for api in (Api(one), Api(owners)):
        refused(api.call("DELETE", f"/saved-searches/{private.id}"), 404, "not-found")
        refused(api.get(f"/saved-searches/{private.id}"), 404, "not-found")
        assert [row["id"] for row in api.get("/saved-searches").json()["results"]] == [made["id"]]
    refused(Api(stranger.token).call("PATCH", path, {"name": "taken"}), 404, "not-found")
    assert kept(party) == before
    assert Api(one).call("PATCH", path, {"name": "renamed"}).json()["name"] == "renamed"
    assert Api(owners).call("DELETE", path).status_code == 204


def test_what_a_member_leaves_behind_and_what_goes_with_them(party: Party) -> None:
    user = new_member(party.tenant, "viewer")
    member = Membership.objects.get(user=user, tenant=party.tenant)
    who = saved.Who(str(user.pk), member.pk)
    with tenant_scope(party.id):
        shared = saved.save_search(who=who, name="ours", query={"text": "x"}, shared=True)
        saved.save_search(who=who, name="mine", query={"text": "y"}, shared=False)
        saved.note_recent(member_id=member.pk, query={"text": "z"})
    member.delete()
    with tenant_scope(party.id):
        assert list(SavedSearch.objects.values_list("id", "owner")) == [(shared.id, None)]
        assert saved.list_recent(member.pk) == []
        # No other key made it, whatever its name; nobody is its owner now.
        assert not saved.may_change(shared, saved.Who("key:x"))


def test_unknown_ids_of_saved_searches(party: Party) -> None:
    refused(Api(party.token).get(f"/saved-searches/{uuid.uuid4()}"), 404, "not-found")
