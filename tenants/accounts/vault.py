"""Secrets that have to be read again, sealed at rest under data keys (`tenants.accounts.keyring`).

Each is bound to its owner (a tenant, or the installation) and its purpose, so that none can be passed off as another.
What a former release sealed under SECRET_KEY itself is read with it, or with one of SECRET_KEY_FALLBACKS.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from tenants.accounts import keyring
from tenants.accounts.keyring import KeyDestroyed, KeyMissing, NotSealed
from tenants.accounts.master_keys import NONCE_BYTES, derived

__all__ = ["InvalidToken", "is_current", "seal", "unseal"]


def seal(content: bytes, *, purpose: bytes, owner: UUID | None) -> bytes:
    """Raises KeysUnavailable, KeyMissing. None as owner: the installation."""
    return keyring.seal(content, purpose=purpose, owner=owner)


def unseal(sealed: bytes, *, purpose: bytes, owner: UUID | None) -> bytes:
    """Raises InvalidToken for what is another purpose's or owner's, was changed, or was sealed under a key that is not
    here; KeysUnavailable where a KMS is away."""
    try:
        if keyring.sealed_under(sealed) is not None:
            return keyring.unseal(sealed, purpose=purpose, owner=owner)
    except (NotSealed, KeyMissing, KeyDestroyed) as error:
        raise InvalidToken from error
    return _of_secret_key(sealed, purpose)


def is_current(sealed: bytes, owner: UUID | None) -> bool:
    """Whether it is sealed under the key that seals now."""
    return keyring.sealed_under(sealed) == keyring.active_key(owner).id


def secret_keys() -> Iterator[str]:
    yield settings.SECRET_KEY
    yield from settings.SECRET_KEY_FALLBACKS


def _of_secret_key(sealed: bytes, purpose: bytes) -> bytes:
    for secret in secret_keys():
        try:
            if sealed.startswith(b"gAAAA"):  # a Fernet token of version 0x80
                key = hashlib.sha256(purpose + secret.encode()).digest()
                return Fernet(base64.urlsafe_b64encode(key)).decrypt(sealed)
            cipher = AESGCM(derived(secret.encode(), b"crosslight sealed secrets", 32))
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], purpose)
        except (InvalidToken, InvalidTag, ValueError):
            continue
    raise InvalidToken
