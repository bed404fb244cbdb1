"""Signing in and out, what the person sees and what the database holds; the other journeys stand with their pages.

Uploading twenty mixed files: test_browser_finding. Searching three ways: test_browser, test_browser_search (filters).
Reviews with undo and a backtest: test_browser_audits. A fine-tune, its promotion and the way back: test_browser_models.
Webhooks sent again: test_browser_webhooks. A suspended tenant, and acting as one: tests/backoffice/test_browser.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, held

pytestmark = MARKS

SESSIONS = (
    'SELECT device FROM session JOIN "user" ON "user".id = user_id WHERE email = %s AND expire_date > now()'
)


def sign_in(page: Page, user: str, password: str) -> None:
    page.get_by_label("E-mail").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_begins_a_session_and_signing_out_ends_it(
    page: Page, stack: Any, grocery: dict[str, Any]
) -> None:
    before = len(held(stack, SESSIONS, grocery["user"]))
    page.goto("/datasets")
    sign_in(page, grocery["user"], "not the password")
    expect(page.get_by_role("alert")).to_be_visible()
    assert len(held(stack, SESSIONS, grocery["user"])) == before
    sign_in(page, grocery["user"], grocery["password"])
    # Where one wanted to go in the first place.
    expect(page.get_by_role("heading", name="Datasets", exact=True)).to_be_visible()
    sessions = held(stack, SESSIONS, grocery["user"])
    assert len(sessions) == before + 1
    assert any("Chrom" in device for (device,) in sessions)
    page.locator("form[action$='/logout'] button").first.click()
    expect(page.get_by_label("Password")).to_be_visible()
    assert len(held(stack, SESSIONS, grocery["user"])) == before
    page.go_back()
    expect(page.get_by_role("heading", name="Datasets", exact=True)).to_have_count(0)
