"""Models in a real browser against the running stack: trained, promoted, rolled back; and judging what was found."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from tests.console.browsing import MARKS, held

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

pytestmark = MARKS

# What a job of seconds may take where other work is going on.
JOB_MS = 240_000


def searches_to_learn_from(page: Page) -> int:
    page.goto("/tasks")
    return int(page.locator("#gate dd strong").first.inner_text())


def test_a_model_is_trained_promoted_and_rolled_back(signed_in: Page, stack: Any) -> None:
    page, name = signed_in, f"Shelf {secrets.token_hex(3)}"
    before = searched_with(stack)
    page.goto("/models")
    page.get_by_role("link", name="Fine-tune", exact=True).click()
    page.get_by_label("Training pairs from").select_option(index=1)
    expect(page.locator("#estimate")).to_contain_text("CPU time")
    # The journey is the same, and its pictures take much less time than those of the default.
    page.get_by_label("Start from").select_option("prior-2")
    page.get_by_label("Epochs").fill("2")
    page.get_by_label(re.compile("^Name")).fill(name)
    page.get_by_role("button", name="Start the fine-tune").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    # The page follows its job by itself.
    expect(page.locator(".page-head .status-candidate")).to_be_visible(timeout=JOB_MS)
    expect(page.get_by_role("heading", name="Curves")).to_be_visible()
    promote(page)
    expect(page.locator(".page-head .status-live")).to_be_visible(timeout=JOB_MS)
    [(model, state, learnt)] = held(
        stack, "SELECT id::text, state, metrics IS NOT NULL FROM learnt_model WHERE name = %s", name
    )
    assert (state, learnt, searched_with(stack)) == ("live", True, f"cman-{model}:1")
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("answers searches again")).to_be_visible()
    assert searched_with(stack) == before
    switched = "SELECT state FROM promotion WHERE model_id = %s ORDER BY id DESC LIMIT 1"
    assert held(stack, switched, model) == [("switched",)]
    page.get_by_role("button", name="Delete").click()
    page.get_by_label(re.compile("to confirm")).fill(name)
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The model was deleted.")).to_be_visible()


def searched_with(stack: Any) -> str:
    """The model whose vectors answer searches."""
    sql = "SELECT live FROM vector_clock JOIN tenant ON tenant.id = tenant_id WHERE slug = 'grocery'"
    [(live,)] = held(stack, sql)
    return str(live)


def promote(page: Page) -> None:
    """Two epochs on a few pairs may well be worse: then with a reason, as a person would."""
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    begun = page.get_by_text("The promotion has started.")
    worse = page.get_by_label("Promote it even though it performs worse")
    expect(begun.or_(worse).first).to_be_visible()
    if worse.is_visible():
        override(page)
        return
    done = page.locator(".page-head .status-live")
    again = page.get_by_role("button", name="Promote anyway")
    expect(done.or_(again).first).to_be_visible(timeout=JOB_MS)
    if again.is_visible():
        again.click()
        override(page)


def override(page: Page) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Promote it even though it performs worse").check()
    dialog.get_by_label("Reason").fill("Only a test.")
    dialog.get_by_role("button", name="Promote").click()


def test_what_was_found_is_judged_and_opening_counts(signed_in: Page) -> None:
    page = signed_in
    before = searches_to_learn_from(page)
    page.goto("/search?q=apple&modality=image")
    picture = page.locator(".tile").first.get_attribute("id") or ""
    page.goto(f"/search?q=yellow&asset={picture.removeprefix('asset-')}")
    expect(page.locator(".why summary")).to_contain_text("words")
    fits = page.get_by_role("button", name=re.compile("^Relevant:")).first
    fits.click()
    expect(fits).to_have_attribute("aria-pressed", "true")
    expect(fits).to_be_focused()
    misses = page.get_by_role("button", name=re.compile("^Not relevant:")).first
    misses.click()
    expect(misses).to_have_attribute("aria-pressed", "true")
    expect(fits).to_have_attribute("aria-pressed", "false")
    page.locator("#found .tile > a").nth(1).click()
    expect(page).to_have_url(re.compile("/assets/"))
    for _ in range(20):
        if searches_to_learn_from(page) == before + 1:
            return
        page.wait_for_timeout(250)
    pytest.fail("opening a result was not recorded")


@pytest.mark.parametrize(
    "address",
    [
        *("/models", "/models/prior-1", "/models/finetune", "/models/golden-queries", "/models/labels"),
        *("/tasks", "/tasks/new"),
    ],
)
def test_no_page_of_models_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
    # All of the navigation can be reached, by the menu.
    signed_in.locator(".nav-drawer summary").click()
    signed_in.locator(".nav-drawer a", has_text="Data").last.scroll_into_view_if_needed()
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
