"""Secrets that have to be read again, encrypted at rest under a key derived from SECRET_KEY.

Each purpose has a key of its own, so that what was sealed for one cannot be passed off as another's.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

__all__ = ["InvalidToken", "vault"]


def vault(purpose: bytes) -> Fernet:
    """Its `decrypt` raises InvalidToken for what was sealed under another SECRET_KEY or for another purpose.

    `purpose` ends with a separator; it is part of what is stored: a changed one cannot read what is there.
    """
    key = hashlib.sha256(purpose + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
