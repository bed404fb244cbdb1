"""Asking a signed-in person again who they are, and going on with what was interrupted."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from backoffice.urls import urlpatterns as operator_urls
from console.urls import urlpatterns
from tenants.accounts import keys, reauthentication
from tenants.accounts.models import ApiKey, Invitation, Membership, Session, Tenant
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.tenants.people import new_member, turn_on

# What asks for the proof, with the methods for which it does.
FRESH = {
    **dict.fromkeys(("keys", "key-rotate", "key-limits"), ("POST",)),
    **dict.fromkeys(("webhooks-new", "webhook-edit", "webhook-rotate"), ("POST",)),
    **dict.fromkeys(("data-export", "data-erasure", "data-close", "data-close-cancel"), ("POST",)),
    **dict.fromkeys(("holds", "hold-release"), ("POST",)),
    "export-content": ("GET",),
    **dict.fromkeys(("people-invite", "people-second-factor", "invitation-link"), ("POST",)),
    **dict.fromkeys(("member-role", "member-remove", "member-reset-link"), ("POST",)),
    **dict.fromkeys(("roles", "role-edit", "role-delete"), ("POST",)),
    **dict.fromkeys(("security", "security-networks", "security-operators"), ("POST",)),
    **dict.fromkeys(("member-narrowing", "operator-answer"), ("POST",)),
    **dict.fromkeys(("domain-route", "domain-remove", "member-break-glass"), ("POST",)),
    **dict.fromkeys(("provisioning", "provisioning-roles", "provisioning-rotate"), ("POST",)),
    **dict.fromkeys(("connection-switch", "connection-delete"), ("POST",)),
    **dict.fromkeys(("sso-new", "connection-edit"), ("GET", "POST")),
    **dict.fromkeys(("passkeys-codes", "passkey-remove"), ("POST",)),
    "passkeys-new": ("GET", "POST"),
}
PASSWORD = "violet staircase yodel"


def stale(client: Client, minutes: float = 11) -> None:
    """As if the person had signed in so long ago."""
    then = timezone.now() - timedelta(minutes=minutes)
    Session.objects.filter(pk=client.session.session_key).update(signed_in_at=then)
    session = client.session
    session.pop("verified_at", None)
    session.save()


def confirm(client: Client) -> None:
    session = client.session
    reauthentication.mark_verified(session)
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
    names = ("delete", "export", "export-content", "act", "owner")
    assert found == {f"tenant-{name}" for name in names}


def test_a_form_goes_on_after_the_password(owner: Client, party: Party) -> None:
    person = owner.user  # type: ignore[attr-defined]
    person.set_password(PASSWORD)
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
    answer = owner.post("/verify", {"password": PASSWORD})
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
    assert owner.head(path)["Location"] == "/verify"
    assert owner.get(path)["Location"] == "/verify"
    confirm(owner)
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
    assert reauthentication.is_verified(client.session)
    stale(client)
    assert client.post("/verify", {"code": code}).status_code == 422
    assert not reauthentication.is_verified(client.session)


def test_without_a_second_factor_no_code_is_compared(owner: Client) -> None:
    stale(owner)
    assert owner.post("/verify", {"code": "123456"}).status_code == 422
    assert not reauthentication.is_verified(owner.session)


def test_guesses_have_to_wait(owner: Client) -> None:
    stale(owner)
    answers = [owner.post("/verify", {"password": f"guess {n}"}) for n in range(7)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429] * 2
    assert int(answers[-1]["Retry-After"]) > 0


def test_scripts_are_told_and_nothing_is_kept(owner: Client) -> None:
    stale(owner)
    answer = owner.post("/people/invite", {"email": "a@b.example"}, HTTP_ACCEPT="application/json")
    assert answer.status_code == 403
    assert "You signed in too long ago for this" in answer.json()["detail"]
    assert reauthentication.interrupted(owner.session) is None


def test_who_may_not_is_not_asked(person: Any) -> None:
    viewer = person("viewer")
    stale(viewer)
    assert viewer.post("/keys", {"name": "x"}).status_code == 403
    assert reauthentication.interrupted(viewer.session) is None


def test_ten_minutes(owner: Client, party: Party, settings: Any) -> None:
    stale(owner, 9)
    assert owner.post("/security", {"session_idle_minutes": "30"})["Location"] == "/security"
    stale(owner, 11)
    assert owner.post("/security", {"session_idle_minutes": "45"})["Location"] == "/verify"
    settings.REAUTHENTICATION_MINUTES = 12
    assert owner.post("/security", {"session_idle_minutes": "35"})["Location"] == "/security"
    assert Tenant.objects.get(pk=party.id).security.session_idle_minutes == 35


def test_who_signed_in_just_now_is_not_asked_and_a_proof_counts_as_long(person: Any) -> None:
    """A new session begins with its proof, also after another person's in the same browser."""
    owner = person("owner")
    client = Client()
    user = owner.user
    user.set_password(PASSWORD)
    user.save()
    client.post("/login", {"username": user.email, "password": PASSWORD})
    assert reauthentication.is_verified(client.session)
    stale(client)
    assert not reauthentication.is_verified(client.session)
    client.post("/login", {"username": user.email, "password": PASSWORD})
    assert not reauthentication.is_verified(client.session), "who is signed in is sent on, unread"
    client.post("/logout")
    client.post("/login", {"username": user.email, "password": PASSWORD})
    assert reauthentication.is_verified(client.session)


def test_it_costs_no_statement(owner: Client, django_assert_num_queries: Any) -> None:
    """Who signed in a moment ago is let through by what the session's row tells anyway."""
    owner.get("/security")
    session = owner.session
    assert session.get("_auth_user_id")
    with django_assert_num_queries(0):
        assert reauthentication.is_verified(session)


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


def test_a_large_form_has_to_be_sent_anew(owner: Client) -> None:
    stale(owner)
    large = {"key": "x", "external_ids": "a" * 70_000}
    owner.post("/data/erase", large, HTTP_REFERER="http://testserver/data")
    waiting = reauthentication.interrupted(owner.session)
    assert waiting is not None
    assert (waiting.path, waiting.fields, waiting.page) == ("/data/erase", None, "/data")
    assert "too large to keep" in owner.get("/verify").content.decode()
    confirm(owner)
    answer = owner.get("/verify/go-on", follow=True)
    assert answer.redirect_chain == [("/data", 302)]
    assert "What you entered was too large to keep. Enter it again." in answer.content.decode()


def test_what_waited_too_long_is_not_sent(owner: Client) -> None:
    stale(owner)
    owner.post("/security", {"session_idle_minutes": "30"}, HTTP_REFERER="http://testserver/security")
    session = owner.session
    session["interrupted"] = {**session["interrupted"], "at": session["interrupted"]["at"] - 901}
    session.save()
    confirm(owner)
    answer = owner.get("/verify/go-on", follow=True)
    assert answer.redirect_chain == [("/security", 302)]
    assert "You confirmed too late" in answer.content.decode()


def test_it_goes_on_in_its_workspace_alone(person: Any, party: Party, stranger: Party) -> None:
    """The same form means something else in another one."""
    owner = person("owner", tenants=(party.tenant, stranger.tenant))
    owner.post("/workspace", {"tenant": str(party.id)})
    stale(owner)
    assert owner.post("/people/invite", {"email": "a@b.example", "role": "admin"})["Location"] == "/verify"
    owner.post("/workspace", {"tenant": str(stranger.id)})
    confirm(owner)
    answer = owner.get("/verify/go-on", follow=True)
    assert answer.redirect_chain == [("/", 302)]
    assert (
        "You switched to another workspace in the meantime, so nothing was sent." in answer.content.decode()
    )


def test_it_ends_with_the_session(owner: Client, person: Any) -> None:
    stale(owner)
    owner.post("/security", {"session_idle_minutes": "30"})
    owner.post("/logout")
    other = person("admin")
    owner.force_login(other.user)
    assert owner.get("/verify/go-on")["Location"] == "/"


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("http://testserver/account?tab=1#top", "/account?tab=1"),
        ("http://testserver//evil.example/", "/"),
        ("https://evil.example/account", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_is_a_page_of_ours(owner: Client, referer: str, back: str) -> None:
    stale(owner)
    assert owner.get("/account/passkeys/new", HTTP_REFERER=referer)["Location"] == "/verify"
    page = owner.get("/verify").content.decode()
    assert f'<a class="btn btn-quiet" href="{back}">Cancel</a>' in page


def test_forms_of_other_sites_are_not_kept(owner: Client) -> None:
    """They would be sent by a page of ours, with its token."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner.user)  # type: ignore[attr-defined]
    stale(client)
    answer = client.post("/people/invite", {"email": "me@evil.example", "role": "admin"})
    assert answer.status_code == 403
    assert reauthentication.interrupted(client.session) is None


def test_who_acts_as_a_tenant_is_asked_too(party: Party) -> None:
    operator = new_member(new_party().tenant, "viewer")
    operator.is_staff = True
    operator.save()
    client = Client()
    client.force_login(operator)
    client.post(f"/operator/tenants/{party.tenant.slug}/act", {"reason": "help with keys", "access": "full"})
    assert party.tenant.name in client.get("/keys").content.decode()
    stale(client)
    assert client.post("/keys", {"name": "x", "scopes": ["read"]})["Location"] == "/verify"


def test_operators_are_asked_too(party: Party) -> None:
    user = new_member(party.tenant, "owner")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    stale(client)
    where, before = f"/operator/tenants/{party.tenant.slug}/delete", "http://testserver/operator/tenants"
    assert client.get(where, HTTP_REFERER=before)["Location"] == "/verify"
    assert 'href="/operator/tenants"' in client.get("/verify").content.decode()
    confirm(client)
    assert client.get("/verify/go-on")["Location"] == where
    assert client.get(where).status_code == 200
    stale(client)
    act = f"/operator/tenants/{party.tenant.slug}/act"
    assert client.post(act, {"reason": "help", "access": "read"})["Location"] == "/verify"
    confirm(client)
    assert fields_of(client.get("/verify/go-on").content.decode()) == {"reason": "help", "access": "read"}
