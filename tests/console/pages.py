"""Reading pages as a strict browser would."""

from __future__ import annotations

from html.parser import HTMLParser

URL_ATTRIBUTES = {"href", "src", "action", "formaction", "hx-get", "hx-post"}


class Inspector(HTMLParser):
    """Collects what the content security policy would refuse, and ids and labels that do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.faults.append(f"inline <{tag}>")
        for name, value in given.items():
            if name == "style" or name.startswith(("on", "hx-on")):
                self.faults.append(f'{tag} {name}="{value}"')
            if name in URL_ATTRIBUTES and (value or "").lower().lstrip().startswith(("javascript:", "data:")):
                self.faults.append(f'{tag} {name}="{value}"')
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "label" and given.get("for"):
            self.labelled.append(given["for"] or "")


def inspect(html: str) -> Inspector:
    inspector = Inspector()
    inspector.feed(html)
    return inspector


def faults_of(html: str) -> list[str]:
    """Everything wrong with a page; empty for a good one."""
    found = inspect(html)
    twice = {name for name in found.ids if found.ids.count(name) > 1}
    lost = set(found.labelled) - set(found.ids)
    return [*found.faults, *(f"id twice: {n}" for n in twice), *(f"label for nothing: {n}" for n in lost)]
