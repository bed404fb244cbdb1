"""Usage metering without a database round trip a request.

Requests add to a hash per tenant and day in Valkey (persistent keys: never evicted, kept by its append-only file),
counted together by `tenants.accounts.rate_counter`; a scheduled flush copies the day's totals to `UsageDay`. The copy
is idempotent: totals, not increments.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping
from functools import lru_cache

from django.db import connection
from django.utils import timezone

from tenants.accounts.models import QuotaCounter, Tenant, UsageDay
from tenants.accounts.quotas import current_period
from tenants.accounts.rate_counter import DIRTY, WINDOW_S, When, day_key, month_key, rate_counter
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable, client

# A day moves from DIRTY to here while it is copied, so that a flush which dies leaves it there for the next one.
COPYING = "usage:copying"
KEEP_DAYS = 7


def today() -> str:
    return timezone.now().date().isoformat()


def record(*, tenant_id: uuid.UUID | str, amounts: Mapping[str, float]) -> None:
    """Add to today's usage of a tenant: one round trip to Valkey, none to the database."""
    pipe, day = client().pipeline(transaction=False), today()
    for kind, amount in amounts.items():
        pipe.hincrbyfloat(day_key(tenant_id, day), kind, amount)
    pipe.sadd(DIRTY, f"{tenant_id}/{day}")
    pipe.execute()


def note(*, tenant_id: uuid.UUID | str, amounts: Mapping[str, float]) -> None:
    """Like `record`, without a round trip: for what is too frequent and too cheap to wait for Valkey."""
    rate_counter.add(str(tenant_id), this_moment(), amounts)


def this_moment() -> When:
    return _moment_of(int(time.time()))


@lru_cache(maxsize=1)
def _moment_of(second: int) -> When:
    """Every request asks twice, and dates are dear to write."""
    return When(today(), current_period(), second // WINDOW_S)


def usage(*, first: dt.date, last: dt.date) -> list[tuple[dt.date, str, float]]:
    """Day, kind and amount of the active tenant's usage, by day: what was copied, and what is newer than that."""
    tenant_id = current_tenant_id()
    rows = UsageDay.objects.filter(day__gte=first, day__lte=last)
    amounts = {(row.day, row.kind): row.amount for row in rows}
    now = timezone.now().date()
    # Yesterday's last requests may not have been copied yet.
    for day in (now - dt.timedelta(days=1), now):
        if first <= day <= last:
            for kind, amount in _counted(tenant_id, day.isoformat()).items():
                amounts[day, kind] = max(amount, amounts.get((day, kind), 0))
    return [(day, kind, amount) for (day, kind), amount in sorted(amounts.items())]


def _counted(tenant_id: uuid.UUID, day: str) -> dict[str, float]:
    try:
        rate_counter.flush()
        counted = client().hgetall(day_key(tenant_id, day))
    except Unavailable:
        return {}
    return {kind.decode(): float(amount) for kind, amount in counted.items()}


def flush() -> int:
    """Copy every changed tenant-day to the database; returns how many were copied."""
    rate_counter.flush()
    store, flushed = client(), 0
    # Each by itself, and noted in the second before it goes from the first: in a Cluster they lie on two servers.
    for member in store.smembers(DIRTY) | store.smembers(COPYING):
        store.sadd(COPYING, member)
        # Moved before reading: an increment after this line marks the day dirty again.
        store.srem(DIRTY, member)
        tenant, day = member.decode().split("/")
        if Tenant.objects.filter(pk=tenant).exists():
            _copy_day(uuid.UUID(tenant), day)
            flushed += 1
        store.srem(COPYING, member)
    return flushed


def _copy_day(tenant_id: uuid.UUID, day: str) -> None:
    key = day_key(tenant_id, day)
    with tenant_scope(tenant_id), connection.cursor() as cursor:
        # One flush at a time: totals read before another flush stored newer ones would look like a lost memory.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
        totals = {kind.decode(): float(amount) for kind, amount in client().hgetall(key).items()}
        for kind, total in totals.items():
            _store_total(tenant_id, day, kind, total)
        _store_requests(tenant_id)


def _store_total(tenant_id: uuid.UUID, day: str, kind: str, total: float) -> None:
    row, created = UsageDay.objects.get_or_create(day=day, kind=kind, defaults={"amount": total})
    if created or row.amount == total:
        return
    if total < row.amount:
        # Valkey lost its memory and counts from zero: what the database knows comes on top.
        total = float(client().hincrbyfloat(day_key(tenant_id, day), kind, row.amount))
    UsageDay.objects.filter(pk=row.pk).update(amount=total)


def _store_requests(tenant_id: uuid.UUID) -> None:
    period = current_period()
    total = int(client().get(month_key(tenant_id, period)) or 0)
    counter, _ = QuotaCounter.objects.get_or_create(resource="requests", period=period)
    if total < counter.used:
        client().incrby(month_key(tenant_id, period), int(counter.used))
    elif total > counter.used:
        QuotaCounter.objects.filter(pk=counter.pk).update(used=total)


def forget_old_days(tenant_id: uuid.UUID) -> None:
    """Delete the tenant's counters in Valkey that are older than two days, or two months; the database has them."""
    today, store = timezone.now().date(), client()
    days = [(today - dt.timedelta(days=n)).isoformat() for n in range(2, 2 + KEEP_DAYS)]
    months = [(today.replace(day=1) - dt.timedelta(days=n)).strftime("%Y-%m") for n in (40, 70, 100)]
    store.delete(
        *(day_key(tenant_id, day) for day in days), *(month_key(tenant_id, month) for month in months)
    )
