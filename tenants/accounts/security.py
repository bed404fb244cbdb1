"""What a tenant asks of those who come in. The installation's settings are the outer bound, a tenant's are stricter."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.conf import settings

from tenants.accounts.models import Tenant, TenantSecurity, User

# No tenant can ask for less, or people would do nothing but sign in.
LEAST_IDLE_MINUTES, LEAST_SESSION_MINUTES = 5, 15


@dataclass(frozen=True)
class SessionLimits:
    """How long a session lasts: unused (`idle`), and in all (`longest`)."""

    idle: dt.timedelta
    longest: dt.timedelta

    @property
    def idle_minutes(self) -> int:
        return int(self.idle.total_seconds()) // 60

    @property
    def longest_minutes(self) -> int:
        return int(self.longest.total_seconds()) // 60


def installation_limits() -> SessionLimits:
    return SessionLimits(
        dt.timedelta(minutes=settings.SESSION_IDLE_MINUTES),
        dt.timedelta(minutes=settings.SESSION_MAX_MINUTES),
    )


def security_of(tenant: Tenant) -> TenantSecurity:
    """The tenant's row, or an empty one. No query where the tenant was read with `select_related("security")`."""
    try:
        return tenant.security
    except TenantSecurity.DoesNotExist:
        return TenantSecurity(tenant=tenant)


def networks_of(tenant: Tenant) -> tuple[str, ...]:
    """From where its people and keys come in; empty: from anywhere."""
    return tuple(security_of(tenant).allowed_networks or ())


def session_limits(tenant: Tenant | None) -> SessionLimits:
    """The stricter ones of the installation's and the tenant's, where there is one."""
    outer = installation_limits()
    if tenant is None:
        return outer
    own = security_of(tenant)
    return SessionLimits(
        _stricter(outer.idle, own.session_idle_minutes), _stricter(outer.longest, own.session_max_minutes)
    )


def strictest_limits(user: User) -> SessionLimits:
    """Of all tenants that a person belongs to, where it is not known in which they work."""
    rows = Tenant.objects.filter(memberships__user=user, security__isnull=False).select_related("security")
    limits = [installation_limits(), *map(session_limits, rows)]
    return SessionLimits(min(one.idle for one in limits), min(one.longest for one in limits))


def _stricter(outer: dt.timedelta, minutes: int | None) -> dt.timedelta:
    return outer if minutes is None else min(outer, dt.timedelta(minutes=minutes))
