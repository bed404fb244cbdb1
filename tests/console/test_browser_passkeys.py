"""Passkeys in Chromium, with its virtual authenticator (WebAuthn domain of the DevTools protocol).

Against a server in this process: browsers ask for a passkey by a name only, and nothing here needs a worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tenants.accounts import services
from tests.conftest import new_party
from tests.console.browsing import CHROMIUM, PATIENCE_MS, aside, serving_here

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]

PASSWORD = "violet staircase yodel"


@dataclass
class Device:
    """A window with an authenticator of its own."""

    page: Page
    cdp: Any
    authenticator: str

    def set_verified(self, verified: bool) -> None:
        """Whether the finger is the right one."""
        self.cdp.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self.authenticator, "isUserVerified": verified}
        )

    def credentials(self) -> list[dict[str, Any]]:
        found = self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])


@pytest.fixture
def email() -> str:
    return aside(_new_person)


def _new_person() -> str:
    address = f"kim-{secrets.token_hex(4)}@people.example"
    user = services.create_user(email=address, password=PASSWORD, name="Kim")
    services.set_role(tenant=new_party().tenant, user=user, role="owner")
    return address


@pytest.fixture
def address(email: str, settings: Any) -> Iterator[str]:
    with serving_here(settings) as url:
        yield url


@pytest.fixture
def device(address: str, browser: Any) -> Iterator[Device]:
    context = browser.new_context(base_url=address)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    cdp = context.new_cdp_session(page)
    cdp.send("WebAuthn.enable", {"enableUI": False})
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    yield Device(page, cdp, made["authenticatorId"])
    context.close()
    # The browser also reports the page that refuses the passkey which was removed.
    assert [line for line in complaints if "status of 422" not in line] == []


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def by_password(page: Page, email: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_registering_signing_in_and_removing(email: str, device: Device) -> None:
    page = device.page
    page.goto("/login")
    by_password(page, email)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    # The first one, with recovery codes.
    page.goto("/account")
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Name").fill("Laptop")
    page.get_by_role("button", name="Create passkey").click()
    expect(page.get_by_role("heading", name="Two-factor sign-in is on")).to_be_visible()
    assert len(page.locator("#codes").inner_text().split()) == 10
    assert [one["isResidentCredential"] for one in device.credentials()] == [True]
    page.get_by_role("link", name="I have saved them").click()
    expect(page.get_by_role("button", name="Remove the passkey Laptop")).to_be_visible()

    # The browser itself refuses a second one on the same device.
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Name").fill("Again")
    page.get_by_role("button", name="Create passkey").click()
    expect(page.get_by_text("This device has a passkey of yours already.")).to_be_visible()

    # Alone: whoever it belongs to is found by the passkey.
    sign_out(page)
    page.get_by_role("link", name="Sign in with a passkey").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto("/account")
    expect(page.get_by_text(email, exact=True).first).to_be_visible()

    # With the wrong finger nobody comes in, and the page says so.
    sign_out(page)
    device.set_verified(False)
    page.goto("/login/passkey")
    expect(page.get_by_text("It was cancelled, or took too long.")).to_be_visible()
    device.set_verified(True)

    # As the second step after a password.
    page.get_by_role("link", name="Sign in with a password").click()
    by_password(page, email)
    expect(page.get_by_role("heading", name="Enter your code")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    # As the proof of who sits there.
    page.goto("/verify")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()

    page.goto("/account")
    page.get_by_role("button", name="Remove the passkey Laptop").click()
    expect(page.get_by_text("The passkey was removed.")).to_be_visible()
    sign_out(page)
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if asked.method == "POST" else None)
    page.goto("/login/passkey")
    expect(page.get_by_text("This passkey could not be used.")).to_be_visible()
    # It does not ask again by itself, and would be refused again.
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("This passkey could not be used.")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert len(sent) == 2
