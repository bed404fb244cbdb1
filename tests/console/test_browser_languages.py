"""Languages and times in a real browser: what it prefers, where it is, and what a person chooses instead."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect

from tests.console.browsing import MARKS, PATIENCE_MS

pytestmark = MARKS
Reader = Callable[..., Page]
CHINESE = re.compile("[\u4e00-\u9fff]")
# What stays as it is in Chinese pages: names, units, and what tenants have put in.
PAGES = ("/", "/search", "/jobs", "/datasets", "/account")


@pytest.fixture
def reader(browser: Any, stack: Any, grocery: dict[str, Any]) -> Iterator[Reader]:
    """`reader(locale=…, timezone_id=…)` is a browser that has signed in."""
    contexts = []

    def sign_in(**preferences: Any) -> Page:
        context = browser.new_context(base_url=stack.base_url, **preferences)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.goto("/")
        page.locator("[name=username]").fill(grocery["user"])
        page.locator("[name=password]").fill(grocery["password"])
        page.locator("form:has([name=password]) button").click()
        page.locator(".side").wait_for()
        return page

    yield sign_in
    for context in contexts:
        context.close()


def newest_moment(page: Page) -> tuple[dt.datetime, str, str]:
    """When the newest job was queued, as the page holds it, shows it, and says it in its title."""
    page.goto("/jobs")
    page.locator("#main .job-table a[href^='/jobs/']").first.click()
    time = page.locator("#main time[data-moment]").first
    expect(time).not_to_contain_text("UTC")
    moment = dt.datetime.fromisoformat(time.get_attribute("datetime") or "")
    return moment, time.inner_text(), time.get_attribute("title") or ""


def test_a_chinese_browser_sees_chinese_and_the_time_of_where_it_is(reader: Reader) -> None:
    page = reader(locale="zh-CN", timezone_id="Asia/Shanghai")
    for path, heading in zip(PAGES, ("总览", "搜索", "任务", "数据集", "您的账户"), strict=True):
        page.goto(path)
        expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
        expect(page.locator("h1")).to_have_text(heading)
        expect(page.get_by_role("navigation").first.get_by_role("link", name="搜索")).to_be_visible()
    moment, shown, title = newest_moment(page)
    local = moment.astimezone(dt.timezone(dt.timedelta(hours=8)))
    assert shown.startswith(f"{local.year}年{local.month}月{local.day}日 {local:%H:%M}")
    assert title.endswith("UTC")
    assert f"{moment:%H:%M}" in title


def test_an_english_browser_sees_english(reader: Reader) -> None:
    page = reader(locale="en-GB", timezone_id="America/New_York")
    for path, heading in zip(PAGES, ("Overview", "Search", "Jobs", "Datasets", "Your account"), strict=True):
        page.goto(path)
        expect(page.locator("html")).to_have_attribute("lang", "en")
        expect(page.locator("h1")).to_have_text(heading)
    moment, shown, _ = newest_moment(page)
    page_says = page.evaluate(
        "at => new Date(at).toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'})",
        moment.isoformat(),
    )
    assert page_says in shown
    assert not CHINESE.search(page.locator("#main").inner_text())


def test_the_choice_on_the_account_page_wins(reader: Reader) -> None:
    page = reader(locale="zh-CN", timezone_id="Asia/Shanghai")
    page.goto("/account")
    page.get_by_role("button", name="English").click()
    expect(page.locator("h1")).to_have_text("Your account")
    page.goto("/")
    expect(page.locator("h1")).to_have_text("Overview")
    page.goto("/account")
    page.get_by_role("button", name="Browser default").click()
    expect(page.locator("h1")).to_have_text("您的账户")


def test_the_menu_on_a_phone_works_by_keyboard_and_without_a_script(reader: Reader) -> None:
    page = reader(locale="en", viewport={"width": 390, "height": 844}, java_script_enabled=False)
    menu = page.locator(".nav-drawer")
    expect(menu.get_by_role("link", name="Audit log")).to_be_hidden()
    menu.locator("summary").focus()
    page.keyboard.press("Enter")
    menu.get_by_role("link", name="Audit log").click()
    expect(page.locator("h1")).to_have_text("Audit log")
    expect(page.locator(".nav-drawer").get_by_role("link", name="Audit log")).to_be_hidden()
