"""Choosing what a member sees, where people are invited and edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from tenants.accounts.models import Invitation, Membership
from tenants.datasets.services import create_dataset
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.people import new_member


@pytest.fixture
def reviewer(party: Party) -> Any:
    return new_member(party.tenant, "reviewer")


@pytest.fixture
def dataset(party: Party) -> Any:
    with tenant_scope(party.id):
        return create_dataset(name="Shop window")


def _row(party: Party, user: Any) -> Membership:
    return Membership.objects.get(tenant=party.tenant, user=user)


def test_an_owner_chooses_datasets_and_queues_and_lifts_it_again(
    party: Party, owner: Client, reviewer: Any, dataset: Any
) -> None:
    address = f"/people/{reviewer.pk}/narrowing"
    page = owner.get(address).content.decode()
    assert "Shop window" in page
    assert "Appealed" in page
    assert faults_of(page) == []
    sent = {"limit_datasets": "on", "datasets": [str(dataset.id)], "limit_queues": "on", "queues": ["appeal"]}
    assert owner.post(address, sent)["Location"] == "/people"
    member = _row(party, reviewer)
    assert (member.datasets, member.queues) == ([dataset.id], ["appeal"])
    people = owner.get("/people").content.decode()
    assert "chosen datasets or queues" in people
    assert faults_of(people) == []
    assert f'href="{address}"' in people
    chosen = owner.get(address).content.decode()
    assert chosen.count(" checked") == 4
    assert owner.post(address, {})["Location"] == "/people"
    member = _row(party, reviewer)
    assert (member.datasets, member.queues) == (None, None)


def test_a_limit_without_a_choice_is_refused(
    party: Party, owner: Client, reviewer: Any, dataset: Any
) -> None:
    """Also where the last chosen dataset was deleted: nothing chosen is never everything."""
    for sent in ({"limit_datasets": "on"}, {"limit_queues": "on"}):
        answer = owner.post(f"/people/{reviewer.pk}/narrowing", sent)
        assert answer.status_code == 422
        assert "or let the person see all of them" in answer.content.decode()
    assert _row(party, reviewer).datasets is None


def test_another_workspaces_dataset_cannot_be_chosen(
    party: Party, stranger: Party, owner: Client, reviewer: Any
) -> None:
    with tenant_scope(stranger.id):
        theirs = create_dataset(name="Theirs")
    sent = {"limit_datasets": "on", "datasets": [str(theirs.id)]}
    assert owner.post(f"/people/{reviewer.pk}/narrowing", sent).status_code == 422
    assert _row(party, reviewer).datasets is None


def test_owners_and_admins_are_not_narrowed(party: Party, owner: Client, dataset: Any) -> None:
    admin = new_member(party.tenant, "admin")
    sent = {"limit_datasets": "on", "datasets": [str(dataset.id)]}
    answer = owner.post(f"/people/{admin.pk}/narrowing", sent)
    assert answer.status_code == 422
    assert "Owners and admins see the whole workspace" in answer.content.decode()
    assert _row(party, admin).datasets is None


def test_an_admin_does_not_reach_an_owner(party: Party, person: Callable[..., Client]) -> None:
    answer = person("admin").get(f"/people/{party.owner.pk}/narrowing")
    assert answer.status_code == 200
    assert 'name="limit_datasets"' not in answer.content.decode().split("<main", 1)[1]


def test_an_invitation_says_what_they_will_see(party: Party, owner: Client, dataset: Any) -> None:
    sent = {
        "email": "ann@people.example",
        "role": "reviewer",
        "limit_datasets": "on",
        "datasets": [str(dataset.id)],
    }
    assert owner.post("/people/invite", sent).status_code in (201, 302)
    row = Invitation.objects.get(tenant=party.tenant)
    assert (row.datasets, row.queues) == ([dataset.id], None)
    assert "chosen datasets or queues" in owner.get("/people").content.decode()
    refused = owner.post("/people/invite", {**sent, "email": "bob@people.example", "role": "admin"})
    assert refused.status_code == 422
    assert Invitation.objects.filter(tenant=party.tenant).count() == 1
    assert all("bob@" not in message.to[0] for message in mail.outbox)


def test_who_is_narrowed_is_told_what_to_do(
    party: Party, owner: Client, reviewer: Any, dataset: Any, client: Client
) -> None:
    owner.post(f"/people/{reviewer.pk}/narrowing", {"limit_datasets": "on", "datasets": [str(dataset.id)]})
    client.force_login(reviewer)
    assert client.get("/")["Location"] == "/datasets"
    page = client.get("/datasets").content.decode()
    assert 'href="/jobs"' not in page
    assert 'href="/reviews"' in page
    refused = client.get("/jobs")
    assert refused.status_code == 403
    assert "Ask an owner or admin for more" in refused.content.decode()
