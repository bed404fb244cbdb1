"""Finding things, in a real browser: links and code of a search, moments, neighbours, lists, uploads of all kinds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, SPOKEN, becomes, delete_dataset, new_dataset, picture
from tests.flows.pictures import jpeg

pytestmark = MARKS

TILES = "#results .tile"


def search(page: Page, words: str) -> None:
    page.goto("/search")
    page.get_by_label("Search text").fill(words)
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(TILES).first).to_be_visible()


def found(page: Page) -> list[str]:
    ids = page.locator(TILES).evaluate_all("tiles => tiles.map(tile => tile.id)")
    return [one.removeprefix("asset-") for one in ids]


def test_a_search_is_shared_as_a_link_and_run_as_code(
    signed_in: Page, grocery: dict[str, Any], tmp_path: Path
) -> None:
    page = signed_in
    search(page, 'it\'s a "fruit"')
    wanted, unwanted = page.locator(TILES).nth(0), page.locator(TILES).nth(3)
    gone = unwanted.get_attribute("id")
    unwanted.get_by_role("button", name="Less like this").click()
    expect(page.locator("#refinements .chip")).to_have_text([re.compile("Not like")])
    expect(page.locator(f"#{gone}")).to_have_count(0)
    wanted.get_by_role("button", name="More like this").click()
    expect(page.locator("#weight-like")).to_be_visible()
    page.locator("#weight-like").fill("80")
    expect(page.get_by_role("button", name="Back to the suggestion")).to_be_visible()
    before = found(page)
    page.get_by_text("Link and code").click()
    link = page.locator("#search-link").inner_text()
    assert all(part in link for part in ("like=", "unlike=", "weigh=on", "weight_like="))
    code = {name: page.locator(f"#code-{name}").inner_text() for name in ("curl", "python")}
    page.goto(link)
    expect(page.locator("#refinements .chip")).to_have_count(2)
    expect(page.locator("#weigh-own")).to_be_checked()
    assert found(page) == before
    env = {**os.environ, "CROSSLIGHT_KEY": grocery["api_key"]}
    (tmp_path / "ask.py").write_text(code["python"])
    asked = {"curl": ["sh", "-c", code["curl"]], "python": [sys.executable, str(tmp_path / "ask.py")]}
    for name, command in asked.items():
        answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert answer.returncode == 0, (name, answer.stderr)
        # The console's link rounds weights to whole per cent, and so does its code: the same query, the same order.
        places = [answer.stdout.find(one) for one in before]
        assert min(places) >= 0, (name, answer.stdout)
        assert places == sorted(places), name


def test_a_picture_of_one_search_is_saved_so_that_it_has_a_link(
    signed_in: Page, request: pytest.FixtureRequest
) -> None:
    page, name = signed_in, f"kept {request.node.name}"
    new_dataset(page, name)
    address = page.url
    page.goto("/search")
    page.set_input_files("#search-form [name=image]", [picture(77)])
    page.get_by_role("button", name="Show weaker matches").click()
    expect(page.locator(TILES).first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/search\?file=[0-9a-f-]{36}&weak=on$"))
    page.get_by_text("Link and code").click()
    expect(page.locator("#search-link")).to_contain_text("/search?file=")
    page.locator("#keep-in").select_option(label=name)
    page.get_by_role("button", name="Save the picture").click()
    expect(page).to_have_url(re.compile(r"/search\?asset=[0-9a-f-]{36}&weak=on$"))
    page.reload()
    expect(page.locator("[data-chip]")).to_be_visible()
    # The search by the picture that was sent comes back by its address, with its picture.
    page.go_back()
    expect(page).to_have_url(re.compile(r"/search\?file=[0-9a-f-]{36}&weak=on$"))
    expect(page.locator(TILES).first).to_be_visible()
    expect(page.locator("[data-chip] img")).to_have_attribute("src", re.compile("/search/pictures/"))
    page.goto(address)
    expect(page.locator("#tiles .tile")).to_have_count(1)
    delete_dataset(page, name)


def test_a_search_is_saved_with_its_order_and_found_again(
    signed_in: Page, request: pytest.FixtureRequest
) -> None:
    page, name = signed_in, f"saved {request.node.name}"
    search(page, "ripe fruit")
    page.get_by_label("Order").select_option("newest")
    expect(page).to_have_url(re.compile(r"/search\?q=ripe\+fruit&sort=newest$"))
    page.get_by_role("button", name="List", exact=True).click()
    lines = page.locator("#results .hit")
    expect(lines.first).to_be_visible()
    first = lines.first.get_attribute("id")
    page.get_by_text("Save this search").click()
    page.locator("#save-name").fill(name)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(f"Saved as “{name}”.")).to_be_visible()
    page.goto("/search")
    page.locator(".kept").get_by_role("link", name=name).click()
    expect(lines.first).to_have_attribute("id", first or "")
    # The list is how it was left; so are tiles.
    page.get_by_role("button", name="Grid", exact=True).click()
    expect(page.locator(TILES).first).to_be_visible()
    page.locator("[data-menu] > summary").click()
    page.locator("#kept-menu").get_by_role("link", name=name).click()
    expect(page.locator(TILES).first).to_have_attribute("id", first or "")
    page.goto("/search")
    line = page.locator(".kept > li").filter(has_text=name)
    line.get_by_text("Change").click()
    line.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The saved search was deleted.")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#recent-searches")).to_have_count(0)


def test_the_keyboard_goes_from_result_to_result(signed_in: Page) -> None:
    page = signed_in
    search(page, "bananas")
    page.locator("#main").focus()
    page.keyboard.press("/")
    words = page.get_by_label("Search text")
    expect(words).to_be_focused()
    expect(words).to_have_value("bananas")
    links = page.locator(f"{TILES} > a")
    page.keyboard.press("ArrowDown")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(links.nth(2)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Details")).to_be_visible()


def test_the_keyboard_labels_a_result_where_it_stands(signed_in: Page) -> None:
    page = signed_in
    search(page, "ripe bananas")
    page.get_by_label("Search text").focus()
    page.keyboard.press("ArrowDown")
    first = page.locator(TILES).first
    link, said = first.locator("> a"), first.get_by_role("status").first
    page.keyboard.press("+")
    expect(said).to_have_text("One opinion of two")
    expect(first.get_by_role("button", name=re.compile("^Relevant:"))).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(link).to_be_focused()
    page.keyboard.press("-")
    misses = first.get_by_role("button", name=re.compile("^Not relevant:"))
    expect(misses).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("c")
    expect(first.get_by_role("textbox")).to_be_focused()
    # What was said is there again with the same search.
    page.reload()
    expect(misses).to_have_attribute("aria-pressed", "true")


def test_a_moment_plays_at_once_from_its_second(signed_in: Page, request: pytest.FixtureRequest) -> None:
    page, name = signed_in, f"moments {request.node.name}"
    new_dataset(page, name)
    page.set_input_files("#upload-form [type=file] >> nth=0", [str(SPOKEN)])
    expect(page.locator("#uploads [data-state=done]")).to_have_count(1)
    page.get_by_role("link", name="Search in it").click()
    page.get_by_label("Search text").fill("yellow bananas")
    page.get_by_role("button", name="Search", exact=True).click()
    play = page.locator(f"{TILES} [data-play]").first
    at = float(play.get_attribute("data-at") or "nan")
    play.click()
    media = page.locator("#moment-player audio")
    expect(media).to_be_visible()
    becomes(
        page,
        "at => { const m = document.querySelector('#moment-player audio');"
        " return !m.paused && m.currentTime > at && m.currentTime < at + 10 }",
        at,
    )
    page.keyboard.press("Escape")
    expect(page.locator("#moment-player audio")).to_have_count(0)
    # On its own page: a waveform that the keyboard moves, with what was said over it.
    page.locator(f"{TILES} > a").first.click()
    wave = page.get_by_role("slider", name="Position in the recording")
    expect(wave.locator("[data-region]").first).to_be_attached()
    becomes(page, "document.querySelector('audio').readyState > 0")
    wave.focus()
    page.keyboard.press("End")
    length = float(page.locator("[data-player]").get_attribute("data-duration") or "nan")
    expect(wave).to_have_attribute("aria-valuenow", str(round(length)))
    page.keyboard.press("Home")
    expect(wave).to_have_attribute("aria-valuenow", "0")
    page.go_back()
    page.goto("/datasets")
    page.get_by_role("link", name=name).first.click()
    delete_dataset(page, name)


def test_a_film_among_the_results_shows_the_moment_that_was_found(signed_in: Page) -> None:
    page = signed_in
    page.goto("/search?q=a+shelf&modality=video&weak=on")
    face = page.locator("#results [data-film]").first
    # Drawn as it comes into sight, which it may not be below what narrows the search.
    face.scroll_into_view_if_needed()
    expect(face).to_have_attribute("data-drawn", "")
    painted = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, 240, 240).data.some(one => one && one < 255)"
    )
    assert face.locator("canvas").evaluate(painted)
    # The poster stays for who cannot see it drawn, with its words.
    expect(face.locator("img")).to_have_attribute("alt", re.compile("."))


def test_frames_of_a_film_are_drawn_and_lead_to_their_moment(signed_in: Page) -> None:
    page = signed_in
    page.goto("/search?q=bananas&modality=video")
    page.locator(f"{TILES} > a").first.click()
    frames = page.locator("[data-frames] a")
    expect(frames).to_have_count(8)
    expect(page.locator("[data-frames] [data-drawn]")).to_have_count(8)
    painted = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, 160, 90).data.some(one => one && one < 255)"
    )
    assert frames.nth(4).locator("canvas").evaluate(painted)
    at = float(frames.nth(4).get_attribute("data-seek") or "nan")
    frames.nth(4).click()
    becomes(page, "at => document.querySelector('video').currentTime >= at", at)
    # Compared only once somebody looks.
    page.get_by_role("heading", name="Nearest neighbours").scroll_into_view_if_needed()
    page.mouse.wheel(0, 400)
    expect(page.locator(".neighbours li")).to_have_count(10)


def mixed() -> list[dict[str, Any]]:
    """Twenty files as people have them: pictures, notes, a recording, and one that is no picture."""
    pictures = [{"name": f"{at}.jpg", "mimeType": "image/jpeg", "buffer": jpeg(500 + at)} for at in range(12)]
    notes = [
        {"name": f"{at}.txt", "mimeType": "text/plain", "buffer": f"note {at}".encode()} for at in range(6)
    ]
    spoken = {"name": "spoken.wav", "mimeType": "audio/wav", "buffer": SPOKEN.read_bytes()}
    broken = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff\xe0 no picture"}
    return [*pictures, *notes, spoken, broken]


def test_twenty_mixed_files_then_a_table_of_them(signed_in: Page, request: pytest.FixtureRequest) -> None:
    page, name = signed_in, f"mixed {request.node.name}"
    new_dataset(page, name)
    page.set_input_files("#upload-form [type=file] >> nth=0", mixed())
    expect(page.locator("#uploads progress")).to_have_count(20)
    expect(page.locator("#uploads [data-state=done]")).to_have_count(19, timeout=60_000)
    expect(page.locator("#uploads [data-state=failed]")).to_have_count(1)
    page.get_by_role("link", name="Table").click()
    rows = page.locator("#bulk tbody tr")
    expect(rows).to_have_count(20)
    # The choice stays.
    page.reload()
    expect(rows).to_have_count(20)
    delete = page.locator("#bulk").get_by_role("button", name="Delete").first
    expect(delete).to_be_disabled()
    page.get_by_label("All on this page").check()
    expect(page.get_by_text("20 chosen")).to_be_visible()
    rows.nth(0).get_by_role("checkbox").uncheck()
    expect(page.get_by_text("19 chosen")).to_be_visible()
    page.get_by_role("button", name="Set a field").click()
    page.get_by_role("combobox", name="Field").fill("shelf")
    page.get_by_role("textbox", name="Value").fill("upper")
    page.get_by_role("textbox", name="Value").press("Enter")
    expect(page.get_by_text("19 assets were changed.")).to_be_visible()
    page.locator("summary").filter(has_text="Columns").click()
    page.get_by_label("shelf").check()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator("#bulk td.cell").filter(has_text="upper")).to_have_count(19)
    page.get_by_label("All on this page").check()
    delete.click()
    page.locator("#bulk-delete").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("20 assets were deleted.")).to_be_visible()
    page.get_by_role("link", name="Grid").click()
    delete_dataset(page, name)


@pytest.mark.parametrize("address", ["/datasets/{products}?view=table", "/datasets/{products}?view=grid"])
def test_lists_fit_a_phone(signed_in: Page, grocery: dict[str, Any], address: str) -> None:
    signed_in.set_viewport_size({"width": 390, "height": 844})
    signed_in.goto(address.format(products=grocery["datasets"]["products"]))
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 390
