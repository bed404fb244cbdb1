"""Single keys that each member sets for themselves, without conflicts, or turns off where they are in the way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client

from tenants.accounts.models import Membership
from tenants.errors import Conflict, Invalid
from tenants.moderation.models import Review
from tenants.people import shortcuts
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.auditing import audited, flag_of
from tests.console.pages import faults_of
from tests.console.test_audits import read
from tests.tenants.people import new_member, new_user
from tests.tenants.reviewing import make_world


def keys_of(client: Client) -> dict[str, str]:
    """As the script of a page reads them."""
    found = re.search(r'id="shortcuts"[^>]*data-keys="([^"]*)"', read(client, "/shortcuts"))
    assert found is not None
    return dict(json.loads(unescape(found.group(1))))


def sent(**changes: str) -> dict[str, str]:
    return {"on": "on", **shortcuts.DEFAULT.keys, **changes}


def test_a_member_chooses_keys_and_sees_them_in_every_hint(
    party: Party, owner: Client, person: Callable[..., Client]
) -> None:
    world = make_world(party)
    review = flag_of(world, audited(world, ("rude",)))
    owner.post(f"/reviews/{review.id}/claim")
    before = read(owner, f"/reviews/{review.id}")
    assert 'data-shortcut="block" aria-keyshortcuts="B"' in before
    saved = owner.post("/shortcuts", sent(block="X", allow="", next="1"))
    assert (saved.status_code, saved["Location"]) == (302, "/shortcuts")
    assert keys_of(owner) == {**shortcuts.DEFAULT.keys, "block": "x", "allow": "", "next": "1"}
    page = read(owner, f"/reviews/{review.id}")
    assert faults_of(page) == []
    assert 'data-shortcut="block" aria-keyshortcuts="X"' in page
    assert '<kbd class="key-hint" aria-hidden="true">X</kbd>' in page
    assert 'data-shortcut="allow">' in page
    assert "<dt><kbd>X</kbd></dt><dd>Reviews: Block</dd>" in page
    # A member's keys are that member's alone, and of this workspace.
    assert keys_of(person("reviewer")) == shortcuts.DEFAULT.keys
    owner.post("/shortcuts", {"reset": "1"})
    assert keys_of(owner) == shortcuts.DEFAULT.keys


def test_a_key_that_does_something_else_on_the_same_page_is_refused(owner: Client) -> None:
    refused = owner.post("/shortcuts", sent(block="a"))
    page = refused.content.decode()
    assert refused.status_code == 422
    assert "“A” is the key of “Allow” already. Choose another one, or leave it empty." in unescape(page)
    assert faults_of(page) == []
    assert keys_of(owner) == shortcuts.DEFAULT.keys
    # One that works everywhere meets all others; those of the search and of reviews never meet.
    assert owner.post("/shortcuts", sent(help="b")).status_code == 422
    assert owner.post("/shortcuts", sent(caption="b")).status_code == 302
    assert keys_of(owner)["caption"] == keys_of(owner)["block"] == "b"


@pytest.mark.parametrize("key", ["ab", "\u0000", "\u0007", "é" * 2])
def test_a_key_is_one_character(owner: Client, key: str) -> None:
    assert owner.post("/shortcuts", sent(block=key)).status_code == 422
    assert keys_of(owner) == shortcuts.DEFAULT.keys


def test_letters_of_other_alphabets_are_keys(owner: Client) -> None:
    assert owner.post("/shortcuts", sent(block="Б", allow="É")).status_code == 302
    assert (keys_of(owner)["block"], keys_of(owner)["allow"]) == ("б", "é")


def test_single_keys_are_turned_off_and_stay_so(owner: Client) -> None:
    owner.post("/shortcuts", sent(block="x"))
    owner.post("/shortcuts/switch", {"on": "0"}, headers={"referer": "http://testserver/reviews"})
    assert keys_of(owner) == {}
    page = read(owner, "/search")
    assert 'aria-keyshortcuts="/"' not in page
    assert "Your single-key shortcuts are off." in page
    owner.post("/shortcuts/switch", {"on": "1"})
    assert keys_of(owner)["block"] == "x"


def test_keys_are_kept_for_members_of_that_workspace_only(party: Party, stranger: Party) -> None:
    user = new_member(party.tenant, "reviewer")
    with tenant_scope(party.id):
        shortcuts.save_shortcuts(user_id=user.pk, on=True, keys={"allow": "y"})
        for nobody in (None, new_user().pk, new_member(stranger.tenant, "owner").pk):
            with pytest.raises(Conflict, match="Only members"):
                shortcuts.save_shortcuts(user_id=nobody, on=True, keys={})
        with pytest.raises(Invalid):
            shortcuts.save_shortcuts(user_id=user.pk, on=True, keys={"allow": "yy"})
    kept = Membership.objects.get(tenant=party.id, user=user)
    assert shortcuts.read_shortcuts(kept.shortcuts).keys["allow"] == "y"
    assert not Membership.objects.filter(tenant=stranger.id).exclude(shortcuts=None).exists()


def test_an_action_that_came_later_gives_way_to_a_chosen_key() -> None:
    stored = {"on": True, "keys": {"allow": "s", "gone": "q"}}
    found = shortcuts.read_shortcuts(stored)
    assert (found.keys["allow"], found.keys["skip"], found.keys["block"]) == ("s", "", "b")
    assert "gone" not in found.keys


def test_what_is_skipped_is_free_again_and_the_next_one_is_taken(party: Party, owner: Client) -> None:
    world = make_world(party)
    first, second = world.flag(("naked",)), world.flag(("rude",))
    owner.post("/reviews/next")
    taken = owner.post(f"/reviews/{first.id}/release", {"skip": "1"})
    assert taken["Location"] == f"/reviews/{second.id}"
    with tenant_scope(party.id):
        assert Review.objects.get(pk=first.pk).state == "open"
    last = owner.post(f"/reviews/{second.id}/release", {"skip": "1"}, follow=True)
    assert "Skipped. Nothing after it in the queue is available to you now." in last.content.decode()
