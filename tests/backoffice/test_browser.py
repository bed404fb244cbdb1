"""An operator at work in a real browser, against the running stack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.console.browsing import MARKS, expect
from tests.console.conftest import browser as browser
from tests.console.conftest import grocery as grocery
from tests.console.conftest import page as page
from tests.waiting import PATIENCE_S

pytestmark = MARKS
SLUG = "clinic"


@pytest.fixture
def clinic(stack: Any) -> dict[str, Any]:
    return next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == SLUG)


def enter(window: Any, user: str, password: str) -> None:
    window.get_by_label("E-mail").fill(user)
    window.get_by_label("Password").fill(password)
    window.get_by_role("button", name="Sign in").click()


@pytest.fixture
def operator(page: Any, stack: Any) -> Iterator[Any]:
    page.goto("/")
    enter(page, stack.demo["operator"]["user"], stack.demo["operator"]["password"])
    expect(page.get_by_role("heading", name="Current problems")).to_be_visible()
    return page


def status_of(stack: Any, tenant: dict[str, Any]) -> int:
    headers = {"Authorization": f"Bearer {tenant['api_key']}"}
    return requests.get(f"{stack.base_url}/api/v1/me", headers=headers, timeout=PATIENCE_S).status_code


@pytest.fixture
def theirs(browser: Any, stack: Any, clinic: dict[str, Any]) -> Iterator[Any]:
    """A window of the clinic's owner, beside the operator's."""
    context = browser.new_context(base_url=stack.base_url)
    window = context.new_page()
    window.goto("/")
    enter(window, clinic["user"], clinic["password"])
    expect(window.get_by_role("heading", name="Overview")).to_be_visible()
    yield window
    context.close()


def test_a_suspended_tenants_key_and_console_are_refused(
    operator: Any, theirs: Any, stack: Any, clinic: dict[str, Any]
) -> None:
    assert status_of(stack, clinic) == 200
    operator.get_by_role("link", name="Tenants", exact=True).click()
    operator.get_by_role("link", name="Hillside Clinic").click()
    operator.locator("form[action$='/suspend']").get_by_label("Reason").fill("Unpaid.")
    operator.get_by_role("button", name="Suspend").click()
    expect(operator.get_by_text("The tenant is suspended")).to_be_visible()
    try:
        assert status_of(stack, clinic) == 401
        theirs.goto("/datasets")
        expect(theirs.get_by_text("belongs to no active workspace")).to_be_visible()
    finally:
        operator.get_by_role("button", name="Resume").click()
    expect(operator.get_by_text("The tenant is active again")).to_be_visible()
    assert status_of(stack, clinic) == 200
    theirs.goto("/datasets")
    expect(theirs.get_by_role("heading", name="Datasets")).to_be_visible()


def test_acting_is_bannered_until_it_is_stopped(operator: Any) -> None:
    operator.goto(f"/operator/tenants/{SLUG}")
    operator.locator("form[action$='/act']").get_by_label("Reason").fill("A question of theirs.")
    operator.get_by_role("button", name="Act as this tenant").click()
    banner = operator.get_by_role("region", name="Acting as a tenant")
    for path in ("/", "/datasets", "/search", "/jobs"):
        operator.goto(path)
        expect(banner).to_contain_text("Hillside Clinic")
    banner.get_by_role("button", name="Stop").click()
    expect(operator.get_by_text("You are no longer acting as a tenant")).to_be_visible()
    operator.goto("/datasets")
    expect(operator).to_have_url(re.compile("/operator/$"))


def test_the_fleet_shows_the_workers_that_run(operator: Any) -> None:
    operator.goto("/operator/fleet")
    expect(operator.get_by_text(re.compile("worker-embed@"))).to_be_visible()
    expect(operator.get_by_role("row", name=re.compile("^embed"))).to_be_visible()


def test_an_owner_approves_and_revokes(operator: Any, theirs: Any) -> None:
    theirs.goto("/security")
    theirs.get_by_role("link", name="Operators", exact=True).click()
    theirs.get_by_role("button", name="Require approval").click()
    expect(theirs.get_by_text("Operators need an owner’s approval from now on.")).to_be_visible()
    try:
        operator.goto(f"/operator/tenants/{SLUG}")
        asked = operator.locator("form[action$='/ask']")
        asked.get_by_label("Reason").fill("Ticket 12: a search that finds nothing.")
        asked.get_by_role("button", name="Ask", exact=True).click()
        expect(operator.get_by_text("no owner has answered yet")).to_be_visible()
        expect(operator.locator("form[action$='/act']")).to_have_count(0)
        theirs.goto("/")
        theirs.get_by_role("link", name="1 operator asks for an owner’s approval").click()
        theirs.get_by_role("button", name="Approve the request of").click()
        expect(theirs.get_by_role("button", name="Revoke the approval of")).to_be_visible()
        operator.reload()
        operator.locator("form[action$='/act']").get_by_label("Reason").fill("Ticket 12.")
        operator.get_by_role("button", name="Act as this tenant").click()
        expect(operator.get_by_role("region", name="Acting as a tenant")).to_be_visible()
        theirs.get_by_role("button", name="Revoke the approval of").click()
        expect(theirs.get_by_text("revoked", exact=True)).to_be_visible()
        operator.goto("/datasets")
        expect(operator.get_by_role("region", name="Acting as a tenant")).to_have_count(0)
    finally:
        theirs.goto("/security/operators")
        theirs.get_by_role("button", name="Stop requiring approval").click()
        expect(theirs.get_by_text("Operators no longer need an approval.")).to_be_visible()
