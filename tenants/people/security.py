"""Changing what a tenant asks of those who come in, with a line in its audit log."""

from __future__ import annotations

from functools import partial
from typing import Any, TypedDict

from django.db import transaction
from django.utils.translation import gettext as _

from tenants.accounts import keys
from tenants.accounts.models import Tenant, TenantSecurity
from tenants.accounts.networks import admits, read_networks
from tenants.accounts.security import (
    LEAST_IDLE_MINUTES,
    LEAST_SESSION_MINUTES,
    installation_limits,
    security_of,
)
from tenants.accounts.services import lock_members
from tenants.errors import Invalid
from tenants.events.services import record
from tenants.scope import current_tenant_id, tenant_scope


class Changes(TypedDict, total=False):
    """What may be changed; what is absent stays. None: as the installation has it."""

    session_idle_minutes: int | None
    session_max_minutes: int | None
    allowed_networks: list[str]


def get_security() -> TenantSecurity:
    """The active tenant's settings."""
    return security_of(Tenant.objects.select_related("security").get(pk=current_tenant_id()))


def change_security(
    *, actor: str, changes: Changes, address: str | None = None, confirmed: bool = False
) -> TenantSecurity:
    """Change the active tenant's settings.

    `address`: from where the change is asked for, which new networks have to admit unless it is `confirmed` that they
    need not; None for who is bound by no networks. Raises Invalid with a pointer for each setting that cannot be.
    """
    with tenant_scope(current_tenant_id()):
        lock_members()
        row = get_security()
        wanted: dict[str, Any] = {**changes}
        if "allowed_networks" in wanted:
            wanted["allowed_networks"] = _read_networks(wanted["allowed_networks"], address, confirmed)
        before = {name: getattr(row, name) for name in wanted}
        for name, value in wanted.items():
            setattr(row, name, value)
        _check(row)
        changed = {name: [before[name], value] for name, value in wanted.items() if value != before[name]}
        if changed:
            row.save()
            record(actor=actor, verb="security.changed", details=changed)
        if "allowed_networks" in changed:
            transaction.on_commit(partial(keys.forget_tenant, row.tenant_id))
    return row


def _read_networks(given: list[str], address: str | None, confirmed: bool) -> list[str] | None:
    networks = read_networks(given, "/allowed_networks")
    if address is not None and not confirmed and not admits(tuple(networks), address):
        said = _(
            "Your own address, %(address)s, is in none of these networks. Add it, or confirm that it shuts you out."
        )
        raise Invalid(said % {"address": address or "?"}, pointer="/allowed_networks")
    return networks or None


def _check(row: TenantSecurity) -> None:
    outer = installation_limits()
    bounds = {
        "session_idle_minutes": (LEAST_IDLE_MINUTES, outer.idle_minutes),
        "session_max_minutes": (LEAST_SESSION_MINUTES, outer.longest_minutes),
    }
    for name, (least, most) in bounds.items():
        value = getattr(row, name)
        if value is not None and not least <= value <= most:
            raise Invalid(
                _("Choose %(least)s to %(most)s minutes. This installation allows no more.")
                % {"least": least, "most": most},
                pointer=f"/{name}",
            )
