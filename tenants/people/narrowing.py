"""What members see of a tenant: all of it, or chosen datasets and review queues."""

from __future__ import annotations

import uuid

from django.utils.translation import gettext as _

from tenants.accounts import keys
from tenants.accounts.models import ApiKey, Membership
from tenants.accounts.permissions import ADMIN, Actor, may_manage
from tenants.accounts.roles import scopes_in
from tenants.accounts.services import lock_members
from tenants.errors import Invalid, NotAllowed
from tenants.events.services import record
from tenants.people import members
from tenants.scope import Narrowing, current_tenant_id, tenant_scope

# What fits into a setting that each transaction makes.
MOST_DATASETS, MOST_QUEUES, MAX_QUEUE = 200, 200, 100


def narrow_member(*, actor: Actor, user_id: uuid.UUID, to: Narrowing | None) -> list[ApiKey]:
    """Let a member see these datasets and queues alone, or everything (None), with the next request.

    API keys see the whole tenant: those that a narrowed member made end, and are returned.
    Raises NotFound, NotAllowed, Invalid for a role that administers or for nothing to see.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        member = members.get_member(user_id)
        if not may_manage(members.role_now(actor), member.role):
            raise NotAllowed(_("Your role cannot manage members with this role."))
        check(to, member.role)
        before = _row(member)
        member.datasets, member.queues = columns(to)
        if before == _row(member):
            return []
        member.save(update_fields=["datasets", "queues"])
        ended = [] if to is None else keys.revoke_keys_beyond(maker_id=user_id, scopes=frozenset())
        details = {"from": before, "to": _row(member), "keys_revoked": [key.prefix for key in ended]}
        record(actor=actor.label, verb="member.narrowed", target=str(user_id), details=details)
    return ended


def columns(to: Narrowing | None) -> tuple[list[uuid.UUID] | None, list[str] | None]:
    """As memberships and invitations hold it."""
    if to is None:
        return None, None
    datasets = None if to.datasets is None else sorted(set(to.datasets))
    return datasets, None if to.queues is None else sorted(set(to.queues))


def check(to: Narrowing | None, role: str) -> None:
    """Raises Invalid for what nobody with this role can be narrowed to. In the tenant's scope."""
    if to is None or to == Narrowing():
        return
    if ADMIN in scopes_in(current_tenant_id(), role):
        raise Invalid(_("Owners and admins see the whole workspace. Choose another role first."), "/role")
    if to.datasets is not None and not 1 <= len(set(to.datasets)) <= MOST_DATASETS:
        words = _("Choose 1 to %(most)s datasets, or let the person see all of them.")
        raise Invalid(words % {"most": MOST_DATASETS}, "/datasets")
    if to.queues is None:
        return
    too_long = any(not 1 <= len(one) <= MAX_QUEUE for one in to.queues)
    if too_long or not 1 <= len(set(to.queues)) <= MOST_QUEUES:
        words = _("Choose 1 to %(most)s review queues, or let the person see all of them.")
        raise Invalid(words % {"most": MOST_QUEUES}, "/queues")


def _row(member: Membership) -> dict[str, list[str] | None]:
    datasets = None if member.datasets is None else [str(one) for one in member.datasets]
    return {"datasets": datasets, "queues": member.queues}
