"""Rules by form in Chromium: the list changes in place, the count follows what is typed. Served by this process."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tenants.accounts import services
from tenants.moderation import policies
from tenants.moderation.models import PolicyVersion
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.console.browsing import CHROMIUM, PATIENCE_MS, aside, serving_here
from tests.tenants.policy_world import category, evidence, new_audit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]

PASSWORD = "violet staircase yodel"

RULES = [
    {"id": "abuse", "when": "categories.abuse.flagged", "then": "review", "reason": "It is abusive."},
    {"id": "odd", "when": "categories.spam.score > 0.9", "then": "block", "reason": "Far too loud."},
]


@dataclass
class Furnished:
    party: Party
    email: str
    policy_id: str


@pytest.fixture
def furnished() -> Furnished:
    return aside(_furnish)


def _furnish() -> Furnished:
    party = new_party()
    email = f"kim-{secrets.token_hex(4)}@people.example"
    user = services.create_user(email=email, password=PASSWORD, name="Kim")
    services.set_role(tenant=party.tenant, user=user, role="owner")
    with tenant_scope(party.id):
        policy, _ = policies.create_policy(
            name="Shop", document={"rules": RULES, "thresholds": {"abuse": 0.7}}
        )
        for score in (0.9, 0.75, 0.4, 0.1):
            new_audit(evidence(categories={"abuse": category(score)}))
        policies.activate(policy_id=policy.id, number=1, mode="enforce")
    return Furnished(party, email, str(policy.id))


@pytest.fixture
def page(furnished: Furnished, settings: Any, browser: Any) -> Iterator[Page]:
    with serving_here(settings) as address:
        context = browser.new_context(base_url=address)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/login")
        page.fill("[name=username]", furnished.email)
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("navigation", name="Main")).to_be_visible()
        yield page
        context.close()
        assert complaints == []


def test_the_count_follows_what_is_typed_and_the_list_changes_in_place(
    page: Page, furnished: Furnished
) -> None:
    page.goto(f"/policies/{furnished.policy_id}/rules")
    counted = page.locator("#counted")
    expect(counted).to_contain_text("Of the last 4 audits: 2 to review, 0 blocked, 0 labelled.")
    expect(page.locator("#r0-said")).to_contain_text("Applies to 2 of 4.")
    first = page.locator("#r0")
    first.get_by_label("From").fill("0.3")
    expect(counted).to_contain_text("3 to review")
    expect(counted).to_contain_text("1 would be decided differently")
    expect(page.locator("#as-json")).to_contain_text("categories.abuse.score >= 0.3")
    expect(first.get_by_label("From")).to_be_focused()
    first.get_by_label("From").fill("3")
    expect(first.get_by_text("A score is between 0 and 1, such as 0.8.")).to_be_visible()
    expect(counted).to_contain_text("Fix the marked fields")
    page.get_by_role("button", name="Add a rule").click()
    expect(page.locator(".rule-row")).to_have_count(3)
    added = page.locator("#r2")
    expect(added.get_by_label("If it finds")).to_be_focused()
    expect(first.get_by_label("From")).to_have_value("3")
    first.get_by_label("From").fill("0.8")
    added.get_by_label("Then", exact=True).select_option("block")
    expect(counted).to_contain_text("0 to review, 2 blocked")
    added.get_by_label("Reason").fill("It is abusive.")
    page.get_by_role("button", name="Move rule 3 up").click()
    expect(page.locator(".rule-row").nth(1)).to_have_id("r2")
    page.get_by_role("button", name="Remove rule 3").click()
    expect(page.locator(".rule-row")).to_have_count(2)
    expect(page.locator("#as-json")).not_to_contain_text("categories.spam")
    # The last count is there before the page is left: a browser complains of what is broken off.
    first.get_by_label("From").fill("0.85")
    expect(page.locator("#as-json")).to_contain_text("categories.abuse.score >= 0.85")
    page.get_by_role("button", name="Save as a new version").click()
    expect(page).to_have_url(re.compile(r"\?version=2$"))
    assert aside(lambda: _rules(furnished)) == [
        ("abuse", "categories.abuse.score >= 0.85", "review"),
        ("abuse-2", "categories.abuse.flagged", "block"),
    ]


def _rules(furnished: Furnished) -> list[tuple[str, str, str]]:
    with tenant_scope(furnished.party.id):
        document = PolicyVersion.objects.get(number=2).document
    return [(rule["id"], rule["when"], rule["then"]) for rule in document["rules"]]


def test_enforcing_shows_the_difference_first(page: Page, furnished: Furnished) -> None:
    aside(lambda: _second_version(furnished))
    page.goto(f"/policies/{furnished.policy_id}")
    page.get_by_role("spinbutton", name="Version").fill("2")
    page.get_by_label("Mode", exact=True).select_option("enforce")
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible()
    expect(page.get_by_text("Of the last 4 audits: 0 to review, 2 blocked, 0 labelled.")).to_be_visible()
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_text("Version 1 decides on every item.")).to_be_visible()
    page.get_by_role("spinbutton", name="Version").fill("2")
    page.get_by_label("Mode", exact=True).select_option("enforce")
    page.get_by_role("button", name="Activate").click()
    page.get_by_role("button", name="Activate version").click()
    expect(page.get_by_text("Version 2 decides about every item from now on.")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("2 would be decided differently")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("the previous version is active again")).to_be_visible()


def _second_version(furnished: Furnished) -> None:
    with tenant_scope(furnished.party.id):
        stricter = [{**RULES[0], "then": "block"}, RULES[1]]
        policies.add_version(
            policy_id=uuid.UUID(furnished.policy_id),
            document={"rules": stricter, "thresholds": {"abuse": 0.7}},
        )
