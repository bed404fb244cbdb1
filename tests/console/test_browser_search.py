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
    expect(page.get_by_role("heading", name="Likely matches")).to_be_focused()


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
    words = page.get_by_label("Search text")
    words.fill("")
    words.press("Enter")
    expect(page).to_have_url(re.compile(r"/search\?like=[0-9a-f-]{36}&unlike=[0-9a-f-]{36}$"))
    expect(tiles.first).to_be_visible()
    chips(page).last.get_by_role("button").click()
    expect(chips(page)).to_have_count(1)
    chips(page).get_by_role("button").click()
    expect(page.get_by_role("heading", name="Recent searches")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/search$"))


def test_what_was_loaded_later_has_the_focus(results: Page) -> None:
    page = results
    # What is likely ends long before a second page.
    page.get_by_role("button", name="Show weaker matches").click()
    expect(page).to_have_url(re.compile(r"/search\?q=bananas&weak=on$"))
    page.get_by_role("button", name="Load more").focus()
    page.keyboard.press("Enter")
    tiles = page.locator("#results .tile > a")
    expect(tiles).to_have_count(48)
    expect(tiles.nth(24)).to_be_focused()
    page.get_by_role("button", name="Hide weaker matches").click()
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
    page.get_by_label("Search text").fill("coloured rectangles")
    page.get_by_role("button", name="Search", exact=True).click()
    # No photograph that anybody would take for that.
    page.get_by_role("button", name="Show weaker matches").click()
    tiles = page.locator("#results .tile")
    expect(tiles).to_have_count(1)
    page.get_by_text("2 near-duplicates").click()
    others = page.locator(".folded li a")
    expect(others).to_have_count(2)
    expect(others.first.locator("img")).to_be_visible()
    page.get_by_label("Group near-duplicates").uncheck()
    page.get_by_role("button", name="Search", exact=True).click()
    expect(tiles).to_have_count(3)
    expect(page).to_have_url(re.compile("group=off"))
    page.reload()
    expect(tiles).to_have_count(3)
    expect(page.get_by_label("Group near-duplicates")).not_to_be_checked()


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
    page.get_by_label("Search text").fill("bananas")
    page.get_by_label("Search text").press("Enter")
    expect(page).to_have_url(re.compile(r"/search\?q=bananas$"))
    fruit(page).click()
    expect(chips(page)).to_have_text([re.compile("aisle: fruit")])
    expect(page).to_have_url(re.compile("only="))
    page.get_by_role("button", name="Show weaker matches").click()
    expect(page).to_have_url(re.compile("weak=on"))
    page.get_by_role("button", name="Load more").click()
    expect(page.locator("#results .tile").first).to_be_visible()
    expect(chips(page)).to_have_count(1)
    context.close()


def test_a_key_goes_anywhere_by_name(results: Page) -> None:
    page = results
    page.locator("#results .tile > a").first.focus()
    page.keyboard.press("Control+k")
    box = page.locator("#go [name=q]")
    expect(box).to_be_focused()
    # All pages, before anything is typed.
    expect(page.locator("#places").get_by_role("link", name="Webhooks")).to_be_visible()
    page.keyboard.type("shelf ph")
    expect(page.locator("#places a").first).to_have_text(re.compile("shelf photos"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("#places a").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(box).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/datasets/"))
    page.wait_for_load_state()
    # Typed fast, Enter waits for what was typed.
    page.keyboard.press("Control+k")
    page.keyboard.type("usage")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/usage$"))
    page.wait_for_load_state()
    page.keyboard.press("Control+k")
    expect(box).to_be_focused()
    # The next key may come before the frame that takes the focus out of the closed dialog.
    reached = page.evaluate("""() => {
        document.querySelector("#go").close();
        const at = document.activeElement;
        at.dispatchEvent(new KeyboardEvent("keydown", { key: "?", bubbles: true, cancelable: true }));
        const open = document.querySelector("#shortcuts").open;
        document.querySelector("#shortcuts").close();
        return [at.name, open];
    }""")
    assert reached == ["q", True]
    page.keyboard.press("Control+k")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#go")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#shortcuts")).to_be_hidden()
    page.get_by_role("link", name="Go to").click()
    expect(box).to_be_focused()


def test_what_is_not_there_is_told_in_so_many_words(results: Page) -> None:
    page = results
    for nothing in ("xqzvw blorf", "a horse"):
        page.goto(f"/search?q={nothing}")
        expect(page.get_by_role("heading", name="No good matches")).to_be_visible()
        expect(page.locator("#results .tile")).to_have_count(0)
    page.get_by_role("button", name="Show weaker matches").click()
    expect(page.locator("#results .tile").first).to_be_visible()
    expect(page.locator(".result-head h2")).to_be_focused()
