"""Which workspaces a way of signing in opens: the one place that says so, asked anew at every request.

People are global. A password opens all workspaces of a person but those that enforce single sign-on for the person's
address; a single sign-on opens its own tenant, and no other one, whatever else the person belongs to.
"""

from __future__ import annotations

import uuid

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from tenants.accounts.models import Membership, Passkey, SignOnConnection, SignOnDomain, Tenant, User


def domain_of(email: str) -> str:
    """What stands after the last @, in small letters."""
    return email.rpartition("@")[2].lower()


def open_memberships(user: User, connection_id: uuid.UUID | None) -> QuerySet[Membership]:
    """The person's roles in active tenants that a session opens which was made by this connection, or by password."""
    if connection_id is None:
        return _active(user).filter(~Exists(_enforcing(user)) | _EXEMPT)
    return _active(user).filter(tenant__connections__id=connection_id, tenant__connections__enabled=True)


def enforced_memberships(user: User) -> QuerySet[Membership]:
    """The person's roles in active tenants that a password does not open."""
    return _active(user).filter(Exists(_enforcing(user))).exclude(_EXEMPT)


def uses_break_glass(user: User, tenant_id: uuid.UUID) -> bool:
    """Whether a password opens this tenant although it enforces single sign-on for the person."""
    return _active(user).filter(_EXEMPT, Exists(_enforcing(user)), tenant=tenant_id).exists()


def find_connection(email: str) -> SignOnConnection | None:
    """Where an address signs in: the enabled connection of the tenant that has proved its domain."""
    rows = SignOnConnection.objects.filter(enabled=True, tenant__state=Tenant.State.ACTIVE)
    proved = {"domains__proved_at__isnull": False, "domains__tenant": F("tenant")}
    return rows.filter(domains__domain=domain_of(email), **proved).first()


def _active(user: User) -> QuerySet[Membership]:
    return Membership.objects.filter(user=user, tenant__state=Tenant.State.ACTIVE)


def _enforcing(user: User) -> QuerySet[SignOnDomain]:
    rows = SignOnDomain.objects.filter(domain=domain_of(user.email), proved_at__isnull=False)
    return rows.filter(connection__enabled=True, connection__enforced=True, tenant=OuterRef("tenant"))


# Break-glass: chosen owners, as long as they have a second factor.
_EXEMPT = Q(break_glass=True, role="owner") & (
    Q(user__second_factor__confirmed_at__isnull=False) | Exists(Passkey.objects.filter(user=OuterRef("user")))
)
