"""The page of alerts: what arrived, why, and whether it was read; a search becomes a standing query with one click."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.test import Client

from tenants.accounts.models import Membership
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.pipeline.assets.services import add_asset
from tenants.retrieval import saved, standing
from tenants.retrieval.index.vectors import NewVector, replace_vectors
from tenants.retrieval.models import StandingAlert, StandingQuery
from tenants.retrieval.query import encoding
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.relevance import RELEVANCE, WORDS, at_score
from tests.tenants.people import new_member

WHO = saved.Who("key:x")


@pytest.fixture(autouse=True)
def _calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding.space(), "relevance", RELEVANCE)


@pytest.fixture
def dataset(party: Party) -> uuid.UUID:
    with tenant_scope(party.id):
        return create_dataset(name="Shelf").id


def asked(party: Party, who: saved.Who = WHO, **query: Any) -> uuid.UUID:
    prepared = standing.prepare(tenant_id=party.id, query=query or {"text": WORDS})
    with tenant_scope(party.id):
        return standing.create_standing(who=who, name="Apples", prepared=prepared).id


def alert(party: Party, query: uuid.UUID, place: uuid.UUID, text: str, **given: Any) -> uuid.UUID:
    with tenant_scope(party.id):
        asset = add_asset(dataset_id=place, text=text).asset
        Asset.objects.filter(pk=asset.id).update(status="ready")
        row = StandingAlert.objects.create(
            standing_query_id=query, asset=asset, modality="text", score=0.3, relevance=0.88, **given
        )
    return row.id


def page_of(client: Client, address: str = "/alerts") -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    page = answer.content.decode()
    assert faults_of(page) == []
    return page


def listed(page: str) -> list[uuid.UUID]:
    return [uuid.UUID(one) for one in re.findall(r'id="alert-([0-9a-f-]{36})"', page)]


def badge(page: str) -> str:
    found = re.search(r'data-alert-count><span class="count-badge">([^<]*)<', page)
    return found[1] if found else ""


def test_the_inbox_says_what_arrived_and_why(owner: Client, party: Party, dataset: uuid.UUID) -> None:
    assert "No standing queries yet" in page_of(owner)
    query = asked(party)
    assert "No alerts yet" in page_of(owner)
    passage = {"start_char": 10, "end_char": 22}
    first = alert(party, query, dataset, "0123456789A ripe apple, and more.", segment=passage)
    second = alert(party, query, dataset, "two apples")
    page = page_of(owner)
    assert listed(page) == [second, first]
    assert "“A ripe apple”" in page
    assert "Relevance 88 %" in page
    assert "by words" in page
    assert badge(page) == "2"
    assert badge(page_of(owner, "/datasets")) == "2"
    owner.post("/alerts/read", {"alert": [str(first), "x"]})
    assert listed(page_of(owner, "/alerts?unread=1")) == [second]
    assert owner.get("/alerts/unread").content.decode().startswith('<span class="count-badge">1<')
    owner.post("/alerts/read", {"alert": str(first), "read": "off"})
    other = asked(party)
    third = alert(party, other, dataset, "three apples")
    assert listed(page_of(owner, f"/alerts?standing_query={other}")) == [third]
    owner.post("/alerts/read", {"all": "1", "standing_query": str(other)})
    assert badge(page_of(owner)) == "2"
    owner.post("/alerts/read", {"all": "1"})
    assert badge(page_of(owner)) == ""
    assert "Nothing unread" in page_of(owner, "/alerts?unread=1")
    assert listed(page_of(owner, f"/alerts?before={second}")) == [first]


def test_what_is_blocked_or_for_webhooks_alone_is_not_in_the_inbox(
    owner: Client, party: Party, dataset: uuid.UUID
) -> None:
    query = asked(party)
    hidden = alert(party, query, dataset, "apples")
    with tenant_scope(party.id):
        Asset.objects.filter(pk=StandingAlert.objects.get(pk=hidden).asset_id).update(moderation="block")
    assert listed(page_of(owner)) == []
    kept = alert(party, query, dataset, "more apples")
    owner.post(f"/alerts/queries/{query}/change", {"delivery": "1", "webhook": "on", "frequency": "hourly"})
    assert listed(page_of(owner)) == []
    assert listed(page_of(owner, f"/alerts?standing_query={query}")) == [kept]


def test_a_search_becomes_a_standing_query_with_one_click_and_back(
    owner: Client, party: Party, dataset: uuid.UUID
) -> None:
    address = f"/search?q={WORDS.replace(' ', '+')}&dataset={dataset}"
    page = page_of(owner, address)
    assert "Tell me when something like this arrives" in page
    answer = owner.post("/alerts/queries/new", {"address": address, "name": WORDS}, follow=True)
    with tenant_scope(party.id):
        row = StandingQuery.objects.get()
    assert (row.name, row.query["text"], row.query["datasets"]) == (WORDS, WORDS, [str(dataset)])
    assert "min_relevance" not in row.query
    page = answer.content.decode()
    assert f"what arrives and fits “{WORDS}” is listed under Alerts" in page
    undo = f"/alerts/queries/{row.id}/delete"
    assert f'action="{undo}" class="undo"' in page
    assert "Shelf" in page_of(owner, "/alerts/queries")
    owner.post(undo)
    with tenant_scope(party.id):
        assert not StandingQuery.objects.exists()
        user = owner.user  # type: ignore[attr-defined]
        who = saved.Who(str(user.pk), Membership.objects.get(user=user, tenant=party.tenant).pk)
        kept = saved.save_search(who=who, name="Mine", query={"text": WORDS}, shared=False).id
    assert f'name="saved" value="{kept}"' in page_of(owner, "/search")
    owner.post("/alerts/queries/new", {"saved": str(kept)})
    with tenant_scope(party.id):
        assert StandingQuery.objects.get().name == "Mine"


def test_what_cannot_be_kept_says_why(
    owner: Client, party: Party, stranger: Party, dataset: uuid.UUID
) -> None:
    with tenant_scope(party.id):
        added = add_asset(dataset_id=dataset, text="x").asset
        asset = added.id
        vector = NewVector("text", at_score(0.5, seed=1))
        replace_vectors(asset=added, model=encoding.model_id(), vectors=[vector])
    with tenant_scope(stranger.id):
        away = create_dataset(name="d").id
        theirs = saved.save_search(who=WHO, name="n", query={"text": "x"}, shared=True).id
    for sent, status, said in (
        ({}, 422, "no link"),
        ({"address": "/search?" + "q=x" * 5_000}, 422, "no link"),
        ({"address": "/search?q=x", "name": "n" * 101}, 422, "100"),
        ({"address": f"/search?like={asset}"}, 422, "too few assets yet"),
        ({"address": f"/search?q=x&dataset={away}"}, 404, "does not exist"),
        ({"saved": str(theirs)}, 404, "does not exist"),
        ({"saved": "x"}, 404, "does not exist"),
    ):
        answer = owner.post("/alerts/queries/new", sent)
        assert answer.status_code == status, sent
        assert said in answer.content.decode(), sent
    with tenant_scope(party.id):
        assert not StandingQuery.objects.exists()


def test_a_standing_query_is_paused_muted_and_told_otherwise(owner: Client, party: Party) -> None:
    query = asked(party)
    path = f"/alerts/queries/{query}/change"

    def now() -> tuple[Any, ...]:
        with tenant_scope(party.id):
            row = StandingQuery.objects.get()
        return row.name, row.state, row.muted, row.inbox, row.frequency

    owner.post(path, {"state": "paused"})
    owner.post(path, {"muted": "on"})
    owner.post(path, {"name": "Ripe ones"})
    assert now() == ("Ripe ones", "paused", True, True, "at_once")
    owner.post(path, {"delivery": "1", "webhook": "on", "frequency": "hourly"})
    assert now() == ("Ripe ones", "paused", False, False, "hourly")
    page = page_of(owner, "/alerts/queries")
    assert "webhooks once an hour" in page
    for sent in ({"state": "gone"}, {"delivery": "1", "frequency": "daily"}, {"name": "n" * 101}):
        assert owner.post(path, sent).status_code == 422, sent
    assert now() == ("Ripe ones", "paused", False, False, "hourly")


def test_a_standing_query_of_audits_is_made_and_seen_by_who_may_moderate(
    owner: Client, party: Party, dataset: uuid.UUID
) -> None:
    sent = {"name": "Blocked pictures", "decision": ["block"], "when": "item.modality == 'image'"}
    viewer = Client()
    viewer.force_login(new_member(party.tenant, "viewer"))
    assert viewer.post("/alerts/queries/audits", sent).status_code == 403
    for wrong in ({**sent, "when": "item.modality =="}, {**sent, "decision": ["gone"]}, {"name": "n"}):
        assert owner.post("/alerts/queries/audits", wrong).status_code == 422, wrong
    owner.post("/alerts/queries/audits", sent)
    with tenant_scope(party.id):
        row = StandingQuery.objects.get()
    assert row.query == {"audit": {"decision": ["block"], "when": "item.modality == 'image'"}}
    page = page_of(owner, "/alerts/queries")
    assert "item.modality == &#x27;image&#x27;" in page
    assert "blocked" in page
    shown = alert(party, row.pk, dataset, "a blocked listing", audit=uuid.uuid4())
    with tenant_scope(party.id):
        Asset.objects.update(moderation="block")
    inbox = page_of(owner)
    assert listed(inbox) == [shown]
    assert "Blocked text" in inbox
    assert badge(inbox) == "1"
    assert (listed(page_of(viewer)), badge(page_of(viewer))) == ([], "")
    assert "Blocked pictures" not in page_of(viewer, "/alerts/queries")


def test_who_is_narrowed_sees_alerts_of_their_datasets_and_changes_their_own(
    party: Party, dataset: uuid.UUID, owner: Client
) -> None:
    with tenant_scope(party.id):
        other = create_dataset(name="Elsewhere").id
    everywhere, here = asked(party), asked(party, text=WORDS, datasets=[str(dataset)])
    seen = alert(party, here, dataset, "apples")
    alert(party, everywhere, dataset, "apples, too")
    alert(party, everywhere, other, "hidden apples")
    user = new_member(party.tenant, "viewer")
    Membership.objects.filter(user=user, tenant=party.tenant).update(datasets=[dataset])
    client = Client()
    client.force_login(user)
    page = page_of(client)
    assert (listed(page), badge(page)) == ([seen], "1")
    assert str(everywhere) not in page_of(client, "/alerts/queries")
    assert client.get(f"/alerts?standing_query={everywhere}").status_code == 404
    assert client.post(f"/alerts/queries/{everywhere}/delete").status_code == 404
    assert client.post(f"/alerts/queries/{here}/delete").status_code == 403
    client.post("/alerts/queries/new", {"address": "/search?q=apples", "name": "mine"})
    with tenant_scope(party.id):
        mine = StandingQuery.objects.get(name="mine").pk
    alert(party, mine, other, "of the query, and not theirs to see")
    assert client.post(f"/alerts/queries/{mine}/delete").status_code == 302
    with tenant_scope(party.id):
        assert not StandingAlert.objects.filter(standing_query=mine).exists()
