"""People, Roles: made, changed, deleted; and said where people are invited."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client

from tenants.accounts.models import CustomRole, Membership
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.people import new_member

PAGE = "/people/roles"


def test_a_role_is_made_given_changed_and_deleted(party: Party, person: Callable[..., Client]) -> None:
    client = person("admin")
    page = client.get(PAGE).content.decode()
    assert faults_of(page) == []
    assert "is the only role that manages owners" in page
    sent = {"name": "night", "description": "Reviews at night", "scopes": ["read", "moderate"]}
    assert client.post(PAGE, sent).status_code == 302
    again = client.post(PAGE, sent)
    assert (again.status_code, faults_of(again.content.decode())) == (422, [])
    assert client.post(PAGE, {**sent, "name": "boss", "scopes": ["admin"]}).status_code == 422
    ann = new_member(party.tenant, "viewer")
    client.post(f"/people/{ann.pk}/role", {f"{ann.pk}-role": "night"})
    assert Membership.objects.get(user=ann).role == "night"
    people = client.get("/people").content.decode()
    assert faults_of(people) == []
    assert "Reviews at night" in people
    client.post(f"{PAGE}/night/edit", {"description": "", "scopes": ["read"]})
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read"]
    client.post(f"{PAGE}/night/edit", {"description": "", "scopes": []})
    client.post(f"{PAGE}/night/delete")
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read"], "in use"
    assert ann.email in client.get(PAGE).content.decode(), "who has it is named"
    Membership.objects.filter(user=ann).update(role="viewer")
    client.post(f"{PAGE}/night/delete")
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()


def test_who_has_it_opens_what_it_allows(party: Party) -> None:
    CustomRole.objects.create(tenant=party.tenant, name="night", scopes=["moderate"])
    ann = new_member(party.tenant, "viewer")
    Membership.objects.filter(user=ann).update(role="night")
    client = Client()
    client.force_login(ann)
    found = [client.get(path).status_code for path in ("/reviews", "/datasets", "/people", "/keys")]
    assert found == [200, 403, 403, 403]
