"""Tenants as operators see them: who they are, what they use, what waits or failed. Never their content."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.accounts.models import (
    Acting,
    Invitation,
    KeyDigest,
    Membership,
    OperatorAct,
    Plan,
    QuotaCounter,
    Tenant,
)
from tenants.accounts.operators import list_acts
from tenants.errors import NotFound
from tenants.events.models import Export
from tenants.jobs.models import Job, JobDispatch
from tenants.people.plans import list_plans
from tenants.pipeline.transfer import exports
from tenants.scope import operator_scope, tenant_scope

# Of a list that is only a hint.
FEW = 10
# Tenants that are read at a time where all are.
STEP = 500
# A quota that is used so far is soon at its end.
NEAR = 0.9
SHOWN = ("assets", "bytes", "vectors", "requests")


def list_tenants(*, q: str = "", state: str = "", plan: str = "", after: str = "") -> QuerySet[Tenant]:
    """Tenants by slug, those after the slug `after`; `q` is looked for in slug and name."""
    rows = Tenant.objects.select_related("plan").order_by("slug")
    if q:
        rows = rows.filter(Q(slug__icontains=q) | Q(name__icontains=q))
    wanted = {name: value for name, value in (("state", state), ("plan", plan), ("slug__gt", after)) if value}
    return rows.filter(**wanted)


def with_usage(tenants: Sequence[Tenant]) -> list[dict[str, Any]]:
    """Each with what it uses of its limits, in one query for all."""
    ids = [tenant.id for tenant in tenants]
    with operator_scope("list tenants with what they use"):
        counters = list(QuotaCounter.objects.filter(tenant__in=ids, period__in=["", quotas.current_period()]))
    used: dict[uuid.UUID, dict[str, float]] = {}
    for counter in counters:
        used.setdefault(counter.tenant_id, {})[counter.resource] = counter.used
    return [{"tenant": t, "usage": _bars(t, used.get(t.id, {}), SHOWN)} for t in tenants]


def _bars(tenant: Tenant, used: dict[str, float], names: Sequence[str]) -> list[dict[str, Any]]:
    limits = tenant.limits
    return [bar(name, used.get(name, 0), limits.get(name)) for name in names]


def bar(name: str, used: float, limit: float | None) -> dict[str, Any]:
    """What is used of a ceiling; `percent` is None where there is none."""
    percent = None
    if limit is not None:
        percent = 100 if limit <= 0 else max(0, min(100, round(100 * used / limit)))
    return {"name": name, "used": used, "limit": limit, "percent": percent}


def near_quota(limit: int = FEW) -> list[dict[str, Any]]:
    """Tenants that have used most of a quota, the fullest first."""
    with operator_scope("look for tenants near their quota"):
        rows = list(
            QuotaCounter.objects.filter(period__in=["", quotas.current_period()], used__gt=0)
            .exclude(tenant__state=Tenant.State.SUSPENDED)
            .select_related("tenant__plan")
        )
    bars = [(row.tenant, bar(row.resource, row.used, row.tenant.limits.get(row.resource))) for row in rows]
    full = [(t, one) for t, one in bars if one["limit"] and one["used"] >= NEAR * one["limit"]]
    full.sort(key=lambda pair: pair[1]["used"] / pair[1]["limit"], reverse=True)
    return [{"tenant": t, **one} for t, one in full[:limit]]


def _in_month(month: str) -> QuerySet[QuotaCounter]:
    """Counters of a month, `YYYY-MM`. What is held, such as bytes, is known as of now alone: in the current one."""
    periods = ["", month] if month == quotas.current_period() else [month]
    return QuotaCounter.objects.filter(period__in=periods)


def usage_by_plan(month: str) -> list[tuple[Plan, dict[str, float]]]:
    """Each plan, with the number of tenants that have it now as `used_by`, and what they used in the month."""
    with operator_scope("sum up usage by plan"):
        sums = list(
            _in_month(month).order_by().values_list("tenant__plan_id", "resource").annotate(total=Sum("used"))
        )
    used: dict[str, dict[str, float]] = {}
    for plan, resource, total in sums:
        used.setdefault(plan, {})[resource] = total
    return [(plan, used.get(plan.slug, {})) for plan in list_plans()]


def usage_in_month(tenants: Sequence[Tenant], month: str) -> list[tuple[Tenant, dict[str, float]]]:
    """What each used in the month by resource, in one query for all."""
    with operator_scope("list usage of a month"):
        counters = list(_in_month(month).filter(tenant__in=[tenant.id for tenant in tenants]))
    used: dict[uuid.UUID, dict[str, float]] = {}
    for counter in counters:
        used.setdefault(counter.tenant_id, {})[counter.resource] = counter.used
    return [(tenant, used.get(tenant.id, {})) for tenant in tenants]


def all_usage_in_month(month: str, plan: str = "") -> Iterator[tuple[Tenant, dict[str, float]]]:
    """As `usage_in_month`, of every tenant by slug, some hundreds at a time."""
    after = ""
    while tenants := list(list_tenants(plan=plan, after=after)[:STEP]):
        yield from usage_in_month(tenants, month)
        after = tenants[-1].slug


@dataclass(frozen=True)
class Figures:
    tenant: Tenant
    usage: list[dict[str, Any]]
    members: list[Membership]
    invitations: list[Invitation]
    keys: dict[str, int]
    waiting: int
    failed: list[Job]
    exports: list[Export]
    acts: list[OperatorAct]
    acting: list[Acting]


def get_tenant(slug: str) -> Tenant:
    """Raises NotFound."""
    tenant = Tenant.objects.select_related("plan", "security").filter(slug=slug).first()
    if tenant is None:
        raise NotFound(_("This tenant does not exist."))
    return tenant


def figures_of(slug: str) -> Figures:
    """One tenant, in a constant number of queries. Raises NotFound."""
    tenant = get_tenant(slug)
    with tenant_scope(tenant.id):
        used = {name: values["used"] or 0 for name, values in quotas.summary().items()}
        jobs = Job.objects.filter(state=Job.State.FAILED).select_related("tenant__security")
        failed = list(jobs.order_by("-id")[:FEW])
        recent_exports = list(exports.list_exports()[:FEW])
    live = Q(revoked_at=None)
    keys = KeyDigest.objects.filter(tenant=tenant).aggregate(
        all=Count("prefix"), live=Count("prefix", filter=live)
    )
    return Figures(
        tenant=tenant,
        usage=_bars(tenant, used, list(used)),
        members=list(
            Membership.objects.select_related("user").filter(tenant=tenant).order_by("role", "id")[:FEW]
        ),
        invitations=list(Invitation.objects.filter(tenant=tenant, accepted_at=None).order_by("-id")[:FEW]),
        keys=keys,
        waiting=JobDispatch.objects.filter(tenant_id=tenant.id)[:1001].count(),
        failed=failed,
        exports=recent_exports,
        acts=list(list_acts(target=slug)[:FEW]),
        acting=list(Acting.objects.select_related("operator").filter(tenant=tenant).order_by("-id")[:FEW]),
    )
