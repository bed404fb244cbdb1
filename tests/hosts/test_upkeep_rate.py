"""How many tenants one worker looks after in a period of upkeep: printed, as docs/scaling.md computes with it."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tenants.pipeline.upkeep import periodic, ranges
from tests.conftest import Party

TENANTS = 60


def test_tenants_of_a_worker_in_a_period(
    make_party: Callable[..., Party], tell: Callable[[str], None]
) -> None:
    """Of tenants in which nothing is to be done, as most are; the first round also makes what later ones find."""
    ids = [make_party().id for _ in range(TENANTS)]
    periodic._tend(ids, 0)
    cpu, start = time.process_time(), time.monotonic()
    periodic._tend(ids, 1)
    cpu, wall = (time.process_time() - cpu) / TENANTS, (time.monotonic() - start) / TENANTS
    with CaptureQueriesContext(connection) as asked:
        periodic._tend(ids[:1], 2)
    by_cpu = int(ranges.PERIOD_S / cpu)
    tell(
        f"upkeep of a tenant: {len(asked)} statements, {1000 * wall:.0f} ms, {1000 * cpu:.0f} ms of a worker's CPU"
    )
    tell(f"so a worker with a core looks after {by_cpu:,} tenants in {ranges.PERIOD_S} s")
    assert len(asked) <= 150
