"""In a real browser against the running stack: a webhook is made, fails, is sent again and arrives."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from tests.console.browsing import MARKS
from tests.tenants.receiver import plain, receiving

pytestmark = MARKS


def test_a_failed_delivery_is_sent_again(signed_in: Any) -> None:
    page = signed_in
    with receiving() as receiver:
        receiver.answer = plain(410, b"not any more")
        page.goto("/webhooks")
        page.get_by_role("link", name="New webhook").first.click()
        page.get_by_label("URL").fill(receiver.url)
        page.get_by_label("Only these:").check()
        page.get_by_label("A job failed").check()
        page.get_by_role("button", name="Create webhook").click()
        secret = page.locator("#secret").inner_text()
        page.get_by_role("button", name="Send a test").click()
        expect(page.get_by_role("heading", name="A test")).to_be_visible()
        # The page asks again by itself until the delivery has ended.
        expect(page.locator(".page-head .status")).to_have_text("failed")
        expect(page.get_by_text("410")).to_be_visible()
        page.get_by_role("link", name=re.compile("127.0.0.1")).click()
        expect(page.get_by_text("Disabled: it answered 410 Gone")).to_be_visible()
        receiver.answer = plain(200)
        page.get_by_role("button", name="Activate webhook").click()
        page.get_by_role("link", name="A test").click()
        page.get_by_role("button", name="Send again").click()
        expect(page.locator(".page-head .status")).to_have_text("succeeded")
        assert len(receiver.ids) == 2
        assert len(set(receiver.ids)) == 1
        assert [event["type"] for event in receiver.verified(secret)] == ["webhook.test"] * 2
        page.get_by_role("link", name=re.compile("127.0.0.1")).click()
        page.get_by_role("button", name="Delete", exact=True).first.click()
        page.locator("#delete-webhook [type=submit]").click()
        expect(page.get_by_text("The webhook was deleted")).to_be_visible()
