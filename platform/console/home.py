"""The first page: what came in lately, as charts, and what needs somebody's attention."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console import labels
from console.access import Request, needs, page
from console.charts import Bar, bars_of
from console.presenters import job_lines
from tenants.accounts import metering, quotas
from tenants.accounts.models import Tenant
from tenants.accounts.permissions import ADMIN, MODERATE, READ, TRAIN
from tenants.accounts.security import security_of
from tenants.datasets import selectors as datasets
from tenants.events.models import Webhook
from tenants.ids import first_id_of
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.learning.models import LearntModel, Promotion
from tenants.moderation.models import Review
from tenants.moderation.reviews.cases import WAITING
from tenants.people import approvals
from tenants.retrieval.models import IndexGeneration

DAYS = (7, 30)

#: Kinds of usage that are drawn.
DRAWN = (
    ("assets", gettext_lazy("Assets added")),
    ("searches", gettext_lazy("Searches")),
    ("audits", gettext_lazy("Audits")),
)

WIDTH, HEIGHT = 300, 64

# More are not counted: a number that large only tells that there is work.
MANY = 100

# What is older than this was seen by somebody, or does not matter any more.
RECENT = dt.timedelta(days=7)

QUOTA_HIGH = 0.8

# Datasets with failed assets that are named one by one.
NAMED = 3


# --- Charts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    kind: str
    label: Any
    total: float
    bars: list[Bar]


def series_of(days: int) -> list[Series]:
    """What was done on each of the last days, today included. In the tenant's scope."""
    last = timezone.now().date()
    dates = [last - dt.timedelta(days=back) for back in reversed(range(days))]
    amounts = {(day, kind): amount for day, kind, amount in metering.usage(first=dates[0], last=last)}
    return [
        _series(kind, label, [(day, amounts.get((day, kind), 0)) for day in dates]) for kind, label in DRAWN
    ]


def _series(kind: str, label: object, points: list[tuple[dt.date, float]]) -> Series:
    return Series(kind, label, sum(amount for _, amount in points), bars_of(points, WIDTH, HEIGHT))


def table_of(series: list[Series]) -> list[tuple[dt.date, list[float]]]:
    """The same as rows, the newest day first."""
    columns = [one.bars for one in series]
    return [
        (bars[0].day, [bar.amount for bar in bars]) for bars in reversed(list(zip(*columns, strict=True)))
    ]


# --- What needs attention --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionItem:
    """Something that somebody should look at: words, where to go, and whether it is broken or only waits."""

    words: str
    address: str
    symbol: str
    broken: bool = False


def attention_items(
    tenant: Tenant, scopes: Collection[str], datasets: Iterable[Any], quotas: dict[str, dict[str, Any]]
) -> list[AttentionItem]:
    """What a person with these scopes can do something about, the broken first. In the tenant's scope."""
    found = [*_failed_assets(datasets), *_failed_jobs(), *_damaged_indexes(), *_nearly_used_quotas(quotas)]
    if MODERATE in scopes:
        found += _overdue_reviews()
    if TRAIN in scopes:
        found += _waiting_models()
    if ADMIN in scopes:
        found += _disabled_webhooks()
        found += _waiting_operators(tenant)
    return sorted(found, key=lambda one: not one.broken)


def _failed_assets(datasets: Iterable[Any]) -> Iterator[AttentionItem]:
    bad = sorted((one for one in datasets if one.failed_count), key=lambda one: -one.failed_count)
    for one in bad[:NAMED]:
        words = ngettext(
            "%(count)s asset of “%(name)s” could not be indexed",
            "%(count)s assets of “%(name)s” could not be indexed",
            one.failed_count,
        ) % {"count": f"{one.failed_count:,}", "name": one.name}
        address = f"{reverse('console:dataset', args=[one.id])}?status=failed"
        yield AttentionItem(words, address, "exclamation-circle", broken=True)


def _failed_jobs() -> Iterator[AttentionItem]:
    # The index of states ends with the id, and ids count up with time.
    recent = Job.objects.filter(state=Job.State.FAILED, pk__gte=first_id_of(timezone.now() - RECENT))
    if number := _count_capped(recent):
        words = ngettext("%(count)s job failed this week", "%(count)s jobs failed this week", number)
        address = f"{reverse('console:jobs')}?state=failed"
        yield AttentionItem(words % {"count": _format_count(number)}, address, "list-task", broken=True)


def _damaged_indexes() -> Iterator[AttentionItem]:
    since = timezone.now() - RECENT
    damaged = IndexGeneration.objects.filter(state=IndexGeneration.State.FAILED, created_at__gte=since)
    if number := _count_capped(damaged):
        words = ngettext(
            "%(count)s search index was given up this week and is built anew",
            "%(count)s search indexes were given up this week and are built anew",
            number,
        )
        yield AttentionItem(words % {"count": _format_count(number)}, reverse("console:jobs"), "layers")


def _nearly_used_quotas(quotas: dict[str, dict[str, Any]]) -> Iterator[AttentionItem]:
    for name, entry in quotas.items():
        used, limit = entry["used"] + entry["reserved"], entry["limit"]
        if limit and used / limit > QUOTA_HIGH:
            words = _("%(resource)s: %(share)s %% of the plan is used") % {
                "resource": labels.label_of(labels.RESOURCES, name),
                "share": int(100 * used / limit),
            }
            yield AttentionItem(words, "#plan", "speedometer2", broken=used >= limit)


def _overdue_reviews() -> Iterator[AttentionItem]:
    if number := _count_capped(Review.objects.filter(state__in=WAITING, due_at__lt=timezone.now())):
        words = ngettext("%(count)s review is overdue", "%(count)s reviews are overdue", number)
        yield AttentionItem(words % {"count": _format_count(number)}, reverse("console:reviews"), "inbox")


def _waiting_models() -> Iterator[AttentionItem]:
    # A candidate that nobody tried to promote, and one that was embedded and does worse.
    for model in LearntModel.objects.filter(
        state=LearntModel.State.CANDIDATE, promotions=None, trained_at__gte=timezone.now() - 4 * RECENT
    ).order_by("-id")[:NAMED]:
        words = _("The model “%(name)s” is trained and waits for its promotion") % {"name": model.name}
        yield AttentionItem(words, reverse("console:model", args=[model.id]), "cpu")
    for promotion in Promotion.objects.select_related("model").filter(state=Promotion.State.READY)[:NAMED]:
        if promotion.model:
            words = _("The model “%(name)s” does worse than the live one: decide what becomes of it")
            address = reverse("console:model", args=[promotion.model_id])
            yield AttentionItem(words % {"name": promotion.model.name}, address, "cpu")


def _disabled_webhooks() -> Iterator[AttentionItem]:
    # One that a person switched off is no concern.
    silent = Webhook.objects.filter(state=Webhook.State.DISABLED).exclude(reason="")
    if number := _count_capped(silent):
        words = ngettext(
            "%(count)s webhook was disabled, as its deliveries failed",
            "%(count)s webhooks were disabled, as their deliveries failed",
            number,
        )
        yield AttentionItem(
            words % {"count": _format_count(number)}, reverse("console:webhooks"), "broadcast", broken=True
        )


def _waiting_operators(tenant: Tenant) -> Iterator[AttentionItem]:
    # Who asks for no approval pays no query for it.
    if not security_of(tenant).operator_approval:
        return
    if number := approvals.count_waiting():
        words = ngettext(
            "%(count)s operator asks for an owner’s approval",
            "%(count)s operators ask for an owner’s approval",
            number,
        )
        yield AttentionItem(words % {"count": number}, reverse("console:security-operators"), "shield-lock")


def _count_capped(rows: QuerySet) -> int:
    """How many there are; MANY + 1 for more."""
    return rows.order_by()[: MANY + 1].count()


def count_up_to(rows: QuerySet) -> str:
    """How many there are, as text; "100+" for more than that."""
    return _format_count(_count_capped(rows))


def _format_count(number: int) -> str:
    return f"{MANY}+" if number > MANY else str(number)


RECENT_JOBS = 6


@needs(READ)
def show(request: Request) -> HttpResponse:
    """`?days=` says how far back the charts reach."""
    days = 30 if request.GET.get("days") == "30" else 7
    with request.workspace.open():
        rows = list(datasets.counted_datasets())
        usage = quotas.summary()
        series = series_of(days)
        context = {
            "datasets": rows[:RECENT_JOBS],
            "counts": _counts(rows, usage),
            "quotas": [_bar(name, entry) for name, entry in usage.items() if _is_relevant(entry)],
            "jobs": job_lines(list(jobs.list_jobs()[:RECENT_JOBS])),
            "queue": _queue(),
            "concerns": attention_items(request.workspace.tenant, request.workspace.scopes, rows, usage),
            "days": days,
            "spans": DAYS,
            "series": series,
            "table": table_of(series),
            "box": (WIDTH, HEIGHT),
        }
    return page(request, "home.html", context)


def _counts(rows: list[Any], usage: dict[str, Any]) -> dict[str, float]:
    assets, ready = sum(row.asset_count for row in rows), sum(row.ready_count for row in rows)
    return {
        _("Datasets"): len(rows),
        _("Assets"): assets,
        _("Ready to be found"): ready,
        _("Vectors"): usage["vectors"]["used"],
    }


def _queue() -> dict[str, str]:
    """How many jobs wait and run, up to a number that only says "many"."""
    return {state: count_up_to(Job.objects.filter(state=state)) for state in ("queued", "running")}


def _is_relevant(entry: dict[str, Any]) -> bool:
    return bool(entry["limit"] or entry["used"])


def _bar(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    used, limit = entry["used"] + entry["reserved"], entry["limit"]
    return {"name": name, "used": used, "limit": limit, "share": min(1, used / limit) if limit else None}
