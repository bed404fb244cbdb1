"""People, Roles: made, changed, deleted; and said where people are invited."""

from __future__ import annotations

from collections.abc import Callable

from django.test import Client

from tenants.accounts.models import CustomRole, Membership
from tenants.accounts.permissions import Actor
from tenants.people import invitations, roles
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.console.pages import faults_of
from tests.tenants.people import new_member, token_of

PAGE = "/people/roles"
SENT = {"name": "night", "description": "Reviews at night", "scopes": ["read", "moderate"]}


def seen(party: Party) -> str:
    return roles.version_of(CustomRole.objects.get(tenant=party.tenant))


def holder_of(party: Party, *scopes: str) -> Client:
    CustomRole.objects.create(tenant=party.tenant, name="night", scopes=list(scopes))
    user = new_member(party.tenant, "viewer")
    Membership.objects.filter(user=user).update(role="night")
    client = Client()
    client.force_login(user)
    return client


def test_a_role_is_made_given_changed_and_deleted(party: Party, person: Callable[..., Client]) -> None:
    client = person("admin")
    page = client.get(PAGE).content.decode()
    assert faults_of(page) == []
    assert "is the only role that manages owners" in page
    assert client.post(PAGE, SENT).status_code == 302
    again = client.post(PAGE, SENT)
    assert (again.status_code, faults_of(again.content.decode())) == (422, [])
    assert "A role night exists already." in again.content.decode()
    for wrong in ({"name": "boss", "scopes": ["admin"]}, {"name": "Boss"}, {"name": "owner"}, {"scopes": []}):
        assert client.post(PAGE, {**SENT, **wrong}).status_code == 422
    ann = new_member(party.tenant, "viewer")
    given = client.post(f"/people/{ann.pk}/role", {f"{ann.pk}-role": "night"}, follow=True)
    assert "Pat Doe is night now." in given.content.decode()
    assert Membership.objects.get(user=ann).role == "night"
    client.post(f"{PAGE}/night/edit", {"description": "", "scopes": ["read"], "seen": seen(party)})
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read"]
    for wrong in ({"scopes": []}, {"scopes": ["read", "admin"]}, {"description": "two\u2028lines"}):
        fields = {"description": "", "scopes": ["read"], "seen": seen(party), **wrong}
        answer = client.post(f"{PAGE}/night/edit", fields)
        assert (answer.status_code, faults_of(answer.content.decode())) == (422, [])
        assert 'class="field-error"' in answer.content.decode()
    client.post(f"{PAGE}/night/delete")
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read"], "in use"
    assert ann.email in client.get(PAGE).content.decode(), "who has it is named"
    Membership.objects.filter(user=ann).update(role="viewer")
    client.post(f"{PAGE}/night/delete")
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()


def test_a_form_that_was_opened_before_somebody_elses_change_changes_nothing(
    party: Party, person: Callable[..., Client]
) -> None:
    client = person("admin")
    client.post(PAGE, {**SENT, "scopes": ["read", "write"]})
    page = client.get(PAGE).content.decode()
    old = seen(party)
    assert f'value="{old}"' in page
    client.post(f"{PAGE}/night/edit", {"description": "Reviews", "scopes": ["read"], "seen": old})
    said = client.post(
        f"{PAGE}/night/edit", {"description": "Writes", "scopes": ["read", "write"], "seen": old}, follow=True
    )
    assert "Someone else has just changed the role night." in said.content.decode()
    client.post(f"{PAGE}/night/edit", {"description": "Writes", "scopes": ["read", "write"]})
    row = CustomRole.objects.get(tenant=party.tenant)
    assert (row.description, row.scopes) == ("Reviews", ["read"])


def test_roles_are_explained_where_people_are_invited(party: Party, person: Callable[..., Client]) -> None:
    client = person("admin")
    client.post(PAGE, SENT)
    page = client.get("/people").content.decode()
    assert faults_of(page) == []
    for said in (
        "Can view everything and search, but change nothing.",
        "Reviews at night",
        "see datasets, assets, jobs, models and usage; audit, review, and write policies and hash lists",
        f'href="{PAGE}"',
    ):
        assert said in page
    assert '<option value="night">night</option>' in page
    assert '<option value="owner">' not in page, "an admin makes nobody an owner"
    sent = client.post("/people/invite", {"email": "new@people.example", "role": "night"})
    assert sent.status_code == 201
    refused = client.post("/people/invite", {"email": "other@people.example", "role": "day"})
    assert (refused.status_code, faults_of(refused.content.decode())) == (422, [])
    assert "Choose a role from owner, admin, editor, reviewer, viewer, night." in refused.content.decode()


def test_who_has_it_opens_what_it_allows(party: Party) -> None:
    client = holder_of(party, "moderate")
    found = [client.get(path).status_code for path in ("/reviews", "/datasets", "/people", "/keys", PAGE)]
    assert found == [200, 403, 403, 403, 403]
    shown = client.get("/reviews").content.decode()
    assert faults_of(shown) == []
    assert 'href="/datasets"' not in shown


def test_whose_role_does_not_read_begins_at_a_page_that_it_opens(party: Party, stranger: Party) -> None:
    assert holder_of(party, "moderate", "search").get("/")["Location"] == "/reviews"
    searching = holder_of(stranger, "search")
    assert searching.get("/")["Location"] == "/search"
    assert searching.get("/search").status_code == 200
    CustomRole.objects.filter(tenant=stranger.tenant).update(scopes=["write"])
    assert searching.get("/").status_code == 403


def test_a_changed_role_holds_with_the_next_request(party: Party) -> None:
    client = holder_of(party, "read")
    assert client.get("/datasets").status_code == 200
    with tenant_scope(party.id):
        roles.change_role_definition(actor=Actor("key:x", "admin"), name="night", scopes=["search"])
    assert client.get("/datasets").status_code == 403


def test_an_invitation_to_a_role_that_is_gone_says_so(party: Party) -> None:
    CustomRole.objects.create(tenant=party.tenant, name="night", scopes=["read"])
    with tenant_scope(party.id):
        link = invitations.invite(
            actor=Actor("key:x", "admin"), email="new@people.example", role="night"
        ).link
    guest = Client()
    opened = guest.get("/invitation", {"token": token_of(link)}, follow=True)
    assert "as <span" in opened.content.decode()
    CustomRole.objects.filter(tenant=party.tenant).delete()
    fields = {"name": "New", "password": "correct horse battery", "again": "correct horse battery"}
    answer = guest.post("/invitation", fields)
    assert answer.status_code == 410
    assert "The role that this invitation gives no longer exists." in answer.content.decode()
    with tenant_scope(party.id):
        assert invitations.list_invitations().get().accepted_at is None
