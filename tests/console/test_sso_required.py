"""Single sign-on that is required: what a password then opens no more, and the owners who always get in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from tenants.accounts import second_factor, watchers
from tenants.accounts.models import Membership, Passkey, SignOnConnection, User
from tenants.accounts.permissions import Actor
from tenants.accounts.services import set_role
from tenants.errors import Conflict, NotAllowed
from tenants.events.models import AuditEvent
from tenants.people import members
from tenants.people.erasure import erase_user
from tenants.people.sign_on import connections, domains, oidc
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import new_user, turn_on
from tests.tenants.sign_on_world import (
    OPERATOR,
    PASSWORD,
    OidcForger,
    account,
    allow_local,
    come,
    connect_oidc,
    domain_name,
    forging,
    prove,
    verbs,
)
from workers import tasks


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


@pytest.fixture
def required(party: Party, forger: OidcForger, route: SignOnConnection) -> SignOnConnection:
    """The party requires its sign-on; its owner keeps an emergency password."""
    come(Client(), forger, f"other@{domain_name(party)}")
    turn_on(party.owner)
    break_glass(party, party.owner)
    enforce(party, route)
    return route


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
    with pytest.raises(Conflict, match="some owner has to get in"):
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
    with pytest.raises(Conflict, match="some owner has to get in"):
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


# --- Some owner always gets in ---------------------------------------------------------------------------

NO_WAY = "some owner has to get in without the provider"


def test_an_owner_gets_in_while_the_provider_is_down(
    party: Party, forger: OidcForger, required: SignOnConnection
) -> None:
    forger.server.shutdown()
    forger.server.server_close()
    oidc._kept.clear()
    refused = Client().post("/sso", {"email": f"ann@{domain_name(party)}"})
    assert refused.status_code == 422
    assert "failed: The connection failed" in refused.context["detail"]
    with tenant_scope(party.id):
        [row] = AuditEvent.objects.filter(verb="sign_on.refused")
    assert (row.target, row.details["why"]) == (str(required.id), refused.context["detail"])
    client = Client()
    client.force_login(party.owner)
    assert client.get("/").context["workspace"].tenant == party.tenant
    # And may stop requiring it, once they have proved who they are.
    switched = client.post(f"/security/single-sign-on/connections/{required.id}/switch", {"enforced": "no"})
    assert switched.status_code == 302
    assert not SignOnConnection.objects.get(pk=required.id).enforced


def test_the_last_one_who_gets_in_without_the_provider_stays(
    party: Party, required: SignOnConnection
) -> None:
    second = account(party, "second")
    set_role(tenant=party.tenant, user=second, role="owner")
    by_key = Actor(str(second.pk), "owner", second.pk)
    attempts = {
        "demoted": lambda: members.change_role(actor=by_key, user_id=party.owner.pk, role="viewer"),
        "removed": lambda: members.remove_member(actor=by_key, user_id=party.owner.pk),
    }
    for attempt in attempts.values():
        with tenant_scope(party.id), pytest.raises(Conflict, match=NO_WAY):
            attempt()
    with pytest.raises(Conflict, match=NO_WAY):
        erase_user(user=party.owner)
    with pytest.raises(Conflict, match=NO_WAY):
        break_glass(party, party.owner, chosen=False)
    assert second_factor.required_by(party.owner) == [party.tenant.name]
    assert Membership.objects.get(tenant=party.tenant, user=party.owner).role == "owner"
    # A passkey is a second factor, too.
    Passkey.objects.create(user=second, name="Key", credential_id=second.pk.bytes, public_key=b"x")
    break_glass(party, second)
    break_glass(party, party.owner, chosen=False)
    with tenant_scope(party.id):
        members.change_role(actor=by_key, user_id=party.owner.pk, role="viewer")


def test_a_domain_that_would_lock_all_owners_out_is_not_taken(
    party: Party, forger: OidcForger, route: SignOnConnection
) -> None:
    """The owners have addresses elsewhere, so that no emergency password was chosen."""
    elsewhere = f"home-{domain_name(party)}"
    User.objects.filter(pk=party.owner.pk).update(email=f"owner@{elsewhere}")
    come(Client(), forger, f"other@{domain_name(party)}")
    enforce(party, route)
    with tenant_scope(party.id):
        claimed = domains.add_domain(domain=elsewhere, connection_id=route.id, actor="key:t")
    with pytest.raises(Conflict, match=NO_WAY):
        domains.prove_by_operator(
            by=OPERATOR, label="operator:o", slug=party.tenant.slug, domain=elsewhere, reason="test"
        )
    with tenant_scope(party.id):
        assert domains.get_domain(claimed.id).proved_at is None
        domains.route_domain(domain_id=claimed.id, connection_id=None, actor="key:t")
    with pytest.raises(Conflict, match=NO_WAY):
        prove(party, elsewhere, route.id)
    client = Client()
    client.force_login(User.objects.get(pk=party.owner.pk))
    told = client.post(
        f"/security/single-sign-on/domains/{claimed.id}/route", {"connection": str(route.id)}, follow=True
    )
    assert NO_WAY in told.content.decode()
    assert client.get("/").status_code == 200


def test_its_admins_are_told_of_each_use_by_mail(
    party: Party, required: SignOnConnection, settings: Any
) -> None:
    settings.EMAIL_HOST = "mail.example"
    admin, reader = (account(party, name) for name in ("admin", "reader"))
    set_role(tenant=party.tenant, user=admin, role="admin")
    set_role(tenant=party.tenant, user=reader, role="editor")
    tasks.mail_break_glass.run(str(party.id), str(party.owner.pk), "2031-05-17 09:30")
    assert sorted(one.to[0] for one in mail.outbox) == sorted([admin.email, party.owner.email])
    for said in (party.owner.email, party.tenant.name, "2031-05-17 09:30"):
        assert said in mail.outbox[0].body
    mail.outbox.clear()
    # Whoever is gone meanwhile is written about no more.
    tasks.mail_break_glass.run(str(party.id), str(required.id), "2031-05-17 09:30")
    assert mail.outbox == []
