"""Words that were blocked or held back are read by whoever asks for them, and by nobody in passing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client

from console.presenters import asset_card
from tenants.accounts.models import Membership
from tenants.datasets.content_responses import read_text
from tenants.datasets.models import Asset, Blob
from tenants.datasets.selectors import get_asset
from tenants.retrieval.query import Highlight
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.console.test_pages import check
from tests.tenants.policy_world import evidence
from tests.tenants.reviewing import World, make_world

SECRET = "quagmire"


class Words(HTMLParser):
    """`seen`: what a page says at once, attributes too; `behind`: what stands in something to open.

    `pictures`: attributes of those of assets that are seen; `summaries`: what is said of what is to be opened.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen, self.behind = "", ""
        self.pictures: list[dict[str, str]] = []
        self.summaries: list[str] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "details" and (self._depth or "veiled-words" in (given.get("class") or "").split()):
            assert "open" not in given
            self._depth += 1
        said = " ".join(value or "" for _, value in attrs)
        if tag == "img" and not self._depth and "/assets/" in (given.get("src") or ""):
            self.pictures.append({name: value or "" for name, value in attrs})
        if tag == "summary" and self._depth:
            self.summaries.append("")
        if self._depth:
            self.behind += f" {said}"
        else:
            self.seen += f" {said}"

    def handle_endtag(self, tag: str) -> None:
        if tag == "details" and self._depth:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.behind += data
            self.summaries[-1] += data
        else:
            self.seen += data


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


@pytest.fixture
def asset(world: World) -> Asset:
    """A blocked text, audited, with jobs of its own."""
    made = world.add(external_id="sku-17")
    with tenant_scope(world.id):
        Asset.objects.filter(pk=made.pk).update(
            excerpt=f"{SECRET} in the text", caption=f"{SECRET} above it", filename=f"{SECRET}.txt"
        )
    world.audit(("known",), made)
    with tenant_scope(world.id):
        found = Asset.objects.get(pk=made.pk)
    assert found.moderation == "block"
    return found


LISTS: dict[str, tuple[Callable[[World, Asset], str], bool]] = {
    # Whether a moderator can open the words there.
    "audits": (lambda world, asset: "/audits", True),
    "audits of it": (lambda world, asset: f"/assets/{asset.id}/audits", True),
    "grid": (lambda world, asset: f"/datasets/{world.dataset.id}?view=grid", True),
    "table": (lambda world, asset: f"/datasets/{world.dataset.id}?view=table", True),
    "tile": (lambda world, asset: f"/assets/{asset.id}/tile", True),
    # Caption and name of the file; its text is read below.
    "asset": (lambda world, asset: f"/assets/{asset.id}", True),
    "jobs": (lambda world, asset: "/jobs", False),
    "search by it": (lambda world, asset: f"/search?like={asset.id}", False),
    "search by its picture": (lambda world, asset: f"/search?image_asset={asset.id}", False),
    "golden query": (lambda world, asset: f"/models/golden-queries?asset={asset.id}", False),
    "home": (lambda world, asset: "/", False),
}


@pytest.mark.parametrize("name", LISTS)
def test_blocked_words_stand_behind_something_to_open(
    world: World, asset: Asset, owner: Client, name: str
) -> None:
    address, opens = LISTS[name]
    response = owner.get(address(world, asset))
    page = response.content.decode()
    assert response.status_code in (200, 404, 422)
    found = Words(page)
    assert SECRET not in found.seen
    assert (SECRET in found.behind) is opens
    if "<html" in page:
        assert faults_of(page) == []


@pytest.mark.parametrize("role", ["viewer", "editor"])
@pytest.mark.parametrize("name", [name for name in LISTS if not name.startswith("audits")])
def test_who_may_not_moderate_is_not_shown_them(
    world: World, asset: Asset, owner: Client, name: str, role: str
) -> None:
    Membership.objects.filter(user=owner.user).update(role=role)
    page = owner.get(LISTS[name][0](world, asset)).content.decode()
    found = Words(page)
    assert SECRET not in found.seen + found.behind
    assert 'class="veiled-words"' not in page or (name, role) == ("asset", "editor")


@pytest.fixture
def waiting(world: World) -> Asset:
    """A text that a person still has to review: found by everybody, read in passing by nobody."""
    made = world.add(external_id="sku-18")
    with tenant_scope(world.id):
        Asset.objects.filter(pk=made.pk).update(
            excerpt=f"{SECRET} in the text", caption=f"{SECRET} above it", filename=f"{SECRET}.txt"
        )
    world.audit(("rude",), made)
    with tenant_scope(world.id):
        found = Asset.objects.get(pk=made.pk)
    assert found.moderation == "review"
    return found


@pytest.mark.parametrize("role", ["owner", "viewer"])
@pytest.mark.parametrize("name", LISTS)
def test_what_waits_for_review_stands_behind_something_to_open(
    world: World, waiting: Asset, owner: Client, name: str, role: str
) -> None:
    Membership.objects.filter(user=owner.user).update(role=role)
    address, opens = LISTS[name]
    response = owner.get(address(world, waiting))
    page = response.content.decode()
    assert response.status_code in (200, 404, 422) or (role == "viewer" and response.status_code == 403)
    found = Words(page)
    assert SECRET not in found.seen
    # Who may not moderate may still read it: it is held back from nobody.
    assert (SECRET in found.behind) is (opens and response.status_code == 200)
    if "<html" in page:
        assert faults_of(page) == []


@pytest.mark.parametrize("moderation", ["review", "quarantined", "block"])
@pytest.mark.parametrize("name", ["grid", "table", "tile", "asset", "search by it", "search by its picture"])
def test_pictures_are_blurred_where_they_are_listed(
    world: World, waiting: Asset, owner: Client, name: str, moderation: str
) -> None:
    as_picture(world, waiting, moderation)
    address, opens = LISTS[name]
    found = Words(owner.get(address(world, waiting)).content.decode())
    assert [one for one in found.pictures if "veiled" not in one.get("class", "").split()] == []
    assert any("Show the picture" in one for one in found.summaries) is opens


def test_a_picture_without_words_is_opened_too(world: World, waiting: Asset, owner: Client) -> None:
    as_picture(world, waiting, "review", caption="", filename="", excerpt="")
    found = Words(owner.get(f"/datasets/{world.dataset.id}?view=grid").content.decode())
    assert f"/assets/{waiting.id}/thumbnail" in found.behind


def as_picture(world: World, asset: Asset, moderation: str, **fields: Any) -> None:
    """Makes the rows of a picture of it: nothing here reads the file."""
    with tenant_scope(world.id):
        Asset.objects.filter(pk=asset.pk).update(modality="image", moderation=moderation, **fields)
        Blob.objects.filter(pk=asset.blob_id).update(has_thumbnail=True, width=8, height=8)


def test_no_highlight_of_a_result_says_what_is_veiled(world: World, waiting: Asset) -> None:
    words = f"{SECRET} in the text"
    marks = [Highlight(field, words, [(0, len(SECRET))]) for field in ("caption", "words", "metadata.note")]
    card = asset_card(waiting, score=0.5, matched="text", highlights=marks)
    assert (card.title, card.quote, card.fields) == (None, None, [])
    waiting.moderation = "allow"
    assert asset_card(waiting, score=0.5, matched="text", highlights=marks).title == marks[0]


def test_the_map_names_what_is_veiled_by_its_kind(world: World, waiting: Asset, owner: Client) -> None:
    as_picture(world, waiting, "review")
    answer = owner.post("/map/names", json.dumps([str(waiting.id)]), content_type="application/json")
    (named,) = answer.json()["assets"].values()
    assert (named["name"], named["picture"]) == ("Picture, in review · sku-18", "")


def test_a_classifier_shows_nothing_veiled_in_what_it_asks_about(world: World, waiting: Asset) -> None:
    with tenant_scope(world.id):
        asset = get_asset(waiting.id)
    context = {"row": {"id": asset.id}, "cards": [{"asset": asset, "probability": 0.5}]}
    page = Words(render_to_string("console/parts/classifier_next.html", context))
    assert SECRET not in page.seen
    assert SECRET in page.behind


def test_its_own_page_shows_a_blocked_text_when_that_is_opened(
    world: World, asset: Asset, person: Callable[..., Client]
) -> None:
    with tenant_scope(world.id):
        text = read_text(asset)
    address = f"/assets/{asset.id}"
    found = Words(person("reviewer").get(address).content.decode())
    assert (text in found.seen, text in found.behind) == (False, True)
    found = Words(person("viewer").get(address).content.decode())
    assert text not in found.seen + found.behind


def test_a_link_to_blocked_words_says_what_it_leads_to(world: World, asset: Asset, owner: Client) -> None:
    page = check(owner.get("/audits"), "/audits")
    assert "Blocked text · sku-17" in page
    summary = re.search(r"<details class=\"veiled-words\">\s*<summary>(.*?)</summary>", page, re.DOTALL)
    assert summary is not None
    assert "Show the words" in summary[1]


def test_a_review_shows_its_words_when_they_are_opened(world: World, owner: Client) -> None:
    made = world.add()
    with tenant_scope(world.id):
        Asset.objects.filter(pk=made.pk).update(excerpt=f"{SECRET} waits")
    world.audit(("rude",), made)
    for address in ("/reviews", "/reviews/bulk?decision=allow&rule=rude", "/audits"):
        found = Words(owner.get(address).content.decode())
        assert SECRET not in found.seen
        assert SECRET in found.behind


def test_what_an_audit_would_have_blocked_is_veiled_too(world: World, owner: Client) -> None:
    made = world.add()
    with tenant_scope(world.id):
        Asset.objects.filter(pk=made.pk).update(excerpt=f"{SECRET} in shadow")
    world.audit(("known",), made, mode="shadow")
    found = Words(owner.get("/audits").content.decode())
    assert SECRET not in found.seen
    assert SECRET in found.behind


def test_other_words_are_read_at_once(world: World, owner: Client) -> None:
    made = world.add()
    with tenant_scope(world.id):
        Asset.objects.filter(pk=made.pk).update(excerpt=f"{SECRET} is a word like any other")
    world.audit(("made",), made)
    for address in ("/audits", f"/datasets/{world.dataset.id}?view=table", "/jobs"):
        page: Any = owner.get(address)
        assert "veiled-words" not in page.content.decode()
    assert SECRET in Words(owner.get("/audits").content.decode()).seen


# --- What an asset stands at -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "stands", "line"),
    [("shadow", "Nothing decided", "Would be: Blocked"), ("off", "Nothing decided", "Examined")],
)
def test_an_asset_that_was_audited_is_never_not_audited(
    world: World, owner: Client, mode: str, stands: str, line: str
) -> None:
    made = world.add()
    audit = world.audit(("known",), made, mode=mode, evidence=evidence())
    for address in (f"/assets/{made.id}", f"/audits/{audit.id}"):
        page = " ".join(check(owner.get(address), address).split())
        assert "Not audited" not in page
        assert stands in page
    page = " ".join(check(owner.get(f"/assets/{made.id}"), "asset").split())
    assert line in page
    assert ("Would be" in page) is (mode == "shadow")
    assert "Not audited" in check(owner.get(f"/assets/{world.add().id}"), "asset")


# --- Messages --------------------------------------------------------------------------------------------


def test_a_message_does_not_outlive_the_session_or_the_workspace(
    world: World, owner: Client, make_party: Any
) -> None:
    made = world.add()
    assert owner.post(f"/assets/{made.id}/delete").status_code == 302
    # Never shown, as its page was not opened: signing out forgets it.
    owner.post("/logout")
    owner.post("/login", {"username": world.party.owner.email, "password": world.party.password})
    assert "was deleted" not in owner.get("/").content.decode()

    other = make_party()
    Membership.objects.create(user=world.party.owner, tenant=other.tenant, role="owner")
    second = world.add()
    assert owner.post(f"/assets/{second.id}/delete").status_code == 302
    owner.post("/workspace", {"tenant": str(other.id)})
    assert "was deleted" not in owner.get("/").content.decode()
