"""Links that let somebody in once: what they look like, and tokens of which only a digest is kept."""

from __future__ import annotations

import hashlib
import secrets

from django.conf import settings

# Of the console. The token is a query parameter, as the request log holds paths.
INVITATION, RESET, SIGN_UP = "/invitation", "/reset/new", "/sign-up/open"


def new_token() -> str:
    """256 random bits: a fast hash keeps them as safe as a slow one would."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def link(path: str, token: str) -> str:
    """The address to hand out. It names this installation by its own setting, never by a request's Host."""
    return f"{settings.BASE_URL}{path}?token={token}"
