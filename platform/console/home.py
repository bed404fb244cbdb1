"""The first page: how to begin, what came in lately, as charts, and what needs somebody's attention."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, QuerySet, Subquery
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console import labels
from console.access import Request, Workspace, actor_of, needs, page
from console.charts import Bar, bars_of
from console.job_subjects import job_lines
from tenants.accounts import metering, quotas
from tenants.accounts.models import ApiKey, Invitation, Membership, Tenant, UsageDay
from tenants.accounts.permissions import ADMIN, MODERATE, READ, SEARCH, TRAIN, WRITE
from tenants.accounts.security import security_of
from tenants.datasets import selectors as datasets
from tenants.events.models import Webhook
from tenants.ids import first_id_of
from tenants.jobs import selectors as jobs
from tenants.jobs.models import Job
from tenants.learning.models import LearntModel, Promotion
from tenants.moderation import reviews
from tenants.moderation.models import Appeal, Backtest, Policy, PolicyActivation, Review
from tenants.moderation.reviews.cases import WAITING
from tenants.people import approvals, members
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


# --- How to begin ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One of the first things to do: its words, the label of the link that leads there, and whether it was done."""

    title: Any
    words: Any
    action: Any
    address: str
    done: bool


@dataclass(frozen=True)
class Checklist:
    steps: list[Step]

    @property
    def done(self) -> int:
        return sum(step.done for step in self.steps)

    @property
    def next(self) -> Step:
        """The first that is not done."""
        return next(step for step in self.steps if not step.done)


def checklist_of(
    workspace: Workspace, user_id: uuid.UUID, datasets: list[Any], series: list[Series]
) -> Checklist | None:
    """What somebody with this role can do to begin; None once all is done, or was dismissed.

    One query where it is shown, however much there is. In the tenant's scope.
    """
    if not workspace.shows_checklist:
        return None
    found = _first_rows(workspace.tenant, user_id)
    # Of the last minutes, searches are not in the database yet.
    lately = any(one.total for one in series if one.kind == "searches")
    known = {**found, "searched": found["searched"] or lately}
    steps = [step for scope, step in _steps(known, datasets) if scope in workspace.scopes]
    return Checklist(steps) if not all(step.done for step in steps) else None


def _first_rows(tenant: Tenant, user_id: uuid.UUID) -> Mapping[str, Any]:
    """What of the first steps has left a row, the newest policy, and the newest model that may be promoted."""
    others = Membership.objects.filter(tenant=tenant).exclude(user=user_id)
    return (
        Tenant.objects.filter(pk=tenant.pk)
        .annotate(
            searched=Exists(UsageDay.objects.filter(kind="searches")),
            invited=Exists(others) | Exists(Invitation.objects.filter(tenant=tenant)),
            tried=Exists(PolicyActivation.objects.all()) | Exists(Backtest.objects.all()),
            connected=Exists(ApiKey.objects.all()),
            promoted=Exists(LearntModel.objects.filter(promoted_at__isnull=False)),
            model=Subquery(
                LearntModel.objects.filter(state=LearntModel.State.CANDIDATE).order_by("-id").values("id")[:1]
            ),
            policy=Subquery(Policy.objects.order_by("-id").values("id")[:1]),
        )
        .values("searched", "invited", "tried", "connected", "policy", "promoted", "model")
        .get()
    )


def _steps(known: Mapping[str, Any], datasets: list[Any]) -> Iterator[tuple[str, Step]]:
    """Each with the scope that it takes, in the order in which they make sense."""
    upload, policy = f"{reverse('console:datasets')}?new=1", f"{reverse('console:policies')}?new=1"
    if datasets:
        upload = reverse("console:dataset", args=[datasets[0].id])
    if known["policy"]:
        policy = reverse("console:policy", args=[known["policy"]])
    yield (
        WRITE,
        Step(
            gettext_lazy("Upload something"),
            gettext_lazy(
                "Datasets hold pictures, texts, recordings and films. Each is indexed within seconds."
            ),
            gettext_lazy("Add files") if datasets else gettext_lazy("Create a dataset"),
            upload,
            done=any(one.asset_count for one in datasets),
        ),
    )
    yield (
        SEARCH,
        Step(
            gettext_lazy("Try a search"),
            gettext_lazy("By text, by picture or by voice. No training needed."),
            gettext_lazy("Search"),
            reverse("console:search"),
            done=known["searched"],
        ),
    )
    yield (
        ADMIN,
        Step(
            gettext_lazy("Invite people"),
            gettext_lazy("A role says what each of them may do."),
            gettext_lazy("Invite"),
            f"{reverse('console:people')}?new=1",
            done=known["invited"],
        ),
    )
    yield (
        MODERATE,
        Step(
            gettext_lazy("Try a policy"),
            gettext_lazy(
                "See what its rules would have decided about your content, before they decide anything."
            ),
            gettext_lazy("Open the policy") if known["policy"] else gettext_lazy("New policy"),
            policy,
            done=known["tried"],
        ),
    )
    model = known["model"]
    yield (
        TRAIN,
        Step(
            gettext_lazy("Try a model of your own"),
            gettext_lazy(
                "The fine-tune is done. Compare it on your own content, then let it answer searches."
            )
            if model
            else gettext_lazy(
                "A fine-tune learns what your words mean on your pictures, from a few hundred with captions."
            ),
            gettext_lazy("Open the model") if model else gettext_lazy("Fine-tune"),
            reverse("console:model", args=[model]) if model else reverse("console:models-finetune"),
            done=known["promoted"],
        ),
    )
    yield (
        ADMIN,
        Step(
            gettext_lazy("Create an API key"),
            gettext_lazy("Your own programs use it to upload, search and audit."),
            gettext_lazy("Create a key"),
            f"{reverse('console:keys')}?new=1",
            done=known["connected"],
        ),
    )


# --- What needs attention --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionItem:
    """Something that somebody should look at: words, where to go, and whether it is broken or only waits."""

    words: str
    address: str
    symbol: str
    broken: bool = False


def attention_items(
    tenant: Tenant,
    scopes: Collection[str],
    datasets: Iterable[Any],
    quotas: dict[str, dict[str, Any]],
    *,
    actor: str,
) -> list[AttentionItem]:
    """What a person with these scopes can do something about, the broken first. In the tenant's scope."""
    found = [*_failed_assets(datasets), *_failed_jobs(), *_damaged_indexes(), *_nearly_used_quotas(quotas)]
    found += _answered_appeals(actor)
    if MODERATE in scopes:
        found += _overdue_reviews()
        found += _waiting_appeals()
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
            "%(count)s search index was discarded this week and is being rebuilt",
            "%(count)s search indexes were discarded this week and are being rebuilt",
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


def _waiting_appeals() -> Iterator[AttentionItem]:
    if number := _count_capped(Appeal.objects.filter(state=Appeal.State.OPEN)):
        words = ngettext("%(count)s appeal waits for a person", "%(count)s appeals wait for a person", number)
        address = f"{reverse('console:appeals')}?state=open"
        yield AttentionItem(words % {"count": _format_count(number)}, address, "chat-left-text")


def _answered_appeals(actor: str) -> Iterator[AttentionItem]:
    """Answers to a member's own appeals, until they have read them."""
    found = list(reviews.unread_answers(actor=actor)[: NAMED + 1])
    if len(found) > NAMED:
        words = _("Several of your appeals were decided")
        yield AttentionItem(words, f"{reverse('console:appeals')}?own=1", "chat-left-text")
        return
    for one in found:
        upheld = one.state == Appeal.State.UPHELD
        words = (
            _("Your appeal was decided: the decision stands")
            if upheld
            else _("Your appeal was decided: the decision was overturned")
        )
        yield AttentionItem(words, reverse("console:appeal", args=[one.id]), "chat-left-text")


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
            "jobs": job_lines(list(jobs.list_jobs()[:RECENT_JOBS]), request.workspace.scopes),
            "queue": _queue(),
            "checklist": checklist_of(request.workspace, request.user.pk, rows, series),
            "concerns": attention_items(
                request.workspace.tenant,
                request.workspace.scopes,
                rows,
                usage,
                actor=actor_of(request).label,
            ),
            "days": days,
            "spans": DAYS,
            "series": series,
            "table": table_of(series),
            "box": (WIDTH, HEIGHT),
        }
    return page(request, "home.html", context)


@needs(READ, methods=("POST",))
def dismiss_checklist(request: Request) -> HttpResponse:
    with request.workspace.open():
        members.dismiss_checklist(user_id=request.user.pk)
    return redirect("console:home")


def _counts(rows: list[Any], usage: dict[str, Any]) -> dict[str, float]:
    assets, ready = sum(row.asset_count for row in rows), sum(row.ready_count for row in rows)
    return {
        _("Datasets"): len(rows),
        _("Assets"): assets,
        _("Searchable"): ready,
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
