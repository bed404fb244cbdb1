"""Closing a workspace by its owner: a time in which it can be taken back, then the erasure that operators use, too.

Its end is a column of the tenant, so nothing is lost by a process that dies: upkeep looks each minute for workspaces
whose time has passed, and the erasure that it begins goes on by its receipt (`operator_acts.resume_erasures`).
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import Membership, Tenant, User
from tenants.accounts.operators import Operator, record_act
from tenants.accounts.permissions import Actor
from tenants.accounts.services import lock_members
from tenants.datasets import holds
from tenants.errors import Conflict, Held, NotAllowed, NotFound
from tenants.events.models import TenantErasure
from tenants.events.services import record
from tenants.people import letters, tenancies
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

PART = "closing"
BY = Operator("self-service")


def is_on() -> bool:
    return settings.SELF_SERVICE.has(PART)


def begin(*, actor: Actor) -> dt.datetime:
    """Have the active tenant erased when the time is over that allows to take it back; when that is. Members are told.

    Raises NotAllowed for who is no owner, Held, Conflict where it is closed already.
    """
    with tenant_scope(current_tenant_id()):
        tenant = _for_owner(actor)
        if tenant.closes_at is not None:
            raise Conflict(_("This workspace is being closed already."))
        holds.refuse_held_tenant()
        at = timezone.now() + dt.timedelta(days=settings.SELF_SERVICE.closing_days)
        _set(tenant, at)
        record(
            actor=actor.label, verb="tenant.closing", details={"closes_at": at.isoformat(timespec="seconds")}
        )
        _tell(tenant, letters.CLOSING, at, actor.user_id)
    record_act(by=BY, verb="tenant.closing", target=tenant.slug)
    return at


def cancel(*, actor: Actor) -> None:
    """Take it back. Raises NotAllowed for who is no owner, NotFound where nothing is closed."""
    with tenant_scope(current_tenant_id()):
        tenant = _for_owner(actor)
        if tenant.closes_at is None:
            raise NotFound(_("This workspace is not being closed."))
        at = tenant.closes_at
        _set(tenant, None)
        record(actor=actor.label, verb="tenant.closing_cancelled")
        _tell(tenant, letters.CLOSING_CANCELLED, at, actor.user_id)
    record_act(by=BY, verb="tenant.closing_cancelled", target=tenant.slug)


def _for_owner(actor: Actor) -> Tenant:
    """The tenant, held; its erasure has not begun. Raises NotAllowed, Conflict."""
    lock_members()
    owners = Membership.objects.filter(tenant=current_tenant_id(), role="owner", user__is_active=True)
    if actor.user_id is None or not owners.filter(user=actor.user_id).exists():
        raise NotAllowed(_("Only owners close a workspace, or take that back."))
    if TenantErasure.objects.filter(erased_tenant=current_tenant_id()).exists():
        raise Conflict(_("This workspace is being erased; that cannot be taken back."))
    return Tenant.objects.get(pk=current_tenant_id())


def _set(tenant: Tenant, at: dt.datetime | None) -> None:
    tenant.closes_at = at
    tenant.save(update_fields=["closes_at"])


def _tell(tenant: Tenant, kind: str, at: dt.datetime, user_id: uuid.UUID | None) -> None:
    who = User.objects.get(pk=user_id).email if user_id is not None else ""
    letters.write(
        tenant=tenant,
        users=letters.members_of(tenant),
        kind=kind,
        about=f"{tenant.id}/{at.isoformat()}",
        details={"closes_at": at.isoformat(), "who": who},
    )


def list_closing() -> list[Tenant]:
    """Of all tenants, those that are being closed, the next first."""
    return list(Tenant.objects.exclude(closes_at=None).order_by("closes_at", "slug")[:100])


def due() -> list[uuid.UUID]:
    """Whose time has passed. Who was suspended by an operator waits until that is lifted."""
    rows = Tenant.objects.filter(closes_at__lte=timezone.now(), state=Tenant.State.ACTIVE)
    return list(rows.order_by("closes_at").values_list("id", flat=True)[:100])


def close(tenant_id: uuid.UUID) -> str:
    """Close it for good and write its receipt; its slug, for the erasure. Empty where that is not due, or held."""
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update(no_key=True).filter(pk=tenant_id).first()
        if tenant is None or tenant.closes_at is None or tenant.closes_at > timezone.now():
            return ""
        if tenant.state != Tenant.State.ACTIVE:
            return ""
        try:
            with tenant_scope(tenant.id):
                holds.refuse_held_tenant()
        except Held:
            log.warning("a workspace is not closed: it is under legal hold", extra={"slug": tenant.slug})
            return ""
        receipt, _made = TenantErasure.objects.get_or_create(
            erased_tenant=tenant.id, defaults={"slug": tenant.slug}
        )
        tenancies.close(tenant)
        record_act(by=BY, verb="tenant.erased", target=tenant.slug, details={"receipt": str(receipt.id)})
        return tenant.slug


def is_held(tenant: Tenant) -> bool:
    """Whether a legal hold keeps the tenant from being erased."""
    with tenant_scope(tenant.id):
        try:
            holds.refuse_held_tenant()
        except Held:
            return True
    return False
