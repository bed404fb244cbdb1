"""A narrowed reviewer at every address of the console, beside a world of data that is not theirs.

The world is the same tenant's: whatever of it lies in other datasets is a fingerprint, and none may be in an answer.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client, override_settings

from config.self_service import SelfService
from console.urls import urlpatterns
from tenants.accounts.models import Membership
from tenants.accounts.permissions import scopes_of
from tenants.moderation.models import Outcome, Review
from tenants.people.narrowing import narrow_member
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.console.auditing import audited
from tests.console.test_access import TABLE
from tests.isolation.calls import kind_of
from tests.isolation.judging import layers
from tests.isolation.pages import Forms
from tests.isolation.world import UUID, World, new_world, settle
from tests.tenants.people import acting, new_member
from tests.tenants.reviewing import make_world

VIEWS = {p.name: p.callback for p in urlpatterns}
#: As many ids of each kind are tried at each address.
TRIED = 2


@dataclass
class Narrowed:
    """A tenant with a world of data, a dataset of its own kind in it, and a reviewer who sees that one alone."""

    world: World
    reviewer: Any
    to: Narrowing
    own: dict[str, str]
    hidden: set[str]

    def client(self) -> Client:
        http = Client(raise_request_exception=False, REMOTE_ADDR="192.0.2.7")
        http.force_login(self.reviewer)
        return http

    def found(self, content: bytes, asked: str) -> set[str]:
        """Fingerprints in an answer that the request did not bring itself."""
        names: set[str] = set()
        for layer in layers(content):
            text = layer.decode(errors="replace").lower()
            names |= set(UUID.findall(text)) | set(re.findall(rf"{self.world.salt}[0-9]{{4}}", text))
        return {name for name in names & self.hidden if name not in asked.lower()}


@pytest.fixture(scope="module", autouse=True)
def _as_installed() -> Iterator[None]:
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    storages = {**django_settings.STORAGES, "staticfiles": plain}
    with override_settings(STORAGES=storages, SELF_SERVICE=SelfService(frozenset({"requests"}))):
        yield


@pytest.fixture(scope="module")
def narrow() -> Narrowed:
    world = new_world()
    mine = make_world(world.party)
    asset = mine.add(external_id="mine")
    audit = audited(mine, ("rude", "naked"), asset=asset)
    settle(world)
    world.read()
    reviewer = new_member(world.party.tenant, "reviewer")
    to = Narrowing((mine.dataset.id,))
    with tenant_scope(world.id):
        narrow_member(actor=acting(world.party.tenant, world.party.owner), user_id=reviewer.pk, to=to)
    own = {
        "dataset_id": str(mine.dataset.id),
        "asset_id": str(asset.id),
        "audit_id": str(audit.id),
        "review_id": str(next(iter(mine.flags(audit).values())).id),
    }
    return Narrowed(world, reviewer, to, own, _hidden(world, to))


def _hidden(world: World, to: Narrowing) -> set[str]:
    """Ids and words of rows that the narrowing hides, and of no row that it shows."""
    hidden, shown = "", ""
    with narrowed(to), tenant_scope(world.id), connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tablename FROM pg_policies WHERE policyname = 'dataset_narrowing'")
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT id::text FROM "{table}"')
            seen = {row_id for (row_id,) in cursor.fetchall()}
            for row in world.rows[table]:
                if str(row["id"]) in seen:
                    shown += json.dumps(row)
                else:
                    hidden += json.dumps(row)
    words = re.compile(rf"{UUID.pattern}|{world.salt}[0-9]{{4}}")
    return set(words.findall(hidden)) - set(words.findall(shown)) - _of_the_tenant(world)


def _of_the_tenant(world: World) -> set[str]:
    """What rows say of the tenant and its people, wherever it stands: no content."""
    tables = ("tenant", "user", "membership", "policy", "policy_version", "search_task")
    told = json.dumps([world.rows[table] for table in tables])
    return set(re.findall(rf"{UUID.pattern}|{world.salt}[0-9]{{4}}", told))


def _addresses(narrow: Narrowed, name: str) -> Iterator[str]:
    """About things of the world, and about the reviewer's own."""
    from django.urls import reverse

    converters = next(p for p in urlpatterns if p.name == name).pattern.converters
    world = narrow.world
    for number in range(TRIED):
        values = {}
        for parameter in converters:
            ids = world.ids.get(kind_of(parameter, world)) or [str(uuid.uuid4())]
            values[parameter] = (
                1 if name == "asset-page" and parameter == "number" else ids[number % len(ids)]
            )
        yield reverse(f"console:{name}", kwargs=values)
        if not converters:
            return
    if set(converters) <= set(narrow.own):
        yield reverse(f"console:{name}", kwargs={key: narrow.own[key] for key in converters})


def _fields(narrow: Narrowed, name: str) -> list[dict[str, str]]:
    """What is typed into forms: ids of the world where one can name something, words elsewhere."""
    ids = narrow.world.ids
    return [
        {},
        {
            "text": "a red kettle",
            "dataset": ids["dataset"][0],
            "asset": ids["asset"][0],
            "image_asset": ids["asset"][-1],
            "like": ids["asset"][0],
            "search": ids["search"][0],
            "kind": "click",
            "decision": "allow",
            "reason": "Fine.",
            "rule": "rude",
        },
        {"text": "a red kettle", "hybrid": "on", "group": "fold", "decision": "allow", "rule": "rude"},
    ]


def test_the_world_beside_has_fingerprints_of_every_sort(narrow: Narrowed) -> None:
    assert len([one for one in narrow.hidden if UUID.fullmatch(one)]) > 100
    assert len([one for one in narrow.hidden if not UUID.fullmatch(one)]) > 20
    everything = json.dumps(narrow.world.rows).encode()
    assert narrow.found(everything, "") == narrow.hidden


@pytest.mark.parametrize(("name", "method", "scope"), TABLE)
def test_nothing_of_another_dataset_is_answered(name: str, method: str, scope: str, narrow: Narrowed) -> None:
    http, may = narrow.client(), scope in scopes_of("reviewer")
    opens = may and method in VIEWS[name].narrowable
    for address in _addresses(narrow, name):
        for fields in _fields(narrow, name):
            answer = _sent(http, method, address, fields, {"HX-Request": "true"} if fields else {})
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            assert answer.status_code < 500, (address, fields, content[-2000:])
            asked = f"{address} {json.dumps(fields)}"
            assert narrow.found(content, asked) == set(), (address, fields)
            if not opens:
                assert answer.status_code == (302 if name == "home" else 403), (address, fields)


def _sent(http: Client, method: str, address: str, fields: dict[str, str], headers: dict[str, str]) -> Any:
    if method == "GET":
        return http.get(address, fields, headers=headers)
    if method == "POST":
        return http.post(address, fields, headers=headers)
    return http.generic(method, address, headers=headers)


def test_nothing_of_another_dataset_was_changed(narrow: Narrowed) -> None:
    """After all of the above: what is decided is of their dataset."""
    with tenant_scope(narrow.world.id):
        made = Outcome.objects.filter(reviewer=str(narrow.reviewer.pk))
        items = set(made.values_list("item", flat=True))
        theirs = Review.objects.filter(asset__dataset_id=narrow.to.datasets[0])  # type: ignore[index]
        assert items <= set(theirs.values_list("asset_id", flat=True))
        held = Review.objects.filter(claimed_by=str(narrow.reviewer.pk))
        assert set(held.values_list("pk", flat=True)) <= set(theirs.values_list("pk", flat=True))


def test_every_link_that_they_are_shown_opens(narrow: Narrowed) -> None:
    """A page offers no way into what is refused."""
    http, seen, waiting = narrow.client(), set(), ["/datasets", f"/assets/{narrow.own['asset_id']}"]
    while waiting:
        address = waiting.pop().partition("#")[0]
        if address in seen or not address.startswith("/") or address.startswith(("/static", "/api", "/docs")):
            continue
        seen.add(address)
        answer = http.get(address)
        # What cannot be searched for or shown yet says so.
        assert answer.status_code in (200, 302, 404, 409, 422), address
        if not answer.streaming and "html" in answer.headers.get("Content-Type", ""):
            forms = Forms()
            forms.feed(answer.content.decode())
            waiting += forms.links
            for action, _ in forms.forms:
                assert _is_open(action), (address, action)
    assert len(seen) > 15


def _is_open(action: str) -> bool:
    """Whether a form leads where a narrowed person may send it."""
    from django.urls import Resolver404, resolve

    try:
        view = resolve(action.partition("?")[0]).func
    except Resolver404:
        return True
    needed = getattr(view, "needs", None)
    return needed is None or bool(view.narrowable)


def test_lifting_the_narrowing_shows_all_again(narrow: Narrowed) -> None:
    http, asset = narrow.client(), narrow.world.ids["asset"][0]
    assert http.get(f"/assets/{asset}").status_code == 404
    assert http.get("/jobs").status_code == 403
    owner = acting(narrow.world.party.tenant, narrow.world.party.owner)
    with tenant_scope(narrow.world.id):
        narrow_member(actor=owner, user_id=narrow.reviewer.pk, to=None)
    assert http.get(f"/assets/{asset}").status_code == 200
    assert http.get("/jobs").status_code == 200
    with tenant_scope(narrow.world.id):
        narrow_member(actor=owner, user_id=narrow.reviewer.pk, to=narrow.to)
    assert http.get(f"/assets/{asset}").status_code == 404
    assert Membership.objects.get(user=narrow.reviewer).datasets == list(narrow.to.datasets or ())
