"""Searches to come back to: saved under a name, and recent ones."""

from __future__ import annotations

import datetime as dt
import html
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from console.search import kept
from console.search.forms import form_of
from tenants.accounts.models import Membership
from tenants.datasets import services
from tenants.errors import NotAllowed, NotFound
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import saved
from tenants.retrieval.models import RecentSearch, SavedSearch
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.people import new_member

HX = {"hx-request": "true"}


def rows(party: Party) -> list[dict[str, Any]]:
    with tenant_scope(party.id):
        return list(SavedSearch.objects.order_by("id").values())


def page_of(client: Client, address: str = "/search") -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert faults_of(page) == []
    return page


def listed(page: str, heading: str) -> dict[str, str]:
    """Addresses by label, of one of the lists."""
    return dict(entries(page, heading))


def entries(page: str, heading: str) -> list[tuple[str, str]]:
    found = re.search(rf'<section[^>]*aria-labelledby="{heading}".*?</section>', page, re.DOTALL)
    links = (
        re.findall(r'<a href="([^"]+)"><svg.*?<span class="clip">(.*?)</span>', found[0], re.DOTALL)
        if found
        else []
    )
    return [(html.unescape(label), html.unescape(address)) for address, label in links]


def save(client: Client, address: str, name: str, **fields: str) -> Any:
    return client.post("/search/saved", {"address": address, "name": name, **fields})


def member_of(party: Party, client: Client) -> Membership:
    return Membership.objects.get(user=client.user, tenant=party.tenant)  # type: ignore[attr-defined]


@pytest.fixture
def dataset(party: Party) -> Any:
    with tenant_scope(party.id):
        return services.create_dataset(name="Shelf & co")


def test_a_search_is_saved_and_found_again(owner: Client, party: Party, dataset: Any) -> None:
    only = '{"colour": {"eq": "red"}}'
    given = QueryDict(mutable=True)
    given.update({"q": "kettle", "dataset": str(dataset.id), "weak": "on", "hybrid": "on"})
    given.setlist("only", [only, '{"colour": {"eq": "blue"}}', '{"price": {"gte": 1, "lt": 5}}'])
    given.setlistdefault("modality", ["text", "image"])
    address = f"/search?{given.urlencode()}"
    answer = save(owner, address, "Red & blue kettles")
    assert (answer.status_code, answer["Location"]) == (302, address)
    [row] = rows(party)
    assert row["query"] == {
        "text": "kettle",
        "datasets": [str(dataset.id)],
        "modalities": ["text", "image"],
        "filter": {"colour": {"in": ["red", "blue"]}, "price": {"gte": 1, "lt": 5}},
        "hybrid": True,
        "group": "duplicates",
        "top_k": 24,
        "min_relevance": 0.0,
    }
    page = page_of(owner)
    again = listed(page, "saved-searches")["Red & blue kettles"]
    shown = QueryDict(urlsplit(again).query)
    assert {name: sorted(shown.getlist(name)) for name in shown} == {
        name: sorted(given.getlist(name)) for name in given
    }
    assert (
        "Shelf &amp; co · text · image · price: 1 – 5 · colour: red · colour: blue · weaker matches, too"
        in page
    )
    # From the menu of any search, and from anywhere.
    assert "Red &amp; blue kettles" in page_of(owner, "/search?q=pan")
    found = owner.get("/go", {"q": "blue kett"}, headers=HX).content.decode()
    assert html.escape(again) in found


def test_an_address_says_what_the_api_was_asked(owner: Client, party: Party, dataset: Any) -> None:
    query = {
        "like": {"assets": [str(uuid.UUID(int=1))]},
        "text": "x",
        "unlike": {"assets": [str(uuid.UUID(int=2))], "text": "rust"},
        "filter": {"n": {"gt": 3}, "m": {"exists": False}, "label": "x"},
        "weights": {"text": 0.5, "like": 0.25},
        "task": "ecommerce",
    }
    address = kept.address_of_query(query)
    body = kept.query_of(form_of(QueryDict(urlsplit(address).query)), [dataset], None)
    weights = body.pop("weights")
    assert body == {
        **{name: value for name, value in query.items() if name != "weights"},
        "filter": {"label": {"eq": "x"}, "n": {"gt": 3}, "m": {"exists": False}},
        "top_k": 24,
    }
    assert weights == {"text": 0.5, "like": 0.25}
    for part in ({"vector": [1.0]}, {"audio": {"asset": "x"}}, {"text": "x", "exact": True}):
        assert kept.address_of_query(part) == ""


@pytest.mark.parametrize(
    ("address", "name", "status"),
    [
        ("", "n", 422),
        ("/search", "n", 422),
        ("/search?q=" + "x" * 4_000, "n", 422),
        ("/search?q=", "n", 422),
        ("/search?q=x", "  ", 422),
        ("/search?q=x", "n" * 101, 422),
        ("/search?q=x%00", "n", 422),
        ("/search?q=x", "n\0", 422),
        ("/search?q=x&only=%5B%5D", "n", 422),
        ("/search?q=x&task=nobodys", "n", 422),
        (f"/search?q=x&dataset={uuid.UUID(int=1)}", "n", 404),
        ("/search?asset=none", "n", 404),
        ("/search?q=x&key=a&operator=lt&value=1&only=" + "%7B%22a%22%3A+%7B%22lt%22%3A+2%7D%7D", "n", 422),
    ],
)
def test_what_cannot_be_asked_is_not_saved(
    owner: Client, party: Party, address: str, name: str, status: int
) -> None:
    assert save(owner, address, name).status_code == status
    assert rows(party) == []


def test_private_ones_are_their_owners_and_shared_ones_everybodys(
    owner: Client, person: Callable[..., Client], party: Party, stranger: Party
) -> None:
    viewer, other = person("viewer"), person("admin")
    save(viewer, "/search?q=mine", "Mine")
    save(viewer, "/search?q=ours", "Ours", shared="on")
    assert listed(page_of(viewer), "saved-searches").keys() == {"Mine", "Ours"}
    for client in (owner, other):
        page = page_of(client)
        assert listed(page, "saved-searches").keys() == {"Ours"}
        assert "Mine" not in page
        assert "Mine" not in client.get("/go", {"q": "mine"}, headers=HX).content.decode()
    mine, ours = (row["id"] for row in rows(party))
    before = rows(party)
    for client, one, status in ((other, ours, 403), (other, mine, 404), (owner, mine, 404)):
        assert client.post(f"/search/saved/{one}/delete").status_code == status
        assert client.post(f"/search/saved/{one}/rename", {"name": "taken"}).status_code == status
    elsewhere = Client()
    elsewhere.force_login(stranger.owner)
    assert elsewhere.post(f"/search/saved/{ours}/delete").status_code == 404
    assert rows(party) == before
    # An owner of the workspace keeps order in what is shared; whoever saved it takes it back.
    assert (
        owner.post(f"/search/saved/{ours}/rename", {"name": "All of us", "shared": "on"}).status_code == 302
    )
    assert listed(page_of(other), "saved-searches").keys() == {"All of us"}
    assert viewer.post(f"/search/saved/{ours}/rename", {"name": "Me"}).status_code == 302
    assert listed(page_of(other), "saved-searches") == {}
    assert viewer.post(f"/search/saved/{mine}/delete").status_code == 302
    assert [row["name"] for row in rows(party)] == ["Me"]


def test_recent_searches_are_the_last_twenty_of_a_member(
    owner: Client, person: Callable[..., Client], party: Party
) -> None:
    viewer = person("viewer")
    for number in range(22):
        assert owner.get("/search", {"q": f"pot {number}"}).status_code == 200
    assert owner.post("/search/results", {"text": "pot 5"}, headers=HX).status_code == 200
    assert owner.get("/search", {"q": "pot 5", "group": "off"}).status_code == 200
    found = [address for _, address in entries(page_of(owner), "recent-searches")]
    assert found[0] == "/search?q=pot+5&group=off"
    assert len(found) == 20
    assert "/search?q=pot+21" in found
    with tenant_scope(party.id):
        assert RecentSearch.objects.count() == 20
    assert listed(page_of(viewer), "recent-searches") == {}
    assert viewer.get("/search", {"q": "pan"}).status_code == 200
    assert owner.post("/search/recent/clear").status_code == 302
    assert listed(page_of(owner), "recent-searches") == {}
    assert list(listed(page_of(viewer), "recent-searches")) == ["pan"]


def test_recent_searches_end_after_a_while(owner: Client, party: Party) -> None:
    assert owner.get("/search", {"q": "old"}).status_code == 200
    assert owner.get("/search", {"q": "new"}).status_code == 200
    with tenant_scope(party.id):
        past = timezone.now() - dt.timedelta(days=saved.RECENT_DAYS, seconds=1)
        RecentSearch.objects.filter(query__text="old").update(searched_at=past)
        assert [row.query["text"] for row in saved.list_recent(member_of(party, owner).pk)] == ["new"]
        assert saved.forget_recent() == 1
        assert RecentSearch.objects.count() == 1


def test_the_same_search_again_moves_up(owner: Client, party: Party) -> None:
    for words in ("one", "two", "one"):
        owner.get("/search", {"q": words})
    assert list(listed(page_of(owner), "recent-searches")) == ["one", "two"]


def test_who_is_narrowed_sees_no_search_of_what_they_do_not_see(party: Party, dataset: Any) -> None:
    with tenant_scope(party.id):
        hidden = services.create_dataset(name="Hidden")
        asset = add_asset(dataset_id=hidden.id, text="secret").asset
        seen = add_asset(dataset_id=dataset.id, text="open").asset
    boss = saved.Who(str(party.owner.pk), Membership.objects.get(user=party.owner, tenant=party.tenant).pk)
    user = new_member(party.tenant, "viewer")
    who = saved.Who(str(user.pk), Membership.objects.get(user=user, tenant=party.tenant).pk)
    queries = {
        "seen": {"text": "x", "datasets": [str(dataset.id)], "like": {"assets": [str(seen.id)]}},
        "hidden": {"text": "x", "datasets": [str(hidden.id)]},
        "both": {"text": "x", "datasets": [str(dataset.id), str(hidden.id)]},
        "like": {"datasets": [str(dataset.id)], "like": {"assets": [str(asset.id)]}},
        "unlike": {"text": "x", "datasets": [str(dataset.id)], "unlike": {"assets": [str(asset.id)]}},
        "picture": {"datasets": [str(dataset.id)], "image": {"asset": str(asset.id)}},
        "anywhere": {"text": "x", "filter": {"patient": "Ann"}},
    }
    with tenant_scope(party.id):
        made = {n: saved.save_search(who=boss, name=n, query=q, shared=True) for n, q in queries.items()}
        saved.save_search(who=who, name="own", query={"text": "mine"}, shared=False)
        for query in queries.values():
            saved.note_recent(member_id=who.member_id or 0, query=query)
    with narrowed(Narrowing((dataset.id,))), tenant_scope(party.id):
        assert sorted(row.name for row in saved.list_saved(who)) == ["own", "seen"]
        assert {row.query.get("text") for row in saved.list_recent(who.member_id)} == {"x"}
        assert len(saved.list_recent(who.member_id)) == 2
        for name in ("hidden", "anywhere", "like"):
            with pytest.raises(NotFound):
                saved.delete_saved(who=who, saved_id=made[name].id)
        with pytest.raises(NotAllowed):
            saved.delete_saved(who=who, saved_id=made["seen"].id)
        with pytest.raises(NotFound):
            saved.save_search(who=who, name="n", query=queries["hidden"], shared=False)
    with tenant_scope(party.id):
        assert SavedSearch.objects.count() == len(queries) + 1
