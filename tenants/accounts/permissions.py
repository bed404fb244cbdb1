"""Who may do what: one table. Roles are for people, scopes for API keys; a role is a set of scopes."""

from __future__ import annotations

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


def scopes_of(role: str) -> frozenset[str]:
    """The scopes of a role; an unknown role has none."""
    return ROLES.get(role, frozenset())
