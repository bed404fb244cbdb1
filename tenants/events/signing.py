"""Secrets of webhooks and what is signed with them, as Standard Webhooks has it (the library does the signing)."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Iterable
from uuid import UUID

from standardwebhooks import Webhook as Signer

from tenants.accounts import vault
from tenants.accounts.vault import InvalidToken

SECRET_BYTES = 32
PREFIX = "whsec_"
PURPOSE = b"webhook\0"


class Unreadable(Exception):
    """The secret was sealed under a key that is not here."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str, tenant_id: UUID) -> bytes:
    return vault.seal(secret.encode(), purpose=PURPOSE, owner=tenant_id)


def unseal(sealed: bytes | memoryview[int], tenant_id: UUID) -> str:
    """Raises Unreadable; KeysUnavailable where the KMS is away."""
    try:
        return vault.unseal(bytes(sealed), purpose=PURPOSE, owner=tenant_id).decode()
    except InvalidToken as error:
        raise Unreadable from error


def headers(*, event_id: str, at: dt.datetime, body: str, secrets_: Iterable[str]) -> dict[str, str]:
    """The three headers that a receiver verifies; one signature for each secret that is valid."""
    # The library reads the clock time of `at` as UTC.
    moment = at.astimezone(dt.UTC)
    signatures = [Signer(secret).sign(event_id, moment, body) for secret in secrets_]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
