"""Quotas: reserved when work is accepted, settled when it is done.

Stocks (assets, bytes, vectors) live for ever; the others are flows, which count per calendar month, UTC.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress

from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts.models import RESOURCES, QuotaCounter, Reservation, Tenant
from tenants.errors import QuotaExceeded
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import Unavailable, client, tenant_key

STOCKS = frozenset({"assets", "bytes", "vectors"})
REFUSALS_KEPT_S = 24 * 3600


def current_period() -> str:
    return timezone.now().strftime("%Y-%m")


def limits() -> dict[str, float]:
    """The active tenant's ceilings; absent means unlimited."""
    return Tenant.objects.select_related("plan").get(pk=current_tenant_id()).limits


def metadata_limit() -> float | None:
    """Bytes that the metadata of one asset of the active tenant may have; None for no limit."""
    return Tenant.objects.select_related("plan").get(pk=current_tenant_id()).metadata_limit


def is_only_tenant() -> bool:
    """Whether nobody but one tenant may use this installation now. Needs no scope."""
    active = Tenant.objects.filter(state=Tenant.State.ACTIVE).order_by().values_list("pk", flat=True)
    return len(active[:2]) < 2


def reserve(*, owner: uuid.UUID, amounts: Mapping[str, float]) -> None:
    """Hold `amounts` for the work `owner`, or raise QuotaExceeded and hold nothing. Runs in the caller's scope."""
    period, ceilings = current_period(), limits()
    with tenant_scope(current_tenant_id()):
        for resource, amount in sorted(amounts.items()):
            _hold(resource, amount, period, ceilings.get(resource))
        Reservation.objects.create(owner=owner, amounts=dict(amounts), period=period)


def charge(*, amounts: Mapping[str, float]) -> None:
    """Use `amounts` at once, or raise QuotaExceeded and use nothing. Runs in the caller's scope."""
    period, ceilings = current_period(), limits()
    with tenant_scope(current_tenant_id()):
        for resource, amount in sorted(amounts.items()):
            counter = _with_room(resource, amount, period, ceilings.get(resource))
            QuotaCounter.objects.filter(pk=counter.pk).update(used=F("used") + amount)


def check_room(amounts: Mapping[str, float]) -> None:
    """Raises QuotaExceeded if these amounts would not fit now; holds nothing."""
    ceilings = limits()
    for resource, amount in sorted(amounts.items()):
        _with_room(resource, amount, current_period(), ceilings.get(resource))


def _hold(resource: str, amount: float, period: str, ceiling: float | None) -> None:
    counter = _with_room(resource, amount, period, ceiling)
    QuotaCounter.objects.filter(pk=counter.pk).update(reserved=F("reserved") + amount)


def _with_room(resource: str, amount: float, period: str, ceiling: float | None) -> QuotaCounter:
    counter = _locked(resource, period)
    if ceiling is not None and counter.used + counter.reserved + amount > ceiling:
        _note_refusal(resource)
        raise QuotaExceeded(
            _(
                "The plan allows %(ceiling)s %(resource)s; %(size)s are used or reserved and this needs "
                "%(amount)s more. Delete something, or ask the operator for a larger plan."
            )
            % {
                "ceiling": f"{ceiling:g}",
                "resource": resource,
                "size": f"{counter.used + counter.reserved:g}",
                "amount": f"{amount:g}",
            },
            resource=resource,
            limit=ceiling,
        )
    return counter


def _note_refusal(resource: str) -> None:
    """Outside the database, as the refusal undoes its transaction; see `refused`."""
    key = tenant_key(current_tenant_id(), "refused")
    with suppress(Unavailable):
        pipe = client().pipeline(transaction=False)
        pipe.sadd(key, f"{resource}/{current_period()}").expire(key, REFUSALS_KEPT_S).execute()


def refused() -> set[str]:
    """Resources of which the active tenant was refused some lately, this month."""
    try:
        members = client().smembers(tenant_key(current_tenant_id(), "refused"))
    except Unavailable:
        return set()
    noted = (member.decode().split("/") for member in members)
    return {resource for resource, period in noted if period == current_period()}


def _locked(resource: str, period: str) -> QuotaCounter:
    period = "" if resource in STOCKS else period
    # INSERT … ON CONFLICT DO NOTHING first: two requests may both be the first of a month.
    QuotaCounter.objects.bulk_create([QuotaCounter(resource=resource, period=period)], ignore_conflicts=True)
    return QuotaCounter.objects.select_for_update().get(resource=resource, period=period)


def settle(*, owner: uuid.UUID, used: Mapping[str, float]) -> None:
    """Turn the reservation of `owner` into what was really used; a second call changes nothing."""
    with tenant_scope(current_tenant_id()):
        reservation = Reservation.objects.select_for_update().filter(owner=owner).first()
        if reservation is None:
            return
        for resource in sorted({*reservation.amounts, *used}):
            held, spent = reservation.amounts.get(resource, 0), used.get(resource, 0)
            counter = _locked(resource, reservation.period)
            QuotaCounter.objects.filter(pk=counter.pk).update(
                reserved=F("reserved") - held, used=F("used") + spent
            )
        reservation.delete()


def give_back(*, amounts: Mapping[str, float]) -> None:
    """Lower what is used of stocks, after a deletion."""
    with tenant_scope(current_tenant_id()):
        for resource, amount in sorted(amounts.items()):
            counter = _locked(resource, "")
            QuotaCounter.objects.filter(pk=counter.pk).update(used=F("used") - amount)


def summary() -> dict[str, dict[str, float | None]]:
    """Per resource: `{used, reserved, limit}` of the active tenant, this month for flows."""
    ceilings, period = limits(), current_period()
    counters = {c.resource: c for c in QuotaCounter.objects.filter(period__in=["", period])}
    return {
        resource: {
            "used": _plain(counters[resource].used) if resource in counters else 0,
            "reserved": _plain(counters[resource].reserved) if resource in counters else 0,
            "limit": ceilings.get(resource),
        }
        for resource in RESOURCES
    }


def room() -> dict[str, float]:
    """What is left of each limited resource, neither used nor reserved; what has no limit is not in it."""
    return {
        resource: max(0, limit - (row["used"] or 0) - (row["reserved"] or 0))
        for resource, row in summary().items()
        if (limit := row["limit"]) is not None
    }


def _plain(amount: float) -> float:
    """Without what adding and subtracting floats leaves behind; whole numbers as such."""
    rounded = round(amount, 6)
    return int(rounded) if rounded == int(rounded) else rounded
