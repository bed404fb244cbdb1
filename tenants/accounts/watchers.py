"""Who watches an event stream, and whether they still may: a stream outlives the request that opened it."""

from __future__ import annotations

import uuid

from django.utils import timezone

from tenants.accounts import api_admission, flags, keys, sessions, sign_on
from tenants.accounts.models import Acting, Session, Tenant, User
from tenants.accounts.networks import admits, as_address
from tenants.accounts.permissions import READ
from tenants.accounts.roles import narrowing_of, scopes_in
from tenants.accounts.security import networks_of, session_limits


def by_session(session_key: str, address: str = "") -> str:
    """Who watches, and from which address."""
    return f"session:{sessions.handle_of(session_key)}@{as_address(address) or ''}"


def by_key(prefix: str, address: str = "") -> str:
    return f"key:{prefix}@{as_address(address) or ''}"


def may_watch(watcher: str, tenant_id: uuid.UUID) -> bool:
    """Whether the session or key still opens the tenant for reading: asked anew at every reading of a stream."""
    kind, _, who = watcher.partition(":")
    name, _, address = who.partition("@")
    if kind == "key":
        record = keys.look_up(name, api_admission.cached(name))
        if record is None or record.tenant_id != str(tenant_id):
            return False
        return keys.usable(record) and record.admits(address)
    live = Session.objects.filter(handle=name, expire_date__gt=timezone.now(), user__is_active=True)
    row = live.select_related("user").first()
    if row is None or row.user is None:
        return False
    # The networks of a tenant bind its people, and no operator who acts in it, who signs in by no tenant's provider.
    return _is_reading_member(row, row.user, tenant_id, address) or (
        row.connection_id is None and _is_impersonating(row, tenant_id)
    )


def _is_reading_member(row: Session, user: User, tenant_id: uuid.UUID, address: str) -> bool:
    rows = sign_on.open_memberships(user, row.connection_id).select_related("tenant__security")
    member = rows.filter(tenant=tenant_id).first()
    if member is None or READ not in scopes_in(tenant_id, member.role):
        return False
    # Jobs are of the whole tenant: who is narrowed follows none.
    if narrowing_of(member) is not None or sessions.over(row, session_limits(member.tenant)):
        return False
    return admits(networks_of(member.tenant), address)


def _is_impersonating(row: Session, tenant_id: uuid.UUID) -> bool:
    """Whether the session is an operator's who acts in the tenant now."""
    mine = Acting.objects.filter(session=row.handle, operator=row.user_id, operator__is_staff=True)
    open_now = mine.filter(tenant=tenant_id, ended_at=None, until__gt=timezone.now())
    rows = open_now.filter(tenant__state=Tenant.State.ACTIVE).select_related("tenant__security")
    acting = rows.first()
    if acting is None or sessions.over(row, session_limits(acting.tenant)):
        return False
    return flags.enabled(flags.ACTING, tenant_id)
