"""Changing what a tenant asks of those who come in, with a line in its audit log."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from django.db import transaction
from django.utils.translation import gettext as _

from tenants.accounts import keys
from tenants.accounts.models import Tenant, TenantSecurity
from tenants.accounts.networks import admits, read_networks
from tenants.accounts.security import security_of
from tenants.accounts.services import lock_members
from tenants.errors import Invalid
from tenants.events.services import record
from tenants.scope import current_tenant_id, tenant_scope

POINTER = "/allowed_networks"


def get_security() -> TenantSecurity:
    """The active tenant's settings."""
    return security_of(Tenant.objects.select_related("security").get(pk=current_tenant_id()))


def allow_networks(
    *, actor: str, networks: Iterable[str], address: str | None = None, confirmed: bool = False
) -> TenantSecurity:
    """Let the active tenant's people and keys come in from these networks alone; from anywhere, if there are none.

    `address`: from where the change is asked for, which has to be inside unless it is `confirmed` that it need not;
    None for who is bound by no networks. Raises Invalid with a pointer for each network that is none.
    """
    wanted = read_networks(networks, POINTER)
    if address is not None and not confirmed and not admits(tuple(wanted), address):
        said = _(
            "Your own address, %(address)s, is in none of these networks. Add it, or confirm that you lose access."
        )
        raise Invalid(said % {"address": address or "?"}, pointer=POINTER)
    with tenant_scope(current_tenant_id()):
        # One change at a time, so that each line in the log tells what was there before it.
        lock_members()
        row = get_security()
        before, row.allowed_networks = row.allowed_networks, wanted or None
        if before != row.allowed_networks:
            row.save()
            details = {"allowed_networks": [before, row.allowed_networks]}
            record(actor=actor, verb="security.changed", details=details)
            transaction.on_commit(partial(keys.forget_tenant, row.tenant_id))
    return row
