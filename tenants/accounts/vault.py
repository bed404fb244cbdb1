"""Secrets that have to be read again, encrypted at rest under a key derived from SECRET_KEY.

Each purpose has a key of its own, so that what was sealed for one cannot be passed off as another's.
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

__all__ = ["InvalidToken", "key_id", "seal", "unseal", "vault"]

# AES-GCM's: NIST SP 800-38D, section 5.2.1.1.
NONCE_BYTES = 12


def vault(purpose: bytes) -> Fernet:
    """Its `decrypt` raises InvalidToken for what was sealed under another SECRET_KEY or for another purpose.

    `purpose` ends with a separator; it is part of what is stored: a changed one cannot read what is there.
    """
    key = hashlib.sha256(purpose + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def key_id() -> str:
    """Which SECRET_KEY this is: 16 hex digits that do not tell it. Stored beside what is sealed."""
    return _derived(b"crosslight id of the secret key", 8).hex()


def seal(content: bytes, about: str) -> bytes:
    """Encrypted and authenticated with what it is `about`, which has to be told to open it: AES-256-GCM."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher().encrypt(nonce, content, about.encode())


def unseal(sealed: bytes, about: str) -> bytes:
    """Raises InvalidToken for what was sealed under another SECRET_KEY, is about something else, or was changed."""
    try:
        return _cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
    except (InvalidTag, ValueError) as error:
        raise InvalidToken from error


def _cipher() -> AESGCM:
    return AESGCM(_derived(b"crosslight sealed secrets", 32))


def _derived(purpose: bytes, length: int) -> bytes:
    """HKDF (RFC 5869) of SECRET_KEY."""
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(settings.SECRET_KEY.encode())
