"""The editor of policies: places of what is wrong, what is offered, and a trial on a past audit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from console.policies.editor import JsonRanges
from tenants.moderation import policies
from tenants.moderation.models import Evidence, Policy, PolicyVersion
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.console.test_policies import RULE
from tests.tenants.reviewing import World, make_world


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


@pytest.fixture
def policy(party: Party, owner: Client) -> Policy:
    with tenant_scope(party.id):
        made, _ = policies.create_policy(name="Shop", document={"rules": []})
        return made


def check(client: Client, text: str) -> dict[str, Any]:
    answer = client.post("/policies/check", {"document": text})
    assert answer.status_code == 200
    return answer.json()


def marked(text: str, problem: dict[str, Any]) -> str:
    """What a browser would underline: it counts UTF-16 units."""
    units = text.encode("utf-16-le", "surrogatepass")
    return units[2 * problem["from"] : 2 * problem["to"]].decode("utf-16-le", "surrogatepass")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_wrong_condition_is_marked_where_it_is_wrong(indent: int | None, owner: Client) -> None:
    wrong = {"rules": [RULE, {**RULE, "id": "b", "when": "categories.abuse.scre > 1"}], "speed": 1}
    text = json.dumps(wrong, indent=indent)
    found = check(owner, text)["problems"]
    assert [problem["level"] for problem in found] == ["error", "error"]
    by_mark = {marked(text, problem): problem for problem in found}
    assert "1" in by_mark
    [condition] = [problem for mark, problem in by_mark.items() if mark != "1"]
    assert condition["rule"] == "b"
    inside = text.index("categories.abuse.scre")
    assert inside <= condition["from"] < condition["to"] <= inside + len("categories.abuse.scre > 1")


def test_places_count_as_browsers_do_and_see_through_escapes(owner: Client) -> None:
    when = 'item.subject == "\U0001f600é" && nonsense'
    for ascii_only in (True, False):
        text = json.dumps(
            {"rules": [{**RULE, "reason": "\U0001f680", "when": when}]}, ensure_ascii=ascii_only
        )
        [problem] = check(owner, text)["problems"]
        assert marked(text, problem) == "nonsense"


def test_what_is_missing_is_marked_at_what_lacks_it(owner: Client) -> None:
    text = '{"rules": [\n  {"id": "x", "then": "block", "reason": "r"}\n]}'
    [problem] = check(owner, text)["problems"]
    assert marked(text, problem) == '{"id": "x", "then": "block", "reason": "r"}'


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"rules": [}', "nonsense", '{"a": 1e999}', "[" * 100_000, '"\ud800"', "[]", "null", "\x00"],
)
def test_anything_at_all_gets_problems_and_no_failure(text: str, owner: Client) -> None:
    found = check(owner, text.encode("utf-8", "replace").decode())["problems"]
    assert found
    assert all(problem["from"] <= problem["to"] for problem in found)


def test_broken_json_is_marked_at_its_place(owner: Client) -> None:
    text = '{"é\U0001f600": 1,\n  nonsense}'
    [problem] = check(owner, text)["problems"]
    assert marked(text, problem) == "n"


def test_a_good_document_has_none_and_is_not_stored(party: Party, policy: Policy, owner: Client) -> None:
    assert check(owner, json.dumps({"rules": [RULE]}))["problems"] == []
    with tenant_scope(party.id):
        assert PolicyVersion.objects.count() == 1


def test_places_of_every_value() -> None:
    text = '{ "a/b" : [1, {"c": "x"}], "d": {"e": null} , "d": [true] }'
    places = JsonRanges(text)
    assert text[places.of("/a~1b/1/c").start : places.of("/a~1b/1/c").end] == '"x"'
    # Of a name that stands twice the last counts, as for the parser.
    assert text[places.of("/d").start : places.of("/d").end] == "[true]"
    assert places.of("/gone/0").start == 0
    deep = "[" * 30 + "]" * 30
    assert JsonRanges(deep).of("/0/0/0").start == 3


def test_variables_and_functions_are_described(owner: Client) -> None:
    found = owner.get("/policies/language").json()
    names = {one["name"]: one for one in found["variables"]}
    assert names["categories.abuse.score"]["type"] == "number or null"
    assert "0 to 1" in names["categories.abuse.score"]["about"]
    assert names["matches[].stance"]["values"] == "bad, good"
    assert {"exists", "contains", "size", "has"} <= {one["name"] for one in found["functions"]}
    assert found["fields"]["rule"][:3] == ["id", "when", "then"]


def test_without_script_errors_name_their_lines(policy: Policy, owner: Client) -> None:
    wrong = json.dumps({"rules": [{**RULE, "when": "nonsense > 1"}]}, indent=1)
    page = owner.post(f"/policies/{policy.id}/edit", {"document": wrong, "check": "1"}).content.decode()
    assert f"line {wrong[: wrong.index('nonsense')].count(chr(10)) + 1}" in page
    assert faults_of(page) == []


# --- On a past audit -------------------------------------------------------------------------------------


def attempt(client: Client, policy: Policy, document: Any, audit: Any, **headers: str) -> Any:
    fields = {"document": json.dumps(document), "audit": str(audit), "try": "1"}
    return client.post(f"/policies/{policy.id}/edit", fields, headers=headers)


RULES = [
    {
        "id": "good",
        "when": "authenticity.verdict == 'nothing-such'",
        "then": "allow",
        "stop": True,
        "reason": "r",
    },
    {"id": "rude", "when": "categories.abuse.score > 0.5", "then": "review", "reason": "r"},
    {"id": "unclear", "when": "categories.nudity.score > 0.5", "then": "block", "reason": "r"},
    {
        "id": "last",
        "when": "item.modality == 'text'",
        "then": "label",
        "labels": ["x"],
        "stop": True,
        "reason": "r",
    },
    {"id": "never-asked", "when": "true", "then": "block", "reason": "r"},
]


def test_a_trial_tells_of_each_rule_and_what_it_saw(
    party: Party, world: World, policy: Policy, owner: Client
) -> None:
    audit = audited(world)
    part = attempt(owner, policy, {"rules": RULES}, audit.id, **{"HX-Request": "true"}).content.decode()
    states = [
        line.split('"')[0]
        for line in part.split("trial-")[1:]
        if line[:5] in {"silen", "fired", "uncle", "not_a"}
    ]
    assert states == ["silent", "fired", "unclear", "fired", "not_asked"]
    assert "categories.abuse.score = 0.91" in part
    assert "In review" in part
    with tenant_scope(party.id):
        assert PolicyVersion.objects.filter(policy=policy).count() == 1


def test_without_script_the_trial_stands_on_the_page(world: World, policy: Policy, owner: Client) -> None:
    audit = audited(world)
    page = attempt(owner, policy, {"rules": RULES}, audit.id).content.decode()
    assert "trial-fired" in page
    assert "never-asked" in page
    assert faults_of(page) == []
    assert f'value="{audit.id}" selected' in page


@pytest.mark.parametrize("audit", ["", "zzz", "00000000-0000-7000-8000-000000000000"])
def test_a_trial_on_what_there_is_not_is_refused(audit: str, policy: Policy, owner: Client) -> None:
    answer = attempt(owner, policy, {"rules": RULES}, audit)
    assert answer.status_code == 404
    assert "This audit does not exist." in answer.content.decode()


def test_a_trial_of_a_broken_document_says_so(world: World, policy: Policy, owner: Client) -> None:
    answer = attempt(owner, policy, {"rules": [{"id": "x"}]}, audited(world).id)
    assert answer.status_code == 422
    assert "Fix them to try it." in answer.content.decode()


def test_another_tenants_audit_cannot_be_tried(stranger: Party, policy: Policy, owner: Client) -> None:
    foreign = audited(make_world(stranger))
    assert attempt(owner, policy, {"rules": []}, foreign.id).status_code == 404


def test_erased_evidence_cannot_be_tried(party: Party, world: World, policy: Policy, owner: Client) -> None:
    audit = audited(world)
    with tenant_scope(party.id):
        Evidence.objects.filter(audit=audit).delete()
    answer = attempt(owner, policy, {"rules": []}, audit.id)
    assert answer.status_code == 404
    assert "erased" in answer.content.decode()


def test_what_a_rule_saw_is_escaped(world: World, policy: Policy, owner: Client) -> None:
    audit = audited(world, hostile="<script>alert(1)</script>")
    rules = [{**RULE, "when": "item.subject == 'x'"}]
    assert "<script>alert" not in attempt(owner, policy, {"rules": rules}, audit.id).content.decode()


# --- In shadow -------------------------------------------------------------------------------------------


def test_the_page_of_a_shadow_compares_and_shows_what_differs(
    party: Party, world: World, policy: Policy, owner: Client
) -> None:
    from tenants.moderation.models import ShadowDecision

    page = read(owner, f"/policies/{policy.id}/shadow")
    assert "Nothing to compare yet" in page
    with tenant_scope(party.id):
        version = PolicyVersion.objects.get(policy=policy)
    for decision in ("block", "review"):
        audit = audited(world)
        with tenant_scope(party.id):
            ShadowDecision.objects.create(audit=audit, version=version, decision=decision, rules=["mine"])
    page = read(owner, f"/policies/{policy.id}/shadow")
    assert "<strong>1</strong> of 2 audits" in page
    assert "mine" in page
    assert faults_of(page) == []
