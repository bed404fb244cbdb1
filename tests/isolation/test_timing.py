"""Time tells nothing about another tenant: `make isolation-timing` over 10,000 pairs, a few here."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.isolation import timing
from tests.isolation.world import World

PAIRS = int(os.environ.get("ISOLATION_PAIRS", "10"))
#: With fewer pairs chance alone passes it.
ENOUGH = 1_000
BOUND_BITS = 0.01


def latencies(count: int, later_s: float, seed: int) -> np.ndarray:
    """Of a busy machine: 10 ms and a long tail."""
    chance = np.random.default_rng(seed)
    return 0.01 + later_s + chance.lognormal(-7, 1, count)


def test_the_estimator_sees_a_planted_leak() -> None:
    found = timing.information(latencies(200, 0.0, 1), latencies(200, 0.002, 2))
    assert found.bits > 0.3
    assert found.bits > found.shuffled


def test_the_estimator_sees_a_small_leak_in_many_pairs() -> None:
    """A fifth of a millisecond where the spread is one."""
    found = timing.information(latencies(10_000, 0.0, 1), latencies(10_000, 0.0002, 2))
    assert found.bits > BOUND_BITS


def test_the_estimator_sees_nothing_where_nothing_is() -> None:
    for seed in range(5):
        found = timing.information(latencies(10_000, 0.0, seed), latencies(10_000, 0.0, 100 + seed))
        assert found.bits < 0.001


@pytest.mark.slow
@pytest.mark.timeout(max(300, PAIRS))
def test_time_does_not_tell_what_another_tenant_has(
    victim: World, attacker: World, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for name, (prime, ask) in timing.channels(victim, attacker).items():
        told[name] = timing.measured(prime, ask, PAIRS, seed=19)
    with capsys.disabled():
        print()  # noqa: T201 - a run says what it met
        for name, found in told.items():
            print(f"{name:30} {found}")  # noqa: T201
    assert {found.pairs for found in told.values()} == {PAIRS}
    if PAIRS >= ENOUGH:
        assert {name: found.bits for name, found in told.items() if found.bits >= BOUND_BITS} == {}
