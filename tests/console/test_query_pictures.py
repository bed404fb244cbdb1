"""A search by a picture that was sent has an address: the picture is kept for a while, in the tenant's storage."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from tenants.accounts.models import Membership, QuotaCounter
from tenants.datasets import storage
from tenants.retrieval import query_pictures, saved
from tenants.retrieval.models import QueryPicture, RecentSearch, SavedSearch
from tenants.scope import tenant_scope
from tests.api.conftest import Api, picture, refused
from tests.conftest import Party
from tests.console.pages import faults_of

HX = {"hx-request": "true"}


def sent(color: str = "red") -> SimpleUploadedFile:
    return SimpleUploadedFile("query.png", picture(color), content_type="image/png")


def ask(client: Client, **fields: Any) -> str:
    answer = client.post("/search/results", {"group": "duplicates", **fields}, headers=HX)
    page = answer.content.decode()
    assert answer.status_code == 200, page
    assert faults_of(page) == []
    return page


def address_in(page: str) -> str:
    [found] = re.findall(r'class="result-head" data-address="([^"]*)"', page)
    return found.replace("&amp;", "&")


def file_in(address: str) -> uuid.UUID:
    return uuid.UUID(parse_qs(urlsplit(address).query)["file"][0])


def kept(party: Party) -> list[QueryPicture]:
    with tenant_scope(party.id):
        return list(QueryPicture.objects.order_by("created_at"))


def used_bytes(party: Party) -> float:
    with tenant_scope(party.id):
        row = QuotaCounter.objects.filter(resource="bytes").first()
        return row.used if row else 0


def files_of(party: Party) -> list[str]:
    return sorted(storage.files_below(f"{party.id}/{query_pictures.FOLDER}"))


def test_a_picture_that_was_sent_is_in_the_address(owner: Client, party: Party) -> None:
    page = ask(owner, image=sent(), text="tea")
    address = address_in(page)
    one = file_in(address)
    assert address == f"/search?q=tea&file={one}"
    assert f'data-file="{one}"' in page
    again = owner.get(address)
    assert again.status_code == 200
    shown = again.content.decode()
    assert faults_of(shown) == []
    assert f'src="/search/pictures/{one}"' in shown
    assert f'<input type="hidden" name="file" value="{one}">' in shown
    assert address_in(shown) == address
    # What narrows it down keeps it, without sending it again.
    assert file_in(address_in(ask(owner, file=str(one), toggle='{"a": {"eq": "b"}}'))) == one
    small = owner.get(f"/search/pictures/{one}")
    assert (small.status_code, small["Content-Type"]) == (200, "image/jpeg")
    assert small["X-Content-Type-Options"] == "nosniff"
    assert small.content[:3] == b"\xff\xd8\xff"
    # The same picture again is the same file.
    assert file_in(address_in(ask(owner, image=sent()))) == one
    assert address_in(ask(owner, image=sent("blue"))) != f"/search?file={one}"
    assert len(kept(party)) == 2
    assert len(files_of(party)) == 4
    sizes = [default_storage.size(path) for path in files_of(party)]
    assert used_bytes(party) == sum(sizes) == sum(row.bytes for row in kept(party))


def test_without_a_script_it_leads_to_the_address(owner: Client) -> None:
    answer = owner.post("/search/results", {"group": "duplicates", "image": sent()})
    assert answer.status_code == 302
    assert answer["Location"] == f"/search?file={file_in(answer['Location'])}"


def test_it_is_saved_and_asked_again(owner: Client, party: Party) -> None:
    address = address_in(ask(owner, image=sent()))
    one = file_in(address)
    assert (
        owner.post("/search/saved", {"address": address, "name": "Red", "shared": "on"})["Location"]
        == address
    )
    with tenant_scope(party.id):
        [row] = SavedSearch.objects.all()
        assert row.query["image"] == {"file": str(one)}
        assert RecentSearch.objects.get().query["image"] == {"file": str(one)}
    assert f'href="{address}"' in owner.get("/search").content.decode()
    api = Api(party.token)
    body = api.get(f"/saved-searches/{row.id}").json()["query"]
    answer = api.post("/search", body)
    assert (answer.status_code, answer.json()["weights"]) == (200, {"image": 1.0})
    other = {**body, "image": {"file": str(uuid.uuid4())}}
    refused(api.post("/search", other), 404, "not-found")
    refused(api.post("/saved-searches", {"name": "x", "query": other}), 404, "not-found")
    for wrong in ({}, {"file": str(one), "asset": str(one)}):
        assert api.post("/search", {"image": wrong}).status_code in (404, 422)


def test_another_workspace_finds_none_of_it(owner: Client, stranger: Party, party: Party) -> None:
    one = file_in(address_in(ask(owner, image=sent())))
    elsewhere = Client()
    elsewhere.force_login(stranger.owner)
    assert elsewhere.get(f"/search?file={one}").status_code == 404
    assert elsewhere.get(f"/search/pictures/{one}").status_code == 404
    address = f"/search?file={one}"
    assert elsewhere.post("/search/saved", {"address": address, "name": "x"}).status_code == 404
    refused(Api(stranger.token).post("/search", {"image": {"file": str(one)}}), 404, "not-found")
    assert kept(stranger) == []
    assert [row.id for row in kept(party)] == [one]


@pytest.mark.parametrize("bad", ["x", "a\0b", "0" * 400, str(uuid.UUID(int=3))])
def test_hostile_ids_are_absent(owner: Client, bad: str) -> None:
    assert owner.get("/search", {"file": bad}).status_code == 404
    assert owner.post("/search/results", {"file": bad}, headers=HX).status_code == 404


def test_what_is_no_picture_is_not_kept(owner: Client, party: Party) -> None:
    broken = SimpleUploadedFile("x.png", picture()[:40], content_type="image/png")
    assert owner.post("/search/results", {"image": broken}, headers=HX).status_code == 422
    assert (kept(party), files_of(party), used_bytes(party)) == ([], [], 0)


def test_without_room_in_the_plan_it_is_answered_without_an_address(owner: Client, party: Party) -> None:
    plan = party.tenant.plan
    before, plan.limits = plan.limits, {**plan.limits, "bytes": 10}
    plan.save()
    try:
        page = ask(owner, image=sent())
    finally:
        plan.limits = before
        plan.save()
    assert address_in(page) == ""
    assert "could not be kept" in page
    assert (kept(party), files_of(party), used_bytes(party)) == ([], [], 0)
    with tenant_scope(party.id):
        assert not RecentSearch.objects.exists()


def test_it_goes_after_a_while_unless_a_saved_search_asks_by_it(
    owner: Client, person: Callable[..., Client], party: Party
) -> None:
    red, blue, green = (file_in(address_in(ask(owner, image=sent(c)))) for c in ("red", "blue", "green"))
    member = Membership.objects.get(user=owner.user, tenant=party.tenant)  # type: ignore[attr-defined]
    with tenant_scope(party.id):
        query = {"image": {"file": str(red)}}
        saved.save_search(who=saved.Who("x", member.pk), name="n", query=query, shared=False)
        past = timezone.now() - dt.timedelta(days=query_pictures.KEEP_DAYS, seconds=1)
        QueryPicture.objects.update(used_at=past)
    # Who comes back to one prolongs it.
    assert owner.get(f"/search?file={green}").status_code == 200
    assert query_pictures.forget(party.id) == 1
    assert {row.id for row in kept(party)} == {red, green}
    assert used_bytes(party) == sum(row.bytes for row in kept(party))
    # Files that are new may be of an upload under way: their time comes.
    assert len(files_of(party)) == 6
    assert owner.get(f"/search?file={blue}").status_code == 404
    assert owner.get(f"/search/pictures/{blue}").status_code == 404
    assert "no longer kept" in owner.get(f"/search?file={blue}").content.decode()


def test_what_has_no_row_is_removed_once_it_is_old(
    owner: Client, party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = file_in(address_in(ask(owner, image=sent())))
    stray = uuid.uuid4()
    storage.put(query_pictures.path_of(party.id, stray), b"left by a crash")
    monkeypatch.setattr(query_pictures, "YOUNG_S", -60)
    assert query_pictures.forget(party.id) == 0
    assert files_of(party) == sorted(query_pictures.path_of(party.id, one, k) for k in ("original", "small"))
