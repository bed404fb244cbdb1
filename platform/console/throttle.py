"""Slowing down who guesses: passwords, codes, tokens, and whose address is known here.

Attempts are counted in the cache per account and per address, before anything is looked at, so that many at once
gain nothing.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from django.core.cache import cache
from django.http import HttpRequest

from tenants.accounts.models import User
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)

WINDOW_S = 15 * 60
PER_ACCOUNT = 10
PER_ADDRESS = 100

# Six digits, or a mailbox, must not be tried from many addresses either: there the account alone is counted.
WHEREVER = frozenset({"code", "reset"})


@dataclass(frozen=True)
class Attempt:
    """One try for `purpose` at an account (an e-mail address, a person, a token) from an address."""

    account: str
    address: str
    purpose: str = "login"

    @classmethod
    def of(cls, request: HttpRequest, purpose: str, account: str) -> Attempt:
        return cls(account, request.META.get("REMOTE_ADDR", ""), purpose)

    @property
    def _keys(self) -> dict[str, int]:
        bound = "" if self.purpose in WHEREVER else self.address
        who = hashlib.sha256(f"{User.objects.normalize_email(self.account)}\n{bound}".encode()).hexdigest()
        where = hashlib.sha256(self.address.encode()).hexdigest()
        return {f"{self.purpose}:{who}": PER_ACCOUNT, f"{self.purpose}-from:{where}": PER_ADDRESS}

    def allowed(self) -> bool:
        """Count this attempt; False if there were too many."""
        try:
            return all(_count(key) <= limit for key, limit in self._keys.items())
        except Unavailable:
            # Without the cache nothing can be counted; that must not lock everybody out.
            log.warning("attempts are not counted: the cache is away", extra={"purpose": self.purpose})
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
