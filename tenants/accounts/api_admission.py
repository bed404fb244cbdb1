"""The gate of the API: who is it, may it come in, how often. No round trip at all in the common case."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from math import inf
from typing import Literal

from tenants.accounts import keys, metering
from tenants.accounts.networks import network_of
from tenants.accounts.rate_counter import WINDOW_S, Limits, rate_counter
from tenants.valkey import Unavailable, client

# Where a request keeps its admission, in META: its view may be called again, once a large body is here (config.bridge).
ADMISSION = "crosslight.admission"


@dataclass(frozen=True)
class Rate:
    """The state of a rate limit: `limit` requests a window, `remaining` now, `reset_s` to the next window.

    `of`: what the tenant's plan allows, the key's own limit beside it, or that of a network that needs no key.
    """

    limit: int
    remaining: int
    reset_s: int
    of: Literal["plan", "key", "network"] = "plan"

    @property
    def exceeded(self) -> bool:
        return self.remaining < 0


@dataclass(frozen=True)
class Admission:
    """`record`: of the key; None where a request needs none, and is let in on behalf of a `network`."""

    record: keys.KeyRecord | None
    rate: Rate | None
    requests_this_month: int
    network: str = ""


def identify(token: str, address: str = "") -> keys.KeyRecord | None:
    """The usable key that this token opens, or None. Whether it may be used from there is for the caller to ask."""
    prefix, _, secret = token.partition(".")
    if not prefix.isalnum() or not prefix.isascii() or len(prefix) > 16 or not secret:
        return None
    record, from_database = keys.recent(prefix), False
    if record is None:
        known = cached(prefix)
        from_database = known in (None, b"{}")
        if (record := keys.look_up(prefix, known)) is not None:
            keys.remember(record)
    if record is None or not secret.isascii() or not keys.matches(record, secret) or not keys.usable(record):
        return None
    if from_database and record.admits(address):
        # Only who has the secret, and may come from there, has used it.
        keys.note_use(prefix, address)
    return record


def cached(prefix: str) -> bytes | None:
    """What the cache holds of a key, for `keys.look_up`; without a cache the database is asked."""
    try:
        return client().get(keys.cache_key(prefix))
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
        own = None if record.key_rate is None else _count_key(record.prefix, record.key_rate, when.window)
    except Unavailable:
        # Serving goes on, as the meter is not worth an outage; what was counted is told later.
        return Admission(record, None, 0)
    rate = None if limit is None else Rate(limit, limit - counts.rate, left_of_window())
    if own is not None and (rate is None or own.remaining < rate.remaining):
        rate = own
    return Admission(record, rate, counts.month)


def _count_key(prefix: str, limit: int, window: int) -> Rate:
    """Of a key with a limit of its own: one round trip a request, which others do not make. Raises Unavailable."""
    left = limit - _count(f"key-rate:{prefix}:{window}")
    return Rate(limit, left, left_of_window(), of="key")


def count_network(address: str, limit: int) -> Admission:
    """Count one request that needs no key against the `limit` of the network that it comes from.

    The count knows nothing but the network, and that as a digest: nobody learns from it what is stored here.
    """
    network = network_of(address) or "unknown"
    digest = hashlib.sha256(network.encode(errors="surrogatepass")).hexdigest()
    try:
        left = limit - _count(f"network-rate:{digest}:{metering.this_moment().window}")
    except Unavailable:
        # As above: an outage of the counter is none of the service.
        return Admission(None, None, 0, network)
    return Admission(None, Rate(limit, left, left_of_window(), of="network"), 0, network)


def _count(name: str) -> int:
    """How many there were in this window, with this one. Raises Unavailable."""
    pipe = client().pipeline(transaction=False)
    pipe.incr(name)
    pipe.expire(name, 2 * WINDOW_S)
    return int(pipe.execute()[0])


def left_of_window() -> int:
    return WINDOW_S - int(time.time()) % WINDOW_S
