"""Changing what a tenant asks of those who come in, with a line in its audit log."""

from __future__ import annotations

from collections.abc import Iterable
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

NETWORKS = "allowed_networks"


class Changes(TypedDict, total=False):
    """What may be changed; what is absent stays. None: as the installation has it."""

    session_idle_minutes: int | None
    session_max_minutes: int | None
    allowed_networks: Iterable[str]


def get_security() -> TenantSecurity:
    """The active tenant's settings."""
    return security_of(Tenant.objects.select_related("security").get(pk=current_tenant_id()))


def change_security(
    *, actor: str, changes: Changes, address: str | None = None, confirmed: bool = False
) -> TenantSecurity:
    """Change the active tenant's settings, for sessions and keys that are in use as well.

    `address`: from where the change is asked for, which new networks have to admit unless it is `confirmed` that they
    need not; None for who is bound by no networks. Raises Invalid with a pointer for each value that cannot be.
    """
    wanted: dict[str, Any] = {**changes}
    _check_minutes(wanted)
    if NETWORKS in wanted:
        wanted[NETWORKS] = _read_networks(wanted[NETWORKS], address, confirmed)
    with tenant_scope(current_tenant_id()):
        # One change at a time, so that each line in the log tells what was there before it.
        lock_members()
        row = get_security()
        changed = {}
        for name, value in wanted.items():
            if (before := getattr(row, name)) != value:
                changed[name] = [before, value]
                setattr(row, name, value)
        if changed:
            row.save()
            record(actor=actor, verb="security.changed", details=changed)
        if NETWORKS in changed:
            transaction.on_commit(partial(keys.forget_tenant, row.tenant_id))
    return row


def _check_minutes(wanted: dict[str, Any]) -> None:
    outer = installation_limits()
    bounds = {
        "session_idle_minutes": (LEAST_IDLE_MINUTES, outer.idle_minutes),
        "session_max_minutes": (LEAST_SESSION_MINUTES, outer.longest_minutes),
    }
    said = _("Choose %(least)s to %(most)s minutes. This installation allows no more.")
    problems = []
    for name, (least, most) in bounds.items():
        value = wanted.get(name)
        if value is not None and not min(least, most) <= value <= most:
            detail = said % {"least": min(least, most), "most": most}
            problems.append({"pointer": f"/{name}", "detail": detail})
    if problems:
        refusal = Invalid(problems[0]["detail"])
        refusal.errors = problems
        raise refusal


def _read_networks(given: Iterable[str], address: str | None, confirmed: bool) -> list[str] | None:
    networks = read_networks(given, f"/{NETWORKS}")
    if address is not None and not confirmed and not admits(tuple(networks), address):
        said = _(
            "Your own address, %(address)s, is in none of these networks. Add it, or confirm that you lose access."
        )
        raise Invalid(said % {"address": address or "?"}, pointer=f"/{NETWORKS}")
    return networks or None
