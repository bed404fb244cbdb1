"""Flags over the API: the queue, claims, decisions, bulk, the way back, appeals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from tenants.moderation.models import Outcome, Review
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.api.test_permissions import key_for
from tests.tenants.reviewing import World, make_world, seen


@pytest.fixture
def world(party: Any) -> World:
    return make_world(party)


@pytest.fixture
def bob(party: Any) -> Api:
    """Another reviewer."""
    return Api(key_for(party.tenant, {"moderate"}))


@pytest.fixture
def decide(api: Api) -> Callable[..., dict[str, Any]]:
    def act(review: Any, decision: str, by: Api = api, **fields: Any) -> dict[str, Any]:
        assert by.post(f"/reviews/{review}/claim").status_code == 200
        answer = by.post(f"/reviews/{review}/decide", {"decision": decision, "reason": "because", **fields})
        assert answer.status_code == 200, answer.content
        return answer.json()

    return act


def test_the_queue_is_read_in_pages_in_its_order(api: Api, world: World) -> None:
    flags = [world.flag([name]) for name in ("rude", "naked", "rude", "naked", "rude")]
    wanted = [str(flags[place].id) for place in (1, 3, 0, 2, 4)]
    for order, ids in (("severity", wanted), ("newest", [str(f.id) for f in reversed(flags)])):
        got, cursor = [], ""
        while cursor is not None:
            page = api.get(f"/reviews?order={order}&limit=2{cursor and '&cursor='}{cursor}").json()
            got += [review["id"] for review in page["results"]]
            cursor = page["next"]
        assert got == ids
    first = api.get("/reviews?limit=1").json()["results"][0]
    assert first == {
        "id": wanted[0],
        "audit": str(flags[1].audit_id),
        "asset": str(flags[1].asset_id),
        "dataset": str(world.dataset.id),
        "modality": "text",
        "kind": "flag",
        "of_review": None,
        "rule": "naked",
        "reason": "It may be naked.",
        "severity": 90,
        "state": "open",
        "claimed_by": None,
        "lease_until": None,
        "due_at": first["due_at"],
        "overdue": False,
        "created_at": first["created_at"],
        "decided_at": None,
        "decision": None,
    }


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("order=oldest", "/order"),
        ("state=new", "/state"),
        ("mine=yes", "/mine"),
        ("sort=x", "/sort"),
        ("cursor=x", "/cursor"),
        ("cursor=WyJzZXZlcml0eSIsMSwieCJd", "/cursor"),
        ("limit=0", "/limit"),
        ("rule=%00", "/rule"),
    ],
)
def test_queries_that_mean_nothing_are_refused(api: Api, query: str, pointer: str) -> None:
    refused(api.get(f"/reviews?{query}"), 422, "invalid", pointer)


def test_a_cursor_is_of_its_order(api: Api, world: World) -> None:
    world.flag()
    world.flag()
    cursor = api.get("/reviews?limit=1&order=due").json()["next"]
    assert len(api.get(f"/reviews?order=due&cursor={cursor}").json()["results"]) == 1
    refused(api.get(f"/reviews?cursor={cursor}"), 422, "invalid", "/cursor")


def test_claim_decide_and_take_back(api: Api, bob: Api, world: World) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"].id
    said = {"decision": "block", "reason": "It is rude."}
    refused(api.post(f"/reviews/{flag}/decide", said), 409, "conflict")
    claimed = api.post(f"/reviews/{flag}/claim").json()
    assert (claimed["state"], claimed["claimed_by"]) == ("claimed", f"key:{api.token.partition('.')[0]}")
    problem = refused(bob.post(f"/reviews/{flag}/claim"), 409, "conflict")
    assert problem["lease_until"] == claimed["lease_until"]
    for act in ("release", "decide"):
        refused(bob.post(f"/reviews/{flag}/{act}", said if act == "decide" else None), 409, "conflict")
    answer = api.post(f"/reviews/{flag}/decide", said, Idempotency_Key="once")
    assert api.post(f"/reviews/{flag}/decide", said, Idempotency_Key="once").json() == answer.json()
    decided = answer.json()
    assert (decided["state"], decided["decision"], decided["stands"]) == (
        "decided",
        "block",
        {"decision": "block", "labels": []},
    )
    assert world.stands(audit)[0] == "block"
    refused(api.post(f"/reviews/{flag}/decide", said), 409, "conflict")
    undone = bob.post(f"/outcomes/{decided['outcome']['id']}/undo", {"reason": "It is not."})
    assert undone.status_code == 200, undone.content
    assert (undone.json()["state"], undone.json()["stands"]["decision"]) == ("open", "review")
    refused(bob.post(f"/outcomes/{decided['outcome']['id']}/undo", {"reason": "again"}), 409, "conflict")
    shown = api.get(f"/reviews/{flag}").json()
    assert [(o["decision"], bool(o["undoes"])) for o in shown["outcomes"]] == [
        ("block", False),
        ("review", True),
    ]
    listed = api.get(f"/outcomes?review={flag}").json()["results"]
    assert [o["id"] for o in listed] == [o["id"] for o in reversed(shown["outcomes"])]
    assert [line["kind"] for line in api.get("/records").json()["results"]] == [
        "review.undone",
        "review.decided",
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/decision"),
        ({"decision": "allow"}, "/reason"),
        ({"decision": "allow", "reason": " "}, "/reason"),
        ({"decision": "review", "reason": "x"}, "/decision"),
        ({"decision": "allow", "reason": "x", "labels": "y"}, "/labels"),
        ({"decision": "allow", "reason": "x", "label": []}, "/label"),
        ({"decision": "allow", "reason": "x", "block_copies": True}, "/block_copies"),
    ],
)
def test_a_decision_needs_its_words(api: Api, world: World, body: Any, pointer: str) -> None:
    flag = world.flag()
    api.post(f"/reviews/{flag.id}/claim")
    refused(api.post(f"/reviews/{flag.id}/decide", body), 422, "invalid", pointer)
    with tenant_scope(world.id):
        assert not Outcome.objects.exists()


def test_the_next_one_is_claimed(api: Api, bob: Api, world: World) -> None:
    low, high = world.flag(["rude"]), world.flag(["naked"])
    taken = api.post("/reviews/claim-next", {}).json()["review"]
    assert (taken["id"], taken["state"]) == (str(high.id), "claimed")
    assert bob.post("/reviews/claim-next", {"rule": "naked"}).json() == {"review": None}
    assert bob.post("/reviews/claim-next", {}).json()["review"]["id"] == str(low.id)
    mine = bob.get("/reviews?mine=true").json()["results"]
    assert [review["id"] for review in mine] == [str(low.id)]
    with tenant_scope(world.id):
        Review.objects.filter(pk=high.pk).update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    lapsed = api.get(f"/reviews/{high.id}").json()
    assert (lapsed["state"], lapsed["claimed_by"]) == ("open", None)
    assert [r["id"] for r in bob.get("/reviews?state=open").json()["results"]] == [str(high.id)]


def test_many_at_once_looked_at_decided_and_taken_back(api: Api, world: World) -> None:
    audits = [world.audit(["rude"], evidence=seen(categories={"abuse": {"flagged": True}})) for _ in range(3)]
    other = world.audit(["rude"])
    asked = {"filter": {"rule": "rude", "category": "abuse"}, "decision": "block"}
    shown = api.post("/reviews/bulk/preview", asked).json()
    assert (shown["count"], shown["changes"]) == (3, [{"before": "review", "after": "block", "count": 3}])
    assert {(s["before"], s["after"]) for s in shown["samples"]} == {("review", "block")}
    body = {**asked, "reason": "all rude", "as_of": shown["as_of"]}
    answer = api.post("/reviews/bulk", body, Idempotency_Key="all")
    assert api.post("/reviews/bulk", body, Idempotency_Key="all").json() == answer.json()
    done = answer.json()
    assert (done["decided"], done["left"]) == (3, 0)
    assert [world.stands(a)[0] for a in [*audits, other]] == ["block"] * 3 + ["review"]
    assert len(api.get(f"/outcomes?batch={done['batch']}").json()["results"]) == 3
    undone = api.post(f"/batches/{done['batch']}/undo", {"reason": "no"}).json()
    assert undone == {"batch": done["batch"], "undone": 3, "left": []}
    assert {world.stands(a)[0] for a in audits} == {"review"}


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"filter": {}, "decision": "allow"}, 422, "invalid"),
        ({"filter": {"rule": None}, "decision": "allow"}, 422, "invalid"),
        ({"filter": {"category": "x"}, "decision": "allow"}, 422, "invalid"),
        ({"filter": {"rules": "x"}, "decision": "allow"}, 422, "invalid"),
        ({"filter": {"older_than_h": -1}, "decision": "allow"}, 422, "invalid"),
        ({"filter": {"dataset": "no id"}, "decision": "allow"}, 404, "not-found"),
        ({"decision": "allow"}, 422, "invalid"),
    ],
)
def test_a_filter_that_is_unclear_decides_nothing(
    api: Api, world: World, body: Any, status: int, slug: str
) -> None:
    world.flag()
    refused(api.post("/reviews/bulk/preview", body), status, slug)
    refused(api.post("/reviews/bulk", {**body, "reason": "x"}), status, slug)
    with tenant_scope(world.id):
        assert not Outcome.objects.exists()


def test_another_tenants_dataset_is_absent_in_filters(other: Api, world: World) -> None:
    body = {"filter": {"dataset": str(world.dataset.id)}, "decision": "allow"}
    refused(other.post("/reviews/bulk/preview", body), 404, "not-found")
    assert other.get(f"/reviews?dataset={world.dataset.id}").json()["results"] == []


def test_an_appeal_is_another_reviewers(api: Api, bob: Api, world: World, decide: Any) -> None:
    audit = world.audit(["rude"])
    flag = world.flags(audit)["rude"].id
    asked = {"audit": str(audit.id), "reason": "It is art."}
    refused(api.post("/appeals", asked), 409, "conflict")
    decide(flag, "block")
    answer = api.post("/appeals", asked, Idempotency_Key="a")
    assert (answer.status_code, answer.json()["state"]) == (201, "open")
    assert answer.headers["Location"] == f"/api/v1/appeals/{answer.json()['id']}"
    assert api.post("/appeals", asked, Idempotency_Key="a").json() == answer.json()
    refused(api.post("/appeals", asked), 409, "conflict")
    appeal = answer.json()
    said = {"decision": "overturned", "reason": "It is."}
    refused(api.post(f"/appeals/{appeal['id']}/decide", said), 403, "not-allowed")
    refused(api.post(f"/reviews/{appeal['review']}/claim"), 403, "not-allowed")
    assert api.post("/reviews/claim-next", {"kind": "appeal"}).json() == {"review": None}
    done = bob.post(f"/appeals/{appeal['id']}/decide", said)
    assert done.status_code == 200, done.content
    assert (done.json()["state"], done.json()["outcome"]["decision"]) == ("overturned", "allow")
    assert world.stands(audit)[0] == "allow"
    refused(bob.post(f"/appeals/{appeal['id']}/decide", said), 409, "conflict")
    one = api.get(f"/appeals/{appeal['id']}").json()
    assert (one["state"], one["answer"]) == ("overturned", "It is.")
    assert one["decided_by"] == done.json()["outcome"]["reviewer"]
    assert api.get("/appeals?state=overturned").json()["results"] == [one]
    assert api.get("/appeals?state=open").json()["results"] == []


def test_an_appeal_about_another_tenants_audit_is_refused(other: Api, world: World) -> None:
    audit = world.audit(["known"])
    for named in (str(audit.id), "no id", str(world.id)):
        refused(other.post("/appeals", {"audit": named, "reason": "x"}), 404, "not-found")


def test_a_second_opinion_is_asked_for_unbiased(party: Any, api: Api, bob: Api, decide: Any) -> None:
    world = make_world(party, second_opinion=1.0)
    flag = world.flag()
    decide(flag.id, "block")
    second = bob.post("/reviews/claim-next", {}).json()["review"]
    assert (second["kind"], second["of_review"]) == ("second", str(flag.id))
    seen_by_bob = bob.get(f"/reviews/{second['id']}").json()
    assert (seen_by_bob["stands"], seen_by_bob["flags"], seen_by_bob["outcomes"]) == (None, [], [])
    decide(second["id"], "block", bob)
    found = api.get("/reviews/figures").json()
    assert found["agreement"]["overall"] == {"items": 1, "agreed": 1, "share": 1.0, "kappa": None}
    assert found["agreement"]["pairs"][0]["items"] == 1
    rule = found["rules"][0]
    assert (rule["rule"], rule["decided"], rule["confirmed"], rule["precision"]) == ("rude", 1, 1, 1.0)
    assert rule["interval"] == pytest.approx([0.2065, 1.0], abs=1e-3)
    assert found["queue"] == {"open": 0, "claimed": 0, "overdue": 0, "oldest_s": None}
    refused(api.get("/reviews/figures?days=0"), 422, "invalid", "/days")
    refused(api.get("/reviews/figures?day=1"), 422, "invalid", "/day")
