"""Members of the active tenant: who they are, changing a role, removing one, asking for a second factor.

Who may touch whom is `permissions.MANAGES`. Every change holds the tenant's row, so that of two at once the second
sees what the first did: the last owner stays, and an admin who was just removed removes nobody.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import BooleanField, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext as _

from tenants.accounts import keys, mail, passwords, sign_on
from tenants.accounts.models import ApiKey, Invitation, Membership, Passkey, SignOnIdentity, Tenant, User
from tenants.accounts.operators import OPERATOR
from tenants.accounts.permissions import Actor, may_manage
from tenants.accounts.roles import is_known, list_roles, narrowing_of, scopes_in
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.people.models import KeptNarrowing
from tenants.scope import current_tenant_id, tenant_scope

# How a provider is called in the words of the audit log whose answers give roles at single sign-on.
SIGN_ON = "sign-on:"
# How actors are called who are nobody's member: keys, operators, an identity provider.
DIRECTORIES = ("scim:", SIGN_ON)
PROGRAMS = ("key:", *DIRECTORIES, OPERATOR)
LAST_OWNER = gettext_noop("A workspace needs at least one owner. Make someone else an owner first.")


def list_members() -> QuerySet[Membership]:
    rows = Membership.objects.select_related("user", "user__second_factor").filter(tenant=current_tenant_id())
    has_passkey = Exists(Passkey.objects.filter(user=OuterRef("user")))
    return rows.annotate(has_passkey=has_passkey).order_by("user__name", "user__email")


def list_people() -> QuerySet[User]:
    """The active tenant's members as people, newest account first, each with `role`, `since`, `second_factor_on`,
    `datasets` and `queues`."""
    rows = User.objects.filter(memberships__tenant=current_tenant_id())
    has_app = Q(second_factor__confirmed_at__isnull=False)
    has_passkey = Exists(Passkey.objects.filter(user=OuterRef("pk")))
    return rows.annotate(
        role=F("memberships__role"),
        since=F("memberships__created_at"),
        datasets=F("memberships__datasets"),
        queues=F("memberships__queues"),
        second_factor_on=ExpressionWrapper(has_app | has_passkey, output_field=BooleanField()),
    ).order_by("-id")


def get_member(user_id: uuid.UUID | None) -> Membership:
    """Raises NotFound for somebody who is no member of the active tenant."""
    rows = Membership.objects.select_related("user", "user__second_factor")
    member = rows.filter(tenant=current_tenant_id(), user=user_id).first()
    if member is None:
        raise NotFound(_("This member does not exist."))
    return member


def change_role(*, actor: Actor, user_id: uuid.UUID, role: str) -> Membership:
    """Give a member another role; keys and invitations of theirs that reach further than it end.

    Raises NotFound, Invalid, NotAllowed, Conflict for the last owner.
    """
    with tenant_scope(current_tenant_id()):
        member, before = _reach(actor, user_id)
        check_role(role)
        if not may_manage(role_now(actor), role):
            raise NotAllowed(_("Your role cannot make someone %(role)s.") % {"role": role})
        if before == role:
            return member
        if before == "owner":
            keep_an_owner(member)
        member.role = role
        member.save(update_fields=["role"])
        # What the person made may not reach further than the person. Keys see the whole tenant.
        reach = scopes_in(member.tenant_id, role) if narrowing_of(member) is None else frozenset()
        ended = keys.revoke_keys_beyond(maker_id=member.user_id, scopes=reach)
        _revoke_invitations(member.user, role)
        details: dict[str, Any] = {"from": before, "to": role}
        if ended:
            details["keys_revoked"] = [key.prefix for key in ended]
        record(actor=actor.label, verb="member.role_changed", target=str(user_id), details=details)
    return member


def check_role(role: str) -> None:
    """Raises Invalid for a role that the active tenant does not have."""
    if not is_known(role):
        names = ", ".join(one.name for one in list_roles())
        raise Invalid(_("Choose a role from %(names)s.") % {"names": names}, pointer="/role")


def remove_member(*, actor: Actor, user_id: uuid.UUID) -> list[ApiKey]:
    """End a membership at once, with the keys and invitations that the person made here; returns those keys.

    Raises NotFound, NotAllowed, Conflict for the last owner.
    """
    with tenant_scope(current_tenant_id()):
        member, role = _reach(actor, user_id)
        if role == "owner":
            keep_an_owner(member)
        return end_membership(member, actor=actor.label)


def end_membership(member: Membership, *, actor: str) -> list[ApiKey]:
    """The removal itself, for callers that have checked it, in the tenant's scope."""
    ended = keys.revoke_keys_beyond(maker_id=member.user_id, scopes=frozenset())
    _revoke_invitations(member.user)
    SignOnIdentity.objects.filter(user=member.user_id).delete()
    _keep_narrowing(member, actor)
    member.delete()
    details = {"role": member.role, "keys_revoked": [key.prefix for key in ended]}
    record(actor=actor, verb="member.removed", target=str(member.user_id), details=details)
    return ended


def _keep_narrowing(member: Membership, actor: str) -> None:
    """For a provider that ends the membership and may bring it back; nobody else's removal leaves anything."""
    KeptNarrowing.objects.filter(user=member.user_id).delete()
    if actor.startswith(DIRECTORIES) and (member.datasets, member.queues) != (None, None):
        KeptNarrowing.objects.create(user=member.user, datasets=member.datasets, queues=member.queues)


def join_by_directory(*, user: User, role: str) -> Membership:
    """A membership that a provider gives, in the tenant's scope; it is no wider than one that a provider ended."""
    kept = KeptNarrowing.objects.filter(user=user).first()
    narrowed = {"datasets": kept.datasets, "queues": kept.queues} if kept else {}
    member = Membership.objects.create(tenant_id=current_tenant_id(), user=user, role=role, **narrowed)
    if kept is not None:
        kept.delete()
    return member


def dismiss_checklist(*, user_id: uuid.UUID) -> None:
    """Show the person no first steps in the active tenant any more; nothing happens for who is no member."""
    Membership.objects.filter(tenant=current_tenant_id(), user=user_id).update(checklist_dismissed=True)


def make_reset_link(*, actor: Actor, user_id: uuid.UUID) -> str:
    """A link that lets a member choose a new password, where no mail server can bring it.

    Only for people who belong to this tenant alone: whoever holds the link can sign in as them.
    Nor by an operator who acts in the tenant: a password outlives the acting.
    Raises NotFound, NotAllowed, Conflict where e-mail works.
    """
    if actor.acting_id is not None:
        raise NotAllowed(gettext("Operators make no links for members’ passwords."))
    if mail.configured():
        raise Conflict(gettext("This installation sends e-mail: people ask for a link on the sign-in page."))
    with tenant_scope(current_tenant_id()):
        member, _ = _reach(actor, user_id)
        user = member.user
        elsewhere = user.memberships.exclude(tenant=current_tenant_id()).exists()
        if elsewhere or user.is_staff:
            raise NotAllowed(
                gettext(
                    "This person does not belong to this workspace alone. "
                    "The operator of the installation can make a link: manage.py reset_password."
                )
            )
        if sign_on.enforced_memberships(user).exists():
            raise NotAllowed(
                gettext(
                    "This person signs in through the identity provider of the workspace, which no password replaces."
                )
            )
        record(actor=actor.label, verb="member.reset_link_made", target=str(user_id))
        return passwords.reset_link(user)


def require_second_factor(*, actor: Actor, required: bool) -> None:
    """Ask everybody in the tenant for a second factor, or no longer."""
    with tenant_scope(current_tenant_id()):
        changed = Tenant.objects.filter(pk=current_tenant_id()).exclude(requires_second_factor=required)
        if changed.update(requires_second_factor=required):
            record(actor=actor.label, verb="tenant.second_factor", details={"required": required})


def owns_alone(user: User) -> list[str]:
    """Names of the workspaces of which this person is the only owner."""
    mine = Membership.objects.filter(user=user, role="owner").select_related("tenant")
    others = Membership.objects.filter(role="owner").exclude(user=user)
    shared = set(others.filter(tenant__in=[m.tenant_id for m in mine]).values_list("tenant_id", flat=True))
    return sorted(m.tenant.name for m in mine if m.tenant_id not in shared)


def _reach(actor: Actor, user_id: uuid.UUID) -> tuple[Membership, str]:
    """The member and their role, if the actor decides about it. Raises NotFound, NotAllowed."""
    lock_members()
    member = get_member(user_id)
    if not may_manage(role_now(actor), member.role):
        raise NotAllowed(
            _("Your role does not reach %(role)s.")
            % {"role": f"{'an' if member.role[0] in 'aeo' else 'a'} {member.role}"}
        )
    return member, member.role


def role_now(actor: Actor) -> str:
    """A person's role, as it is under `lock_members`; it may have changed since the request was let in."""
    if actor.label.startswith(PROGRAMS):
        return actor.role
    mine = Membership.objects.filter(tenant=current_tenant_id(), user=actor.user_id).first()
    return mine.role if mine else ""


def keep_an_owner(member: Membership) -> None:
    """Raises Conflict for the last owner, and for the last one who gets in while a required provider is down."""
    others = Membership.objects.filter(tenant=member.tenant_id, role="owner").exclude(pk=member.pk)
    if not others.exists():
        raise Conflict(_(LAST_OWNER))
    sign_on.keep_a_way_in(member.tenant_id, without=member.user)


def _revoke_invitations(user: User, role: str = "") -> None:
    """What somebody has invited to roles out of their reach may not let anybody in, not even themselves."""
    open_ones = Invitation.objects.filter(tenant=current_tenant_id(), invited_by=user)
    open_ones = open_ones.filter(accepted_at=None, revoked_at=None)
    beyond = [row.pk for row in open_ones if not may_manage(role, row.role)]
    open_ones.filter(pk__in=beyond).update(revoked_at=timezone.now())
