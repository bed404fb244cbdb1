"""Roles of a tenant: those that are built in, and those that it made. A role is named by one string, everywhere."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from tenants.accounts.models import CustomRole, Membership
from tenants.accounts.permissions import ADMIN, ROLES, SCOPES, scopes_of
from tenants.scope import Narrowing, current_tenant_id

# Of a role that a tenant made.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,38}")


@dataclass(frozen=True)
class Role:
    """A role as people see it. `description` is empty for built-in ones, which pages explain themselves."""

    name: str
    scopes: tuple[str, ...]
    description: str = ""
    built_in: bool = False


def scopes_in(tenant_id: uuid.UUID, role: str) -> frozenset[str]:
    """What a role of a tenant may do; a role that it does not have may do nothing."""
    if role in ROLES:
        return scopes_of(role)
    found = CustomRole.objects.filter(tenant=tenant_id, name=role).values_list("scopes", flat=True).first()
    return frozenset(found or ()) - {ADMIN}


def narrowing_of(member: Membership) -> Narrowing | None:
    """What a member sees of the tenant; None: all of it.

    Administration sees all. What a member was narrowed to stays in the row, and holds again with another role.
    """
    if member.datasets is None and member.queues is None:
        return None
    if ADMIN in scopes_in(member.tenant_id, member.role):
        return None
    datasets = None if member.datasets is None else tuple(member.datasets)
    return Narrowing(datasets, None if member.queues is None else tuple(member.queues))


def list_roles(tenant_id: uuid.UUID | None = None) -> list[Role]:
    """The active tenant's, or another one's, built-in ones first."""
    built_in = [Role(name, _in_order(scopes), built_in=True) for name, scopes in ROLES.items()]
    made = CustomRole.objects.filter(tenant=tenant_id or current_tenant_id()).order_by("name")
    return [*built_in, *(Role(row.name, _in_order(row.scopes), row.description) for row in made)]


def is_known(role: str) -> bool:
    """Whether the active tenant has a role of this name."""
    if role in ROLES or not NAME.fullmatch(role):
        return role in ROLES
    return CustomRole.objects.filter(tenant=current_tenant_id(), name=role).exists()


def strongest(roles: Iterable[str]) -> str:
    """Of several roles of the active tenant the one that may do most; between equals the first by name."""

    def rank(role: str) -> tuple[bool, int, str]:
        scopes = scopes_in(current_tenant_id(), role)
        return ADMIN not in scopes, -len(scopes), role

    return min(roles, key=rank)


def _in_order(scopes: Iterable[str]) -> tuple[str, ...]:
    wanted = set(scopes)
    return tuple(scope for scope in SCOPES if scope in wanted)
