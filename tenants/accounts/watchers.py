"""Who watches an event stream, and whether they still may: a stream outlives the request that opened it."""

from __future__ import annotations

import uuid

from django.utils import timezone

from tenants.accounts import api_admission, flags, keys, sessions, sign_on
from tenants.accounts.models import Acting, Session, Tenant
from tenants.accounts.networks import admits
from tenants.accounts.permissions import READ
from tenants.accounts.roles import narrowing_of, scopes_in
from tenants.accounts.security import networks_of, session_limits


def by_session(session_key: str, address: str = "") -> str:
    """Who watches from which address; without blanks, as it travels in a header."""
    return f"session:{sessions.handle_of(session_key)}@{''.join(address.split())}"


def by_key(prefix: str, address: str = "") -> str:
    return f"key:{prefix}@{''.join(address.split())}"


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
    tenant = Tenant.objects.select_related("security").filter(pk=tenant_id, state=Tenant.State.ACTIVE).first()
    if row is None or row.user is None or tenant is None or sessions.over(row, session_limits(tenant)):
        return False
    member = sign_on.open_memberships(row.user, row.connection_id).filter(tenant=tenant_id)
    # Jobs are of the whole tenant: who is narrowed follows none.
    reads = any(READ in scopes_in(tenant_id, one.role) and narrowing_of(one) is None for one in member)
    if reads and admits(networks_of(tenant), address):
        return True
    # The networks of a tenant bind its people, and no operator who acts in it.
    return row.connection_id is None and _is_impersonating(row, tenant_id)


def _is_impersonating(row: Session, tenant_id: uuid.UUID) -> bool:
    """Whether the session is an operator's who acts in the tenant now."""
    mine = Acting.objects.filter(session=row.handle, operator=row.user_id, operator__is_staff=True)
    open_now = mine.filter(tenant=tenant_id, ended_at=None, until__gt=timezone.now())
    return open_now.exists() and flags.enabled(flags.ACTING, tenant_id)
