"""The map in a real browser against the running stack: moved, coloured, chosen from, compared."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.console.browsing import MARKS

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

pytestmark = MARKS


def in_database(page: Page, tenant: dict[str, Any]) -> Counter[tuple[str, str]]:
    """How many ready assets with vectors there are by dataset and modality, asset by asset from the API."""
    found: Counter[tuple[str, str]] = Counter()
    headers = {"Authorization": f"Bearer {tenant['api_key']}"}
    for dataset in page.request.get("/api/v1/datasets?limit=200", headers=headers).json()["results"]:
        cursor = ""
        while cursor is not None:
            address = f"/api/v1/datasets/{dataset['id']}/assets?limit=200&cursor={cursor}"
            answer = page.request.get(address.removesuffix("&cursor="), headers=headers).json()
            for asset in answer["results"]:
                # Music that was made here has no words, so that nothing of it can be compared.
                compared = not (asset["generated"] and asset["modality"] == "audio")
                shown = asset["status"] == "ready" and asset["moderation"] not in ("block", "quarantined")
                if shown and compared:
                    found[dataset["name"], asset["modality"]] += 1
            cursor = answer["next"]
    return found


def by_modality(found: Counter[tuple[str, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (_dataset, modality), count in found.items():
        counts[modality] += count
    return counts


def frame(page: Page) -> dict[str, float]:
    # A button below it that was clicked has moved the page.
    page.locator("[data-plot]").scroll_into_view_if_needed()
    box = page.locator("[data-plot]").bounding_box()
    assert box
    return box


def lasso(page: Page) -> None:
    """Around everything that the plot shows."""
    box = frame(page)
    left, top = box["x"] + 3, box["y"] + 3
    right, bottom = box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def shot(page: Page, name: str) -> None:
    """Where a folder for pictures is named."""
    if folder := os.environ.get("MAP_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_map_is_moved_coloured_and_chosen_from(signed_in: Page, grocery: dict[str, Any]) -> None:
    page = signed_in
    page.goto("/map")
    count = page.locator("[data-count]")
    expect(page.locator("[data-about]")).to_contain_text("PCA")
    found = in_database(page, grocery)
    known, everything = by_modality(found), found.total()
    legend = page.locator("[data-legend] button")
    told = {
        one.locator("span").first.inner_text(): one.locator("span").last.inner_text() for one in legend.all()
    }
    assert told == {kind: str(number) for kind, number in known.items()}
    shot(page, "map-light")
    # Panned and zoomed, the plot is drawn anew; then all of it is shown again.
    before = page.locator("#map").get_attribute("data-drawn") or ""
    box = frame(page)
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 220, steps=3)
    page.mouse.up()
    page.mouse.wheel(0, -300)
    expect(page.locator("#map")).not_to_have_attribute("data-drawn", before)
    page.get_by_role("button", name="Whole map").click()
    # A lasso around everything has as many as the database; without pictures, the others.
    page.get_by_role("button", name="Lasso").click()
    lasso(page)
    expect(count).to_have_text(str(everything))
    expect(page.locator("[data-thumbs] li")).to_have_count(min(60, everything))
    legend.filter(has_text="image").click()
    page.get_by_role("button", name="Clear").click()
    expect(count).to_have_text("0")
    lasso(page)
    expect(count).to_have_text(str(everything - known["image"]))
    legend.filter(has_text="image").click()
    # The table has the same points, and ticks in it count.
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("The points as a table").click()
    expect(page.locator("[data-place]")).to_contain_text(f"of {everything}")
    for row in page.locator("[data-rows] input").all()[:3]:
        row.check()
    expect(count).to_have_text("3")
    page.get_by_role("button", name="Similarity matrix").click()
    expect(page.locator("[data-matrix-told]")).to_contain_text("3 assets")
    shot(page, "map-selected")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Ids as CSV").click()
    assert len(Path(saved.value.path()).read_text().split()) == 4
    page.get_by_label("Highlight what a search finds").fill("yellow bananas")
    page.get_by_role("button", name="Highlight", exact=True).click()
    expect(page.locator("[data-about]")).to_contain_text("ringed")
    best = page.locator("[data-found-list] button")
    expect(best).to_have_count(min(20, everything))
    best.first.click()
    card = page.locator("[data-hover]")
    expect(card).to_contain_text("result 1")
    # A topic has a name, leads to its points and selects them; keys step from point to point and open one.
    topic = page.locator("[data-topics-list] li").first
    size = topic.locator("span").nth(1).inner_text()
    topic.locator("button").first.click()
    topic.locator("button").last.click()
    expect(count).to_have_text(size)
    page.get_by_role("button", name="Whole map").click()
    page.locator("[data-plot]").focus()
    page.keyboard.press("]")
    expect(card.locator("a")).to_have_attribute("href", re.compile("^/assets/"))
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    # Tagged and taken back.
    page.get_by_label("Tags, between commas").fill("looked at")
    page.locator("[data-tag-form]").get_by_role("button", name="Add").click()
    told = page.locator("[data-tag-told]")
    expect(told).to_contain_text(re.compile("asset(s were| was) changed"))
    told.get_by_role("button", name="Undo").click()
    expect(told).to_have_text("Undone.")
    page.get_by_label("Colour by").select_option(label="Dataset")
    names = [one.locator("span").first.inner_text() for one in legend.all()]
    assert set(names) == {dataset for dataset, _modality in found}
    looked_at(page)


def looked_at(page: Page) -> None:
    """Pictures of it, where they are wanted."""
    page.emulate_media(color_scheme="dark")
    shot(page, "map-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    shot(page, "map-phone")
