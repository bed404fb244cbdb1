"""Making, changing and deleting a tenant's own roles. What a role is stands in `tenants.accounts.roles`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.utils.translation import gettext as _

from tenants.accounts import keys
from tenants.accounts.models import CustomRole, IdentityProvider, Membership
from tenants.accounts.permissions import GRANTABLE, ROLES, Actor, may_manage
from tenants.accounts.roles import NAME, Role
from tenants.accounts.services import lock_members
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound
from tenants.events.services import record
from tenants.names import check_name
from tenants.people.invitations import list_invitations
from tenants.people.members import role_now
from tenants.people.provisioning import directory
from tenants.scope import current_tenant_id, tenant_scope

MAX_ROLES = 50
MAX_DESCRIPTION = 300
# Who has a role that cannot be deleted is named, up to so many.
NAMED = 5


def get_role(name: str) -> CustomRole:
    """A role that the active tenant made. Raises NotFound."""
    rows = CustomRole.objects.filter(tenant=current_tenant_id(), name=name)
    row = rows.first() if NAME.fullmatch(name) else None
    if row is None:
        raise NotFound(_("This role does not exist or cannot be changed."))
    return row


def version_of(role: Role | CustomRole) -> str:
    """What a role is now, for who changes it and has to say what they looked at."""
    return hashlib.sha256(repr((role.description, list(role.scopes))).encode()).hexdigest()


def create_role(*, actor: Actor, name: str, scopes: Iterable[str], description: str = "") -> CustomRole:
    """Raises Invalid, NotAllowed for who does not decide about roles, Conflict for a name that is taken."""
    wanted, description = _checked(scopes, description)
    if not NAME.fullmatch(name):
        detail = _("A role’s name has 2 to 39 small letters, digits and hyphens, no hyphen first.")
        raise Invalid(detail, pointer="/name")
    with tenant_scope(current_tenant_id()):
        lock_members()
        _check_actor(actor)
        mine = CustomRole.objects.filter(tenant=current_tenant_id())
        if name in ROLES or mine.filter(name=name).exists():
            raise Conflict(_("A role %(name)s exists already.") % {"name": name})
        if mine.count() >= MAX_ROLES:
            raise Conflict(_("There are %(most)s roles already.") % {"most": MAX_ROLES})
        row = CustomRole.objects.create(
            tenant_id=current_tenant_id(), name=name, description=description, scopes=wanted
        )
        record(actor=actor.label, verb="role.created", target=name, details={"scopes": wanted})
    return row


def change_role_definition(
    *,
    actor: Actor,
    name: str,
    scopes: Iterable[str] | None = None,
    description: str | None = None,
    seen: str | None = None,
) -> CustomRole:
    """What is absent stays. Keys that people with the role made and that may do more than it now end.

    `seen` is the version that the actor looked at. Raises NotFound, Invalid, NotAllowed, Conflict where somebody has
    changed that one since.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        _check_actor(actor)
        row = get_role(name)
        if seen is not None and seen != version_of(row):
            raise Conflict(
                _("Someone else has just changed the role %(name)s. Look at it and change it again.")
                % {"name": name}
            )
        before, described = list(row.scopes), row.description
        row.scopes, row.description = _checked(
            before if scopes is None else scopes, described if description is None else description
        )
        details: dict[str, Any] = {}
        if row.scopes != before:
            details |= {"from": before, "to": row.scopes}
        if row.description != described:
            details["description"] = row.description
        if not details:
            return row
        row.save(update_fields=["scopes", "description"])
        if set(before) - set(row.scopes) and (ended := _end_keys_beyond(row)):
            details["keys_revoked"] = ended
        record(actor=actor.label, verb="role.changed", target=name, details=details)
    return row


def _end_keys_beyond(row: CustomRole) -> list[str]:
    """Those of members who have the role; their prefixes."""
    makers = list(keys.live_keys_by_maker())
    holders = Membership.objects.filter(tenant=row.tenant_id, role=row.name, user__in=makers)
    ended = []
    for user_id in holders.values_list("user_id", flat=True):
        ended += keys.revoke_keys_beyond(maker_id=user_id, scopes=frozenset(row.scopes))
    return [key.prefix for key in ended]


def delete_role(*, actor: Actor, name: str) -> None:
    """Raises NotFound, NotAllowed, Conflict with who has it."""
    with tenant_scope(current_tenant_id()):
        lock_members()
        _check_actor(actor)
        row = get_role(name)
        if holders := _holders(row):
            listed = ", ".join(holders[:NAMED]) + (", …" if len(holders) > NAMED else "")
            raise Conflict(
                _("This role is in use: %(holders)s. Give them another one first.") % {"holders": listed}
            )
        row.delete()
        record(actor=actor.label, verb="role.deleted", target=name)


def _holders(row: CustomRole) -> list[str]:
    """Members and open invitations that have a role, groups and connections that give it, in words."""
    members = Membership.objects.filter(tenant=row.tenant_id, role=row.name).order_by("user__email")
    settings = directory.settings()
    groups = [one["group"] for one in settings.group_roles if one["role"] == row.name]
    invited = list_invitations().filter(role=row.name).order_by("email")
    return [
        *members.values_list("user__email", flat=True),
        *(
            _("the invitation of %(email)s") % {"email": email}
            for email in invited.values_list("email", flat=True)
        ),
        *(_("the group %(name)s") % {"name": name} for name in groups),
        *([_("people of the identity provider in no group")] if settings.default_role == row.name else []),
        *(_("the single sign-on %(name)s") % {"name": name} for name in _mapped_by(row)),
    ]


def _mapped_by(row: CustomRole) -> list[str]:
    """Names of the connections that give a role."""
    providers = IdentityProvider.objects.order_by("id").only("name", "default_role", "role_map")
    return [
        one.name
        for one in providers
        if row.name in (one.default_role, *(line["role"] for line in one.role_map))
    ]


def _check_actor(actor: Actor) -> None:
    if not may_manage(role_now(actor), "viewer"):
        raise NotAllowed(_("Owners and admins decide about roles."))


def _is_plain(text: str) -> bool:
    """Whether nothing in it breaks or turns around the line in which it is shown."""
    try:
        check_name(text)
    except Invalid:
        return False
    return True


def _checked(scopes: Iterable[str], description: str) -> tuple[list[str], str]:
    """Both as they are kept. Raises Invalid."""
    wanted, described = set(scopes), description.strip()
    if not wanted or not wanted.issubset(GRANTABLE):
        names = ", ".join(GRANTABLE)
        raise Invalid(_("Choose permissions from %(names)s.") % {"names": names}, pointer="/scopes")
    if len(described) > MAX_DESCRIPTION or not _is_plain(described):
        detail = _("A description is one line of at most %(most)s characters.") % {"most": MAX_DESCRIPTION}
        raise Invalid(detail, pointer="/description")
    return [scope for scope in GRANTABLE if scope in wanted], described
