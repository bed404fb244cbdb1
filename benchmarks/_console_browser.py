"""What a person waits for in Chromium: the first byte, a page that can be used, and answers to input."""

from __future__ import annotations

import json
import sys
from statistics import median
from typing import Any

from _console_world import World, world
from _data import ROOT
from _report import Line, at_most, sized
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.append(str(ROOT))
from tests.console.browsing import CHROMIUM, FLAGS

VISITS = sized(3, 1)
SCRIPT_KB, INTERACTION_MS = 200, 100
WATCH = """(() => {
    window.seen = {shift: 0, inputs: []};
    new PerformanceObserver(list => list.getEntries().forEach(one => { seen.shift += one.value; }))
        .observe({type: "layout-shift", buffered: true});
    new PerformanceObserver(list => list.getEntries().forEach(one => seen.inputs.push([one.name, one.duration])))
        .observe({type: "event", durationThreshold: 16, buffered: true});
})()"""
#: Scripts are deferred: with the end of their run the page takes input.
READ = """() => {
    const [page] = performance.getEntriesByType("navigation");
    const scripts = performance.getEntriesByType("resource").filter(one => one.name.endsWith(".js"));
    const sum = name => scripts.reduce((all, one) => all + one[name], 0);
    return {first: page.responseStart - page.requestStart, ready: page.domContentLoadedEventEnd, shift: seen.shift,
            sent: sum("encodedBodySize"), raw: sum("decodedBodySize")};
}"""


def run() -> list[Line]:
    with world() as all_of_it, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        lines = [*_pages(all_of_it, chromium), *_interactions(all_of_it, chromium)]
        chromium.close()
    return lines


def _signed_in(stack: Any, chromium: Browser, user: str, password: str) -> Page:
    context = chromium.new_context(base_url=stack.base_url)
    context.add_init_script(WATCH)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.goto("/login")
    page.get_by_label("E-mail").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_label("Password").press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


# --- Loading -------------------------------------------------------------------------------------------------


def _pages(all_of_it: World, chromium: Browser) -> list[Line]:
    """Nothing is cached by the browser: every visit is a first one."""
    tenant = all_of_it.tenants["busy"]
    page = _signed_in(all_of_it.stack, chromium, tenant["user"], tenant["password"])
    page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    pages = [one for one in tenant["pages"].items() if one[0] != "404"][: sized(None, 3)]
    seen = {name: _visited(page, address) for name, address in pages}
    lines = [
        Line(f"{name}: first byte {found['first']:.0f} ms, can be used after", round(found["ready"], 1), "ms")
        for name, found in seen.items()
    ]
    heaviest = max(seen, key=lambda name: seen[name]["sent"])
    sent, raw = (seen[heaviest][key] / 1000 for key in ("sent", "raw"))
    return [
        *lines,
        Line("first byte, median of all pages", median(found["first"] for found in seen.values()), "ms"),
        Line("… can be used, median of all pages", median(found["ready"] for found in seen.values()), "ms"),
        at_most(f"script of the heaviest page ({heaviest}), compressed", sent, SCRIPT_KB, "kB"),
        Line("… as it runs", round(raw, 1), "kB"),
        at_most(
            f"layout shift, most ({_most(seen, 'shift')})",
            1_000 * max(f["shift"] for f in seen.values()),
            0,
            "/1,000",
        ),
    ]


def _visited(page: Page, address: str) -> dict[str, float]:
    visits = []
    for _ in range(VISITS):
        page.goto(address, wait_until="load")
        page.wait_for_timeout(150)
        visits.append(page.evaluate(READ))
    return {key: median(visit[key] for visit in visits) for key in visits[0]}


def _most(seen: dict[str, dict[str, float]], key: str) -> str:
    return max(seen, key=lambda name: seen[name][key])


# --- Answers to input ----------------------------------------------------------------------------------------


def _interactions(all_of_it: World, chromium: Browser) -> list[Line]:
    """On the demo data, as the browser itself measures it: from the event until the next picture is drawn."""
    demo = json.loads((all_of_it.stack.data_dir / "demo.json").read_text())["tenants"][0]
    page = _signed_in(all_of_it.stack, chromium, demo["user"], demo["password"])
    doings = {
        "typing into the search": ("/search", _type),
        "opening a dialog": ("/keys", lambda page: page.get_by_role("button", name="New key").click()),
        "a click on a filter": ("/jobs", lambda page: page.locator("main a[href^='?state=']").last.click()),
        "folding the details of an upload": (f"/datasets/{demo['datasets']['products']}", _unfold),
    }
    return [
        at_most(f"{what}, slowest event", _slowest(page, *how), INTERACTION_MS)
        for what, how in doings.items()
    ]


def _type(page: Page) -> None:
    page.get_by_label("Search text").press_sequentially("ripe bananas", delay=30)


def _unfold(page: Page) -> None:
    page.locator("main summary").first.click()


def _slowest(page: Page, address: str, do: Any) -> float:
    """The browser tells durations in steps of 8 ms, and none below 16."""
    page.goto(address, wait_until="load")
    do(page)
    page.wait_for_timeout(500)
    return max((float(duration) for _, duration in page.evaluate("seen.inputs")), default=16.0)
