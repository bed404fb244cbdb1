"""Two people in two browsers: one invites, the other joins and turns two-factor sign-in on; then is removed."""

from __future__ import annotations

import secrets
import time
from base64 import b32decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, PATIENCE_MS

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


def _turn_on_second_factor(guest: Page) -> None:
    guest.goto("/account/second-factor")
    expect(guest.locator(".qr svg")).to_be_visible()
    secret = guest.locator("code.mono").inner_text().replace(" ", "")
    code = TOTP(b32decode(secret), 6, SHA1(), 30).generate(time.time()).decode()
    guest.get_by_label("Code", exact=True).fill(code)
    guest.get_by_label("Your password").fill(PASSWORD)
    guest.get_by_role("button", name="Turn it on").click()
    expect(guest.get_by_role("heading", name="Two-factor sign-in is on")).to_be_visible()


@pytest.mark.parametrize("address", ["/people", "/account", "/account/second-factor", "/audit-log", "/reset"])
def test_no_page_about_people_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
