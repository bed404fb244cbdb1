"""Auditing in a real browser against the running stack: asking, reviewing by the keyboard alone, undoing, policies."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.browsing import MARKS, delete_dataset, held, new_dataset, write_policy

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

pytestmark = MARKS

# Decides about nothing but what carries the mark of one test, so that other tests' uploads stay as they are.
MARK = f"zorblax-{secrets.token_hex(4)}"
RULE = {
    "id": "marked",
    "when": f'item.subject == "{MARK}"',
    "then": "review",
    "reason": "It carries the mark of a test.",
    "severity": 90,
}


@pytest.fixture
def policy(signed_in: Page) -> Iterator[str]:
    """The address of a policy that is in force, and out of it afterwards."""
    page = signed_in
    page.goto("/policies")
    page.get_by_role("button", name="New policy").click()
    page.get_by_label("Name").fill(f"Browser {secrets.token_hex(3)}")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("It has no rules, so everything is allowed.")).to_be_visible()
    address = page.url
    page.get_by_role("link", name="Write as JSON and CEL").click()
    # The script puts it into the place of a plain field.
    expect(page.locator(".editor-host")).to_be_visible()
    write_policy(page, '{"rules": [{"id": "x"}]}')
    page.get_by_role("button", name="Check only").click()
    expect(page.get_by_text("/rules/0/when").first).to_be_visible()
    write_policy(page, json.dumps({"rules": [RULE]}))
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_text("Saved as version 2.")).to_be_visible()
    page.get_by_label("Mode", exact=True).select_option("enforce")
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible()
    page.get_by_role("button", name="Activate version").click()
    expect(page.get_by_text("Version 2 decides about every item from now on.")).to_be_visible()
    yield address
    page.goto(address)
    page.get_by_role("spinbutton", name="Version").fill("2")
    page.get_by_label("Mode", exact=True).select_option("off")
    page.get_by_role("button", name="Activate").click()
    page.get_by_role("button", name="Deactivate").click()
    expect(page.get_by_text("Version 2 is no longer active.")).to_be_visible()


def ask(page: Page, text: str, sender: str = MARK) -> None:
    """Audit a text and wait for the page to show the decision by itself."""
    page.goto("/audits")
    fold = page.locator("#ask")
    if fold.get_attribute("open") is None:
        page.get_by_role("heading", name="Audit something").click()
    page.get_by_label("Text").fill(text)
    page.get_by_label(re.compile("Sender")).fill(sender)
    page.get_by_role("button", name="Audit it").click()
    expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=60_000)


def test_a_file_is_audited_and_its_page_follows(signed_in: Page) -> None:
    page = signed_in
    page.goto("/audits")
    if page.locator("#ask").get_attribute("open") is None:
        page.get_by_role("heading", name="Audit something").click()
    words = {"name": "words.txt", "mimeType": "text/plain", "buffer": b"A red kettle on the stove."}
    page.get_by_label("A file").set_input_files(words)
    page.get_by_role("button", name="Audit it").click()
    expect(page).to_have_url(re.compile("/audits/[0-9a-f-]{36}$"), timeout=60_000)
    expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=60_000)
    expect(page.locator(".tier-not_examined").first).to_be_visible()
    expect(page.get_by_role("heading", name="Detectors that ran")).to_be_visible()


def test_a_review_is_taken_decided_and_undone_by_the_keyboard_alone(
    signed_in: Page, policy: str, stack: Any
) -> None:
    page = signed_in
    ask(page, f"Some words with {MARK}")
    expect(page.get_by_role("heading", name="In review")).to_be_visible()
    expect(page.get_by_text("It carries the mark of a test.")).to_be_visible()
    page.goto("/reviews")
    page.get_by_role("button", name="Claim the next").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Decide", exact=True)).to_be_visible()
    item = page.locator(".veil").first
    expect(item.locator(".words")).to_have_css("filter", re.compile("blur"))
    item.focus()
    expect(item.locator(".words")).to_have_css("filter", "none")
    page.get_by_label("Allow").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.type("Only a test.")
    expect(page.get_by_label("Reason")).to_have_value("Only a test.")
    decide = page.get_by_role("button", name="Decide", exact=True)
    for _ in range(6):
        page.keyboard.press("Tab")
        if decide.evaluate("element => element === document.activeElement"):
            break
    expect(decide).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Allowed. The reason is on record.")).to_be_visible()
    page.get_by_role("button", name="Undo").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Undone. The review is in the queue again")).to_be_visible()
    expect(page.get_by_role("button", name="Claim it")).to_be_visible()
    review = page.url.rpartition("/")[2]
    decided = "SELECT decision, undoes IS NOT NULL FROM review_outcome WHERE review = %s ORDER BY id"
    assert held(stack, decided, review)[-2:] == [("allow", False), ("review", True)]
    assert held(stack, "SELECT state FROM review WHERE id = %s", review) == [("open",)]


def test_a_member_decides_with_keys_of_their_own(signed_in: Page, policy: str, stack: Any) -> None:
    page = signed_in
    ask(page, f"Words for other keys with {MARK}")
    page.goto("/shortcuts")
    page.get_by_label("Block", exact=True).focus()
    page.keyboard.type("L")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("“L” is the key of “Label” already.")).to_be_visible()
    page.complaints.clear()  # of the browser, about the answer 422
    page.get_by_label("Label", exact=True).focus()
    page.keyboard.press("Delete")
    page.get_by_label("Undo the last decision").fill("z")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your keys were saved")).to_be_visible()
    page.goto("/reviews")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="Decide", exact=True)).to_be_visible()
    review = page.url.rpartition("/")[2]
    page.keyboard.press("?")
    shown = page.locator("#shortcuts")
    expect(shown.get_by_text("Reviews: Block")).to_be_visible()
    # What is open takes the keys.
    page.keyboard.press("l")
    expect(page.locator("[name=decision]:checked")).to_have_count(0)
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    expect(page.locator("[name=decision]:checked")).to_have_count(0)
    page.keyboard.press("l")
    expect(page.locator("[name=decision][value=block]")).to_be_checked()
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("zeal")
    expect(page.get_by_label("Reason")).to_have_value("zeal")
    page.get_by_role("radio", name="Block").focus()
    page.keyboard.press("n")
    expect(page.get_by_text("Blocked. The reason is on record.")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_text("Undone. The review is in the queue again")).to_be_visible()
    decided = "SELECT decision, undoes IS NOT NULL FROM review_outcome WHERE review = %s ORDER BY id"
    # It may have been decided and undone before, by another test.
    assert held(stack, decided, review)[-2:] == [("block", False), ("review", True)]
    page.keyboard.press("t")
    page.get_by_role("button", name="Turn single-key shortcuts off").click()
    expect(page.get_by_text("Single-key shortcuts are off now.")).to_be_visible()
    page.keyboard.press("l")
    expect(page.locator("[name=decision]:checked")).to_have_count(0)
    page.goto("/shortcuts")
    page.get_by_role("button", name="Back to the defaults").click()
    expect(page.get_by_text("All keys are back to the defaults.")).to_be_visible()
    expect(page.get_by_label("Undo the last decision")).to_have_value("U")


def test_many_are_decided_at_once_and_undone_as_a_whole(signed_in: Page, policy: str) -> None:
    page = signed_in
    for number in range(2):
        ask(page, f"Number {number} with {MARK}")
    page.goto("/reviews/bulk")
    page.get_by_label("Rule").fill("marked")
    page.get_by_role("button", name="Show what would change").click()
    shown = page.get_by_role("heading", name=re.compile("matching reviews?"))
    expect(shown).to_be_visible()
    count = int(shown.inner_text().split()[0])
    assert count >= 2
    page.get_by_label("Reason").fill("A wave of tests.")
    page.get_by_role("button", name=f"Allow {count}").click()
    expect(page.get_by_text(f"{count} reviews decided.")).to_be_visible()
    page.locator(".alert").get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{count} decisions undone.")).to_be_visible()


def test_a_backtest_is_followed_to_its_end(signed_in: Page, policy: str, stack: Any) -> None:
    page = signed_in
    ask(page, "Something for the history", sender="somebody")
    page.goto(policy)
    page.get_by_role("button", name=re.compile("Backtest version")).click()
    expect(page.locator(".status-succeeded")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    finished = "SELECT finished_at IS NOT NULL FROM policy_backtest WHERE id = %s"
    assert held(stack, finished, page.url.rpartition("/")[2]) == [(True,)]


def test_an_asset_is_audited_and_put_on_a_list(signed_in: Page) -> None:
    page = signed_in
    name = f"Audited {secrets.token_hex(3)}"
    new_dataset(page, name)
    address = page.url
    page.get_by_text("Caption, metadata, or a text instead of a file").click()
    page.get_by_label("A text to add").fill(f"A kettle, {secrets.token_hex(6)}")
    page.get_by_role("button", name="Add the text").click()
    page.locator(".tile a").first.click()
    page.get_by_role("button", name="Audit", exact=True).click()
    expect(page.get_by_role("heading", name="Decision")).to_be_visible(timeout=60_000)
    page.get_by_role("link", name="Open the asset").click()
    page.get_by_role("link", name="Put on a hash list").click()
    page.get_by_role("button", name="New list").click()
    page.get_by_label("Name").fill(f"Seen {secrets.token_hex(3)}")
    page.get_by_label("Contents").select_option("good")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("This list is empty")).to_be_visible()
    page.goto(address)
    delete_dataset(page, name)


@pytest.mark.parametrize("address", ["/audits", "/reviews", "/reviews/bulk", "/policies", "/hash-lists"])
def test_no_page_of_auditing_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
