"""The gate of the API: who is it, may it come in, how often. No round trip at all in the common case."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from tenants.accounts import keys, metering
from tenants.accounts.rate_counter import WINDOW_S, Limits, rate_counter
from tenants.valkey import Unavailable, client


@dataclass(frozen=True)
class Rate:
    """The state of a rate limit: `limit` requests a window, `remaining` now, `reset_s` to the next window."""

    limit: int
    remaining: int
    reset_s: int

    @property
    def exceeded(self) -> bool:
        return self.remaining < 0


@dataclass(frozen=True)
class Admission:
    record: keys.KeyRecord
    rate: Rate | None
    requests_this_month: int


def identify(token: str) -> keys.KeyRecord | None:
    """The usable key that this token opens, or None."""
    prefix, _, secret = token.partition(".")
    if not prefix.isalnum() or not prefix.isascii() or len(prefix) > 16 or not secret:
        return None
    record = keys.recent(prefix)
    if record is None and (record := keys.look_up(prefix, cached(prefix))) is not None:
        keys.remember(record)
    if record is None or not secret.isascii() or not keys.matches(record, secret) or not keys.usable(record):
        return None
    return record


def cached(prefix: str) -> bytes | None:
    """What the cache holds of a key, for `keys.look_up`; without a cache the database is asked."""
    try:
        return client().get(f"key:{prefix}")
    except Unavailable:
        return b"{}"


def count(record: keys.KeyRecord) -> Admission:
    """Count one request of this key's tenant against its rate and its month."""
    when, limit = metering.this_moment(), record.rate_per_minute
    limits = Limits(
        inf if limit is None else limit, inf if record.request_limit is None else record.request_limit
    )
    try:
        counts = rate_counter.request(record.tenant_id, when, limits)
    except Unavailable:
        # Serving goes on, as the meter is not worth an outage; what was counted is told later.
        return Admission(record, None, 0)
    rate = None if limit is None else Rate(limit, limit - counts.rate, _left_of_window())
    return Admission(record, rate, counts.month)


def _left_of_window() -> int:
    return WINDOW_S - int(time.time()) % WINDOW_S
