"""Slowing down who guesses passwords: counted in the cache per account and address, and per address."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from django.core.cache import cache

from tenants.valkey import Unavailable

log = logging.getLogger(__name__)

WINDOW_S = 15 * 60
PER_ACCOUNT = 10
PER_ADDRESS = 100


@dataclass(frozen=True)
class Attempt:
    """One try to sign in. Counted before the password is looked at, so that many at once gain nothing."""

    email: str
    address: str

    @property
    def _keys(self) -> dict[str, int]:
        who = hashlib.sha256(f"{self.email.strip().lower()}\n{self.address}".encode()).hexdigest()
        where = hashlib.sha256(self.address.encode()).hexdigest()
        return {f"login:{who}": PER_ACCOUNT, f"login-from:{where}": PER_ADDRESS}

    def allowed(self) -> bool:
        """Count this attempt; False if there were too many."""
        try:
            return all(_count(key) <= limit for key, limit in self._keys.items())
        except Unavailable:
            # Without the cache nothing can be counted; that must not lock everybody out.
            log.warning("sign-in attempts are not counted: the cache is away")
            return True

    def succeeded(self) -> None:
        """Forget the account's failures, and this attempt at its address."""
        account, address = self._keys
        try:
            cache.delete(account)
            cache.decr(address)
        except (Unavailable, ValueError):
            return


def _count(key: str) -> int:
    if cache.add(key, 1, timeout=WINDOW_S):
        return 1
    try:
        return cache.incr(key)
    except ValueError:  # it expired in between
        cache.set(key, 1, timeout=WINDOW_S)
        return 1
