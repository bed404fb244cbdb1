"""Counting in the process and in Valkey: how often Valkey is asked, that limits hold, that nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from django.utils import timezone

from tenants.accounts import api_admission, keys, metering, rate_counter
from tenants.accounts.models import KeyDigest
from tenants.accounts.rate_counter import Limits, RateCounter, When
from tenants.valkey import client
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
NOW = When("2026-01-01", "2026-01", 29_000_000)


class Wire:
    """Valkey, with a count of the pipelines that went there."""

    def __init__(self) -> None:
        self.trips = 0

    def pipeline(self, transaction: bool) -> redis.client.Pipeline:
        self.trips += 1
        return client().pipeline(transaction=transaction)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    monkeypatch.setattr(rate_counter, "client", lambda: wire)
    return wire


@pytest.fixture
def tenant() -> Iterator[str]:
    made = str(uuid.uuid4())
    yield made
    for key in client().scan_iter(f"t:{made}:*"):
        client().delete(key)
    client().srem(rate_counter.DIRTY, f"{made}/{NOW.day}")


def told(tenant: str) -> tuple[float, int]:
    """Requests of the day and of the month, as Valkey has them."""
    day = client().hget(rate_counter.day_key(tenant, NOW.day), "requests")
    return float(day or 0), int(client().get(rate_counter.month_key(tenant, NOW.period)) or 0)


def test_without_limits_many_requests_take_few_round_trips(wire: Wire, tenant: str) -> None:
    counts = RateCounter()
    seen = [counts.request(tenant, NOW, Limits()).month for _ in range(500)]
    assert seen == list(range(1, 501))
    assert wire.trips <= 3
    until(lambda: told(tenant) == (500, 500))
    assert client().sismember(rate_counter.DIRTY, f"{tenant}/{NOW.day}")


def test_amounts_are_told_with_the_requests(wire: Wire, tenant: str) -> None:
    counts = RateCounter()
    counts.request(tenant, NOW, Limits())
    for _ in range(3):
        counts.add(tenant, NOW, {"searches": 1, "cpu_s": 0.5})
    assert wire.trips == 1
    counts.flush()
    assert wire.trips == 2
    stored = client().hgetall(rate_counter.day_key(tenant, NOW.day))
    assert {kind: float(amount) for kind, amount in stored.items()} == {
        b"requests": 1,
        b"searches": 3,
        b"cpu_s": 1.5,
    }
    counts.flush()
    assert wire.trips == 2


def test_in_one_process_exactly_the_limit_passes_whoever_asks(wire: Wire, tenant: str) -> None:
    counts, limits = RateCounter(), Limits(rate=150)
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: counts.request(tenant, NOW, limits).rate, range(300)))
    assert sum(rate <= 150 for rate in seen) == 150
    # Far from the limit without a round trip each, near to it with one.
    assert 30 < wire.trips < 290


@pytest.mark.parametrize("limit", ["rate", "month"])
def test_several_processes_meet_at_the_limit(wire: Wire, tenant: str, limit: str) -> None:
    processes, limits = [RateCounter() for _ in range(3)], Limits(**{limit: 100})
    passed = sum(
        getattr(processes[turn % 3].request(tenant, NOW, limits), limit) <= 100 for turn in range(400)
    )
    assert 100 <= passed <= 100 + 3 * 100 / rate_counter.SHARE
    for process in processes:
        process.flush()
    assert told(tenant) == (400, 400)


def test_a_new_window_begins_at_one(tenant: str) -> None:
    counts, limits = RateCounter(), Limits(rate=1_000)
    assert [counts.request(tenant, NOW, limits).rate for _ in range(20)] == list(range(1, 21))
    later = When(NOW.day, NOW.period, NOW.window + 1)
    after = counts.request(tenant, later, limits)
    assert after.rate == 1
    counts.flush()
    assert told(tenant) == (21, 21)


def test_what_could_not_be_told_is_told_later(
    wire: Wire, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = RateCounter()
    gone = redis.Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.2, retry=None)
    with monkeypatch.context() as away:
        away.setattr(rate_counter, "client", lambda: gone)
        with pytest.raises(redis.RedisError):
            counts.request(tenant, NOW, Limits())
        counts.add(tenant, NOW, {"requests": 1})
        with pytest.raises(redis.RedisError):
            counts.flush()
    until(lambda: told(tenant) == (2, 1))


def test_nothing_is_lost_when_a_process_ends(party) -> None:
    """A process that counts and ends at once, before anything is told by itself."""
    script = (
        "import django; django.setup()\n"
        "from tenants.accounts import metering\n"
        f"for _ in range(25): metering.note(tenant_id={str(party.id)!r}, amounts={{'searches': 1}})\n"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=env, timeout=60)
    key = rate_counter.day_key(party.id, metering.today())
    assert float(client().hget(key, "searches")) == 25


def test_a_known_key_takes_no_round_trip_and_stops_within_a_second_everywhere(
    party, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert api_admission.identify(party.token) is not None
    with monkeypatch.context() as counted:
        asked: list[str] = []
        counted.setattr(api_admission, "cached", lambda prefix: asked.append(prefix))
        assert all(api_admission.identify(party.token) for _ in range(20))
        assert api_admission.identify(party.token + "x") is None
        assert asked == []
    # As another process revokes it: this one hears of nothing.
    prefix = party.token.partition(".")[0]
    KeyDigest.objects.filter(prefix=prefix).update(revoked_at=timezone.now())
    client().set(keys.cache_key(prefix), b"{}", ex=keys.CACHE_S)
    threading.Event().wait(keys.RECENT_S + 0.05)
    assert api_admission.identify(party.token) is None
