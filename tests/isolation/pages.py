"""Pages and forms of the console, opened and sent by the attacker's owner with ids of the victim.

Which forms there are, and with which fields, is read from the pages themselves.
"""

from __future__ import annotations

import random
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.test import Client
from django.urls import NoReverseMatch, Resolver404, resolve, reverse

from console.urls import urlpatterns
from tests.console.test_access import TABLE
from tests.isolation.calls import MIXED, Call, kind_of
from tests.isolation.world import UUID, World

#: Sign the attacker out, or are about the person alone.
SIGN_OUT = frozenset({"logout", "account-delete", "account-password", "account-end-others", "login"})
PAGE = "page "


class Forms(HTMLParser):
    """The forms and links of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((given.get("action") or given.get("hx-post") or "", {}))
        elif tag in ("input", "textarea", "select", "button") and given.get("name") and self.forms:
            self.forms[-1][1].setdefault(given["name"], given.get("value", ""))
        for name in ("href", "hx-get", "src"):
            if given.get(name, "").startswith("/"):
                self.links.append(given[name])


class Pages:
    """The console as one tenant's owner sees it."""

    def __init__(self, attacker: World, victim: World, chance: random.Random) -> None:
        self.attacker, self.victim, self.random = attacker, victim, chance
        self.patterns = {p.name: p for p in urlpatterns if p.name not in SIGN_OUT}
        self.methods = [(name, method) for name, method, _ in TABLE] + [
            (name, method)
            for name in self.patterns
            if name not in {row[0] for row in TABLE}
            for method in ("GET", "POST")
        ]
        self.fields: dict[str, dict[str, str]] = {}
        self.queries: dict[str, set[str]] = {}

    def sign_in(self) -> Client:
        http = Client(raise_request_exception=False, REMOTE_ADDR="192.0.2.7")
        http.force_login(self.attacker.party.owner)
        return http

    def learn(self, http: Client) -> int:
        """Open every page about the attacker's own things, and note the forms there; how many."""
        for name, method in self.methods:
            if method == "GET" and (path := self.address(name, self.attacker)) is not None:
                response = http.get(path)
                if not response.streaming and "html" in response.headers.get("Content-Type", ""):
                    self._note(response.content.decode(errors="replace"))
        return len(self.fields)

    def _note(self, html: str) -> None:
        found = Forms()
        found.feed(html)
        for action, fields in found.forms:
            if (name := _name_of(action)) is not None:
                self.fields.setdefault(name, {}).update(fields)
        for link in found.links:
            if (name := _name_of(link)) is not None:
                self.queries.setdefault(name, set()).update(key for key, _ in parse_qsl(urlsplit(link).query))

    def address(self, name: str, owner: World) -> str | None:
        """Of a page about something of a tenant's; None where there is nothing to name."""
        values: dict[str, Any] = {}
        for parameter in self.patterns[name].pattern.converters if name in self.patterns else ():
            ids = owner.ids.get(kind_of(parameter, self.victim))
            if not ids:
                return None
            values[parameter] = self.random.choice(ids)
        try:
            return reverse(f"console:{name}", kwargs=values)
        except NoReverseMatch:
            return None

    def call(self, mode: str) -> Call | None:
        name, method = self.random.choice(self.methods)
        if name in SIGN_OUT:
            return None
        path = self.address(name, self._owner(mode))
        if path is None:
            return None
        query: dict[str, str] = {}
        for key in sorted(self.queries.get(name, ())):
            if self.random.random() < 0.5:
                kind = kind_of(key, self.victim)
                query[key] = (
                    self._any(kind, mode) if kind else self.random.choice(("1", "red kettle", "text"))
                )
        body = None
        if method != "GET":
            body = {key: self._value(key, value, mode) for key, value in self.fields.get(name, {}).items()}
        headers = {"HX-Request": "true"} if self.random.random() < 0.2 else {}
        if self.random.random() < 0.1:
            headers["Cookie"] = f"tenant={self.victim.id}"
        return Call(f"{PAGE}{method} {name}", method, path, query, headers, body)

    def _owner(self, mode: str) -> World:
        if mode == MIXED:
            return self.random.choice((self.attacker, self.victim))
        return self.attacker if mode == "own" else self.victim

    def _any(self, kind: str, mode: str) -> str:
        return self.random.choice(self._owner(mode).ids.get(kind) or [str(self.victim.id)])

    def _value(self, key: str, value: str, mode: str) -> str:
        if key == "tenant":
            return str(self._owner(mode).id)
        if UUID.fullmatch(value):
            kinds = [kind for kind, ids in self.attacker.ids.items() if value in ids]
            return self._any(kinds[0], mode) if kinds else value
        kind = kind_of(key, self.victim)
        if kind and self.random.random() < 0.7:
            return self._any(kind, mode)
        return value or self.random.choice(("A red kettle", "1", ""))


def _name_of(address: str) -> str | None:
    path = urlsplit(address).path
    if not path.startswith("/"):
        return None
    try:
        return resolve(path).url_name
    except Resolver404:
        return None
