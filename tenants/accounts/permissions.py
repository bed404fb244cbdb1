"""Who may do what: one table. Roles are for people, scopes for API keys; a role is a set of scopes.

Tenants make roles besides these (`tenants.accounts.roles`), which are sets of GRANTABLE scopes and never manage people.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

READ, WRITE, SEARCH, TRAIN = "read", "write", "search", "train"
MODERATE, GENERATE, ADMIN = "moderate", "generate", "admin"

SCOPES = (READ, WRITE, SEARCH, TRAIN, MODERATE, GENERATE, ADMIN)

ROLES: dict[str, frozenset[str]] = {
    "owner": frozenset(SCOPES),
    "admin": frozenset(SCOPES),
    "editor": frozenset({READ, WRITE, SEARCH, TRAIN, GENERATE}),
    "reviewer": frozenset({READ, SEARCH, MODERATE}),
    "viewer": frozenset({READ, SEARCH}),
}

# What roles that a tenant makes may hold: administration stays with owners and admins.
GRANTABLE = tuple(scope for scope in SCOPES if scope != ADMIN)

# What members who see chosen datasets and queues do in them, whatever more their role holds.
NARROWABLE = frozenset({READ, SEARCH, MODERATE})

# What a workspace whose trial has ended refuses, but for looking, deleting and stopping.
ADDS = frozenset({WRITE, TRAIN, MODERATE, GENERATE})

# Whose roles a role may give, change and take away. The others may not touch any.
MANAGES: dict[str, frozenset[str]] = {
    "owner": frozenset(ROLES),
    "admin": frozenset(ROLES) - {"owner"},
}


@dataclass(frozen=True)
class Actor:
    """Who acts in a tenant: `label` in the words of the audit log, and the person if it is one.

    A key acts as `role` "admin", and as the person who made it; it never has an owner's rights over people. `acting_id`
    names the row under which an operator acts in the tenant, and ends with it.
    """

    label: str
    role: str
    user_id: uuid.UUID | None = None
    acting_id: uuid.UUID | None = None


def may_manage(role: str, other: str) -> bool:
    """Whether people with `role` decide who has the role `other`, built in or a tenant's own."""
    return role in MANAGES and (other in MANAGES[role] or other not in ROLES)


def scopes_of(role: str) -> frozenset[str]:
    """The scopes of a built-in role; every other one has none here (`roles.scopes_in` knows a tenant's own)."""
    return ROLES.get(role, frozenset())
