"""Counting requests without a round trip each: in this process first, in Valkey twice a second.

What was counted here stands at once for the rate and the month as this process sees them. Valkey, where all processes
meet, is asked as soon as a tenth of what was left has been used here, so near a limit with every request: one process
is exact, and several together let through no more than that tenth each too much. A clean stop writes what is left
(`flush`, called by the server and by the interpreter when they end); a killed process loses half a second.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenants.valkey import Unavailable, client, tenant_key

log = logging.getLogger(__name__)

FLUSH_S = 0.5
# Answers of Valkey that are older count as unknown.
FRESH_S = 2 * FLUSH_S
SHARE = 10
MAX_ACCOUNTS = 10_000
WINDOW_S = 60
# Members are `tenant/day`: the totals that `metering.flush` has to copy to the database.
DIRTY = "usage:dirty"


def day_key(tenant_id: uuid.UUID | str, day: str) -> str:
    return tenant_key(tenant_id, "usage", day)


def month_key(tenant_id: uuid.UUID | str, period: str) -> str:
    return tenant_key(tenant_id, "requests", period)


@dataclass(frozen=True)
class When:
    """A day and a month, as the keys have them, and a window of the rate (minutes since 1970)."""

    day: str
    period: str
    window: int


@dataclass(frozen=True)
class Limits:
    """Requests a window and a month; infinite where there is no limit."""

    rate: float = math.inf
    month: float = math.inf


@dataclass
class Counts:
    """Requests of a month and of a window of the rate."""

    month: int
    rate: int


@dataclass
class _Account:
    """A tenant in one window: what Valkey said last, and what was counted here since."""

    when: When
    known: Counts = field(default_factory=lambda: Counts(0, 0))
    known_at: float = -math.inf
    since: int = 0

    def may_wait(self, limits: Limits) -> bool:
        """Whether one more request need not be told before it is answered."""
        room = min(limits.rate - self.known.rate, limits.month - self.known.month)
        return self.since < room / SHARE and time.monotonic() - self.known_at < FRESH_S

    def now(self) -> Counts:
        return Counts(self.known.month + self.since, self.known.rate + self.since)

    def update(self, told: int, counts: Counts) -> None:
        # Answers may overtake each other: totals only grow.
        self.known = Counts(max(self.known.month, counts.month), max(self.known.rate, counts.rate))
        self.known_at = time.monotonic()
        self.since = max(0, self.since - told)


@dataclass
class _Pending:
    """What Valkey has not been told yet."""

    requests: int = 0
    amounts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: _Pending) -> None:
        self.requests += other.requests
        for kind, amount in other.amounts.items():
            self.amounts[kind] += amount


_Key = tuple[str, When]


class RateCounter:
    """The counts of this process. Threads share it; none waits for another one's round trip."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._pending: dict[_Key, _Pending] = {}
        self._flusher: threading.Thread | None = None
        self._something = threading.Event()

    def request(self, tenant_id: str, when: When, limits: Limits) -> Counts:
        """Count one request; returns all so far, with this one. Raises Unavailable, and counts it later."""
        key = (tenant_id, when)
        with self._lock:
            account = self._account(tenant_id, when)
            waits = account.may_wait(limits)
            account.since += 1
            self._pending_of(key).requests += 1
            if waits:
                return account.now()
            # Taken under the lock that counted it: the answer is then the number of this very request.
            taken = {key: self._pending.pop(key)}
        return self._send_pending(taken)[key]

    def add(self, tenant_id: str, when: When, amounts: Mapping[str, float]) -> None:
        """Count amounts by their kind, to be told within FLUSH_S."""
        with self._lock:
            untold = self._pending_of((tenant_id, when))
            for kind, amount in amounts.items():
                untold.amounts[kind] += amount

    def flush(self) -> None:
        """Tell Valkey all that it has not been told. Raises Unavailable, and keeps what could not be told.

        An answer that was lost on its way may make something count twice.
        """
        with self._lock:
            taken, self._pending = self._pending, {}
        if taken:
            self._send_pending(taken)

    def _account(self, tenant_id: str, when: When) -> _Account:
        account = self._accounts.get(tenant_id)
        if account is None or account.when != when:
            if len(self._accounts) >= MAX_ACCOUNTS:
                self._accounts.clear()
            account = self._accounts[tenant_id] = _Account(when)
        return account

    def _pending_of(self, key: _Key) -> _Pending:
        untold = self._pending.get(key)
        if untold is None:
            untold = self._pending[key] = _Pending()
            self._something.set()
            if self._flusher is None or not self._flusher.is_alive():
                self._flusher = threading.Thread(target=self._flush_loop, name="rate-counter", daemon=True)
                self._flusher.start()
        return untold

    def _send_pending(self, taken: dict[_Key, _Pending]) -> dict[_Key, Counts]:
        try:
            answers = _send(taken)
        except BaseException:
            with self._lock:
                for key, untold in taken.items():
                    self._pending_of(key).add(untold)
            raise
        with self._lock:
            for (tenant_id, when), counts in answers.items():
                account = self._accounts.get(tenant_id)
                if account is not None and account.when == when:
                    account.update(taken[tenant_id, when].requests, counts)
        return answers

    def _flush_loop(self) -> None:
        while True:
            self._something.wait()
            time.sleep(FLUSH_S)
            self._something.clear()
            try:
                self.flush()
            except Unavailable:
                log.warning("usage waits for Valkey")
            except Exception:
                log.exception("usage could not be told")


def _send(taken: Mapping[_Key, _Pending]) -> dict[_Key, Counts]:
    """One round trip; the counts of each tenant that had requests."""
    pipe, asked = client().pipeline(transaction=False), {}
    for (tenant_id, when), untold in taken.items():
        if untold.requests:
            rate = tenant_key(tenant_id, "rate", str(when.window))
            asked[tenant_id, when] = len(pipe)
            pipe.incrby(month_key(tenant_id, when.period), untold.requests)
            pipe.incrby(rate, untold.requests)
            pipe.expire(rate, 2 * WINDOW_S)
            pipe.hincrbyfloat(day_key(tenant_id, when.day), "requests", untold.requests)
        for kind, amount in untold.amounts.items():
            pipe.hincrbyfloat(day_key(tenant_id, when.day), kind, amount)
        pipe.sadd(DIRTY, f"{tenant_id}/{when.day}")
    answers = pipe.execute()
    return {key: Counts(int(answers[at]), int(answers[at + 1])) for key, at in asked.items()}


rate_counter = RateCounter()


@atexit.register
def _flush_at_exit() -> None:
    with contextlib.suppress(Unavailable):
        rate_counter.flush()
