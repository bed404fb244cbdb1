"""Who watches an event stream, and whether they still may: a stream outlives the request that opened it."""

from __future__ import annotations

import uuid

from django.utils import timezone

from tenants.accounts import api_admission, flags, keys, sessions
from tenants.accounts.models import Acting, Membership, Session, Tenant
from tenants.accounts.permissions import READ
from tenants.accounts.roles import scopes_in


def by_session(session_key: str) -> str:
    return f"session:{sessions.handle_of(session_key)}"


def by_key(prefix: str) -> str:
    return f"key:{prefix}"


def may_watch(watcher: str, tenant_id: uuid.UUID) -> bool:
    """Whether the session or key still opens the tenant for reading: asked anew at every reading of a stream."""
    kind, _, name = watcher.partition(":")
    if kind == "key":
        record = keys.look_up(name, api_admission.cached(name))
        return record is not None and keys.usable(record) and record.tenant_id == str(tenant_id)
    row = Session.objects.filter(handle=name, expire_date__gt=timezone.now(), user__is_active=True).first()
    if row is None:
        return False
    member = Membership.objects.filter(user=row.user_id, tenant=tenant_id, tenant__state=Tenant.State.ACTIVE)
    if any(READ in scopes_in(tenant_id, role) for role in member.values_list("role", flat=True)):
        return True
    return _is_impersonating(row, tenant_id)


def _is_impersonating(row: Session, tenant_id: uuid.UUID) -> bool:
    """Whether the session is an operator's who acts in the tenant now."""
    mine = Acting.objects.filter(session=row.handle, operator=row.user_id, operator__is_staff=True)
    open_now = mine.filter(tenant=tenant_id, ended_at=None, until__gt=timezone.now())
    active = open_now.filter(tenant__state=Tenant.State.ACTIVE).exists()
    return active and flags.enabled(flags.ACTING, tenant_id)
