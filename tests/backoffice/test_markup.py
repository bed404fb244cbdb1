"""The pages as markup: what a screen reader needs, and nothing that the policy of these pages would refuse."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

PAGES = [
    *("", "tenants", "tenants/new", "tenants/{slug}", "tenants/{slug}/delete", "erasures"),
    *("plans", "plans/new", "plans/demo", "usage", "fleet", "canaries"),
    *("jobs", "jobs?view=running", "jobs?view=slow", "jobs?view=dear", "flags", "log"),
]
FIELDS = {"input", "select", "textarea"}


class Markup(HTMLParser):
    """Tags with their attributes, and the text within each button."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.buttons: list[str] = []
        self._in_button = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "button":
            self._in_button = True
            self.buttons.append(dict(attrs).get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_button = self._in_button and tag != "button"

    def handle_data(self, data: str) -> None:
        if self._in_button:
            self.buttons[-1] += data.strip()

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag in names]


@pytest.fixture(params=PAGES)
def markup(request: Any, operator: Client, party: Any) -> Markup:
    response = operator.get("/operator/" + request.param.format(slug=party.tenant.slug))
    assert response.status_code == 200
    return Markup(response.content.decode())


def test_the_page_is_whole_for_a_screen_reader(markup: Markup) -> None:
    ids = [attrs["id"] for _, attrs in markup.tags if attrs.get("id")]
    assert sorted(ids) == sorted(set(ids))
    assert (len(markup.of("h1")), len(markup.of("main"))) == (1, 1)
    assert markup.of("html")[0]["lang"]
    labelled = {attrs.get("for") for attrs in markup.of("label")}
    for attrs in markup.of(*FIELDS):
        hidden = attrs.get("type") == "hidden"
        wrapped = attrs.get("name") == "vectors" or "data-tick-all" in attrs
        named = attrs.get("id") in labelled or attrs.get("aria-label") or wrapped
        assert hidden or named, attrs
    assert all(markup.buttons), markup.buttons
    assert all(attrs.get("scope") for attrs in markup.of("th"))
    assert all("alt" in attrs for attrs in markup.of("img"))


def test_nothing_in_the_page_is_script(markup: Markup) -> None:
    assert all(attrs.get("src", "").startswith("/static/") for attrs in markup.of("script"))
    handlers = [name for _, attrs in markup.tags for name in attrs if name.startswith("on")]
    assert handlers == []
