"""Generating in a real browser against the running stack: asked for, watched, shown, varied, set in motion, deleted."""

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
ROW = "SELECT state, score IS NOT NULL, seed FROM generation WHERE id = %s"
MADE = "SELECT kind, how, asset_id IS NOT NULL FROM generation_output WHERE generation_id = %s ORDER BY kind"
ASSETS = "SELECT count(*) FROM asset WHERE generation_id = %s"
USED = """SELECT used, reserved FROM quota_counter JOIN tenant ON tenant.id = tenant_id
    WHERE slug = 'grocery' AND resource = 'generations'"""

#: A figure of a player, once the browser has read the head of the file.
KNOWN = """(one, name) => new Promise(done => {
    const told = () => one.readyState && done(one[name]);
    one.onloadedmetadata = told;
    told();
})"""


def ask(page: Page, prompt: str, *kinds: str, **options: str) -> str:
    """Fill the form in and send it; the id of what is being made."""
    page.goto("/generate")
    page.get_by_role("textbox", name="Prompt").fill(prompt)
    for kind in ("image", "video", "audio"):
        page.locator(f"[name=outputs][value={kind}]").set_checked(kind in kinds)
    page.get_by_text("More options").click()
    page.get_by_label("Size").select_option("256")
    for name, value in options.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("heading", name=prompt)).to_be_visible()
    return page.url.rpartition("/")[2]


def wait_until(page: Page, state: str) -> None:
    expect(page.locator(f".page-head .status-{state}")).to_be_visible(timeout=JOB_MS)


def test_words_become_a_picture_and_music(signed_in: Page, stack: Any) -> None:
    page, prompt = signed_in, f"a space rocket {secrets.token_hex(2)}"
    made = ask(page, prompt, "image", "audio", seed="7", seconds="5")
    # The picture is seen as it becomes clearer, on a page that nobody loads again.
    so_far = page.locator("#preview img")
    expect(so_far).to_be_visible()
    assert so_far.evaluate("one => one.decode().then(() => one.naturalWidth)") >= 64
    wait_until(page, "succeeded")
    expect(page.locator("#preview")).to_have_count(0)
    picture, sound = page.locator(".piece > img"), page.locator(".piece > audio")
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") == 256
    assert sound.evaluate(KNOWN, "duration") == pytest.approx(5, abs=0.5)
    expect(page.locator(".marks .status-trusted")).to_have_count(2)
    expect(page.get_by_text("Inaudible mark")).to_be_visible()
    assert held(stack, ROW, made) == [("succeeded", True, 7)]
    assert held(stack, MADE, made)[0] == ("audio", "rules", True)
    # As its drawing was recognised, or not.
    assert held(stack, MADE, made)[1] in (("image", "model", True), ("image", "layout", True))
    # Its asset says what it is, and leads back.
    page.locator(".piece").first.get_by_role("link", name="The asset").click()
    page.get_by_role("link", name="AI-generated").click()
    expect(page).to_have_url(re.compile(made))


def test_it_is_varied_and_deleted(signed_in: Page, stack: Any) -> None:
    page, prompt = signed_in, f"a blue whale {secrets.token_hex(2)}"
    made = ask(page, prompt, "image", seed="3", steps="8")
    wait_until(page, "succeeded")
    page.get_by_role("button", name="Another variation").click()
    page.wait_for_url(lambda url: made not in url)
    varied = page.url.rpartition("/")[2]
    wait_until(page, "succeeded")
    [(state, _scored, seed)] = held(stack, ROW, varied)
    assert (state, seed != 3) == ("succeeded", True)
    page.get_by_role("link", name="an earlier one").click()
    expect(page).to_have_url(re.compile(made))
    page.goto(f"/generate/{varied}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The generation was deleted.")).to_be_visible()
    expect(page.locator(f"#generation-{made}")).to_be_visible()
    expect(page.locator(f"#generation-{varied}")).to_have_count(0)
    assert (held(stack, ROW, varied), held(stack, MADE, varied)) == ([], [])
    # Its asset stayed; that of the first goes along, as that is ticked.
    assert held(stack, ASSETS, varied) == [(1,)]
    page.goto(f"/generate/{made}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_label("Also delete the 1 asset that it made").check()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("The generation and 1 asset were deleted.")).to_be_visible()
    assert (held(stack, ROW, made), held(stack, ASSETS, made)) == ([], [(0,)])


def test_a_picture_is_set_in_motion(signed_in: Page, stack: Any) -> None:
    page, prompt = signed_in, f"a green tree {secrets.token_hex(2)}"
    ask(page, prompt, "image", steps="8")
    wait_until(page, "succeeded")
    page.get_by_role("link", name="Set the picture in motion").click()
    expect(page.get_by_text("The clip begins with this picture.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(prompt)
    page.get_by_role("button", name="Generate", exact=True).click()
    wait_until(page, "succeeded")
    assert page.locator(".piece > video").evaluate(KNOWN, "videoWidth") >= 256
    expect(page.get_by_role("link", name="this picture")).to_be_visible()
    # Of a picture that was there before, moved by rules.
    assert held(stack, MADE, page.url.rpartition("/")[2]) == [("video", "layout", True)]


def test_what_is_cancelled_keeps_nothing_and_costs_nothing(signed_in: Page, stack: Any) -> None:
    page = signed_in
    before = held(stack, USED) or [(0, 0)]
    made = ask(page, f"a slow snail {secrets.token_hex(2)}", "image", "video", steps="100")
    page.get_by_role("button", name=re.compile("Cancel")).click()
    wait_until(page, "cancelled")
    expect(page.get_by_text("Nothing was kept")).to_be_visible()
    assert held(stack, MADE, made) == []
    assert held(stack, USED) == before
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
