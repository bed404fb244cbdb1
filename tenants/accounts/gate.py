"""The gate of the API: who is it, may it come in, how often. No round trip to the database in the common case."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tenants.accounts import keys, metering
from tenants.accounts.quotas import current_period
from tenants.valkey import Unavailable, client, tenant_key

WINDOW_S = 60


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
    record = keys.look_up(prefix, cached(prefix))
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
    now = int(time.time())
    window, period, day = now // WINDOW_S, current_period(), metering.today()
    rate_key = tenant_key(record.tenant_id, "rate", str(window))
    pipe = client().pipeline(transaction=False)
    pipe.incr(metering.month_key(record.tenant_id, period))
    pipe.hincrbyfloat(metering.day_key(record.tenant_id, day), "requests", 1)
    pipe.sadd(metering.DIRTY, f"{record.tenant_id}/{day}")
    if record.rate_per_minute is not None:
        pipe.incr(rate_key)
        pipe.expire(rate_key, 2 * WINDOW_S)
    try:
        answers = pipe.execute()
    except Unavailable:
        # Without Valkey nothing can be counted; serving goes on, as the meter is not worth an outage.
        return Admission(record, None, 0)
    rate = None
    if record.rate_per_minute is not None:
        limit = record.rate_per_minute
        rate = Rate(limit, limit - int(answers[3]), WINDOW_S - now % WINDOW_S)
    return Admission(record, rate, int(answers[0]))
