"""Operators who act in a tenant: for a while, in one session, with a reason, and under a name of their own.

An operator who is no member of a tenant gets into it by no other way. What they do stands in the tenant's audit log as
`operator:<e-mail>`, with a line where it began and one where it ended.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import flags
from tenants.accounts.models import Acting, Tenant, User
from tenants.accounts.operators import Operator, checked_reason, label_of, record_act
from tenants.accounts.sessions import handle_of
from tenants.errors import Conflict, Invalid, NotAllowed
from tenants.events.services import record
from tenants.people import approvals
from tenants.people.tenancies import locked
from tenants.scope import tenant_scope

LIFETIME = dt.timedelta(minutes=30)
# With which role of the tenant: no operator acts as an owner.
ROLES = {Acting.Access.READ: "viewer", Acting.Access.FULL: "admin"}


@transaction.atomic
def begin(*, by: Operator, user: User, session_key: str, slug: str, access: str, reason: str) -> Acting:
    """Let an operator's session act in a tenant, in place of another one where it acts.

    Raises NotFound, Invalid without a reason, NotAllowed where the tenant has not got it or has not approved it,
    Conflict for a suspended one.
    """
    if access not in Acting.Access.values:
        raise Invalid(_("Choose whether to look only, or also to change."), pointer="/access")
    reason, tenant = checked_reason(reason), locked(slug)
    if not user.is_staff or not flags.enabled(flags.ACTING, tenant.id):
        raise NotAllowed(_("No one may act as this tenant."))
    if tenant.state != Tenant.State.ACTIVE:
        raise Conflict(_("This tenant is suspended. Resume it first."))
    approved = approvals.check(tenant, by, access)
    end(user=user, session_key=session_key, by=by)
    until = timezone.now() + LIFETIME
    row = Acting.objects.create(
        tenant=tenant,
        operator=user,
        session=handle_of(session_key),
        access=access,
        reason=reason,
        until=min(until, approved or until),
    )
    details = {"access": access, "until": row.until.isoformat(timespec="seconds")}
    record_act(by=by, verb="acting.started", target=slug, reason=reason, details=details)
    with tenant_scope(tenant.id):
        record(actor=label_of(user), verb="acting.started", details={**details, "reason": reason})
    return row


def role_of(row: Acting) -> str:
    return ROLES[Acting.Access(row.access)]


def current(user: Any, session_key: str | None) -> Acting | None:
    """In which tenant this session acts now. Who is no operator is not asked about: no query."""
    if not session_key or not getattr(user, "is_staff", False):
        return None
    row = _open(user, session_key).select_related("tenant__security", "operator").first()
    if row is None or row.until <= timezone.now() or row.tenant.state != Tenant.State.ACTIVE:
        return None
    return row if flags.enabled(flags.ACTING, row.tenant_id) else None


def _open(user: Any, session_key: str) -> Any:
    return Acting.objects.filter(session=handle_of(session_key), operator=user, ended_at=None)


@transaction.atomic
def end(*, user: Any, session_key: str | None, by: Operator) -> str:
    """Stop acting; the slug of the tenant where it ended, empty if there was none. Safe to repeat."""
    if not session_key:
        return ""
    slug = ""
    for row in _open(user, session_key).select_related("tenant", "operator").select_for_update(of=("self",)):
        _close(row, "stopped", by)
        slug = row.tenant.slug
    return slug


def end_expired() -> int:
    """Close what is over, with its line in the logs; returns how many."""
    ended = 0
    over = Acting.objects.filter(ended_at=None, until__lte=timezone.now()).values_list("pk", flat=True)
    for pk in list(over):
        with transaction.atomic():
            rows = Acting.objects.select_related("tenant", "operator").select_for_update(of=("self",))
            row = rows.filter(pk=pk, ended_at=None).first()
            if row is not None:
                _close(row, "time", Operator(row.operator.email))
                ended += 1
    return ended


def _close(row: Acting, why: str, by: Operator) -> None:
    # The end of its time, if that has passed unseen.
    row.ended_at = min(row.until, timezone.now())
    row.save(update_fields=["ended_at"])
    record_act(by=by, verb="acting.ended", target=row.tenant.slug, details={"why": why})
    with tenant_scope(row.tenant_id):
        record(actor=label_of(row.operator), verb="acting.ended", details={"why": why})
