"""Two people in two browsers: one invites, the other joins and turns two-factor sign-in on; then is removed."""

from __future__ import annotations

import re
import secrets
import time
from base64 import b32decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, PATIENCE_MS, new_dataset

pytestmark = MARKS

PASSWORD = "correct horse battery"


@pytest.fixture
def guest(browser: Any, stack: Any) -> Any:
    """Another person's window."""
    context = browser.new_context(base_url=stack.base_url)
    context.set_default_timeout(PATIENCE_MS)
    window = context.new_page()
    complaints: list[str] = []
    window.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    yield window
    context.close()
    assert complaints == []


def invite(page: Page, email: str) -> str:
    page.goto("/people")
    page.get_by_role("button", name="Invite", exact=True).click()
    dialog = page.locator("#invite")
    dialog.get_by_label("E-mail").fill(email)
    dialog.get_by_label("Role").select_option("editor")
    dialog.get_by_role("button", name="Invite").click()
    return page.locator("#link").inner_text()


def test_inviting_joining_and_removing(signed_in: Page, guest: Page, stack: Any) -> None:
    email = f"ann-{secrets.token_hex(4)}@grocery.example"
    link = invite(signed_in, email)
    guest.goto(link)
    assert guest.url == f"{stack.base_url}/invitation"
    guest.get_by_label("Name").fill("Ann Bee")
    guest.get_by_label("New password").fill(PASSWORD)
    guest.get_by_label("Repeat it").fill(PASSWORD)
    guest.get_by_role("button", name="Create account and join").click()
    expect(guest.get_by_role("heading", name="Overview")).to_be_visible()
    expect(guest.get_by_role("link", name="People")).to_have_count(0)

    _turn_on_second_factor(guest)

    signed_in.goto("/people")
    signed_in.get_by_role("button", name="Change Ann Bee").click()
    signed_in.locator("dialog[open]").get_by_role("button", name="Remove from the workspace").click()
    expect(signed_in.get_by_text("The member was removed.")).to_be_visible()
    guest.goto("/account")
    expect(guest.get_by_text("No workspace chosen")).to_be_visible()


def test_who_is_invited_to_one_dataset_sees_that_one_alone(signed_in: Page, guest: Page) -> None:
    page, email, name = (
        signed_in,
        f"bea-{secrets.token_hex(4)}@grocery.example",
        f"desk {secrets.token_hex(3)}",
    )
    new_dataset(page, name)
    page.goto("/people")
    page.get_by_role("button", name="Invite", exact=True).click()
    dialog = page.locator("#invite")
    dialog.get_by_label("E-mail").fill(email)
    dialog.get_by_label("Role").select_option("reviewer")
    dialog.get_by_text("Only chosen datasets or review queues").click()
    dialog.get_by_label("Only these datasets").check()
    dialog.get_by_label(name).check()
    dialog.get_by_role("button", name="Invite").click()
    guest.goto(page.locator("#link").inner_text())
    guest.get_by_label("Name").fill("Bea Cole")
    guest.get_by_label("New password").fill(PASSWORD)
    guest.get_by_label("Repeat it").fill(PASSWORD)
    guest.get_by_role("button", name="Create account and join").click()
    expect(guest.get_by_role("heading", name="Datasets")).to_be_visible()
    expect(guest.locator("main tbody tr")).to_have_count(1)
    main = guest.get_by_role("navigation", name="Main").first
    expect(main.get_by_role("link")).to_have_text(["Search", "Datasets", "Audits", re.compile("Reviews")])

    page.goto("/people")
    page.get_by_role("button", name="Change Bea Cole").click()
    page.get_by_role("link", name="Choose the datasets and review queues that they see").click()
    expect(page.get_by_label(name)).to_be_checked()
    page.get_by_label("Only these datasets").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Bea Cole sees the whole workspace now.")).to_be_visible()
    guest.goto("/")
    expect(guest.get_by_role("heading", name="Overview")).to_be_visible()


def _turn_on_second_factor(guest: Page) -> None:
    guest.goto("/account/second-factor")
    expect(guest.locator(".qr svg")).to_be_visible()
    secret = guest.locator("code.mono").inner_text().replace(" ", "")
    code = TOTP(b32decode(secret), 6, SHA1(), 30).generate(time.time()).decode()
    guest.get_by_label("Code", exact=True).fill(code)
    guest.get_by_label("Your password").fill(PASSWORD)
    guest.get_by_role("button", name="Turn it on").click()
    expect(guest.get_by_role("heading", name="Two-factor sign-in is on")).to_be_visible()


def test_a_role_is_made_changed_and_deleted_by_the_keyboard_alone(signed_in: Page) -> None:
    page, name = signed_in, f"night-{secrets.token_hex(4)}"
    page.goto("/people")
    page.get_by_role("link", name="Roles").press("Enter")
    page.get_by_role("button", name="New role").press("Enter")
    made = page.locator("dialog[open]")
    expect(made.get_by_label("Name")).to_be_focused()
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type("Reviews at night")
    # Seeing and searching are ticked at first; searching is given up, and reviewing taken.
    made.get_by_label("search, and look for what is similar").press(" ")
    made.get_by_label("audit, review, and write policies and hash lists").press(" ")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"The role {name} was created.")).to_be_visible()
    row = page.locator("tr", has_text=name)
    expect(row).to_contain_text("Reviews at night")
    expect(row.locator("li")).to_have_text(
        ["see datasets, assets, jobs, models and usage", "audit, review, and write policies and hash lists"]
    )

    row.get_by_role("button", name=f"Change {name}").press("Enter")
    page.locator("dialog[open]").get_by_label("audit, review, and write policies and hash lists").press(" ")
    page.locator("dialog[open]").get_by_role("button", name="Save").press("Enter")
    expect(row.locator("li")).to_have_text(["see datasets, assets, jobs, models and usage"])

    page.goto("/people")
    page.get_by_role("button", name="Invite", exact=True).press("Enter")
    invite = page.locator("#invite")
    invite.get_by_text("What each role can do").press("Enter")
    expect(invite.get_by_text("Can view everything and search, but change nothing.")).to_be_visible()
    expect(invite.get_by_text("Reviews at night")).to_be_visible()
    invite.get_by_label("Role").select_option(name)

    page.goto("/people/roles")
    row.get_by_role("button", name=f"Change {name}").press("Enter")
    page.locator("dialog[open]").get_by_role("button", name="Delete the role").press("Enter")
    expect(page.get_by_text("The role was deleted.")).to_be_visible()
    expect(row).to_have_count(0)


@pytest.mark.parametrize(
    "address",
    ["/people", "/people/roles", "/account", "/account/second-factor", "/audit-log", "/reset"],
)
def test_no_page_about_people_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
