"""What operators do with tenants: open one, suspend and resume it, change what it may use.

Every act is in the operators' log and, under the operator's name, in the tenant's own audit log.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import keys, names, services, trials
from tenants.accounts.models import METADATA, RATE, RESOURCES, Acting, KeyDigest, Plan, Tenant
from tenants.accounts.operators import Operator, checked_reason, record_act
from tenants.accounts.permissions import Actor
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.models import TenantErasure
from tenants.events.services import record
from tenants.jobs import pausing
from tenants.people import approvals, invitations
from tenants.scope import tenant_scope

MAX_NAME = 200
# What a ceiling may be at most: floats are exact up to here.
MAX_CEILING = 2**53


@transaction.atomic
def open_tenant(
    *, by: Operator, label: str, slug: str, name: str, plan: str, owner: str
) -> tuple[Tenant, invitations.Invited]:
    """A new tenant and the invitation of its first owner. Raises Invalid, Conflict for a slug that is taken."""
    if not 0 < len(name) <= MAX_NAME:
        raise Invalid(_("A name has 1 to %(name)s characters.") % {"name": MAX_NAME}, pointer="/name")
    name = names.check_name(name, "/name", MAX_NAME)
    tenant = services.create_tenant(slug=slug, name=name, plan=plan)
    with tenant_scope(tenant.id):
        record(actor=label, verb="tenant.opened", details={"plan": plan})
        invited = invitations.invite(actor=_as_owner(label), email=owner, role="owner")
    record_act(by=by, verb="tenant.opened", target=slug, details={"plan": plan})
    return tenant, invited


@transaction.atomic
def invite_owner(*, by: Operator, label: str, slug: str, email: str) -> invitations.Invited:
    """Invite one more owner, as when the first invitation was lost. Raises NotFound, NotAllowed, Invalid, Conflict."""
    tenant = locked(slug)
    approvals.check(tenant, by, approvals.FULL)
    with tenant_scope(tenant.id):
        invited = invitations.invite(actor=_as_owner(label), email=email, role="owner")
    record_act(by=by, verb="tenant.owner_invited", target=slug)
    return invited


def _as_owner(label: str) -> Actor:
    return Actor(label, "owner")


@transaction.atomic
def suspend_tenant(*, by: Operator, label: str, slug: str, reason: str) -> Tenant:
    """Close a tenant: keys and people are refused from now on, queued jobs wait, and all data stays.

    A job that runs goes on to its end. Raises NotFound, Invalid without a reason, Conflict if it is suspended already.
    """
    reason, tenant = checked_reason(reason), locked(slug)
    if tenant.state != Tenant.State.ACTIVE:
        raise Conflict(_("This tenant is suspended already."))
    close(tenant)
    _record(by, label, tenant, "tenant.suspended", reason)
    return tenant


@transaction.atomic
def resume_tenant(*, by: Operator, label: str, slug: str, reason: str = "") -> Tenant:
    """Open a suspended tenant again; jobs that waited start. Raises NotFound, Conflict for one that is being erased."""
    tenant = locked(slug)
    if tenant.state != Tenant.State.SUSPENDED:
        raise Conflict(_("This tenant is not suspended."))
    if TenantErasure.objects.filter(erased_tenant=tenant.id).exists():
        raise Conflict(_("This tenant is being erased; that cannot be taken back."))
    _set_state(tenant, Tenant.State.ACTIVE)
    pausing.resume(tenant.id)
    _record(by, label, tenant, "tenant.resumed", reason.strip())
    return tenant


def close(tenant: Tenant) -> None:
    """Refuse keys and people, and let jobs wait, once the caller's transaction has committed."""
    _set_state(tenant, Tenant.State.SUSPENDED)
    pausing.pause(tenant.id)
    # Operators who act in it do so no more, also if it is opened again soon.
    Acting.objects.filter(tenant=tenant, ended_at=None).update(until=timezone.now())


def _set_state(tenant: Tenant, state: str) -> None:
    tenant.state = state
    tenant.save(update_fields=["state"])
    forget_keys([tenant.id])


def _record(by: Operator, label: str, tenant: Tenant, verb: str, reason: str) -> None:
    record_act(by=by, verb=verb, target=tenant.slug, reason=reason)
    with tenant_scope(tenant.id):
        record(actor=label, verb=verb, details={"reason": reason} if reason else {})


@transaction.atomic
def change_plan(*, by: Operator, label: str, slug: str, plan: str) -> Tenant:
    """Put a tenant on another plan, from its next request on. Raises NotFound, Invalid for an unknown plan."""
    tenant = locked(slug)
    if not Plan.objects.filter(slug=plan).exists():
        raise Invalid(_("This plan does not exist."), pointer="/plan")
    details = {"from": tenant.plan_id, "to": plan}
    put_on_plan(tenant, Plan.objects.get(slug=plan))
    _log_change(by, label, tenant, "tenant.plan_changed", details)
    return tenant


def put_on_plan(tenant: Tenant, plan: Plan) -> None:
    """A trial begins anew with the day on which a tenant comes to its plan, and ends with leaving it."""
    if tenant.plan_id != plan.slug:
        tenant.plan, tenant.trial_ends_at = plan, trials.end_for(plan)
        tenant.save(update_fields=["plan", "trial_ends_at"])


@transaction.atomic
def set_trial_end(*, by: Operator, label: str, slug: str, days: int | None) -> Tenant:
    """Let the trial end so many days from now, or never (None). Raises NotFound, Invalid."""
    if days is not None and not 0 <= days <= trials.MAX_DAYS:
        raise Invalid(_("Choose 0 to %(most)s days.") % {"most": trials.MAX_DAYS}, pointer="/days")
    tenant = locked(slug)
    before = tenant.trial_ends_at
    tenant.trial_ends_at = None if days is None else timezone.now() + dt.timedelta(days=days)
    tenant.save(update_fields=["trial_ends_at"])
    details = {"from": _format_day(before), "to": _format_day(tenant.trial_ends_at)}
    _log_change(by, label, tenant, "tenant.trial_changed", details)
    return tenant


def _format_day(at: dt.datetime | None) -> str:
    return "–" if at is None else at.isoformat(timespec="seconds")


@transaction.atomic
def set_exceptions(*, by: Operator, label: str, slug: str, exceptions: Mapping[str, float | None]) -> Tenant:
    """Where a tenant differs from its plan: a resource or the rate to its ceiling, None for no ceiling.

    Raises NotFound, Invalid for an unknown resource or a ceiling that is none.
    """
    tenant, checked = locked(slug), checked_ceilings(exceptions)
    before, tenant.exceptions = tenant.exceptions, checked
    tenant.save(update_fields=["exceptions"])
    _log_change(by, label, tenant, "tenant.limits_changed", {"from": before, "to": checked})
    return tenant


def _log_change(by: Operator, label: str, tenant: Tenant, verb: str, details: dict[str, Any]) -> None:
    forget_keys([tenant.id])
    record_act(by=by, verb=verb, target=tenant.slug, details=details)
    with tenant_scope(tenant.id):
        record(
            actor=label, verb=verb, details={name: _format_value(value) for name, value in details.items()}
        )


def _format_value(value: object) -> str:
    """As the audit log of the tenant shows it."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {'∞' if n is None else f'{n:g}'}" for name, n in sorted(value.items())) or "–"


def checked_ceilings(given: Mapping[str, float | None]) -> dict[str, float | None]:
    """Raises Invalid for what is no resource, no number, or out of range."""
    for name, ceiling in given.items():
        known = (*RESOURCES, METADATA, RATE)
        if name not in known:
            raise Invalid(_("Choose from %(names)s.") % {"names": ", ".join(known)}, pointer=f"/{name}")
        if ceiling is not None and not 0 <= ceiling <= MAX_CEILING:
            raise Invalid(_("A ceiling is a number from 0 on."), pointer=f"/{name}")
        if name == RATE and ceiling is not None and (ceiling < 1 or ceiling != int(ceiling)):
            raise Invalid(_("A rate is a whole number from 1 on."), pointer=f"/{name}")
    return dict(given)


def locked(slug: str) -> Tenant:
    """The tenant, held until the transaction ends. Raises NotFound."""
    rows = Tenant.objects.select_related("plan").select_for_update(of=("self",), no_key=True)
    tenant = rows.filter(slug=slug).first()
    if tenant is None:
        raise NotFound(_("This tenant does not exist."))
    return tenant


def forget_keys(tenant_ids: Iterable[uuid.UUID]) -> None:
    """Have every process look the keys of these tenants up anew, once the caller's transaction has committed."""
    rows = KeyDigest.objects.filter(tenant_id__in=list(tenant_ids), revoked_at=None)
    for prefix in rows.values_list("prefix", flat=True):
        transaction.on_commit(partial(keys.forget, prefix))
