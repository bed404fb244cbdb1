"""Pages of policies: from a starter to a version in force, and back."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tenants.moderation.models import Backtest, Policy, PolicyActivation, PolicyVersion, ShadowDecision
from tenants.moderation.policies import activate, add_version
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.console.test_pages import EVIL
from tests.tenants.reviewing import World, make_world

RULE = {"id": "abuse", "when": "categories.abuse.flagged", "then": "review", "reason": "It is abusive."}


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


@pytest.fixture
def policy(party: Party, owner: Client) -> Policy:
    owner.post("/policies/new", {"name": "Shop", "starter": "marketplace"})
    with tenant_scope(party.id):
        return Policy.objects.get()


def versions(party: Party) -> list[PolicyVersion]:
    with tenant_scope(party.id):
        return list(PolicyVersion.objects.order_by("number"))


def in_force(party: Party) -> list[tuple[str, int, float]]:
    with tenant_scope(party.id):
        rows = PolicyActivation.objects.order_by("number").select_related("version")
        return [(row.mode, row.version.number, row.ratio) for row in rows]


def save(client: Client, policy: Policy, document: Any, **fields: str) -> Any:
    text = document if isinstance(document, str) else json.dumps(document)
    return client.post(f"/policies/{policy.id}/edit", {"document": text, **fields})


def confirmed(client: Client, address: str, fields: dict[str, str]) -> Any:
    """What the page of the difference sends, after it was shown."""
    done = answer(client, asked(client.post(address, fields)))
    assert done.status_code == 302
    return done


def asked(response: Any) -> str:
    """What a page says that shows the difference and asks, and nothing was done."""
    assert response.status_code == 200
    page = response.content.decode()
    assert faults_of(page) == []
    question = page.partition("<h1>What would change</h1>")[2]
    assert 'name="confirm"' in question
    return question


def answer(client: Client, question: str) -> Any:
    """Send the form of the question as it stands there."""
    form = re.search(r'<form[^>]* action="([^"]*)"(.*?)</form>', question, re.DOTALL)
    assert form is not None
    return client.post(form[1], dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[2])))


def test_no_policies_yet_offers_starters(owner: Client) -> None:
    page = read(owner, "/policies")
    assert "No policies yet" in page
    for name in ("Marketplace", "Newsroom", "Clinic", "Community"):
        assert f"<h3>{name}</h3>" in page
    assert "data-open-now" in read(owner, "/policies?new=1&starter=clinic")


def test_a_policy_begins_with_a_starter_and_is_in_force_nowhere(
    party: Party, policy: Policy, owner: Client
) -> None:
    page = read(owner, f"/policies/{policy.id}")
    assert "not in effect" in page
    assert "It matches content on a list of bad content." in page
    assert in_force(party) == []
    assert "Shop" in read(owner, "/policies")


@pytest.mark.parametrize(
    "fields", [{}, {"name": "x" * 101}, {"name": "x", "starter": "zzz"}, {"name": "x\x00"}]
)
def test_an_odd_policy_is_not_made(fields: dict[str, str], party: Party, owner: Client) -> None:
    response = owner.post("/policies/new", fields)
    assert response.status_code == 422
    assert "data-open-now" in response.content.decode()
    with tenant_scope(party.id):
        assert not Policy.objects.exists()


def test_two_policies_of_one_name_are_refused(party: Party, policy: Policy, owner: Client) -> None:
    response = owner.post("/policies/new", {"name": "Shop"})
    assert response.status_code == 422
    assert "Another policy is called" in response.content.decode()


def test_a_document_is_checked_where_it_is_wrong(party: Party, policy: Policy, owner: Client) -> None:
    wrong = {"rules": [RULE, {**RULE, "id": "b", "when": "categories.abuse.scre > 1"}], "speed": 1}
    page = save(owner, policy, wrong).content.decode()
    assert "/rules/1/when" in page
    assert "/speed" in page
    assert html.escape(json.dumps(wrong)) in page
    assert "line 1, column 2" in save(owner, policy, "{").content.decode()
    for odd in ("[]", "null", '{"rules": 1}', "[" * 100_000, '{"rules": [], "x": "\\u0000"}', "1e999"):
        assert save(owner, policy, odd).status_code == 422, odd[:20]
    assert len(versions(party)) == 1


def test_checking_saves_nothing_and_tells_of_rules_that_never_fire(
    party: Party, policy: Policy, owner: Client
) -> None:
    dead = {"rules": [{**RULE, "when": "categories.abuse.score > 0.5 && categories.abuse.score < 0.2"}]}
    response = save(owner, policy, dead, check="1")
    assert response.status_code == 200
    assert "can never be true" in response.content.decode()
    wrong = save(owner, policy, {"rules": [{"id": "x"}]}, check="1")
    assert wrong.status_code == 200
    assert "/rules/0/when" in wrong.content.decode()
    assert len(versions(party)) == 1


def test_saving_makes_the_next_version_once(party: Party, policy: Policy, owner: Client) -> None:
    sent = save(owner, policy, {"rules": [RULE]})
    assert sent["Location"] == f"/policies/{policy.id}?version=2"
    assert [version.number for version in versions(party)] == [1, 2]
    again = save(owner, policy, {"rules": [RULE]})
    assert again["Location"] == f"/policies/{policy.id}?version=2"
    assert len(versions(party)) == 2
    assert "It is abusive." in read(owner, f"/policies/{policy.id}?version=2")
    assert "It matches content" in read(owner, f"/policies/{policy.id}?version=1")
    assert "It is abusive." in read(owner, f"/policies/{policy.id}?version=zzz")


def test_from_shadow_over_a_share_to_force_and_back(party: Party, policy: Policy, owner: Client) -> None:
    address = f"/policies/{policy.id}/activate"
    assert owner.post(address, {"version": "1", "mode": "shadow"}).status_code == 302
    assert "in shadow" in read(owner, f"/policies/{policy.id}")
    for percent, told in (("10", "10 % of all items"), ("100", "every item")):
        before = in_force(party)
        question = asked(owner.post(address, {"version": "1", "mode": "enforce", "percent": percent}))
        assert told in question and in_force(party) == before
        assert answer(owner, question).status_code == 302
        assert told in read(owner, f"/policies/{policy.id}")
    assert in_force(party) == [("shadow", 1, 1.0), ("enforce", 1, 0.1), ("enforce", 1, 1.0)]
    confirmed(owner, f"/policies/{policy.id}/roll-back", {})
    assert in_force(party)[-1] == ("shadow", 1, 1.0)


def chosen(page: str) -> str | None:
    """Which mode stands in the box."""
    box = page.partition('name="mode"')[2].partition("</select>")[0]
    found = re.search(r'value="(\w+)" selected', box)
    return found and found[1]


def test_the_box_shows_what_is_in_force_and_nothing_is_switched_off_unasked(
    world: World, party: Party, owner: Client
) -> None:
    policy_id = world.version.policy_id
    page, address = f"/policies/{policy_id}", f"/policies/{policy_id}/activate"
    with tenant_scope(party.id):
        activate(policy_id=policy_id, number=1, mode="enforce", ratio=0.25)
    assert chosen(read(owner, page)) == "enforce"
    assert 'name="percent" value="25"' in read(owner, page)
    for fired in (("rude",), ("known",), (), ("made",)):
        world.audit(fired, source="upload")
    # What somebody asked about is no upload, and what was decided in shadow held nothing.
    world.audit(("rude",))
    world.audit(("rude",), source="upload", mode="shadow")
    before = in_force(party)
    for mode in ("shadow", "off"):
        question = asked(owner.post(address, {"version": "1", "mode": mode}))
        assert "Stop enforcing?" in question
        assert "In the last 7 days 2 of 4 uploads were held or blocked" in question
        assert in_force(party) == before
    assert answer(owner, question).status_code == 302
    assert in_force(party)[-1] == ("off", 1, 1.0)


def test_who_enforces_is_told_what_it_would_have_held(world: World, party: Party, owner: Client) -> None:
    address = f"/policies/{world.version.policy_id}/activate"
    unknown = asked(owner.post(address, {"version": "1", "mode": "enforce"}))
    assert "Enforce this version?" in unknown
    assert "It has not run in shadow lately" in unknown
    # Alone in shadow, and beside another version that decided.
    world.audit(("rude",), source="upload", mode="shadow")
    with tenant_scope(party.id):
        version, _ = add_version(policy_id=world.version.policy_id, document={"rules": [RULE]})
    for fired, decision in ((("known",), "allow"), ((), "block")):
        audit = world.audit(fired, source="upload", version=world.version)
        with tenant_scope(party.id):
            ShadowDecision.objects.create(audit=audit, version=version, decision=decision)
    first = asked(owner.post(address, {"version": "1", "mode": "enforce"}))
    assert "In shadow it would have held or blocked 1 of 1 uploads" in first
    second = asked(owner.post(address, {"version": "2", "mode": "enforce"}))
    assert "In shadow it would have held or blocked 1 of 2 uploads" in second
    assert in_force(party) == []


def test_an_answer_counts_only_for_what_was_asked(party: Party, policy: Policy, owner: Client) -> None:
    address = f"/policies/{policy.id}/activate"
    question = asked(owner.post(address, {"version": "1", "mode": "enforce"}))
    with tenant_scope(party.id):
        activate(policy_id=policy.id, number=1, mode="enforce", ratio=0.5)
    before = in_force(party)
    again = asked(answer(owner, question))
    assert "50 % of all items" in again and in_force(party) == before
    assert answer(owner, again).status_code == 302
    assert in_force(party)[-1] == ("enforce", 1, 1.0)


def test_what_changes_nothing_is_not_asked(party: Party, policy: Policy, owner: Client) -> None:
    address = f"/policies/{policy.id}/activate"
    with tenant_scope(party.id):
        activate(policy_id=policy.id, number=1, mode="enforce")
    assert owner.post(address, {"version": "1", "mode": "enforce"}).status_code == 302
    save(owner, policy, {"rules": [RULE]})
    # Beside the one that is enforced, which goes on.
    assert owner.post(address, {"version": "2", "mode": "shadow"}).status_code == 302
    assert "Version 1 decides on" in read(owner, f"/policies/{policy.id}")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"version": "1"},
        {"version": "1", "mode": "zzz"},
        {"version": "1", "mode": "enforce", "percent": "0"},
        {"version": "1", "mode": "enforce", "percent": "101"},
        {"version": "\x00", "mode": "enforce"},
        {"version": "1", "mode": "off"},
    ],
)
def test_an_odd_activation_changes_nothing(
    fields: dict[str, str], party: Party, policy: Policy, owner: Client
) -> None:
    assert owner.post(f"/policies/{policy.id}/activate", fields).status_code == 422
    assert in_force(party) == []


def test_a_version_that_is_not_there(party: Party, policy: Policy, owner: Client) -> None:
    sent = owner.post(f"/policies/{policy.id}/activate", {"version": "7", "mode": "enforce"})
    assert sent.status_code == 404
    assert owner.post(f"/policies/{policy.id}/backtest", {"version": "²"}).status_code == 404
    assert "never in effect" in owner.post(f"/policies/{policy.id}/roll-back", follow=True).content.decode()


def test_only_admins_put_versions_in_force(
    party: Party, policy: Policy, person: Callable[..., Client]
) -> None:
    reviewer = person("reviewer")
    page = read(reviewer, f"/policies/{policy.id}")
    assert "Admins activate versions." in page
    assert "/activate" not in page
    assert save(reviewer, policy, {"rules": [RULE]}).status_code == 302
    assert (
        reviewer.post(f"/policies/{policy.id}/activate", {"version": "1", "mode": "enforce"}).status_code
        == 403
    )
    assert in_force(party) == []


def test_a_backtest_is_followed_and_shows_what_would_change(
    world: World, party: Party, owner: Client
) -> None:
    for fired in (("rude",), ("known",), ("made",)):
        world.audit(fired)
    policy_id = world.version.policy_id
    sent = owner.post(f"/policies/{policy_id}/backtest", {"version": "1"})
    with tenant_scope(party.id):
        row = Backtest.objects.get()
    assert sent["Location"] == f"/backtests/{row.id}"
    page = read(owner, sent["Location"])
    assert f'data-panel="/backtests/{row.id}"' in page
    with tenant_scope(party.id):
        audit = str(Backtest.objects.get().version_id)
        state = {
            **row.state,
            "done": 3,
            "matrix": {"review>block": 2, "allow>allow": 1},
            "rules": {"known": {"fired": 2, "unclear": 0, "changed": 2}},
            "samples": {"review>block": [["0", audit]]},
        }
        Backtest.objects.filter(pk=row.pk).update(state=state)
    part = owner.get(sent["Location"], headers={"hx-request": "true"}).content.decode()
    assert "<strong>2</strong> of 3 would have been decided differently" in part
    assert '<td class="num changed">2</td>' in part
    assert f'href="/audits/{audit}"' in part
    assert "Backtested" in read(owner, f"/policies/{policy_id}")


def test_hostile_words_of_a_policy_stay_words(party: Party, owner: Client) -> None:
    owner.post("/policies/new", {"name": EVIL[:100], "description": EVIL})
    with tenant_scope(party.id):
        policy = Policy.objects.get()
    save(owner, policy, {"rules": [{**RULE, "reason": EVIL, "labels": [EVIL[:60]]}]})
    for address in ("/policies", f"/policies/{policy.id}", f"/policies/{policy.id}/edit"):
        read(owner, address)
