"""What a tenant asks of those who come in."""

from __future__ import annotations

from tenants.accounts.models import Tenant, TenantSecurity


def security_of(tenant: Tenant) -> TenantSecurity:
    """The tenant's row, or an empty one. No query where the tenant was read with `select_related("security")`."""
    try:
        return tenant.security
    except TenantSecurity.DoesNotExist:
        return TenantSecurity(tenant=tenant)


def networks_of(tenant: Tenant) -> tuple[str, ...]:
    """From where its people and keys come in; empty: from anywhere."""
    return tuple(security_of(tenant).allowed_networks or ())
