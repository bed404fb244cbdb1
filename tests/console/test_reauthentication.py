"""Asking a signed-in person again who they are, and going on with what was interrupted."""

from __future__ import annotations

import html
import re
import time
from typing import Any

import pytest
from django.test import Client

from backoffice.urls import urlpatterns as operator_urls
from console.urls import urlpatterns
from tenants.accounts import keys, sessions
from tenants.accounts.models import ApiKey, Invitation, Membership
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import new_member, turn_on

# What asks for the proof, with the methods for which it does.
FRESH = {
    **dict.fromkeys(("keys", "key-rotate", "webhooks-new", "webhook-rotate"), ("POST",)),
    **dict.fromkeys(
        (
            "data-export",
            "data-erasure",
            "data-close",
            "data-close-cancel",
            "security",
            "security-networks",
            "key-limits",
        ),
        ("POST",),
    ),
    "export-content": ("GET", "HEAD"),
    **dict.fromkeys(("security-operators", "operator-answer"), ("POST",)),
    **dict.fromkeys(
        ("people-invite", "people-second-factor", "member-role", "member-remove", "member-narrowing"),
        ("POST",),
    ),
    **dict.fromkeys(("holds", "hold-release"), ("POST",)),
    **dict.fromkeys(("member-reset-link", "invitation-link", "passkey-remove"), ("POST",)),
    **dict.fromkeys(("provisioning", "provisioning-rotate", "provisioning-roles"), ("POST",)),
    **dict.fromkeys(("roles", "role-edit", "role-delete"), ("POST",)),
    **dict.fromkeys(("domain-route", "domain-remove", "member-break-glass"), ("POST",)),
    **dict.fromkeys(("connection-switch", "connection-delete"), ("POST",)),
    **dict.fromkeys(("sso-new", "connection-edit", "passkeys-new"), ("GET", "POST")),
}


def stale(client: Client, minutes: float = 10) -> None:
    """As if the person had proved who they are so long ago."""
    session = client.session
    session["verified_at"] = time.time() - minutes * 60
    session.save()


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the form that goes on."""
    (form,) = re.findall(r'<form method="post"[^>]*data-send-now>(.*?)</form>', page, re.DOTALL)
    pairs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
    return {name: html.unescape(value) for name, value in pairs if name != "csrfmiddlewaretoken"}


def test_which_pages_ask() -> None:
    found = {str(url.name): url.callback.fresh for url in urlpatterns if getattr(url.callback, "fresh", ())}
    assert found == FRESH


def test_which_of_the_operators_pages_ask() -> None:
    found = {url.name for url in operator_urls if getattr(url.callback, "fresh", False)}
    names = ("delete", "export", "export-content", "act", "ask", "owner")
    assert found == {f"tenant-{name}" for name in names}


def test_a_form_goes_on_after_the_password(owner: Client, party: Party) -> None:
    person = owner.user  # type: ignore[attr-defined]
    person.set_password("violet staircase yodel")
    person.save()
    owner.force_login(person)
    stale(owner)
    sent = {"name": "Im<port>", "scopes": ["read", "search"], "lifetime": "30"}
    answer = owner.post("/keys", sent, HTTP_REFERER="http://testserver/keys?x=1")
    assert (answer.status_code, answer["Location"]) == (302, "/verify")
    with tenant_scope(party.id):
        assert not ApiKey.objects.filter(name="Im<port>").exists()
    asked = owner.get("/verify").content.decode()
    assert "Confirm that it is you" in asked
    assert 'href="/keys?x=1"' in asked, "the way back"
    assert owner.post("/verify", {"password": "wrong"}).status_code == 422
    assert owner.get("/verify/go-on")["Location"] == "/verify"
    assert owner.post("/verify", {}).status_code == 422
    answer = owner.post("/verify", {"password": "violet staircase yodel"})
    assert answer["Location"] == "/verify/go-on"
    page = owner.get("/verify/go-on").content.decode()
    assert re.search(r'<form method="post" action="/keys" data-send-now>', page)
    assert page.count('name="scopes"') == 2
    assert fields_of(page) == {"name": "Im<port>", "scopes": "search", "lifetime": "30"}
    assert owner.post("/keys", sent).status_code == 201
    with tenant_scope(party.id):
        assert ApiKey.objects.filter(name="Im<port>").count() == 1
    # Once: what is loaded again sends nothing again.
    assert owner.get("/verify/go-on")["Location"] == "/"


def test_a_download_goes_on_too(owner: Client) -> None:
    stale(owner)
    path = "/data/exports/01a22bc7-b2d4-72e6-a797-c857bbf5e3c9"
    assert owner.get(path)["Location"] == "/verify"
    session = owner.session
    sessions.mark_verified(session)
    session.save()
    assert owner.get("/verify/go-on")["Location"] == path
    assert owner.get(path).status_code == 404


def test_a_code_is_a_proof_too_and_works_once(party: Party) -> None:
    user = new_member(party.tenant, "owner")
    app, _ = turn_on(user)
    client = Client()
    client.force_login(user)
    stale(client)
    assert "authenticator app" in client.get("/verify").content.decode()
    code = app.code(1)
    assert client.post("/verify", {"code": code})["Location"] == "/verify/go-on"
    assert sessions.is_verified(client.session)
    stale(client)
    assert client.post("/verify", {"code": code}).status_code == 422
    assert not sessions.is_verified(client.session)


def test_without_a_second_factor_no_code_is_compared(owner: Client) -> None:
    stale(owner)
    assert owner.post("/verify", {"code": "123456"}).status_code == 422
    assert not sessions.is_verified(owner.session)


def test_guesses_have_to_wait(owner: Client) -> None:
    stale(owner)
    answers = [owner.post("/verify", {"password": f"guess {n}"}) for n in range(7)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 2
    assert int(answers[-1]["Retry-After"]) > 0


def test_scripts_are_told_and_nothing_is_kept(owner: Client) -> None:
    stale(owner)
    answer = owner.post("/people/invite", {"email": "a@b.example"}, HTTP_ACCEPT="application/json")
    assert (answer.status_code, answer.json()["title"]) == (403, "Confirm that it is you")
    assert "interrupted" not in owner.session


def test_who_may_not_is_not_asked(person: Any) -> None:
    viewer = person("viewer")
    stale(viewer)
    assert viewer.post("/keys", {"name": "x"}).status_code == 403
    assert "interrupted" not in viewer.session


def test_ten_minutes(owner: Client, party: Party) -> None:
    stale(owner, 9.9)
    assert owner.post("/security", {"session_idle_minutes": "30"})["Location"] == "/security"
    stale(owner, 10)
    assert owner.post("/security", {"session_idle_minutes": "45"})["Location"] == "/verify"
    with tenant_scope(party.id):
        assert party.tenant.__class__.objects.get(pk=party.id).security.session_idle_minutes == 30


def test_roles_and_removals_change_nothing_before_the_proof(owner: Client, party: Party) -> None:
    member = new_member(party.tenant, "viewer")
    stale(owner)
    owner.post(f"/people/{member.pk}/role", {f"{member.pk}-role": "admin"})
    owner.post(f"/people/{member.pk}/remove")
    owner.post("/people/invite", {"email": "me@elsewhere.example", "role": "admin"})
    assert Membership.objects.get(tenant=party.tenant, user=member).role == "viewer"
    assert not Invitation.objects.filter(email="me@elsewhere.example").exists()
    with tenant_scope(party.id):
        key, _ = keys.create_key(name="kept", scopes=["read"])
    owner.post(f"/keys/{key.pk}/rotate", {"overlap": "0"})
    with tenant_scope(party.id):
        assert ApiKey.objects.filter(name="kept").count() == 1


def test_a_session_of_a_provider_is_sent_there(owner: Client) -> None:
    session = owner.session
    sessions.note_client(session, device="", address="", provider="/sso/corner-shop/again")
    session.save()
    stale(owner)
    owner.post("/security", {"session_idle_minutes": "30"})
    assert owner.get("/verify")["Location"] == "/sso/corner-shop/again"
    assert owner.post("/verify", {"password": "x"})["Location"] == "/sso/corner-shop/again"
    session = owner.session
    sessions.mark_verified(session)
    session.save()
    assert fields_of(owner.get("/verify/go-on").content.decode()) == {"session_idle_minutes": "30"}


def test_what_is_too_large_is_sent_anew_and_what_waited_too_long_is_forgotten(owner: Client) -> None:
    stale(owner)
    large = {"key": "x", "external_ids": "a" * 70_000}
    owner.post("/data/erase", large, HTTP_REFERER="http://testserver/data")
    waiting = sessions.interrupted(owner.session)
    assert waiting == sessions.Interrupted("/data", None, "/data")
    session = owner.session
    session["interrupted"]["at"] -= 901
    session.save()
    assert sessions.interrupted(owner.session) is None


@pytest.mark.parametrize("path", ["/operator/tenants/{slug}/delete"])
def test_operators_are_asked_too(party: Party, path: str) -> None:
    user = new_member(party.tenant, "owner")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    stale(client)
    where = path.format(slug=party.tenant.slug)
    assert client.get(where)["Location"] == "/verify"
    session = client.session
    sessions.mark_verified(session)
    session.save()
    assert client.get("/verify/go-on")["Location"] == where
    assert client.get(where).status_code == 200
