"""`/policies` from outside: shapes, refusals, the whole life of a policy."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tenants.jobs.models import Job
from tenants.moderation.models import Policy, PolicyActivation, PolicyVersion
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.policy_world import document, new_audit, rule
from tests.tenants.test_policy_facts import POLICY as FACTS
from tests.tenants.test_policy_facts import seen as seen_facts
from tests.tenants.test_policy_facts import stored_audit
from workers.base import run_job

ABUSE = rule("abuse", "categories.abuse.flagged")
ODD = rule("odd", "categories.abuse.score > 1.5")


@pytest.fixture
def made(api: Api) -> str:
    answer = api.post("/policies", {"name": "Ours", **document(ABUSE)})
    assert answer.status_code == 201, answer.content
    return str(answer.json()["policy"]["id"])


def test_creating_tells_the_policy_its_version_and_what_is_odd(api: Api) -> None:
    answer = api.post("/policies", {"name": "Ours", "description": "d", **document(ABUSE, ODD)})
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/api/v1/policies/{body['policy']['id']}"
    assert (body["policy"]["name"], body["policy"]["latest_version"]) == ("Ours", 1)
    assert body["policy"]["in_force"] == {
        "mode": "off",
        "version": None,
        "ratio": None,
        "rest": None,
        "shadow": None,
        "since": None,
    }
    assert body["version"]["document"]["rules"][0] == {**ABUSE, "labels": [], "severity": 50, "stop": False}
    assert ("odd", "never-fires") in [(one["rule"], one["code"]) for one in body["warnings"]]


def test_the_contracts_shortest_body_makes_a_policy(api: Api) -> None:
    bare = {name: ABUSE[name] for name in ("id", "when", "then", "reason")}
    first, second = (api.post("/policies", {"rules": [bare]}).json()["policy"]["name"] for _ in range(2))
    assert (first, second) == ("policy 1", "policy 2")


def test_a_starter_is_taken_and_changed(api: Api) -> None:
    known = [starter["id"] for starter in api.get("/policies/starters").json()["results"]]
    assert known == ["clinic", "community", "marketplace", "newsroom"]
    body = api.post("/policies", {"starter": "newsroom", "quarantine": True}).json()
    assert (body["policy"]["starter"], body["version"]["document"]["quarantine"]) == ("newsroom", True)
    refused(api.post("/policies", {"starter": "nothing"}), 422, "invalid", "/starter")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/rules"),
        ({"rules": [{**ABUSE, "when": "categories.abuse.score >"}]}, "/rules/0/when"),
        ({"rules": [{**ABUSE, "when": "nobody > 1"}]}, "/rules/0/when"),
        ({"rules": [], "thresholds": {"abuse": 2}}, "/thresholds/abuse"),
        ({"rules": [], "colour": "red"}, "/colour"),
        ({"rules": [], "quarantine": "yes"}, "/quarantine"),
        ({"rules": [], "appeal_days": 0}, "/appeal_days"),
        ({"rules": [], "appeal_days": "30"}, "/appeal_days"),
        ({"rules": [], "appeal_days": 1e300}, "/appeal_days"),
        ({"rules": [], "name": ""}, "/name"),
        ({"rules": [], "name": " "}, "/name"),
        ({"rules": [], "name": "x" * 101}, "/name"),
        ([], ""),
    ],
)
def test_wrong_ones_are_refused_and_nothing_is_kept(api: Api, party: Party, body: Any, pointer: str) -> None:
    problem = refused(api.post("/policies", body), 422, "invalid")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    with tenant_scope(party.id):
        assert not Policy.objects.exists()


def test_a_name_is_taken_once(api: Api, made: str) -> None:
    refused(api.post("/policies", {"name": "Ours", "rules": []}), 409, "conflict")


def test_a_repeated_request_makes_one_policy(api: Api, party: Party) -> None:
    body = {"name": "Once", **document(ABUSE)}
    first = api.post("/policies", body, Idempotency_Key="k")
    again = api.post("/policies", body, Idempotency_Key="k")
    assert (again.status_code, again.content) == (201, first.content)
    with tenant_scope(party.id):
        assert Policy.objects.count() == PolicyVersion.objects.count() == 1


def test_checking_stores_nothing(api: Api, party: Party) -> None:
    body = api.post("/policies/check", document(ABUSE, ODD, {**ABUSE, "then": "ban"})).json()
    assert [(one["rule"], one["pointer"]) for one in body["errors"]] == [("abuse", "/rules/2/then")]
    assert ("odd", "never-fires") in [(one["rule"], one["code"]) for one in body["warnings"]]
    assert body["steps"] > 0
    assert api.post("/policies/check", {}).json()["errors"][0]["pointer"] == "/rules"
    refused(api.post("/policies/check", []), 422, "invalid")
    with tenant_scope(party.id):
        assert not Policy.objects.exists()


def test_versions_are_added_once_and_listed(api: Api, made: str) -> None:
    first = api.post(f"/policies/{made}/versions", document(ODD))
    again = api.post(f"/policies/{made}/versions", document(ODD))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["Location"] == again.headers["Location"] == f"/api/v1/policies/{made}/versions/2"
    listed = api.get(f"/policies/{made}/versions?limit=1").json()
    assert [one["version"] for one in listed["results"]] == [2]
    rest = api.get(f"/policies/{made}/versions?cursor={listed['next']}").json()
    assert ([one["version"] for one in rest["results"]], rest["next"]) == ([1], None)
    assert api.get(f"/policies/{made}/versions/2").json() == first.json()["version"]
    for number in ("0", "3", "-1", "1.0", "٢", "x", "9" * 12):
        refused(api.get(f"/policies/{made}/versions/{number}"), 404, "not-found")


def test_from_draft_to_enforced_and_back(api: Api, made: str) -> None:
    api.post(f"/policies/{made}/versions", document(ODD))

    def act(**body: Any) -> Any:
        answer = api.post(f"/policies/{made}/activate", body)
        assert answer.status_code == 200, answer.content
        return answer.json()["in_force"]

    assert act(version=1, mode="shadow")["mode"] == "shadow"
    assert act(version=1, mode="enforce")["version"] == 1
    assert act(version=2, mode="shadow")["shadow"] == 2
    state = act(version=2, mode="enforce", ratio=0.1)
    assert (state["version"], state["ratio"], state["rest"]) == (2, 0.1, {"policy": made, "version": 1})
    assert act(version=2, mode="enforce")["rest"] is None
    state = api.post(f"/policies/{made}/rollback").json()["in_force"]
    assert (state["mode"], state["version"], state["shadow"]) == ("enforce", 1, 2)
    shown = api.get(f"/policies/{made}").json()
    assert [one["mode"] for one in shown["activations"]][:2] == ["shadow", "enforce"]
    assert api.get("/policies").json()["results"][0]["in_force"]["version"] == 1
    assert api.get(f"/policies/{made}/versions/2/shadow").json() == {
        "version": 2,
        "audits": 0,
        "changed": 0,
        "changes": [],
        "samples": [],
    }


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"version": 1}, 422, "/mode"),
        ({"version": 1, "mode": "on"}, 422, "/mode"),
        ({"version": "1", "mode": "off"}, 422, "/version"),
        ({"version": 2**40, "mode": "off"}, 422, "/version"),
        ({"version": 1, "mode": "enforce", "ratio": 0}, 422, "/ratio"),
        ({"version": 1, "mode": "shadow", "ratio": 0.5}, 422, "/ratio"),
        ({"version": 7, "mode": "enforce"}, 404, None),
        ({"version": 1, "mode": "off"}, 409, None),
    ],
)
def test_wrong_activations_are_refused(
    api: Api, party: Party, made: str, body: Any, status: int, pointer: str | None
) -> None:
    slug = {422: "invalid", 404: "not-found", 409: "conflict"}[status]
    refused(api.post(f"/policies/{made}/activate", body), status, slug, pointer)
    refused(api.post(f"/policies/{made}/rollback"), 409, "conflict")
    with tenant_scope(party.id):
        assert not PolicyActivation.objects.exists()


def test_a_backtest_is_a_job(api: Api, party: Party, made: str) -> None:
    answer = api.post(f"/policies/{made}/backtest", {"version": 1})
    job = answer.json()["job"]
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/v1/jobs/{job['id']}")
    assert job["kind"] == "backtest_policy"
    run_job(job["id"], str(party.id))
    done = api.get(f"/jobs/{job['id']}").json()
    assert (done["state"], done["result"]["audits"]) == ("succeeded", 0)
    refused(api.post(f"/policies/{made}/backtest", {"version": 2}), 404, "not-found")
    with tenant_scope(party.id):
        assert Job.objects.filter(kind="backtest_policy").count() == 1


def test_ids_of_another_tenant_are_absent(api: Api, other: Api, made: str) -> None:
    for method, path in (("GET", ""), ("GET", "/versions/1"), ("POST", "/rollback"), ("POST", "/versions")):
        theirs = other.call(method, f"/policies/{made}{path}", {} if method == "POST" else None)
        nobodys = other.call(method, f"/policies/{uuid.uuid4()}{path}", {} if method == "POST" else None)
        assert refused(theirs, 404, "not-found")["detail"] == refused(nobodys, 404, "not-found")["detail"]
    assert other.get("/policies").json()["results"] == []


def test_the_proof_of_a_decision_is_answered(api: Api, party: Party) -> None:
    given = {"name": "facts", **FACTS}
    made = api.post("/policies", given)
    assert made.status_code == 201, made.json()
    with tenant_scope(party.id):
        policy = Policy.objects.get(pk=made.json()["policy"]["id"])
        audit = stored_audit(policy, seen_facts())
        plain = new_audit()
    answer = api.get(f"/audits/{audit.id}/proof")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["mismatch"], told["rules"], told["error"]) == (None, FACTS["facts_rules"], None)
    assert told["proof"]["derived"][0]["fact"] == ["rude", "item"]
    assert told["evidence_digest"] == audit.evidence_digest
    assert "Found: the metadata kind: listing (confidence 1.00, asset)." in told["sentences"]
    refused(api.get(f"/audits/{plain.id}/proof"), 404, "not-found")
    # The statement of reasons says why, without what may name a person.
    [line] = b"".join(api.get("/records/export?format=dsa").streaming_content).splitlines()
    facts = json.loads(line)["decision_facts"]
    assert "Found: the category “abuse” (confidence 0.90, abuse); 0.8 at least is asked for." in facts
    assert "listing" not in facts
