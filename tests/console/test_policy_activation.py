"""What is in force changes only after its difference was shown: the rules, the counts, the items, and who may."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.moderation import policies
from tenants.moderation.models import Policy
from tenants.moderation.policies.previews import compare_documents
from tenants.moderation.rules.document import read_document
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.test_policies import confirmed, in_force
from tests.tenants.policy_world import category, evidence, new_audit, rule

ABUSE = rule("abuse", "categories.abuse.score >= 0.8", "review")
LOOSE = rule("abuse", "categories.abuse.score >= 0.5", "block")
SPAM = rule("spam", "categories.spam.flagged", "block")
ODD = rule("odd", "categories.hate.score > 0.99", "label")


@pytest.fixture
def policy(party: Party) -> Policy:
    """Two versions: the first is in force."""
    with tenant_scope(party.id):
        made, _ = policies.create_policy(
            name="Shop", document={"rules": [ABUSE, SPAM], "thresholds": {"spam": 0.5}}
        )
        policies.add_version(policy_id=made.id, document={"rules": [ODD, LOOSE], "thresholds": {"spam": 0.6}})
        policies.activate(policy_id=made.id, number=1, mode="enforce")
        return made


def audited(party: Party) -> dict[str, Any]:
    with tenant_scope(party.id):
        return {
            name: new_audit(evidence(categories={name.split("-")[0]: category(score)})).id
            for name, score in (("abuse-0", 0.9), ("abuse-1", 0.6), ("abuse-2", 0.1), ("spam-0", 0.9))
        }


def ask(client: Client, policy: Policy, act: str = "activate", **fields: str) -> Any:
    return client.post(f"/policies/{policy.id}/{act}", fields)


ENFORCE = {"version": "2", "mode": "enforce", "percent": "100"}


def test_the_difference_is_shown_first_and_nothing_is_changed(
    party: Party, policy: Policy, owner: Client
) -> None:
    found, before = audited(party), in_force(party)
    page = " ".join(ask(owner, policy, **ENFORCE).content.decode().split())
    assert re.findall(r"<strong>(\w+)</strong><span class=\"mono\">([\w-]+)</span>", page) == [
        ("New", "odd"),
        ("Changed", "abuse"),
        ("Removed", "spam"),
    ]
    assert "<del>Abuse, from a score of 0.8 on</del>" in page
    assert "<ins>Abuse, from a score of 0.5 on</ins>" in page
    assert "<del>{&quot;spam&quot;: 0.5}</del> <ins>{&quot;spam&quot;: 0.6}</ins>" in page
    assert "Of the last 4 audits: 0 to review, 2 blocked, 0 labelled." in page
    assert "3 would be decided differently" in page
    shown = {str(found[name]) for name in ("abuse-0", "abuse-1", "spam-0")}
    assert set(re.findall(r'href="/audits/([0-9a-f-]{36})"', page)) == shown
    assert in_force(party) == before


def test_confirmed_it_holds_and_is_rolled_back_the_same_way(
    party: Party, policy: Policy, owner: Client
) -> None:
    confirmed(owner, f"/policies/{policy.id}/activate", ENFORCE)
    assert in_force(party)[-1] == ("enforce", 2, 1.0)
    page = ask(owner, policy, "roll-back").content.decode()
    assert "What would change" in page
    assert in_force(party)[-1] == ("enforce", 2, 1.0)
    confirmed(owner, f"/policies/{policy.id}/roll-back", {})
    assert in_force(party)[-1] == ("enforce", 1, 1.0)


def test_what_was_agreed_to_is_shown_again_where_something_else_came_between(
    party: Party, policy: Policy, owner: Client
) -> None:
    page = ask(owner, policy, **ENFORCE).content.decode()
    as_of = re.findall(r'name="as_of" value="(\d+)"', page)[0]
    with tenant_scope(party.id):
        other, _ = policies.create_policy(name="Other", document={"rules": []})
        policies.activate(policy_id=other.id, number=1, mode="enforce")
    before = in_force(party)
    again = ask(owner, policy, **ENFORCE, as_of=as_of, confirm="1")
    assert again.status_code == 200
    assert "this is the current difference" in again.content.decode()
    for odd in ("", "-1", "٣", "9" * 30, "x"):
        assert ask(owner, policy, **ENFORCE, as_of=odd, confirm="1").status_code == 200
        assert ask(owner, policy, "roll-back", as_of=odd, confirm="1").status_code in (200, 302)
    assert in_force(party) == before
    confirmed(owner, f"/policies/{policy.id}/activate", ENFORCE)
    assert in_force(party)[-1] == ("enforce", 2, 1.0)


def test_what_changes_no_decision_is_done_at_once(party: Party, policy: Policy, owner: Client) -> None:
    assert ask(owner, policy, version="2", mode="shadow").status_code == 302
    assert ask(owner, policy, version="2", mode="off").status_code == 302
    assert ask(owner, policy, version="1", mode="enforce", percent="100").status_code == 302
    assert [row[0] for row in in_force(party)] == ["enforce", "shadow", "off"]


def test_taking_out_of_force_asks_and_says_that_nothing_decides(
    party: Party, policy: Policy, owner: Client
) -> None:
    audited(party)
    page = ask(owner, policy, version="1", mode="off").content.decode()
    assert "nothing: items are left as they are" in page
    assert "2 would be decided differently" in page
    confirmed(owner, f"/policies/{policy.id}/activate", {"version": "1", "mode": "off"})
    assert in_force(party)[-1][0] == "off"


def test_a_share_is_counted_as_a_share(party: Party, policy: Policy, owner: Client) -> None:
    with tenant_scope(party.id):
        for number in range(40):
            new_audit(evidence(categories={"abuse": category(0.6)}), sha256=f"{number:064x}")
        after = policies.after_activation(policy_id=policy.id, number=2, mode="enforce", ratio=0.5)
        inside = sum(
            policies.deciding_version(after, f"{number:064x}") == after[policy.id].enforced_id
            for number in range(40)
        )
    assert 0 < inside < 40
    page = ask(owner, policy, version="2", mode="enforce", percent="50").content.decode()
    assert f"Of the last 40 audits: 0 to review, {inside} blocked, 0 labelled." in page


def test_only_admins_see_the_difference_and_others_tenants_policies_are_none(
    party: Party, stranger: Party, policy: Policy, person: Callable[..., Client]
) -> None:
    before = in_force(party)
    assert ask(person("reviewer"), policy, **ENFORCE).status_code == 403
    assert ask(person("owner", tenants=(stranger.tenant,)), policy, **ENFORCE).status_code == 404
    assert in_force(party) == before


def test_documents_beside_each_other() -> None:
    one = read_document({"rules": [rule(name, "true") for name in "abcd"]})
    two = read_document({"rules": [rule(name, "true") for name in "bcad"], "audit_uploads": True})
    differ = compare_documents(one, two)
    assert [(change.id, change.state) for change in differ.rules] == [("a", "moved")]
    assert differ.fields == ["audit_uploads"]
    assert compare_documents(one, one).rules == []
    assert [change.state for change in compare_documents({}, one).rules] == ["added"] * 4
    assert [change.state for change in compare_documents(one, {}).rules] == ["removed"] * 4
