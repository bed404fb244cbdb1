"""Whose account a provider opens, what its sessions reach, and that nobody is taken over by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

import backoffice.urls
import console.urls
from console.access import OTHERS_ACCOUNT
from console.account import throttle
from tenants.accounts import second_factor, sessions, sign_on, watchers
from tenants.accounts.models import (
    Invitation,
    Membership,
    Session,
    SignOnConnection,
    SignOnIdentity,
    User,
)
from tenants.accounts.permissions import Actor
from tenants.accounts.services import set_role
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.events.models import AuditEvent
from tenants.people import invitations, members, roles
from tenants.people.sign_on import connections
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import new_user, token_of, turn_on
from tests.tenants.sign_on_world import (
    OidcForger,
    address_of,
    allow_local,
    connect_oidc,
    domain_name,
    forging,
    leave,
    query_of,
)

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _local(settings: Any) -> None:
    allow_local(settings)


@pytest.fixture
def forger() -> Iterator[OidcForger]:
    with forging() as running:
        yield running


@pytest.fixture
def route(party: Party, forger: OidcForger) -> SignOnConnection:
    return connect_oidc(party, forger.issuer)


def come(
    client: Client, forger: OidcForger, email: str, *, says: str = "", sub: str = "", **claims: object
) -> Any:
    """Sign in with an address, of which the forger says that it is `says`; the last answer."""
    asked = query_of(leave(client, email))
    named = {"email": says or email, "sub": sub or f"sub-of-{email}"}
    forger.nonce, forger.claims = asked["nonce"], {**named, **claims}
    path = asked["redirect_uri"].partition("8000")[2]
    return client.get(path, {"state": asked["state"], "code": "c"})


def account(party: Party, name: str = "ann", password: str = PASSWORD) -> User:
    user = new_user(password)
    user.email = f"{name}@{domain_name(party)}"
    user.save()
    return user


def who(client: Client) -> str:
    return str(client.session.get("_auth_user_id", ""))


def verbs(party: Party) -> list[str]:
    with tenant_scope(party.id):
        found = AuditEvent.objects.exclude(verb__startswith="session.").order_by("id")
        return list(found.values_list("verb", flat=True))


def test_people_of_one_office_do_not_keep_each_other_out(
    party: Party, forger: OidcForger, route: SignOnConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WIDE", replace(throttle.WIDE, free=2))
    for _ in range(4):
        assert come(Client(), forger, f"somebody@{domain_name(party)}").status_code == 302


# They end sessions that came by the same way alone.
ENDING = {"account-end-others", "account-end-session"}


# --- What a session reaches ------------------------------------------------------------------------------


def test_a_session_opens_its_workspace_and_no_other(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    user = account(party)
    for one in (party, stranger):
        set_role(tenant=one.tenant, user=user, role="editor")
    with tenant_scope(party.id):
        SignOnIdentity.objects.create(provider_id=route.id, user=user, subject="s1")
    client = Client()
    assert come(client, forger, user.email, sub="s1").status_code == 302
    assert client.get("/").context["workspace"].tenant == party.tenant
    assert client.post("/workspace", {"tenant": str(stranger.id)}).status_code == 200
    assert client.get("/").context["workspace"].tenant == party.tenant
    session = client.session
    session["tenant"] = str(stranger.id)
    session.save()
    assert client.get("/").context["workspace"].tenant == party.tenant
    watcher = watchers.by_session(client.session.session_key)
    assert watchers.may_watch(watcher, party.id)
    assert not watchers.may_watch(watcher, stranger.id)
    # With the password the same person has both.
    assert {m.tenant_id for m in sign_on.open_memberships(user, None)} == {party.id, stranger.id}


def test_a_session_ends_with_its_connection(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client, email = Client(), f"ann@{domain_name(party)}"
    come(client, forger, email)
    watcher = watchers.by_session(client.session.session_key)
    assert client.get("/").status_code == 200
    # Even if the row of the session should stay.
    SignOnConnection.objects.filter(pk=route.id).update(enabled=False)
    assert client.get("/").headers["Location"] == "/workspace"
    assert not watchers.may_watch(watcher, party.id)
    with tenant_scope(party.id):
        connections.delete_connection(connection_id=route.id, actor="key:t")
    assert client.get("/").headers["Location"] == "/login?next=/"
    assert not Session.objects.filter(connection=route.id).exists()
    assert Membership.objects.filter(tenant=party.tenant, user__email=email).exists()


def test_a_member_who_is_removed_is_out_at_once(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client, email = Client(), f"ann@{domain_name(party)}"
    come(client, forger, email)
    user = User.objects.get(email=email)
    with tenant_scope(party.id):
        members.remove_member(actor=Actor("key:t", "admin"), user_id=user.pk)
        assert not SignOnIdentity.objects.filter(user=user).exists()
    assert client.get("/").headers["Location"] == "/workspace"


def test_operators_pages_stay_closed(party: Party, forger: OidcForger, route: SignOnConnection) -> None:
    user = account(party)
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    set_role(tenant=party.tenant, user=user, role="viewer")
    with tenant_scope(party.id):
        SignOnIdentity.objects.create(provider_id=route.id, user=user, subject="s1")
    client = Client()
    come(client, forger, user.email, sub="s1")
    assert who(client) == str(user.pk)
    for pattern in backoffice.urls.urlpatterns:
        response = client.get(f"/operator/{pattern.pattern._route}".replace("<slug:slug>", party.tenant.slug))
        assert response.status_code in (403, 404, 405)
    assert client.get("/operator/").status_code == 403
    by_password = Client()
    by_password.force_login(user)
    assert by_password.get("/operator/").status_code == 200


def test_the_account_itself_is_not_the_providers(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client, email = Client(), f"ann@{domain_name(party)}"
    come(client, forger, email)
    user = User.objects.get(email=email)
    before = User.objects.filter(pk=user.pk).values().get()
    refused = []
    for pattern in console.urls.urlpatterns:
        if pattern.name.startswith(("account-", "second-factor", "passkey")) and pattern.name not in ENDING:
            address = "/" + pattern.pattern._route.replace("<uuid:passkey_id>", str(user.pk))
            method = client.post if "GET" not in pattern.callback.methods else client.get
            response = method(
                address, {"name": "Eve", "current": "", "password": PASSWORD, "again": PASSWORD}
            )
            assert response.status_code == 403, pattern.name
            assert OTHERS_ACCOUNT in response.content.decode()
            refused.append(pattern.name)
    assert set(refused) >= {
        "account-name",
        "account-password",
        "account-delete",
        "second-factor",
        "passkeys-new",
    }
    assert User.objects.filter(pk=user.pk).values().get() == before
    assert not second_factor.is_on(user)


def test_the_account_page_shows_only_what_came_by_the_same_way(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client, email = Client(), f"ann@{domain_name(party)}"
    come(client, forger, email)
    user = User.objects.get(email=email)
    elsewhere = Client()
    elsewhere.force_login(user)
    session = elsewhere.session
    sessions.note_client(session, device="Secret device", address="192.0.2.9")
    session.save()
    page = client.get("/account")
    assert page.status_code == 200
    assert [one.connection_id for one in page.context["sessions"]] == [route.id]
    assert b"192.0.2.9" not in page.content
    handle = sessions.handle_of(elsewhere.session.session_key)
    client.post(f"/account/sessions/{handle}/end")
    client.post("/account/sessions/end-others")
    assert elsewhere.get("/account").status_code == 200


def test_a_provider_accepts_no_invitation_of_another_workspace(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client, email = Client(), f"ann@{domain_name(party)}"
    come(client, forger, email)
    with tenant_scope(stranger.id):
        invited = invitations.invite(actor=Actor("key:t", "admin"), email=email, role="admin")
    client.get("/invitation", {"token": token_of(invited.link)})
    response = client.post("/invitation")
    assert b"opens one workspace only" in response.content
    assert not Membership.objects.filter(tenant=stranger.tenant, user__email=email).exists()
    assert Invitation.objects.get(pk=invited.invitation.pk).accepted_at is None


# --- Whose account it is ---------------------------------------------------------------------------------


def test_a_member_of_this_workspace_alone_is_linked(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    user = account(party)
    set_role(tenant=party.tenant, user=user, role="editor")
    client = Client()
    assert come(client, forger, user.email).status_code == 302
    assert who(client) == str(user.pk)
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert Membership.objects.get(user=user).role == "editor"
    assert verbs(party)[-2:] == ["sign_on.linked", "sign_on.entered"]


def test_an_account_of_no_workspace_loses_what_opened_it(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    """Else whoever had made it, for an address that is not theirs, would be let into the workspace later."""
    user = account(party)
    turn_on(user)
    squatter = Client()
    squatter.force_login(user)
    assert come(Client(), forger, user.email).status_code == 302
    user.refresh_from_db()
    assert not user.has_usable_password()
    assert not second_factor.is_on(user)
    assert user.recovery_codes.count() == 0
    assert squatter.get("/account").status_code == 302
    assert Membership.objects.get(user=user).role == "viewer"


@pytest.mark.parametrize("reason", ["elsewhere", "owner", "operator"])
def test_an_account_that_can_do_more_is_linked_by_its_password_only(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection, reason: str
) -> None:
    user = account(party)
    if reason == "elsewhere":
        set_role(tenant=stranger.tenant, user=user, role="viewer")
    elif reason == "owner":
        set_role(tenant=party.tenant, user=user, role="owner")
    else:
        User.objects.filter(pk=user.pk).update(is_staff=True)
    client, before = Client(), list(Membership.objects.filter(user=user).values())
    response = come(client, forger, user.email)
    assert response.headers["Location"] == f"/sso/{route.id}/confirm"
    assert who(client) == ""
    wrong = client.post(f"/sso/{route.id}/confirm", {"current": "guess"})
    assert (wrong.status_code, who(client)) == (422, "")
    assert Client().get(f"/sso/{route.id}/confirm").status_code == 422
    with tenant_scope(party.id):
        assert not SignOnIdentity.objects.filter(user=user).exists()
    assert list(Membership.objects.filter(user=user).values()) == before
    assert client.post(f"/sso/{route.id}/confirm", {"current": PASSWORD}).headers["Location"] == "/"
    assert who(client) == str(user.pk)
    assert client.get("/").context["workspace"].tenant == party.tenant
    assert client.post(f"/sso/{route.id}/confirm", {"current": PASSWORD}).status_code == 422
    # Once: from now on the provider's word is enough, for this workspace.
    again = Client()
    assert come(again, forger, user.email).headers["Location"] == "/"
    assert who(again) == str(user.pk)


def test_confirming_asks_for_the_second_factor_too(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    user = account(party)
    set_role(tenant=stranger.tenant, user=user, role="viewer")
    _app, codes = turn_on(user)
    client = Client()
    come(client, forger, user.email)
    for code in ("", "000000"):
        response = client.post(f"/sso/{route.id}/confirm", {"current": PASSWORD, "code": code})
        assert (response.status_code, who(client)) == (422, "")
    assert client.post(f"/sso/{route.id}/confirm", {"current": PASSWORD, "code": codes[0]}).status_code == 302
    assert who(client) == str(user.pk)


def test_an_address_that_was_given_to_somebody_else_brings_no_account(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    email = f"ann@{domain_name(party)}"
    assert come(Client(), forger, email, sub="first").status_code == 302
    client = Client()
    response = come(client, forger, email, sub="second")
    assert "known to the provider by another id" in response.context["detail"]
    assert who(client) == ""


def test_the_account_follows_the_providers_id_and_not_the_address(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    first, second = f"ann@{domain_name(party)}", f"married@{domain_name(party)}"
    come(Client(), forger, first, sub="s1")
    user = User.objects.get(email=first)
    client = Client()
    assert come(client, forger, second, sub="s1").status_code == 302
    assert who(client) == str(user.pk)
    assert not User.objects.filter(email=second).exists()


def test_a_provider_of_another_workspace_cannot_say_who_somebody_is(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    """The attack: a workspace with a provider of its own asserts an address of somebody else's domain."""
    victim = account(party, "victim")
    set_role(tenant=party.tenant, user=victim, role="owner")
    connect_oidc(stranger, forger.issuer)
    client = Client()
    response = come(client, forger, f"x@{domain_name(stranger)}", says=victim.email)
    assert "has not proved" in response.context["detail"]
    assert who(client) == ""
    assert not Membership.objects.filter(user=victim, tenant=stranger.tenant).exists()


def test_an_inactive_account_stays_out(party: Party, forger: OidcForger, route: SignOnConnection) -> None:
    email = f"ann@{domain_name(party)}"
    come(Client(), forger, email)
    User.objects.filter(email=email).update(is_active=False)
    response = come(Client(), forger, email)
    assert response.context["detail"] == "This account is not active."


# --- Roles -----------------------------------------------------------------------------------------------

ROLES = {
    "role_claim": "realm.groups",
    "role_map": [{"value": "ops", "role": "admin"}, {"value": "staff", "role": "editor"}],
    "default_role": "",
    "sync_roles": True,
}


def test_roles_follow_the_provider(party: Party, forger: OidcForger) -> None:
    route = connect_oidc(party, forger.issuer, **ROLES)
    email, client = f"ann@{domain_name(party)}", Client()

    def role(*groups: str) -> str | None:
        response = come(client, forger, email, realm={"groups": list(groups)})
        found = Membership.objects.filter(tenant=party.tenant, user__email=email).first()
        assert (response.status_code == 302) == (found is not None)
        return found.role if found else None

    assert role("none") is None
    assert role("staff", "ops") == "admin"
    assert role("staff") == "editor"
    assert client.get("/").context["workspace"].role == "editor"
    assert role() is None
    assert client.get("/").headers["Location"] == "/workspace"
    assert role("staff") == "editor"
    user = User.objects.get(email=email)
    set_role(tenant=party.tenant, user=user, role="owner")
    assert role("staff") == role() == "owner"
    changed = [v for v in verbs(party) if v.startswith("member.")]
    assert changed == ["member.joined", "member.role_changed", "member.removed", "member.joined"]
    with tenant_scope(party.id):
        line = AuditEvent.objects.get(verb="member.role_changed")
        assert (line.actor, line.details) == ("sign-on:Provider 0", {"from": "admin", "to": "editor"})
    assert route.enabled


def test_no_provider_makes_an_owner(party: Party) -> None:
    for values in ({"default_role": "owner"}, {"role_map": [{"value": "x", "role": "owner"}]}):
        with pytest.raises(Invalid) as refused:
            connections.read_values(party.id, "oidc", {"name": "n", **values})
        assert "admin, editor, reviewer, viewer" in refused.value.detail


def test_a_role_of_ones_own_is_given_and_cannot_be_deleted_meanwhile(
    party: Party, forger: OidcForger
) -> None:
    with tenant_scope(party.id):
        roles.create_role(actor=Actor("key:t", "admin"), name="night-shift", scopes=["read", "moderate"])
    mapped = {**ROLES, "role_map": [{"value": "nights", "role": "night-shift"}]}
    route = connect_oidc(party, forger.issuer, **mapped)
    email = f"ann@{domain_name(party)}"
    assert come(Client(), forger, email, realm={"groups": ["nights"]}).status_code == 302
    assert Membership.objects.get(tenant=party.tenant, user__email=email).role == "night-shift"
    set_role(tenant=party.tenant, user=User.objects.get(email=email), role="viewer")
    with tenant_scope(party.id):
        with pytest.raises(Conflict) as refused:
            roles.delete_role(actor=Actor("key:t", "admin"), name="night-shift")
        assert "the single sign-on Provider 0" in refused.value.detail
        changes = connections.read_values(party.id, "oidc", {"role_map": []})
        connections.update_connection(connection_id=route.pk, changes=changes, actor="key:t")
        roles.delete_role(actor=Actor("key:t", "admin"), name="night-shift")
    with pytest.raises(Invalid, match="Choose a role from admin, editor, reviewer, viewer"):
        connections.read_values(party.id, "oidc", mapped)


def test_whoever_changes_the_provider_does_not_become_an_owner_by_it(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    """An admin names a provider of their own, which says that they are the owner."""
    owner = account(party, "boss")
    set_role(tenant=party.tenant, user=owner, role="owner")
    with tenant_scope(party.id):
        SignOnIdentity.objects.create(provider_id=route.id, user=owner, subject="s1")
        changes = connections.read_values(party.id, "oidc", {"client_id": "mine"})
        connections.update_connection(connection_id=route.id, changes=changes, actor="key:t")
    client = Client()
    response = come(client, forger, owner.email, sub="s1", aud="mine")
    assert response.headers["Location"] == f"/sso/{route.id}/confirm"
    assert who(client) == ""


# --- Enforced --------------------------------------------------------------------------------------------


def enforce(party: Party, route: SignOnConnection) -> None:
    with tenant_scope(party.id):
        connections.update_connection(
            connection_id=route.id, changes={}, switches={"enforced": True}, actor="key:t"
        )


def break_glass(party: Party, user: User, chosen: bool = True) -> None:
    with tenant_scope(party.id):
        actor = Actor(str(party.owner.pk), "owner", party.owner.pk)
        connections.choose_break_glass(user_id=user.pk, chosen=chosen, actor=actor)


def test_enforced_sign_on_closes_the_password(
    party: Party, stranger: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    guest = new_user(PASSWORD)
    member = account(party)
    set_role(tenant=party.tenant, user=guest, role="viewer")
    for one in (party, stranger):
        set_role(tenant=one.tenant, user=member, role="editor")
    before = Client()
    before.force_login(member)
    session = before.session
    session["tenant"] = str(party.id)
    session.save()
    assert before.get("/").context["workspace"].tenant == party.tenant

    with pytest.raises(Conflict, match="Test this connection first"):
        enforce(party, route)
    come(Client(), forger, f"other@{domain_name(party)}")
    with pytest.raises(Conflict, match="Choose an owner"):
        enforce(party, route)
    with pytest.raises(Conflict, match="Only an owner with two-factor"):
        break_glass(party, party.owner)
    turn_on(party.owner)
    break_glass(party, party.owner)
    enforce(party, route)

    watcher = watchers.by_session(before.session.session_key)
    assert before.get("/").context["workspace"].tenant == stranger.tenant
    assert not watchers.may_watch(watcher, party.id)
    assert watchers.may_watch(watcher, stranger.id)
    page = before.get("/workspace")
    assert page.status_code == 302
    assert before.post("/workspace", {"tenant": str(party.id)}).status_code == 200
    fresh = Client()
    fresh.post("/login", {"username": member.email, "password": PASSWORD})
    assert fresh.get("/").context["workspace"].tenant == stranger.tenant
    # Whose address is in no domain of the connection keeps the password, too.
    outside = Client()
    outside.force_login(guest)
    assert outside.get("/").context["workspace"].tenant == party.tenant
    with pytest.raises(Conflict, match="last owner"):
        break_glass(party, party.owner, chosen=False)


def test_break_glass_is_written_down(party: Party, forger: OidcForger, route: SignOnConnection) -> None:
    come(Client(), forger, f"other@{domain_name(party)}")
    _app, codes = turn_on(party.owner)
    break_glass(party, party.owner)
    enforce(party, route)
    client = Client()
    client.post("/login", {"username": party.owner.email, "password": party.password})
    assert client.post("/login/code", {"code": codes[0]}).status_code == 302
    for _ in range(3):
        assert client.get("/").status_code == 200
    assert verbs(party).count("sign_on.break_glass_used") == 1
    shown = client.get("/security/single-sign-on")
    assert [name for name, _at in shown.context["uses"]] == [party.owner.name or party.owner.email]
    # Without the second factor, or as no owner any more, the password opens nothing.
    second_factor.turn_off(user=party.owner)
    assert client.get("/").headers["Location"] == "/workspace"
    assert b"requires its own single sign-on" in client.get("/workspace").content


def test_no_link_for_a_new_password_leads_past_it(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    member = account(party)
    set_role(tenant=party.tenant, user=member, role="editor")
    come(Client(), forger, f"other@{domain_name(party)}")
    turn_on(party.owner)
    break_glass(party, party.owner)
    enforce(party, route)
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        members.make_reset_link(actor=Actor(str(party.owner.pk), "owner", party.owner.pk), user_id=member.pk)
    client = Client()
    client.post("/login", {"username": member.email, "password": PASSWORD})
    assert client.get("/").headers["Location"] == "/workspace"
    page = client.get("/workspace")
    assert page.status_code == 403
    assert b"Continue with single sign-on" in page.content


def test_a_second_factor_that_the_workspace_asks_for_is_the_providers_to_ask(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    with tenant_scope(party.id):
        members.require_second_factor(actor=Actor("key:t", "admin"), required=True)
    client = Client()
    come(client, forger, f"ann@{domain_name(party)}")
    assert client.get("/").status_code == 200


def test_a_session_by_password_leaves_nothing_of_one_by_sign_on(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    user = account(party)
    set_role(tenant=party.tenant, user=user, role="editor")
    client = Client()
    client.force_login(user)
    assert sessions.connection_of(client.session) is None
    come(client, forger, user.email)
    assert sessions.connection_of(client.session) == route.id
    assert client.post("/logout").status_code == 302
    client.post("/login", {"username": user.email, "password": PASSWORD})
    assert sessions.connection_of(client.session) is None
    assert Session.objects.get(pk=client.session.session_key).connection_id is None
    assert Session.objects.get(pk=client.session.session_key).expire_date > timezone.now()


# --- Proving again who one is ----------------------------------------------------------------------------


def prove_again(client: Client, forger: OidcForger, path: str, **claims: object) -> Any:
    asked = query_of(address_of(client.get(path).content.decode()))
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    forger.nonce, forger.claims = asked["nonce"], {**forger.claims, **claims}
    back = asked["redirect_uri"].partition("8000")[2]
    return client.get(back, {"state": asked["state"], "code": "c"})


def test_the_provider_proves_again_who_somebody_is(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    user = account(party)
    set_role(tenant=party.tenant, user=user, role="admin")
    client = Client()
    come(client, forger, user.email)
    session = client.session
    session["verified_at"] = 0.0
    session.save()
    assert (
        client.get(f"/security/single-sign-on/connections/{route.id}/edit").headers["Location"] == "/verify"
    )
    assert client.get("/verify").headers["Location"] == f"/sso/{route.id}/prove"
    now = int(time.time())
    for claims, said in (
        ({"auth_time": None}, "just now (auth_time)"),
        ({"auth_time": now - 3600}, "just now (auth_time)"),
        ({"auth_time": now, "sub": "else"}, "Another person has signed in"),
    ):
        refused = prove_again(client, forger, f"/sso/{route.id}/prove", **claims)
        assert said in refused.context["detail"]
        assert client.get("/verify").headers["Location"] == f"/sso/{route.id}/prove"
    sub = f"sub-of-{user.email}"
    assert prove_again(client, forger, f"/sso/{route.id}/prove", auth_time=now, sub=sub).status_code == 302
    assert client.get("/verify/go-on").headers["Location"].endswith(f"{route.id}/edit")
    assert client.get(f"/security/single-sign-on/connections/{route.id}/edit").status_code == 200


def test_a_password_is_not_proved_by_a_provider(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    client = Client()
    client.force_login(party.owner)
    assert client.get(f"/sso/{route.id}/prove").headers["Location"] == "/verify"
