"""Narrowing a search down, and coming back, in a real browser."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, delete_dataset, new_dataset
from tests.flows.pictures import jpeg

pytestmark = MARKS


def again(seed: int, quality: int) -> dict[str, Any]:
    """A picture that looks like another one of this seed and has other bytes."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(jpeg(seed, 256))).save(sink, "JPEG", quality=quality)
    return {"name": f"{quality}.jpg", "mimeType": "image/jpeg", "buffer": sink.getvalue()}


@pytest.fixture
def results(signed_in: Page) -> Page:
    signed_in.goto("/search?q=bananas")
    expect(signed_in.locator("#results .tile").first).to_be_visible()
    return signed_in


def fruit(page: Page) -> Any:
    return page.locator("[data-facets] button").filter(has_text=re.compile("^fruit"))


def chips(page: Page) -> Any:
    return page.locator("#refinements .chip")


def test_a_value_narrows_keeps_the_focus_and_comes_back(results: Page) -> None:
    page = results
    expect(page.locator("#results mark").first).to_have_text(re.compile("banana", re.IGNORECASE))
    everything = page.locator(".result-head .muted").inner_text()
    fruit(page).focus()
    page.keyboard.press("Enter")
    expect(chips(page)).to_have_text([re.compile("aisle: fruit")])
    expect(fruit(page)).to_have_attribute("aria-pressed", "true")
    expect(fruit(page)).to_be_focused()
    expect(page).to_have_url(re.compile("only="))
    assert page.locator(".result-head .muted").inner_text() != everything
    page.reload()
    expect(chips(page)).to_have_count(1)
    page.go_back()
    expect(chips(page)).to_have_count(0)
    expect(page).to_have_url(re.compile(r"/search\?q=bananas$"))
    expect(fruit(page)).to_have_attribute("aria-pressed", "false")
    page.go_forward()
    expect(chips(page)).to_have_text([re.compile("aisle: fruit")])
    page.get_by_role("button", name="Remove: aisle: fruit").click()
    expect(chips(page)).to_have_count(0)
    expect(page.get_by_role("heading", name="Closest first")).to_be_focused()


def test_more_and_less_like_this(results: Page) -> None:
    page = results
    tiles = page.locator("#results .tile")
    wanted = tiles.first.get_attribute("id")
    page.locator(f"#{wanted}").get_by_role("button", name="More like this").click()
    expect(chips(page)).to_have_text([re.compile("Like")])
    expect(page.locator(f"#{wanted}")).to_have_count(0)
    unwanted = tiles.nth(5).get_attribute("id")
    page.locator(f"#{unwanted}").get_by_role("button", name="Less like this").click()
    expect(chips(page)).to_have_text([re.compile("Like"), re.compile("Not like")])
    expect(page.locator(f"#{unwanted}")).to_have_count(0)
    # Words can go: the examples are a query of their own.
    words = page.get_by_label("Words to search by")
    words.fill("")
    words.press("Enter")
    expect(page).to_have_url(re.compile(r"/search\?like=[0-9a-f-]{36}&unlike=[0-9a-f-]{36}$"))
    expect(tiles.first).to_be_visible()
    chips(page).last.get_by_role("button").click()
    expect(chips(page)).to_have_count(1)
    chips(page).get_by_role("button").click()
    expect(page.get_by_role("heading", name="Words, a picture, or your voice")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/search$"))


def test_what_was_loaded_later_has_the_focus(results: Page) -> None:
    page = results
    page.get_by_role("button", name="Load more").focus()
    page.keyboard.press("Enter")
    tiles = page.locator("#results .tile > a")
    expect(tiles).to_have_count(48)
    expect(tiles.nth(24)).to_be_focused()
    expect(page).to_have_url(re.compile(r"/search\?q=bananas$"))


@pytest.fixture
def copies(signed_in: Page, request: pytest.FixtureRequest) -> Iterator[Page]:
    page, name = signed_in, f"copies {request.node.name}"
    new_dataset(page, name)
    page.set_input_files("#upload-form [type=file]", [again(11, quality) for quality in (95, 90, 85)])
    expect(page.locator("#uploads [data-state=done]")).to_have_count(3)
    page.reload()
    yield page
    page.goto("/datasets")
    page.get_by_role("link", name=name).first.click()
    delete_dataset(page, name)


def test_near_duplicates_unfold(copies: Page) -> None:
    page = copies
    page.get_by_role("link", name="Search in it").click()
    page.get_by_label("Words to search by").fill("coloured rectangles")
    page.get_by_role("button", name="Search", exact=True).click()
    tiles = page.locator("#results .tile")
    expect(tiles).to_have_count(1)
    page.get_by_text("2 near-duplicates").click()
    others = page.locator(".folded li a")
    expect(others).to_have_count(2)
    expect(others.first.locator("img")).to_be_visible()
    page.get_by_label("Fold near-duplicates").uncheck()
    page.get_by_role("button", name="Search", exact=True).click()
    expect(tiles).to_have_count(3)
    expect(page).to_have_url(re.compile("group=off"))
    page.reload()
    expect(tiles).to_have_count(3)
    expect(page.get_by_label("Fold near-duplicates")).not_to_be_checked()


def test_on_a_phone_the_results_come_first(results: Page) -> None:
    page = results
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto("/search?q=bananas")
    expect(fruit(page)).to_be_hidden()
    page.get_by_text("Narrow the results").click()
    fruit(page).click()
    expect(chips(page)).to_have_count(1)
    # Who chooses goes on choosing.
    expect(fruit(page)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_a_script(browser: Any, results: Page, stack: Any) -> None:
    context = browser.new_context(
        base_url=stack.base_url, java_script_enabled=False, storage_state=results.context.storage_state()
    )
    page = context.new_page()
    page.goto("/search")
    page.get_by_label("Words to search by").fill("bananas")
    page.get_by_label("Words to search by").press("Enter")
    expect(page).to_have_url(re.compile(r"/search\?q=bananas$"))
    fruit(page).click()
    expect(chips(page)).to_have_text([re.compile("aisle: fruit")])
    expect(page).to_have_url(re.compile("only="))
    page.get_by_role("button", name="Load more").click()
    expect(page.locator("#results .tile").first).to_be_visible()
    expect(chips(page)).to_have_count(1)
    context.close()
