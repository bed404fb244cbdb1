"""Roles of a tenant's own: what they may do, who has them, and what their change ends."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from console.access import find_workspace
from tenants.accounts import keys
from tenants.accounts.models import CustomRole, Invitation, Membership, User
from tenants.accounts.permissions import GRANTABLE, Actor, may_manage
from tenants.accounts.roles import list_roles, scopes_in, strongest
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.models import AuditEvent
from tenants.people import invitations, members, roles
from tenants.people.provisioning import directory
from tenants.scope import tenant_scope
from tests.api.conftest import Api, refused
from tests.conftest import Party
from tests.tenants.people import acting, new_member

KEY = Actor("key:test", "admin")


def make(party: Party, name: str = "night", scopes: tuple[str, ...] = ("read", "moderate")) -> CustomRole:
    with tenant_scope(party.id):
        return roles.create_role(actor=KEY, name=name, scopes=scopes, description=" At night. ")


def test_a_role_is_a_set_of_permissions_without_administration(party: Party, stranger: Party) -> None:
    row = make(party)
    assert (row.description, row.scopes) == ("At night.", ["read", "moderate"])
    assert scopes_in(party.id, "night") == {"read", "moderate"}
    assert scopes_in(stranger.id, "night") == frozenset()
    assert scopes_in(party.id, "editor") == {"read", "write", "search", "train", "generate"}
    with tenant_scope(party.id):
        assert [(r.name, r.built_in) for r in list_roles()][-2:] == [("viewer", True), ("night", False)]
        assert strongest(["viewer", "night", "admin"]) == "admin"
        assert strongest(["viewer", "night", "reviewer"]) == "reviewer"
        wrong: tuple[tuple[type[Exception], dict[str, Any]], ...] = (
            (Invalid, {"name": "x", "scopes": ["admin"]}),
            (Invalid, {"name": "two", "scopes": []}),
            (Invalid, {"name": "two", "scopes": ["fly"]}),
            (Invalid, {"name": "two", "scopes": ["read", "admin"]}),
            (Invalid, {"name": "Two Words", "scopes": ["read"]}),
            (Invalid, {"name": "two", "scopes": ["read"], "description": "x" * 301}),
            (Conflict, {"name": "night", "scopes": ["read"]}),
            (Conflict, {"name": "owner", "scopes": ["read"]}),
        )
        for error, fields in wrong:
            with pytest.raises(error):
                roles.create_role(actor=KEY, **fields)
        assert CustomRole.objects.filter(tenant=party.tenant).count() == 1
    assert "admin" not in GRANTABLE


def test_admins_decide_about_it_and_who_has_it_manages_nobody() -> None:
    assert may_manage("owner", "night")
    assert may_manage("admin", "night")
    assert not may_manage("admin", "owner")
    for role in ("night", "editor", "viewer", ""):
        assert not any(may_manage(role, other) for other in ("viewer", "night", role))


def test_only_owners_and_admins_make_roles(party: Party) -> None:
    editor = new_member(party.tenant, "editor")
    make(party)
    with tenant_scope(party.id):
        for act in (
            lambda: roles.create_role(actor=acting(party.tenant, editor), name="mine", scopes=["read"]),
            lambda: roles.change_role_definition(
                actor=acting(party.tenant, editor), name="night", scopes=["read"]
            ),
            lambda: roles.delete_role(actor=acting(party.tenant, editor), name="night"),
        ):
            with pytest.raises(NotAllowed):
                act()
        assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read", "moderate"]


def test_it_is_given_at_invitation_and_by_change_of_role(party: Party, stranger: Party) -> None:
    make(party)
    ann = new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        members.change_role(actor=KEY, user_id=ann.pk, role="night")
        invited = invitations.invite(actor=KEY, email=f"{secrets.token_hex(4)}@people.example", role="night")
        assert invited.invitation.role == "night"
        with pytest.raises(Invalid):
            members.change_role(actor=KEY, user_id=ann.pk, role="day")
    found = find_workspace(ann, None, None)
    assert found is not None
    assert (found.role, found.scopes) == ("night", {"read", "moderate"})
    bob = new_member(stranger.tenant, "viewer")
    with tenant_scope(stranger.id):
        with pytest.raises(Invalid):
            members.change_role(actor=KEY, user_id=bob.pk, role="night")
        with pytest.raises(Invalid):
            invitations.invite(actor=KEY, email="x@people.example", role="night")
        with pytest.raises(NotFound):
            roles.change_role_definition(actor=KEY, name="night", scopes=["read"])
    assert Membership.objects.get(user=bob).role == "viewer"


def test_a_key_never_does_more_than_the_role_also_when_that_is_narrowed_later(party: Party) -> None:
    make(party, scopes=("read", "write", "search"))
    ann = new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        members.change_role(actor=KEY, user_id=ann.pk, role="night")
        with pytest.raises(NotAllowed):
            keys.create_key(name="k", scopes=["train"], created_by=ann)
        _, writes = keys.create_key(name="w", scopes=["read", "write"], created_by=ann)
        _, reads = keys.create_key(name="r", scopes=["read"], created_by=ann)
        assert [Api(token).get("/datasets").status_code for token in (writes, reads)] == [200, 200]
        roles.change_role_definition(actor=KEY, name="night", scopes=["read", "search"])
        line = AuditEvent.objects.filter(verb="role.changed").get()
    assert [Api(token).get("/datasets").status_code for token in (writes, reads)] == [401, 200]
    assert line.details == {
        "from": ["read", "write", "search"],
        "to": ["read", "search"],
        "keys_revoked": [writes.partition(".")[0]],
    }


def test_a_role_in_use_is_not_deleted_and_its_holders_are_named(party: Party) -> None:
    make(party)
    ann = new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        members.change_role(actor=KEY, user_id=ann.pk, role="night")
        waiting = invitations.invite(actor=KEY, email="waits@people.example", role="night").invitation
        directory.change_settings(
            actor=KEY, default_role="viewer", group_roles=[{"group": "Nights", "role": "night"}]
        )
        with pytest.raises(Conflict) as error:
            roles.delete_role(actor=KEY, name="night")
        for named in (ann.email, "waits@people.example", "Nights"):
            assert named in error.value.detail
        directory.change_settings(actor=KEY, default_role="viewer", group_roles=[])
        members.change_role(actor=KEY, user_id=ann.pk, role="viewer")
        invitations.revoke_invitation(actor=KEY, invitation_id=waiting.pk)
        roles.delete_role(actor=KEY, name="night")
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()


def test_a_role_that_is_gone_opens_nothing(party: Party) -> None:
    ann = new_member(party.tenant, "viewer")
    Membership.objects.filter(user=ann).update(role="lost")
    found = find_workspace(User.objects.get(pk=ann.pk), None, None)
    assert found is not None
    assert found.scopes == frozenset()


def test_invitations_of_who_decides_about_people_no_more_end(party: Party) -> None:
    make(party)
    admin = new_member(party.tenant, "admin")
    with tenant_scope(party.id):
        mine = acting(party.tenant, admin)
        made = invitations.invite(actor=mine, email="new@people.example", role="night").invitation
        members.change_role(actor=KEY, user_id=admin.pk, role="night")
    assert not Invitation.objects.get(pk=made.pk).open


def test_by_the_api(party: Party) -> None:
    api = Api(party.token)
    made = api.post("/roles", {"name": "night", "scopes": ["read"], "description": "x"})
    assert (made.status_code, made.json()) == (
        201,
        {"name": "night", "description": "x", "scopes": ["read"], "built_in": False},
    )
    assert [row["name"] for row in api.get("/roles").json()["results"]][-1] == "night"
    ann = new_member(party.tenant, "viewer")
    assert api.call("PATCH", f"/members/{ann.pk}", {"role": "night"}).json()["role"] == "night"
    refused(api.call("DELETE", "/roles/night"), 409, "conflict")
    refused(api.call("PATCH", "/roles/editor", {"scopes": ["read"]}), 404, "not-found")
    refused(api.call("PATCH", "/roles/night", {"scopes": ["admin"]}), 422, "invalid")
    changed = api.call("PATCH", "/roles/night", {"scopes": ["search", "read"]}).json()
    assert changed["scopes"] == ["read", "search"]
    refused(api.call("PATCH", f"/members/{ann.pk}", {"role": "king"}), 422, "invalid", "/role")
