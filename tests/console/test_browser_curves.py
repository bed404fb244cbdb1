"""Charts in a real browser: read by pointer and by keyboard, smoothed, laid over each other, and drawn anew."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tenants.accounts import services
from tenants.learning.models import LearntModel
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.console import learning

pytest.importorskip("playwright")
from playwright.sync_api import Browser, Page, expect

from tests.console.browsing import CHROMIUM, PATIENCE_MS, aside, serving_here

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture
def party() -> Party:
    return aside(new_party)


@pytest.fixture
def session(party: Party) -> str:
    """Of an owner who is signed in."""
    return aside(lambda: _session_of(party))


def _session_of(party: Party) -> str:
    user = services.create_user(
        email=f"kim-{secrets.token_hex(4)}@people.example", password=secrets.token_urlsafe(12)
    )
    services.set_role(tenant=party.tenant, user=user, role="owner")
    client = Client()
    client.force_login(user)
    return str(client.cookies["sessionid"].value)


@pytest.fixture
def address(session: str, settings: Any) -> Iterator[str]:
    with serving_here(settings) as url:
        yield url


@pytest.fixture
def page(session: str, address: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=address)
    context.set_default_timeout(PATIENCE_MS)
    context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
    complaints: list[str] = []
    shown = context.new_page()
    shown.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    yield shown
    context.close()
    assert complaints == []


def test_values_are_read_by_keyboard_and_pointer_in_all_charts_at_once(party: Party, page: Page) -> None:
    row = aside(lambda: learning.candidate(party))
    page.goto(f"/models/{row.id}")
    loss = page.get_by_role("slider", name=re.compile("^Loss by epoch"))
    loss.focus()
    expect(loss).to_have_attribute("aria-valuetext", "Epoch 12: 0.6583")
    page.keyboard.press("ArrowLeft")
    expect(loss).to_have_attribute("aria-valuetext", "Epoch 11: 0.6818")
    recall = page.get_by_role("slider", name=re.compile("^Validation R@1"))
    expect(recall).to_have_attribute("aria-valuetext", "Epoch 11: 30.9 %")
    page.keyboard.press("Home")
    expect(loss.locator(".reading")).to_have_text("Epoch 13.5")
    page.keyboard.press("Escape")
    expect(page.locator(".reading")).to_have_count(0)
    recall.hover(position={"x": 1, "y": 20})
    expect(recall.locator(".reading")).to_have_text("Epoch 021.0 %")


def test_smoothing_and_other_runs_are_drawn_at_once_and_stand_in_the_address(
    party: Party, page: Page
) -> None:
    row, other = aside(lambda: (learning.candidate(party), learning.candidate(party, name="the other")))
    page.goto(f"/models/{row.id}")
    smoothing = page.get_by_role("slider", name="Smoothing")
    smoothing.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#curves .faint")).to_have_count(3)
    expect(smoothing).to_be_focused()
    page.get_by_text("Other runs in the same charts").click()
    page.get_by_label("the other").check()
    expect(page.locator("#curves g.run-1")).to_have_count(3)
    expect(page).to_have_url(re.compile(rf"/models/{row.id}\?smooth=5&with={other.id}$"))
    page.reload()
    expect(page.locator("#curves g.run-1")).to_have_count(3)
    expect(smoothing).to_have_value("5")


def test_a_training_goes_on_below_what_is_read(party: Party, page: Page) -> None:
    row = aside(lambda: learning.training(party))
    page.goto(f"/models/{row.id}?smooth=50")
    loss = page.get_by_role("slider", name=re.compile("^Loss by epoch"))
    loss.focus()
    page.keyboard.press("Home")

    def another_epoch() -> None:
        with tenant_scope(party.id):
            LearntModel.objects.filter(pk=row.pk).update(curves=learning.curves(6))

    aside(another_epoch)
    expect(page.get_by_text("Learning: 7 validations")).to_be_visible()
    expect(loss).to_be_focused()
    expect(loss).to_have_attribute("aria-valuetext", "Epoch 1: 3.5")
    expect(page.locator("#curves .faint")).to_have_count(3)
