"""Whose upkeep is due: all tenants in ranges by their ids, each looked after once a period by one process of any host.

Whoever has time takes the range that has waited longest and goes on to the next. So one worker does all of them where
it can, and where it cannot, others join: two never look after the same range at a time (`leases`), and what a worker
that died had taken goes on with another a minute later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import F, Q
from django.db.models.functions import Now

from tenants.accounts import leases
from tenants.accounts.operator_models import UpkeepRange

RANGES = 64
PERIOD_S: int = settings.UPKEEP_S
# Of this process: one thread looks after tenants, the others of its queue stay for what is short.
_busy = threading.Lock()


def tend_due(tend: Callable[[list[UUID], int], object]) -> int:
    """Call `tend` with the tenants of each range that is due, and how often that was done before; returns how many.

    0 while another thread of this process does so.
    """
    if not _busy.acquire(blocking=False):
        return 0
    try:
        return sum(_tend_range(number, tend) for number in _due())
    finally:
        _busy.release()


def want_all() -> None:
    """Have every range looked after now, also those that somebody has just begun."""
    _make()
    UpkeepRange.objects.update(wanted_at=Now())


def _make() -> None:
    if UpkeepRange.objects.count() < RANGES:
        rows = (UpkeepRange(number=number) for number in range(RANGES))
        UpkeepRange.objects.bulk_create(rows, ignore_conflicts=True)


def _due() -> list[int]:
    """The longest waiting first."""
    _make()
    found = UpkeepRange.objects.filter(_is_due()).order_by(F("started_at").asc(nulls_first=True), "number")
    return list(found.values_list("pk", flat=True))


def _is_due() -> Q:
    """By the clock of the database: those of hosts differ."""
    by_time = Q(started_at=None) | Q(started_at__lt=Now() - timedelta(seconds=PERIOD_S))
    return by_time | Q(wanted_at__gt=F("started_at"))


def _tend_range(number: int, tend: Callable[[list[UUID], int], object]) -> bool:
    with leases.held(f"upkeep:{number:02d}") as mine:
        # Somebody else may have looked after it since it was found.
        if not mine or not UpkeepRange.objects.filter(_is_due(), pk=number).update(
            started_at=Now(), runs=F("runs") + 1
        ):
            return False
        tend(_tenants_of(number), UpkeepRange.objects.get(pk=number).runs)
        return True


def _tenants_of(number: int) -> list[UUID]:
    """By the last byte of the id: the first ones are of the time when a tenant was made, so that they would fill one
    range after the other."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM tenant WHERE get_byte(uuid_send(id), 15) %% %s = %s", [RANGES, number])
        return [tenant_id for (tenant_id,) in cursor.fetchall()]
