"""What a person does, in a real browser against the running stack; no page may break its own security policy."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, delete_dataset, new_dataset, picture

pytestmark = MARKS

# Of a picture; who speaks of bananas in a film may stand before it.
BANANA = re.compile("Banana")


def test_uploads_show_their_way_and_become_tiles(signed_in: Page, request: pytest.FixtureRequest) -> None:
    page, name = signed_in, f"browser {request.node.name}"
    new_dataset(page, name)
    broken = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff\xe0 not a picture"}
    page.set_input_files("#upload-form [type=file]", [picture(1), picture(2), picture(3), broken])
    expect(page.locator("#uploads [data-state=done]")).to_have_count(3)
    expect(page.locator("#uploads [data-state=failed]")).to_have_count(1)
    expect(page.locator("#tiles .tile img")).to_have_count(3)
    expect(page.locator("[data-summary]")).to_have_text("3 ready, 1 failed")
    # What failed stands first, with what to do; the bytes are there, so that only the work is done anew.
    row = page.locator("#uploads li").first
    expect(row).to_contain_text("broken.jpg")
    expect(row).to_contain_text("save or export it again")
    with page.expect_response(re.compile("/assets/retry$")) as answered:
        row.get_by_role("button", name="Try again").click()
    assert answered.value.status == 202
    expect(page.locator("#uploads [data-state=failed]")).to_have_count(1)
    expect(page.locator("[data-summary]")).to_have_text("3 ready, 1 failed")
    expect(page.locator("#tab-all")).to_have_text(re.compile(r"All\s+4"))
    expect(page.locator("#tab-failed")).to_have_text(re.compile(r"Failed\s+1"))
    page.get_by_text("Caption, metadata, or a text").click()
    page.get_by_label("A text to add").fill("The kettle whistles on the stove.")
    page.get_by_role("button", name="Add the text").click()
    expect(page.locator("#uploads [data-state=done]")).to_have_count(4)
    expect(page.locator("#tiles blockquote")).to_have_text("The kettle whistles on the stove.")
    expect(page.locator("#tab-all")).to_have_text(re.compile(r"All\s+5"))
    expect(page.locator("#tab-ready")).to_have_text(re.compile(r"Ready\s+4"))
    delete_dataset(page, name)


def test_a_refused_upload_says_why(signed_in: Page, grocery: dict[str, Any]) -> None:
    page = signed_in
    page.goto(f"/datasets/{grocery['datasets']['products']}")
    program = {"name": "song.wav", "mimeType": "audio/wav", "buffer": b"\x7fELF\x02\x01\x01" + bytes(2000)}
    failures: list[str] = []
    page.on("response", lambda r: failures.append(r.url) if r.status == 415 else None)
    page.set_input_files("#upload-form [type=file]", [program])
    expect(page.locator("#uploads [data-state=failed]")).to_contain_text("Accepted are JPEG, PNG")
    assert len(failures) == 1
    expect(page.locator("#uploads li").first.get_by_role("button")).to_have_text("Choose another file")


def test_files_for_which_the_plan_has_no_room_are_not_begun(signed_in: Page, grocery: dict[str, Any]) -> None:
    page = signed_in
    page.goto(f"/datasets/{grocery['datasets']['products']}")
    page.locator("#upload-form").evaluate(
        "form => { form.dataset.assetsLeft = '1'; form.dataset.bytesLeft = '1048576' }"
    )
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
    picker = "#upload-form [type=file]"
    texts = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": b"pears"} for n in "ab"]
    page.set_input_files(picker, texts)
    expect(page.get_by_text("These are 2 files, and your plan has room for 1.")).to_be_visible()
    page.set_input_files(picker, [{"name": "c.txt", "mimeType": "text/plain", "buffer": bytes(3 << 20)}])
    expect(page.get_by_text("These files take 3.0 MB, and your plan has room for 1.0 MB.")).to_be_visible()
    assert sent == []
    expect(page.locator("#uploads li")).to_have_count(0)


def test_a_broken_connection_is_sent_again(signed_in: Page, request: pytest.FixtureRequest) -> None:
    page, name = signed_in, f"browser {request.node.name}"
    new_dataset(page, name)
    page.route(re.compile(r"/datasets/[0-9a-f-]+/assets$"), lambda route: route.abort(), times=2)
    page.set_input_files("#upload-form [type=file]", [picture(21), picture(22)])
    expect(page.locator("[data-summary]")).to_have_text("2 failed")
    page.complaints.clear()  # of the browser, about the line that was cut
    page.get_by_role("button", name="Retry all failed").click()
    expect(page.locator("[data-summary]")).to_have_text("2 ready")
    expect(page.locator("#tab-ready")).to_have_text(re.compile(r"Ready\s+2"))
    delete_dataset(page, name)


def test_without_javascript_files_are_added_and_what_was_refused_is_said(
    signed_in: Page, browser: Any, stack: Any, request: pytest.FixtureRequest
) -> None:
    name = f"browser {request.node.name}"
    new_dataset(signed_in, name)
    plain = browser.new_context(base_url=stack.base_url, java_script_enabled=False)
    plain.add_cookies(signed_in.context.cookies())
    page = plain.new_page()
    page.goto(signed_in.url)
    program = {"name": "song.wav", "mimeType": "audio/wav", "buffer": b"\x7fELF\x02\x01\x01" + bytes(2000)}
    page.get_by_label("Files to add").set_input_files([picture(31), program])
    page.get_by_role("button", name="Add the files").click()
    expect(page.locator("[data-summary]")).to_have_text("1 accepted, 1 refused")
    expect(page.locator("#uploads li").first).to_contain_text("Accepted are JPEG")
    expect(page.locator("#tab-all")).to_have_text(re.compile(r"All\s+1"))
    plain.close()
    delete_dataset(signed_in, name)


def test_a_list_follows_what_is_processed_and_tags_are_added_to_what_is_ticked(
    signed_in: Page, request: pytest.FixtureRequest
) -> None:
    page, name = signed_in, f"browser {request.node.name}"
    new_dataset(page, name)
    page.set_input_files("#upload-form [type=file]", [picture(41), picture(42)])
    expect(page.locator("[data-summary]")).to_have_text("2 ready")
    page.get_by_role("link", name="Table").click()
    page.get_by_label("All on this page").check()
    page.get_by_role("button", name="Tags").click()
    page.get_by_label("Add", exact=True).fill("to sort, red")
    page.get_by_role("button", name="Change tags").click()
    expect(page.get_by_text("2 assets were changed.")).to_be_visible()
    page.get_by_label("Tag", exact=True).select_option(label="red (2)")
    expect(page).to_have_url(re.compile("tag=red"))
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{page.url.split('?')[0]}?view=grid")
    expect(page.locator(".tile").first).to_contain_text("to sort")
    delete_dataset(page, name)


def test_search_by_words_then_by_the_picture_that_was_found(signed_in: Page) -> None:
    page = signed_in
    page.goto("/search")
    page.get_by_label("Search text").fill("bananas")
    page.get_by_role("button", name="Search", exact=True).click()
    tiles = page.locator("#results .tile")
    expect(tiles.get_by_role("link", name=BANANA).first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/search\?q=bananas"))
    assert tiles.count() < 24
    page.get_by_role("button", name="Show weaker matches").click()
    expect(tiles).to_have_count(24)
    page.get_by_role("button", name="Load more").click()
    expect(tiles).to_have_count(48)
    tiles.get_by_role("link", name=BANANA).first.click()
    page.get_by_role("link", name="Search with this picture").click()
    expect(page.locator("[data-chip]")).to_be_visible()
    # By its name: a photo may have no caption.
    expect(tiles.get_by_role("link", name=BANANA).first).to_be_visible()
    page.go_back()
    page.go_back()
    expect(tiles.get_by_role("link", name=BANANA).first).to_be_visible()


def test_a_picked_picture_and_words_are_weighed(signed_in: Page) -> None:
    page = signed_in
    page.goto("/search")
    page.set_input_files("#search-form [name=image]", [picture(7)])
    # Nothing here is like coloured rectangles.
    page.get_by_role("button", name="Show weaker matches").click()
    expect(page.locator("#results .tile").first).to_be_visible()
    sliders = page.locator("#weigh input[type=range]")
    expect(sliders).to_have_count(0)
    page.get_by_label("Search text").fill("bananas")
    page.get_by_role("button", name="Search", exact=True).click()
    # At what the gate proposed; a slider that is moved is used at once.
    expect(sliders).to_have_count(2)
    expect(page.get_by_text("Suggested by the task")).to_be_visible()
    proposed = page.locator("#weight-image").input_value()
    page.locator("#weight-image").fill("0")
    expect(page.get_by_role("button", name="Back to the suggestion")).to_be_visible()
    expect(page.locator("#weight-text")).to_have_value("100")
    expect(page.locator("#results .tile").filter(has_text=BANANA).first).to_be_visible()
    page.get_by_role("button", name="Back to the suggestion").click()
    expect(page.get_by_text("Suggested by the task")).to_be_visible()
    expect(page.locator("#weight-image")).to_have_value(proposed)
    page.get_by_role("button", name="Remove the picture").click()
    page.get_by_role("button", name="Search", exact=True).click()
    expect(sliders).to_have_count(0)


def test_a_spoken_query_becomes_words_that_can_be_corrected(signed_in: Page) -> None:
    page = signed_in
    page.goto("/search")
    page.get_by_role("button", name="Speak").click()
    page.wait_for_timeout(3500)
    page.get_by_role("button", name="Stop and search").click()
    words = page.get_by_label("Search text")
    expect(words).to_have_value(re.compile("banana", re.IGNORECASE))
    expect(page.get_by_text("Heard:")).to_be_visible()
    expect(page.locator("#results .tile").filter(has_text="Banana").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/search\?q=.*banana", re.IGNORECASE))
    words.fill("milk")
    words.press("Enter")
    expect(page.locator("#results .tile").first).to_contain_text("Milk")
    expect(page.get_by_text("Heard:")).to_be_hidden()
    expect(page).to_have_url(re.compile(r"/search\?q=milk$"))


def test_the_keyboard_alone_reaches_everything(page: Page, grocery: dict[str, Any]) -> None:
    page.goto("/login")
    expect(page.locator("[name=username]")).to_be_focused()
    page.keyboard.type(grocery["user"])
    page.keyboard.press("Tab")
    page.keyboard.type(grocery["password"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.goto("/search")
    expect(page.get_by_label("Search text")).to_be_focused()
    page.keyboard.type("milk")
    page.keyboard.press("Enter")
    first = page.locator("#results .tile a").first
    expect(first).to_be_visible()
    skip = page.get_by_role("link", name="Skip to the results")
    for _ in range(8):
        page.keyboard.press("Tab")
        if skip.evaluate("element => element === document.activeElement"):
            break
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Details")).to_be_visible()


def test_dialogs_take_and_give_back_the_focus(signed_in: Page) -> None:
    page = signed_in
    page.goto("/keys")
    opener = page.get_by_role("button", name="New key")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()


def test_a_key_is_shown_once_and_can_be_revoked(signed_in: Page) -> None:
    page = signed_in
    page.goto("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("browser key")
    page.get_by_label("read", exact=True).check()
    page.get_by_role("button", name="Create key").click()
    token = page.locator("#token").inner_text()
    assert re.fullmatch(r"cl[0-9a-f]{10}\.[\w-]{43}", token)
    page.goto("/keys")
    expect(page.locator("#token")).to_have_count(0)
    row = page.get_by_role("row").filter(has_text=token.split(".")[0])
    row.get_by_role("button", name="Revoke").click()
    page.locator("dialog[open]").get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")


@pytest.mark.parametrize("address", ["/", "/datasets", "/search?q=milk", "/jobs", "/keys", "/login"])
def test_nothing_is_wider_than_a_phone(signed_in: Page, address: str) -> None:
    signed_in.set_viewport_size({"width": 360, "height": 740})
    signed_in.goto(address)
    signed_in.wait_for_load_state("networkidle")
    assert signed_in.evaluate("document.documentElement.scrollWidth") <= 360
