"""Roles of a tenant's own: what they may do, who has them, and what their change ends."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from console.access import find_workspace
from tenants.accounts import api_admission, keys, links, watchers
from tenants.accounts.models import CustomRole, Invitation, Membership, User
from tenants.accounts.permissions import GRANTABLE, ROLES, Actor, may_manage
from tenants.accounts.roles import is_known, list_roles, scopes_in
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.models import AuditEvent
from tenants.people import invitations, members, roles
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import acting, new_member, new_user, token_of
from tests.tenants.test_people_security import open_session

KEY = Actor("key:test", "admin")


def make(party: Party, name: str = "night", scopes: tuple[str, ...] = ("read", "moderate")) -> CustomRole:
    with tenant_scope(party.id):
        return roles.create_role(actor=KEY, name=name, scopes=scopes, description=" At night. ")


def holder(party: Party, name: str = "night") -> User:
    user = new_member(party.tenant, "viewer")
    with tenant_scope(party.id):
        members.change_role(actor=KEY, user_id=user.pk, role=name)
    return user


def events(party: Party) -> list[AuditEvent]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.filter(verb__startswith="role.").order_by("id"))


def test_a_role_is_a_set_of_permissions_without_administration(party: Party, stranger: Party) -> None:
    row = make(party)
    assert (row.description, row.scopes) == ("At night.", ["read", "moderate"])
    assert scopes_in(party.id, "night") == {"read", "moderate"}
    assert scopes_in(stranger.id, "night") == frozenset()
    assert scopes_in(party.id, "editor") == {"read", "write", "search", "train", "generate"}
    assert "admin" not in GRANTABLE
    with tenant_scope(party.id):
        assert [(r.name, r.built_in) for r in list_roles()][-2:] == [("viewer", True), ("night", False)]
    with tenant_scope(stranger.id):
        assert [row.name for row in list_roles()] == list(ROLES)
    assert is_known("night", party.id)
    assert not is_known("night", stranger.id)


@pytest.mark.parametrize("scopes", [[], ["fly"], ["admin"], ["read", "admin"], [*GRANTABLE, "admin"]])
def test_permissions_that_no_role_has(scopes: list[str], party: Party) -> None:
    make(party)
    with tenant_scope(party.id):
        with pytest.raises(Invalid) as made:
            roles.create_role(actor=KEY, name="two", scopes=scopes)
        with pytest.raises(Invalid) as changed:
            roles.change_role_definition(actor=KEY, name="night", scopes=scopes)
    for error in (made.value, changed.value):
        assert [entry["pointer"] for entry in error.errors] == ["/scopes"]
    assert [(r.name, r.scopes) for r in CustomRole.objects.filter(tenant=party.tenant)] == [
        ("night", ["read", "moderate"])
    ]


def test_administration_in_a_row_that_somebody_wrote_past_us_counts_for_nothing(party: Party) -> None:
    CustomRole.objects.create(tenant=party.tenant, name="night", scopes=["read", "admin"])
    assert scopes_in(party.id, "night") == {"read"}


@pytest.mark.parametrize(
    "name",
    [
        *("", "x", "x" * 40, "-night", "Night", "NIGHT", "night shift", "nächte", "nıght", "night_shift"),
        *("night\n", "night\x00", "ni\u202eght", "night\u200d", "ｎight", "Owner", "ADMIN", "owner\n"),
    ],
)
def test_names_that_no_role_has(name: str, party: Party) -> None:
    with tenant_scope(party.id):
        with pytest.raises(Invalid) as error:
            roles.create_role(actor=KEY, name=name, scopes=["read"])
        assert [entry["pointer"] for entry in error.value.errors] == ["/name"]
        assert not is_known(name)
        with pytest.raises(NotFound):
            roles.get_role(name)
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()


def test_a_name_is_given_once_and_never_a_built_in_one(party: Party, stranger: Party) -> None:
    make(party)
    make(stranger)
    with tenant_scope(party.id):
        for name in ("night", *ROLES):
            with pytest.raises(Conflict, match=name):
                roles.create_role(actor=KEY, name=name, scopes=["read"])
            if name in ROLES:
                with pytest.raises(NotFound):
                    roles.change_role_definition(actor=KEY, name=name, scopes=["read"])
                with pytest.raises(NotFound):
                    roles.delete_role(actor=KEY, name=name)
    # Not even past us does one change what a built-in role may do.
    CustomRole.objects.create(tenant=party.tenant, name="viewer", scopes=list(GRANTABLE))
    assert scopes_in(party.id, "viewer") == {"read", "search"}


@pytest.mark.parametrize("description", ["x" * 301, "two\nlines", "nul\x00", "turned \u202earound"])
def test_a_description_is_one_line(description: str, party: Party) -> None:
    make(party)
    with tenant_scope(party.id):
        for act in (
            lambda: roles.create_role(actor=KEY, name="two", scopes=["read"], description=description),
            lambda: roles.change_role_definition(actor=KEY, name="night", description=description),
        ):
            with pytest.raises(Invalid, match="one line of at most 300"):
                act()
    assert [row.description for row in CustomRole.objects.filter(tenant=party.tenant)] == ["At night."]


def test_there_are_so_many(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "MAX_ROLES", 2)
    make(party)
    make(party, "day")
    with tenant_scope(party.id), pytest.raises(Conflict, match="2 roles"):
        roles.create_role(actor=KEY, name="noon", scopes=["read"])


def test_admins_decide_about_it_and_who_has_it_manages_nobody() -> None:
    assert may_manage("owner", "night")
    assert may_manage("admin", "night")
    assert not may_manage("admin", "owner")
    for role in ("night", "editor", "viewer", ""):
        assert not any(may_manage(role, other) for other in ("viewer", "night", role))


@pytest.mark.parametrize("role", ["editor", "night"])
def test_only_owners_and_admins_make_roles(role: str, party: Party) -> None:
    make(party)
    user = holder(party, role)
    # Who was an admin when the request came in is none any more.
    actor = Actor(str(user.pk), "admin", user.pk)
    with tenant_scope(party.id):
        for act in (
            lambda: roles.create_role(actor=actor, name="mine", scopes=["read"]),
            lambda: roles.change_role_definition(actor=actor, name="night", scopes=["read"]),
            lambda: roles.delete_role(actor=actor, name="night"),
        ):
            with pytest.raises(NotAllowed):
                act()
        with pytest.raises(NotAllowed):
            members.change_role(actor=actor, user_id=user.pk, role="admin")
    assert [(r.name, r.scopes) for r in CustomRole.objects.filter(tenant=party.tenant)] == [
        ("night", ["read", "moderate"])
    ]


def test_it_is_given_at_invitation_and_by_change_of_role(party: Party, stranger: Party) -> None:
    make(party)
    ann = holder(party)
    with tenant_scope(party.id):
        invited = invitations.invite(actor=KEY, email=f"{secrets.token_hex(4)}@people.example", role="night")
        with pytest.raises(Invalid, match="viewer, night"):
            members.change_role(actor=KEY, user_id=ann.pk, role="day")
    user, _ = invitations.accept_as_new(
        digest=links.digest(token_of(invited.link)), name="Bea", password="correct horse battery"
    )
    for one in (ann, user):
        found = find_workspace(one, None, None)
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
        with pytest.raises(NotFound):
            roles.delete_role(actor=KEY, name="night")
    assert Membership.objects.get(user=bob).role == "viewer"
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read", "moderate"]


def test_a_key_never_does_more_than_the_role_also_when_that_is_narrowed_later(party: Party) -> None:
    make(party, scopes=("read", "write", "search"))
    ann, bob = holder(party), new_member(party.tenant, "editor")
    with tenant_scope(party.id):
        with pytest.raises(NotAllowed):
            keys.create_key(name="k", scopes=["train"], created_by=ann)
        _, writes = keys.create_key(name="w", scopes=["read", "write"], created_by=ann)
        _, reads = keys.create_key(name="r", scopes=["read"], created_by=ann)
        # Of somebody with another role, and of nobody.
        _, others = keys.create_key(name="o", scopes=["read", "write"], created_by=bob)
        _, nobodys = keys.create_key(name="n", scopes=["read", "write"])
        tokens = (writes, reads, others, nobodys)
        assert [api_admission.identify(token) is not None for token in tokens] == [True] * 4
        roles.change_role_definition(actor=KEY, name="night", scopes=["search", "read"])
    assert [api_admission.identify(token) is not None for token in tokens] == [False, True, True, True]
    assert events(party)[-1].details == {
        "from": ["read", "write", "search"],
        "to": ["read", "search"],
        "keys_revoked": [writes.partition(".")[0]],
    }
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        keys.create_key(name="k", scopes=["write"], created_by=ann)


def test_a_narrowing_that_fails_ends_no_key(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    make(party, scopes=("read", "write"))
    ann = holder(party)
    with tenant_scope(party.id):
        _, token = keys.create_key(name="w", scopes=["read", "write"], created_by=ann)

    def fail(**_: Any) -> None:
        raise RuntimeError("the audit log is away")

    monkeypatch.setattr(roles, "record", fail)
    with tenant_scope(party.id), pytest.raises(RuntimeError):
        roles.change_role_definition(actor=KEY, name="night", scopes=["read"])
    assert api_admission.identify(token) is not None
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read", "write"]


def test_what_changes_nothing_is_not_told_and_words_alone_end_no_key(party: Party) -> None:
    make(party, scopes=("read", "write"))
    ann = holder(party)
    with tenant_scope(party.id):
        _, token = keys.create_key(name="w", scopes=["read", "write"], created_by=ann)
        roles.change_role_definition(
            actor=KEY, name="night", scopes=["write", "read"], description="At night."
        )
        assert [event.verb for event in events(party)] == ["role.created"]
        roles.change_role_definition(actor=KEY, name="night", description="By day.")
    assert events(party)[-1].details == {"description": "By day."}
    row = CustomRole.objects.get(tenant=party.tenant)
    assert (row.description, row.scopes) == ("By day.", ["read", "write"])
    assert api_admission.identify(token) is not None


def test_a_stream_ends_when_the_role_reads_no_more(party: Party) -> None:
    make(party)
    watcher = watchers.by_session(open_session(holder(party)).session_key)
    assert watchers.may_watch(watcher, party.id)
    with tenant_scope(party.id):
        roles.change_role_definition(actor=KEY, name="night", scopes=["moderate"])
    assert not watchers.may_watch(watcher, party.id)


def test_who_changes_a_role_that_changed_meanwhile_is_told(party: Party) -> None:
    row = make(party, scopes=("read", "write"))
    seen = roles.version_of(row)
    with tenant_scope(party.id):
        assert seen == roles.version_of(next(one for one in list_roles() if one.name == "night"))
        roles.change_role_definition(actor=KEY, name="night", scopes=["read"], seen=seen)
        with pytest.raises(Conflict, match="night"):
            roles.change_role_definition(
                actor=KEY, name="night", scopes=["read", "write"], description="x", seen=seen
            )
    row.refresh_from_db()
    assert (row.scopes, row.description) == (["read"], "At night.")


def at_once(party: Party, *acts: Callable[[], object]) -> list[str]:
    """What came of acts that begin together, each in a thread of its own."""
    barrier, outcomes = threading.Barrier(len(acts)), []

    def run(act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            with tenant_scope(party.id):
                act()
            outcomes.append("done")
        except (NotAllowed, Conflict, NotFound, Invalid) as error:
            outcomes.append(type(error).__name__)
        connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_of_two_admins_who_change_a_role_at_once_neither_undoes_the_other(party: Party) -> None:
    row = make(party, scopes=("read", "write"))
    seen = roles.version_of(row)
    by = [acting(party.tenant, new_member(party.tenant, "admin")) for _ in range(2)]
    outcomes = at_once(
        party,
        lambda: roles.change_role_definition(actor=by[0], name="night", scopes=["read"], seen=seen),
        lambda: roles.change_role_definition(
            actor=by[1], name="night", scopes=["read", "write", "train"], seen=seen
        ),
    )
    assert outcomes == ["Conflict", "done"]
    changed = [event for event in events(party) if event.verb == "role.changed"]
    row.refresh_from_db()
    assert [event.details["to"] for event in changed] == [row.scopes]
    # Without a word of what was looked at, each changes what it names and nothing else.
    outcomes = at_once(
        party,
        lambda: roles.change_role_definition(actor=by[0], name="night", scopes=["search"]),
        lambda: roles.change_role_definition(actor=by[1], name="night", description="New."),
    )
    row.refresh_from_db()
    assert (outcomes, row.scopes, row.description) == (["done", "done"], ["search"], "New.")


def test_a_key_that_is_made_while_its_makers_role_is_narrowed_does_not_stay(party: Party) -> None:
    make(party, scopes=("read", "write"))
    ann = holder(party)
    tokens: list[str] = []
    at_once(
        party,
        lambda: tokens.append(keys.create_key(name="w", scopes=["write"], created_by=ann)[1]),
        lambda: roles.change_role_definition(actor=KEY, name="night", scopes=["read"]),
    )
    assert CustomRole.objects.get(tenant=party.tenant).scopes == ["read"]
    assert [token for token in tokens if api_admission.identify(token) is not None] == []


def test_a_role_that_is_given_while_it_is_deleted_is_given_or_deleted(party: Party) -> None:
    make(party)
    ann = new_member(party.tenant, "viewer")
    outcomes = at_once(
        party,
        lambda: members.change_role(actor=KEY, user_id=ann.pk, role="night"),
        lambda: roles.delete_role(actor=KEY, name="night"),
    )
    role = Membership.objects.get(user=ann).role
    assert (outcomes, is_known(role, party.id)) in (
        (["Conflict", "done"], True),
        (["Invalid", "done"], True),
    )


def test_a_role_in_use_is_not_deleted_and_its_holders_are_named(party: Party) -> None:
    make(party)
    ann = holder(party)
    with tenant_scope(party.id):
        waiting = invitations.invite(actor=KEY, email="waits@people.example", role="night").invitation
        with pytest.raises(Conflict) as error:
            roles.delete_role(actor=KEY, name="night")
        assert error.value.detail == (
            f"This role is in use: {ann.email}, the invitation of waits@people.example. "
            "Give them another one first."
        )
        members.change_role(actor=KEY, user_id=ann.pk, role="viewer")
        with pytest.raises(Conflict, match=r"^This role is in use: the invitation of waits@people.example\."):
            roles.delete_role(actor=KEY, name="night")
        invitations.revoke_invitation(actor=KEY, invitation_id=waiting.pk)
        roles.delete_role(actor=KEY, name="night")
    assert not CustomRole.objects.filter(tenant=party.tenant).exists()
    assert [event.verb for event in events(party)] == ["role.created", "role.deleted"]


def test_of_many_holders_a_few_are_named(party: Party) -> None:
    make(party)
    people = sorted(holder(party).email for _ in range(roles.NAMED + 1))
    with tenant_scope(party.id), pytest.raises(Conflict) as error:
        roles.delete_role(actor=KEY, name="night")
    assert ", ".join(people[: roles.NAMED]) + ", …" in error.value.detail
    assert people[-1] not in error.value.detail


def test_an_invitation_to_a_role_that_is_gone_opens_nothing_and_says_so(party: Party) -> None:
    make(party, scopes=GRANTABLE)
    known = new_user()
    with tenant_scope(party.id):
        digests = [
            links.digest(token_of(invitations.invite(actor=KEY, email=email, role="night").link))
            for email in (known.email, "new@people.example")
        ]
    # As a restored backup may have it; the service refuses it.
    CustomRole.objects.filter(tenant=party.tenant).delete()
    for act in (
        lambda: invitations.find_by_digest(digests[0]),
        lambda: invitations.accept(digest=digests[0], user=known),
        lambda: invitations.accept_as_new(digest=digests[1], name="New", password="correct horse battery"),
    ):
        with pytest.raises(NotFound, match=r"no longer exists\. Ask whoever invited you"):
            act()
    assert not Membership.objects.filter(tenant=party.tenant, role="night").exists()
    assert not User.objects.filter(email="new@people.example").exists()
    assert not Invitation.objects.filter(tenant=party.tenant).exclude(accepted_at=None).exists()


def test_a_role_that_is_gone_opens_nothing(party: Party) -> None:
    ann = new_member(party.tenant, "viewer")
    Membership.objects.filter(user=ann).update(role="lost")
    found = find_workspace(ann, None, None)
    assert found is not None
    assert found.scopes == frozenset()
    with tenant_scope(party.id):
        with pytest.raises(NotAllowed):
            keys.create_key(name="k", scopes=["read"], created_by=ann)
        members.change_role(actor=KEY, user_id=ann.pk, role="viewer")
    assert Membership.objects.get(user=ann).role == "viewer"


def test_invitations_of_who_decides_about_people_no_more_end(party: Party) -> None:
    make(party)
    admin = new_member(party.tenant, "admin")
    with tenant_scope(party.id):
        mine = acting(party.tenant, admin)
        made = invitations.invite(actor=mine, email="new@people.example", role="night").invitation
        members.change_role(actor=KEY, user_id=admin.pk, role="night")
    assert not Invitation.objects.get(pk=made.pk).open


def test_an_owner_who_becomes_an_admin_keeps_invitations_to_roles_of_the_tenant(party: Party) -> None:
    make(party)
    second = new_member(party.tenant, "owner")
    with tenant_scope(party.id):
        mine = acting(party.tenant, second)
        kept, ended = (
            invitations.invite(actor=mine, email=f"{role}@people.example", role=role).invitation
            for role in ("night", "owner")
        )
        members.change_role(actor=acting(party.tenant, party.owner), user_id=second.pk, role="admin")
    assert Invitation.objects.get(pk=kept.pk).open
    assert not Invitation.objects.get(pk=ended.pk).open
