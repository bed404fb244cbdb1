"""Secrets of webhooks and what is signed with them, as Standard Webhooks has it (the library does the signing)."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Iterable

from standardwebhooks import Webhook as Signer

from tenants.accounts.vault import InvalidToken, vault

SECRET_BYTES = 32
PREFIX = "whsec_"
PURPOSE = b"webhook\0"


class Unreadable(Exception):
    """The secret was sealed under another SECRET_KEY."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def seal(secret: str) -> bytes:
    return vault(PURPOSE).encrypt(secret.encode())


def unseal(sealed: bytes | memoryview[int]) -> str:
    """Raises Unreadable."""
    try:
        return vault(PURPOSE).decrypt(bytes(sealed)).decode()
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
