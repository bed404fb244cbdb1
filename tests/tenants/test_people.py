"""Members and invitations: one table of who may touch whom, tokens that work once, the last owner."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from tenants.accounts import api_admission, keys, links, passwords
from tenants.accounts.models import Invitation, KeyDigest, Membership, Tenant, User
from tenants.accounts.permissions import ROLES, SCOPES, Actor
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.models import AuditEvent
from tenants.people import invitations, members, roles
from tenants.people.erasure import erase_user
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.people import acting, new_member, new_user, token_of


def state(party: Party) -> dict[str, list[Any]]:
    """Everything that acts among people may change."""
    with tenant_scope(party.id):
        log = list(AuditEvent.objects.order_by("id").values("id", "actor", "verb"))
    of = {"tenant": party.id}
    return {
        "members": list(Membership.objects.filter(**of).order_by("id").values("user", "role")),
        "invitations": list(
            Invitation.objects.filter(**of).order_by("id").values("id", "revoked_at", "digest")
        ),
        "keys": list(KeyDigest.objects.filter(**of).order_by("prefix").values("prefix", "revoked_at")),
        "tenant": list(Tenant.objects.filter(pk=party.id).values()),
        "log": log,
    }


def events(party: Party) -> list[tuple[str, str]]:
    with tenant_scope(party.id):
        return list(AuditEvent.objects.order_by("id").values_list("verb", "target"))


# --- Who may touch whom ---

Act = Callable[[Actor, Any, str], Any]
ACTS: dict[str, Act] = {
    "make editor": lambda actor, target, role: members.change_role(
        actor=actor, user_id=target.pk, role="editor" if role != "editor" else "viewer"
    ),
    "make owner": lambda actor, target, role: members.change_role(
        actor=actor, user_id=target.pk, role="owner" if role != "owner" else "viewer"
    ),
    "remove": lambda actor, target, role: members.remove_member(actor=actor, user_id=target.pk),
    "reset link": lambda actor, target, role: members.make_reset_link(actor=actor, user_id=target.pk),
    "invite": lambda actor, target, role: invitations.invite(
        actor=actor, email=f"i-{target.pk}@people.example", role=role
    ),
}


def allowed(act: str, actor: str, target: str) -> bool:
    """The rule in other words than the code's: owners do anything, admins anything that leaves owners alone."""
    if actor == "owner":
        return True
    return actor == "admin" and target != "owner" and act != "make owner"


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("actor_role", list(ROLES))
def test_roles_decide_who_touches_whom(actor_role: str, act: str, party: Party) -> None:
    actor = acting(party.tenant, new_member(party.tenant, actor_role))
    for target_role in ROLES:
        target = new_member(party.tenant, target_role)
        before = state(party)
        with tenant_scope(party.id):
            if allowed(act, actor_role, target_role):
                ACTS[act](actor, target, target_role)
                assert state(party)["log"] != before["log"]
            else:
                with pytest.raises(NotAllowed):
                    ACTS[act](actor, target, target_role)
                assert state(party) == before


@pytest.mark.parametrize("role", list(ROLES))
def test_a_key_acts_as_an_admin_and_never_as_an_owner(role: str, party: Party) -> None:
    target = new_member(party.tenant, role)
    with tenant_scope(party.id):
        if role == "owner":
            with pytest.raises(NotAllowed):
                members.remove_member(actor=Actor("key:x", "admin"), user_id=target.pk)
        else:
            members.remove_member(actor=Actor("key:x", "admin"), user_id=target.pk)
    assert Membership.objects.filter(user=target).exists() == (role == "owner")


def test_a_role_that_was_lost_meanwhile_counts_no_more(party: Party) -> None:
    admin, target = new_member(party.tenant, "admin"), new_member(party.tenant, "viewer")
    actor = acting(party.tenant, admin)
    Membership.objects.filter(user=admin).update(role="viewer")
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        members.remove_member(actor=actor, user_id=target.pk)
    assert Membership.objects.filter(user=target).exists()


def test_who_was_just_removed_leaves_nothing_behind(party: Party) -> None:
    """Requests that were let in before the removal and reach their services after it."""
    admin = new_member(party.tenant, "admin")
    late, owner = acting(party.tenant, admin), acting(party.tenant, party.owner)
    with tenant_scope(party.id):
        old, _ = keys.create_key(name="old", scopes=["read"])
        open_one = invitations.invite(actor=owner, email=new_address(), role="viewer").invitation
        members.remove_member(actor=owner, user_id=admin.pk)
    before = state(party)
    with tenant_scope(party.id):
        for act in (
            lambda: invitations.invite(actor=late, email=new_address(), role="viewer"),
            lambda: invitations.revoke_invitation(actor=late, invitation_id=open_one.id),
            lambda: keys.create_key(name="new", scopes=["read"], created_by=admin),
            lambda: keys.rotate_key(key_id=old.id, overlap_s=0, created_by=admin),
        ):
            with pytest.raises(NotAllowed):
                act()
    assert state(party) == before


def test_the_last_owner_is_neither_removed_nor_demoted(party: Party) -> None:
    actor = acting(party.tenant, party.owner)
    before = state(party)
    with tenant_scope(party.id):
        for act in (
            lambda: members.remove_member(actor=actor, user_id=party.owner.pk),
            lambda: members.change_role(actor=actor, user_id=party.owner.pk, role="admin"),
        ):
            with pytest.raises(Conflict, match="at least one owner"):
                act()
    assert state(party) == before
    new_member(party.tenant, "owner")
    with tenant_scope(party.id):
        members.remove_member(actor=actor, user_id=party.owner.pk)
    assert not Membership.objects.filter(tenant=party.id, user=party.owner).exists()


def test_two_owners_who_remove_each_other_leave_one(party: Party) -> None:
    other = new_member(party.tenant, "owner")
    pairs = [(party.owner, other), (other, party.owner)]
    actors = [(acting(party.tenant, who), whom) for who, whom in pairs]
    barrier, outcomes = threading.Barrier(2), []

    def remove(actor: Actor, whom: User) -> None:
        barrier.wait()
        try:
            with tenant_scope(party.id):
                members.remove_member(actor=actor, user_id=whom.pk)
            outcomes.append("done")
        except (NotAllowed, Conflict, NotFound) as error:
            outcomes.append(type(error).__name__)
        connection.close()

    threads = [threading.Thread(target=remove, args=pair) for pair in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["NotAllowed", "done"]
    assert Membership.objects.filter(tenant=party.id, role="owner").count() == 1


def test_another_tenants_members_are_absent(party: Party, stranger: Party) -> None:
    actor = acting(party.tenant, party.owner)
    before = state(stranger)
    with tenant_scope(party.id):
        for act in ("make editor", "remove", "reset link"):
            with pytest.raises(NotFound):
                ACTS[act](actor, stranger.owner, "owner")
    assert state(stranger) == before


def test_a_removal_ends_the_keys_that_the_person_made_here_and_no_others(
    party: Party, stranger: Party
) -> None:
    admin = new_member(party.tenant, "admin")
    Membership.objects.create(tenant=stranger.tenant, user=admin, role="admin")
    tokens = {}
    for where in (party, stranger):
        with tenant_scope(where.id):
            tokens[where.id] = keys.create_key(name="theirs", scopes=["read"], created_by=admin)[1]
    assert api_admission.identify(tokens[party.id]) is not None
    with tenant_scope(party.id):
        ended = members.remove_member(actor=acting(party.tenant, party.owner), user_id=admin.pk)
    assert [key.name for key in ended] == ["theirs"]
    assert api_admission.identify(tokens[party.id]) is None
    assert api_admission.identify(tokens[stranger.id]) is not None
    assert api_admission.identify(party.token) is not None
    assert events(party)[-1] == ("member.removed", str(admin.pk))


def test_what_a_removed_or_demoted_admin_invited_is_void(party: Party) -> None:
    owner = acting(party.tenant, party.owner)
    for end in (
        lambda user: members.remove_member(actor=owner, user_id=user.pk),
        lambda user: members.change_role(actor=owner, user_id=user.pk, role="viewer"),
    ):
        admin = new_member(party.tenant, "admin")
        with tenant_scope(party.id):
            invited = invitations.invite(
                actor=acting(party.tenant, admin), email=new_address(), role="viewer"
            )
            end(admin)
        with pytest.raises(NotFound):
            invitations.find_by_digest(links.digest(token_of(invited.link)))


def test_what_a_demoted_person_made_reaches_no_further_than_they_do(party: Party) -> None:
    owner, second = acting(party.tenant, party.owner), new_member(party.tenant, "owner")
    with tenant_scope(party.id):
        every, some = (
            keys.create_key(name="k", scopes=scopes, created_by=second)[1]
            for scopes in (list(SCOPES), ["read"])
        )
        as_owner, as_viewer = (
            invitations.invite(actor=acting(party.tenant, second), email=new_address(), role=role)
            for role in ("owner", "viewer")
        )
        members.change_role(actor=owner, user_id=second.pk, role="admin")
    with pytest.raises(NotFound):
        invitations.find_by_digest(links.digest(token_of(as_owner.link)))
    assert invitations.find_by_digest(links.digest(token_of(as_viewer.link))).role == "viewer"
    assert api_admission.identify(every) is not None
    with tenant_scope(party.id):
        members.change_role(actor=owner, user_id=second.pk, role="viewer")
        told = AuditEvent.objects.filter(verb="member.role_changed").latest("id").details
    assert api_admission.identify(every) is None
    assert api_admission.identify(some) is not None
    assert told == {"from": "admin", "to": "viewer", "keys_revoked": [every.split(".")[0]]}


@pytest.mark.parametrize(
    ("end", "left"),
    [
        ("another role", {"read"}),
        ("a narrower role of the workspace", {"read"}),
        ("removed", set()),
        ("deactivated", set()),
        ("erased", set()),
    ],
)
def test_keys_lose_what_their_maker_loses(end: str, left: set[str], party: Party) -> None:
    owner, user = acting(party.tenant, party.owner), new_member(party.tenant, "admin")
    other = new_member(party.tenant, "admin")
    with tenant_scope(party.id):
        if end == "a narrower role of the workspace":
            roles.create_role(actor=owner, name="night", scopes=["read", "write"])
            members.change_role(actor=owner, user_id=user.pk, role="night")
        made = {
            name: keys.create_key(name="k", scopes=scopes, created_by=maker)[1]
            for name, scopes, maker in (
                ("write", ["read", "write"], user),
                ("read", ["read"], user),
                ("others", ["read", "write"], other),
            )
        }
        assert all(api_admission.identify(token) for token in made.values())
        if end == "another role":
            members.change_role(actor=owner, user_id=user.pk, role="viewer")
        elif end == "a narrower role of the workspace":
            roles.change_role_definition(actor=owner, name="night", scopes=["read"])
        elif end == "removed":
            members.remove_member(actor=owner, user_id=user.pk)
    if end == "deactivated":
        user.is_active = False
        user.save()
    elif end == "erased":
        erase_user(user=user)
    assert {name for name, token in made.items() if api_admission.identify(token)} == {*left, "others"}
    user.is_active = True
    if end == "deactivated":
        user.save()
    assert {name for name, token in made.items() if api_admission.identify(token)} == {*left, "others"}


# --- Invitations ---


def new_address() -> str:
    return new_user().email.replace("p-", "n-")


def invite(party: Party, email: str = "", role: str = "editor") -> bytes:
    """The digest of a new invitation's token."""
    with tenant_scope(party.id):
        invited = invitations.invite(
            actor=acting(party.tenant, party.owner), email=email or new_address(), role=role
        )
    return links.digest(token_of(invited.link))


def test_a_new_person_joins_once(party: Party) -> None:
    digest = invite(party, role="reviewer")
    user, _ = invitations.accept_as_new(digest=digest, name="Ann Bee", password="correct horse battery")
    assert Membership.objects.get(user=user).role == "reviewer"
    assert (user.name, user.check_password("correct horse battery")) == ("Ann Bee", True)
    assert events(party)[-1] == ("member.joined", str(user.pk))
    for again in (
        lambda: invitations.accept_as_new(digest=digest, name="Eve", password="correct horse battery"),
        lambda: invitations.accept(digest=digest, user=user),
    ):
        with pytest.raises(NotFound):
            again()


def test_only_the_digest_of_a_token_is_kept(party: Party) -> None:
    with tenant_scope(party.id):
        invited = invitations.invite(
            actor=acting(party.tenant, party.owner), email=new_address(), role="viewer"
        )
    token = token_of(invited.link)
    row = Invitation.objects.filter(pk=invited.invitation.pk).values().get()
    assert bytes(row["digest"]) == links.digest(token)
    assert token not in str(row)


def test_an_invitation_ends_by_time_by_hand_by_another_and_with_its_tenant(
    make_party: Callable[..., Party],
) -> None:
    party = make_party()
    email = new_address()
    replaced, digest = invite(party, email), invite(party, email)
    revoked, expired = invite(party), invite(party)
    row = Invitation.objects.get(digest=revoked)
    with tenant_scope(party.id):
        invitations.revoke_invitation(actor=acting(party.tenant, party.owner), invitation_id=row.pk)
    Invitation.objects.filter(digest=expired).update(expires_at=timezone.now())
    for dead in (replaced, revoked, expired, b"", b"x" * 32):
        with pytest.raises(NotFound):
            invitations.accept_as_new(digest=dead, name="Eve", password="correct horse battery")
    assert invitations.find_by_digest(digest).expires_at - timezone.now() > dt.timedelta(days=6, hours=23)
    Tenant.objects.filter(pk=party.id).update(state=Tenant.State.SUSPENDED)
    with pytest.raises(NotFound):
        invitations.find_by_digest(digest)


def test_an_admin_does_not_replace_an_owners_invitation(party: Party) -> None:
    email, admin = new_address(), acting(party.tenant, new_member(party.tenant, "admin"))
    digest = invite(party, email, "owner")
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        invitations.invite(actor=admin, email=email, role="viewer")
    assert invitations.find_by_digest(digest).role == "owner"


def test_another_tenants_invitation_is_absent(party: Party, stranger: Party) -> None:
    digest = invite(stranger)
    theirs = Invitation.objects.get(digest=digest)
    with tenant_scope(party.id):
        assert list(invitations.list_invitations()) == []
        with pytest.raises(NotFound):
            invitations.revoke_invitation(actor=acting(party.tenant, party.owner), invitation_id=theirs.pk)
    assert invitations.find_by_digest(digest).pk == theirs.pk


def test_a_known_address_cannot_be_taken_over(party: Party) -> None:
    known = new_user("the old password")
    digest = invite(party, known.email)
    with pytest.raises(Conflict):
        invitations.accept_as_new(digest=digest, name="Eve", password="correct horse battery")
    known.refresh_from_db()
    assert (known.check_password("the old password"), known.name) == (True, "Pat Doe")
    assert not Membership.objects.filter(user=known).exists()
    with pytest.raises(NotAllowed):
        invitations.accept(digest=digest, user=new_user())
    invitations.accept(digest=digest, user=known)
    assert Membership.objects.get(user=known).tenant_id == party.id


def test_inviting_does_not_tell_who_is_known(party: Party) -> None:
    actor = acting(party.tenant, party.owner)
    with tenant_scope(party.id):
        answers = [
            invitations.invite(actor=actor, email=email, role="viewer")
            for email in (new_user().email, new_address())
        ]
    shapes = [(len(a.link), a.invitation.role, a.invitation.open) for a in answers]
    assert shapes[0] == shapes[1]


def test_odd_invitations_are_refused(party: Party) -> None:
    actor = acting(party.tenant, party.owner)
    before = state(party)
    with tenant_scope(party.id):
        for email, role in (
            ("nobody", "viewer"),
            ("a@b.example\nBcc: c@d.example", "viewer"),
            ("", "viewer"),
            ("a" * 60 + "@" + ".".join(["b" * 60] * 4) + ".example", "viewer"),
        ):
            with pytest.raises(Invalid):
                invitations.invite(actor=actor, email=email, role=role)
        with pytest.raises(Invalid):
            invitations.invite(actor=actor, email="a@b.example", role="king")
        with pytest.raises(Conflict):
            invitations.invite(actor=actor, email=party.owner.email.upper(), role="viewer")
    assert state(party) == before


def test_an_address_that_looks_like_a_members_is_theirs(party: Party) -> None:
    known = new_member(party.tenant, "viewer")
    User.objects.filter(pk=known.pk).update(email=f"sam.k@{party.tenant.slug}.example")
    with tenant_scope(party.id):
        for start in ("\u017fam.k", "SAM.\u212a", "\uff53am.k", " sam.k"):
            with pytest.raises(Conflict, match="belongs to this workspace already"):
                invitations.invite(
                    actor=acting(party.tenant, party.owner),
                    email=f"{start}@{party.tenant.slug}.example",
                    role="viewer",
                )


def test_a_weak_password_makes_no_account(party: Party) -> None:
    digest = invite(party)
    email = Invitation.objects.get(digest=digest).email
    for weak in ("short", "password123", "12345678901", email):
        with pytest.raises(Invalid):
            invitations.accept_as_new(digest=digest, name="Ann", password=weak)
    assert not User.objects.filter(email=email).exists()
    assert invitations.find_by_digest(digest).open


def test_with_a_mail_server_only_the_mailbox_gets_the_link(party: Party, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example"
    email = new_address()
    with tenant_scope(party.id):
        invited = invitations.invite(actor=acting(party.tenant, party.owner), email=email, role="viewer")
    assert invited.link == ""
    party.owner.name = "Owner\n\nOpen https://evil.example"
    party.owner.save()
    sent = len(mail.outbox)
    for _ in range(2):  # a task may run twice
        invitations.mail_invitation(invited.invitation.pk)
    letters = mail.outbox[sent:]
    assert [letter.to for letter in letters] == [[email], [email]]
    assert "Owner Open https://evil.example invites you" in letters[0].body
    tokens = [letter.body.split("token=")[1].split()[0] for letter in letters]
    with pytest.raises(NotFound):
        invitations.find_by_digest(links.digest(tokens[0]))
    assert invitations.find_by_digest(links.digest(tokens[1])).email == email
    with tenant_scope(party.id), pytest.raises(Conflict, match="sends e-mail"):
        members.make_reset_link(actor=acting(party.tenant, party.owner), user_id=party.owner.pk)


# --- Passwords ---


def test_a_link_is_made_only_for_who_belongs_here_alone(party: Party, stranger: Party) -> None:
    actor = acting(party.tenant, party.owner)
    guest, operator, alone = (new_member(party.tenant, "viewer") for _ in range(3))
    Membership.objects.create(tenant=stranger.tenant, user=guest, role="viewer")
    User.objects.filter(pk=operator.pk).update(is_staff=True)
    with tenant_scope(party.id):
        for user in (guest, operator):
            with pytest.raises(NotAllowed):
                members.make_reset_link(actor=actor, user_id=user.pk)
        token = token_of(members.make_reset_link(actor=actor, user_id=alone.pk))
    assert events(party) == [("member.reset_link_made", str(alone.pk))]
    passwords.use_token(token=token, password="correct horse battery")
    alone.refresh_from_db()
    assert alone.check_password("correct horse battery")
    with pytest.raises(NotFound):
        passwords.use_token(token=token, password="another horse battery")


@pytest.mark.parametrize("change", ["promoted", "joined elsewhere", "operator", "maker removed"])
def test_a_link_ends_when_its_maker_could_not_make_it_any_more(
    change: str, party: Party, stranger: Party
) -> None:
    admin, user = new_member(party.tenant, "admin"), new_member(party.tenant, "viewer")
    owner = acting(party.tenant, party.owner)
    with tenant_scope(party.id):
        token = token_of(members.make_reset_link(actor=acting(party.tenant, admin), user_id=user.pk))
        assert passwords.find_by_token(token) == user
        if change == "promoted":
            members.change_role(actor=owner, user_id=user.pk, role="owner")
        elif change == "maker removed":
            members.remove_member(actor=owner, user_id=admin.pk)
    if change == "joined elsewhere":
        Membership.objects.create(tenant=stranger.tenant, user=user, role="viewer")
    elif change == "operator":
        User.objects.filter(pk=user.pk).update(is_staff=True)
    with pytest.raises(NotFound):
        passwords.use_token(token=token, password="correct horse battery")


def test_tokens_that_open_nothing(party: Party, settings: Any) -> None:
    user = new_member(party.tenant, "viewer", "the old password")
    token, other = (token_of(passwords.reset_link(u)) for u in (user, new_user()))
    mixed = f"{token.split('.')[0]}.{other.split('.')[1]}"
    for dead in ("", ".", "x", "é.é", "a" * 5000, mixed, token + "x", token[:-1], "\x00.\x00"):
        with pytest.raises(NotFound):
            passwords.use_token(token=dead, password="correct horse battery")
    settings.PASSWORD_RESET_TIMEOUT = -1
    with pytest.raises(NotFound):
        passwords.use_token(token=token, password="correct horse battery")
    settings.PASSWORD_RESET_TIMEOUT = 3600
    User.objects.filter(pk=user.pk).update(is_active=False)
    with pytest.raises(NotFound):
        passwords.use_token(token=token, password="correct horse battery")
    user.refresh_from_db()
    assert user.check_password("the old password")


def test_a_reset_letter_goes_to_known_addresses_only() -> None:
    user = new_user("the old password")
    sent = len(mail.outbox)
    for email in (user.email.upper(), "nobody@nowhere.example"):
        passwords.mail_reset_link(email=email)
    (letter,) = mail.outbox[sent:]
    assert letter.to == [user.email]
    token = letter.body.split("token=")[1].split()[0]
    assert passwords.find_by_token(token) == user


# --- The audit log ---


def test_the_application_can_add_to_the_audit_log_and_not_change_it(party: Party) -> None:
    actor = acting(party.tenant, party.owner)
    with tenant_scope(party.id):
        members.require_second_factor(actor=actor, required=True)
    for change in (
        lambda: AuditEvent.objects.update(actor="somebody else"),
        lambda: AuditEvent.objects.all()._raw_delete("default"),
    ):
        with tenant_scope(party.id), pytest.raises(ProgrammingError), transaction.atomic():
            change()
    assert events(party) == [("tenant.second_factor", "")]
