"""Pages of hash lists: made, filled from hashes and assets, emptied, deleted."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tenants.jobs.models import Job
from tenants.moderation import known_content
from tenants.moderation.models import HashEntry, HashList
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.test_audits import read
from tests.console.test_pages import EVIL
from tests.tenants.reviewing import World, make_world

PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


@pytest.fixture
def bad(party: Party, owner: Client) -> HashList:
    owner.post("/hash-lists/new", {"name": "Fakes", "stance": "bad", "description": "Known fakes."})
    with tenant_scope(party.id):
        return HashList.objects.get()


def entries(party: Party) -> list[HashEntry]:
    with tenant_scope(party.id):
        return list(HashEntry.objects.order_by("id"))


def test_no_lists_yet_says_how_to_begin(owner: Client) -> None:
    page = read(owner, "/hash-lists")
    assert "No lists of your own yet" in page
    assert 'href="/hash-lists" aria-current="true"' in page


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "x"},
        {"name": " ", "stance": "bad"},
        {"name": "x", "stance": "zzz"},
        {"name": "x" * 101, "stance": "bad"},
        {"name": "x\x00", "stance": "bad"},
        {"name": "Fakes", "stance": "good"},
    ],
)
def test_an_odd_list_is_not_made(fields: dict[str, str], party: Party, bad: HashList, owner: Client) -> None:
    response = owner.post("/hash-lists/new", fields)
    assert response.status_code == 422
    assert "data-open-now" in response.content.decode()
    with tenant_scope(party.id):
        assert HashList.objects.count() == 1


def test_pasted_hashes_are_added_once(party: Party, bad: HashList, owner: Client) -> None:
    lines = f"{PDQ} a known fake\n\n{PDQ.upper()}\n{'0' * 64}\tanother\n"
    owner.post(f"/hash-lists/{bad.id}/hashes", {"algorithm": "pdq", "lines": lines})
    again = owner.post(f"/hash-lists/{bad.id}/hashes", {"algorithm": "pdq", "lines": PDQ}, follow=True)
    assert "1 was on it already." in again.content.decode()
    found = entries(party)
    assert sorted(bytes(entry.content).hex() for entry in found) == sorted([PDQ, "0" * 64])
    assert {entry.created_by for entry in found} == {str(owner.user.pk)}
    page = read(owner, f"/hash-lists/{bad.id}")
    assert "another" in page
    assert page.count(">pdq</span>") == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"algorithm": "pdq", "lines": f"{PDQ}\nzzz"}, "Line 2: A hash has 64 hexadecimal digits."),
        ({"algorithm": "pdq", "lines": f"{PDQ} {'n' * 501}"}, "Line 1: At most 500 characters."),
        ({"algorithm": "vector", "lines": PDQ}, "valid choice"),
        ({"algorithm": "pdq", "lines": " \n "}, "required"),
        ({"algorithm": "pdq", "lines": f"{PDQ} \x00"}, "Null characters"),
    ],
)
def test_an_odd_hash_is_told_with_its_line(
    fields: dict[str, str], said: str, party: Party, bad: HashList, owner: Client
) -> None:
    response = owner.post(f"/hash-lists/{bad.id}/hashes", fields)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert entries(party) == []


def test_an_asset_is_put_on_a_list_from_its_page(
    world: World, party: Party, bad: HashList, owner: Client
) -> None:
    asset = world.add()
    link = f"/hash-lists?asset={asset.id}"
    assert f'href="{link}"' in read(owner, f"/assets/{asset.id}")
    assert f'href="/hash-lists/{bad.id}?asset={asset.id}"' in read(owner, link)
    assert f'value="{asset.id}"' in read(owner, f"/hash-lists/{bad.id}?asset={asset.id}")
    owner.post(f"/hash-lists/{bad.id}/content", {"asset": str(asset.id), "note": "Seen before"})
    [entry] = entries(party)
    with tenant_scope(party.id):
        assert (entry.algorithm, bytes(entry.content).hex()) == ("sha256", asset.blob.sha256)
        assert not Job.objects.filter(kind="match_again").exists()
    owner.post(f"/hash-lists/{bad.id}/content", {"asset": str(asset.id), "copies": "on"})
    with tenant_scope(party.id):
        assert Job.objects.filter(kind="match_again").count() == 1


def test_a_strange_asset_is_not_put_on_a_list(
    stranger: Party, party: Party, bad: HashList, owner: Client
) -> None:
    theirs = make_world(stranger).add()
    for asset in (str(theirs.id), str(uuid.uuid4()), "zzz", "", "\x00"):
        response = owner.post(f"/hash-lists/{bad.id}/content", {"asset": asset, "copies": "on"})
        assert response.status_code in (404, 422), asset
        assert "field-error" in response.content.decode(), asset
    assert entries(party) == []


def test_a_file_is_put_on_a_list_and_not_kept(party: Party, bad: HashList, owner: Client) -> None:
    words = SimpleUploadedFile("a.txt", b"Known words")
    owner.post(f"/hash-lists/{bad.id}/content", {"file": words, "note": "A text"})
    [entry] = entries(party)
    assert bytes(entry.content) == hashlib.sha256(b"Known words").digest()
    both = {"file": SimpleUploadedFile("a.txt", b"x"), "asset": str(uuid.uuid4())}
    assert owner.post(f"/hash-lists/{bad.id}/content", both).status_code == 422
    odd = {"file": SimpleUploadedFile("a.exe", b"MZ\x00\x01")}
    assert owner.post(f"/hash-lists/{bad.id}/content", odd).status_code == 415


def test_an_item_is_taken_off_and_a_list_deleted(party: Party, bad: HashList, owner: Client) -> None:
    owner.post(f"/hash-lists/{bad.id}/hashes", {"algorithm": "sha256", "lines": PDQ})
    [entry] = entries(party)
    address = f"/hash-lists/{bad.id}/items/{entry.item}/remove"
    owner.post(address)
    assert entries(party) == []
    assert owner.post(address).status_code == 404
    assert owner.post(f"/hash-lists/{bad.id}/delete", {"name": "other"}).status_code == 422
    owner.post(f"/hash-lists/{bad.id}/delete", {"name": "Fakes"})
    assert owner.get(f"/hash-lists/{bad.id}").status_code == 404


def test_long_lists_are_paged_and_hostile_notes_stay_words(
    party: Party, bad: HashList, owner: Client
) -> None:
    with tenant_scope(party.id):
        raw = [known_content.RawHash("sha256", f"{number:064x}", EVIL) for number in range(60)]
        known_content.add_hashes(list_id=bad.id, hashes=raw)
    first = read(owner, f"/hash-lists/{bad.id}")
    assert first.count("/remove") == 50
    older = first.partition('href="?before=')[2].partition('"')[0]
    assert read(owner, f"/hash-lists/{bad.id}?before={older}").count("/remove") == 10
    assert "60" in read(owner, "/hash-lists")
    assert owner.get(f"/hash-lists/{bad.id}?before=zzz&asset=\x00").status_code == 200
