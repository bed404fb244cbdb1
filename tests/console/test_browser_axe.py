"""Every page of the console and of the operators in a real browser: accessible, by keyboard, and whole on a phone.

The list comes from the addresses themselves: a new page without a thing to show on it fails here. axe-core (a tool of
development, never shipped) is put into the page past its security policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.browsing import MARKS, PATIENCE_MS
from tests.console.furnish import (
    NOT_PAGES,
    OPERATORS_NOT_PAGES,
    PASSING,
    furnish_beside,
    operator_page_names,
    page_names,
)

pytest.importorskip("playwright")
from playwright.sync_api import Page

pytestmark = MARKS

FRONT_END = Path(__file__).resolve().parents[2] / "platform/console/frontend"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
AXE = """options => axe.run(document, {resultTypes: ["violations"], ...options}).then(found =>
    found.violations.flatMap(rule => rule.nodes.map(node => {
        const [said] = [...node.any, ...node.all, ...node.none];
        return `${rule.id}: ${node.target.join(" ")} · ${said ? said.message : ""}`;
    })))"""
#: The page itself, wider than the window; texts that are wider than their box, which neither scrolls nor shows dots.
STICKS_OUT = """() => {
    const wide = document.documentElement.scrollWidth, found = [];
    if (wide > document.documentElement.clientWidth) found.push(`the page is ${wide} wide`);
    // For readers of the screen alone: heads of tables whose rows are cards on a phone, too.
    const unseen = one => one.clientWidth <= 2 || (one.closest("thead") || one).offsetWidth <= 2;
    for (const one of document.querySelectorAll("h1, h2, h3, a, button, td, th, dt, dd, label, p, summary, strong")) {
        const style = getComputedStyle(one);
        const cuts = ["hidden", "clip"].includes(style.overflowX) && style.textOverflow !== "ellipsis";
        if (cuts && !unseen(one) && one.scrollWidth > one.clientWidth + 1)
            found.push(`${one.tagName.toLowerCase()}.${one.className} is cut: ${one.textContent.trim().slice(0, 40)}`);
    }
    return found;
}"""
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
#: What the keyboard can land on, in the order of the page, as far as it is seen and not in a group of which one is.
STOPS = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter(one => !one.disabled && one.tabIndex >= 0 && one.type !== "hidden" && one.type !== "radio"
        && one.checkVisibility({checkVisibilityCSS: true}) && !one.closest("[inert]")).length"""
#: The element with the focus: which one it is, and whether it, or what it stands in, has a ring.
FOCUSED = """() => {
    const one = document.activeElement, around = [one];
    while (around.length < 4 && around.at(-1).parentElement) around.push(around.at(-1).parentElement);
    const ringed = element => {
        const style = getComputedStyle(element);
        return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    };
    window.stops = window.stops || new Set();
    const again = window.stops.has(one);
    window.stops.add(one);
    return {over: again || one === document.body, marked: around.some(ringed),
            what: `${one.tagName.toLowerCase()}.${one.className} ${(one.textContent || "").trim().slice(0, 30)}`};
}"""
VARIANTS = [
    "search+results",
    "search+nothing",
    "audit+evidence",
    "review+open",
    "model+training",
    "generation+blocked",
    "job+failed",
    "404",
]


@pytest.fixture(scope="module")
def gallery(stack: Any) -> dict[str, Any]:
    return furnish_beside(stack)


@pytest.fixture(scope="module")
def signing_in(browser: Any, stack: Any) -> Iterator[Callable[[dict[str, Any]], Page]]:
    """A window of somebody who signed in; one for all looks of this module, as a person has it."""
    contexts = []

    def sign_in(who: dict[str, Any]) -> Page:
        context = browser.new_context(base_url=stack.base_url, reduced_motion="reduce", bypass_csp=True)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.goto("/login")
        page.locator("[name=username]").fill(who["user"])
        page.locator("[name=password]").fill(who["password"])
        page.locator("[name=password]").press("Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    yield sign_in
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def window(signing_in: Callable[..., Page], gallery: dict[str, Any]) -> Page:
    return signing_in(gallery)


@pytest.fixture(scope="module")
def operators_window(signing_in: Callable[..., Page], gallery: dict[str, Any]) -> Page:
    return signing_in(gallery["operator"])


@pytest.fixture(scope="module")
def axe() -> str:
    return (FRONT_END / "node_modules/axe-core/axe.min.js").read_text()


def faults_of(page: Page, address: str, axe: str) -> list[str]:
    """By the rules of WCAG 2.2 AA in light colours, those about colours in dark ones, and on a phone."""
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    answer = page.goto(address, wait_until="load")
    assert answer and answer.status == (404 if address == "/nothing-here" else 200), address
    page.evaluate(DRAWN)
    page.evaluate(axe)
    found = [*page.evaluate(AXE, {"runOnly": RULES}), *page.evaluate(STICKS_OUT)]
    page.emulate_media(color_scheme="dark")
    page.evaluate(DRAWN)
    dark = page.evaluate(AXE, {"runOnly": ["color-contrast", "link-in-text-block"]})
    page.set_viewport_size(PHONE)
    page.evaluate(DRAWN)
    phone = page.evaluate(STICKS_OUT)
    return [*found, *(f"dark: {one}" for one in dark), *(f"phone: {one}" for one in phone)]


def test_what_is_left_out_is_still_there() -> None:
    from backoffice import urls as operators
    from console import urls

    assert {pattern.name for pattern in urls.urlpatterns} >= NOT_PAGES | PASSING
    assert {pattern.name for pattern in operators.urlpatterns} >= OPERATORS_NOT_PAGES


@pytest.mark.parametrize("name", [*page_names(), *VARIANTS])
def test_a_page_is_accessible_and_fits(name: str, window: Page, gallery: dict[str, Any], axe: str) -> None:
    assert faults_of(window, gallery["pages"][name], axe) == []


@pytest.mark.parametrize("name", operator_page_names())
def test_an_operators_page_is_accessible_and_fits(
    name: str, operators_window: Page, gallery: dict[str, Any], axe: str
) -> None:
    assert faults_of(operators_window, gallery["operator"]["pages"][name], axe) == []


@pytest.mark.parametrize(
    "name", ["home", "datasets", "search", "jobs", "keys", "policies", "people", "roles", "review+open"]
)
def test_tab_reaches_everything_and_shows_where_it_is(
    name: str, window: Page, gallery: dict[str, Any]
) -> None:
    page = window
    page.set_viewport_size(DESK)
    page.goto(gallery["pages"][name], wait_until="load")
    # From the top, wherever the page has put the focus.
    page.evaluate("document.body.tabIndex = -1, document.body.focus()")
    expected, unmarked, reached = page.evaluate(STOPS), [], 0
    for _ in range(expected + 20):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at["over"]:
            break
        reached += 1
        unmarked += [] if at["marked"] else [at["what"]]
    assert (unmarked, reached >= expected) == ([], True), (reached, expected)


def test_a_dialog_keeps_the_focus_until_it_closes(window: Page, gallery: dict[str, Any]) -> None:
    page = window
    page.goto(gallery["pages"]["people"], wait_until="load")
    opener = page.get_by_role("button", name="Invite", exact=True)
    opener.focus()
    page.keyboard.press("Enter")
    inside = "document.querySelector('dialog[open]').contains(document.activeElement)"
    for _ in range(8):
        # Past its last stop the browser's own frame may have the focus, never the page behind.
        assert page.evaluate(f"{inside} || document.activeElement === document.body")
        page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    assert opener.evaluate("one => one === document.activeElement")


def test_who_wants_less_motion_sees_none(window: Page, gallery: dict[str, Any]) -> None:
    page = window
    page.goto(gallery["pages"]["jobs"], wait_until="load")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter(one => {
            const style = getComputedStyle(one), times = `${style.animationDuration},${style.transitionDuration}`;
            return times.split(",").some(time => parseFloat(time) * (time.includes("ms") ? 1 : 1000) > 10)
                && !(style.animationName === "none" && style.transitionDuration === "0s");
        }).map(one => `${one.tagName}.${one.className}`)"""
    )
    assert moving == []
