"""What is wrong in the installation now: for the page that an operator looks at first. In no scope.

Each check looks at one thing and is quick; one that cannot look says so, as that is trouble, too.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext, pgettext_lazy

from tenants.accounts.models import PlanRequest, Tenant
from tenants.events.models import TenantErasure, Webhook
from tenants.jobs import worker_registry
from tenants.jobs.kinds import QUEUES
from tenants.pipeline.upkeep import job_figures, tenant_figures
from tenants.pipeline.upkeep.periodic import UPKEEP_S, canary_ages
from tenants.retrieval import index
from tenants.retrieval.models import IndexPointer
from tenants.scope import operator_scope
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)
BEGUN = time.monotonic()
# A worker that consumes lets a canary through every 15 seconds.
LATE_CANARY_S = 120
FEW = 10
# A process that ends so often within an hour keeps failing.
MANY_RESTARTS = 3
OLD_QUEUE = dt.timedelta(minutes=10)
LATELY = dt.timedelta(hours=1)
LONG_ERASURE = LONG_FAILING = dt.timedelta(hours=1)
LITTLE_ROOM, HARDLY_ROOM = 0.1, 0.03
RESOURCE_NAMES = {
    "requests": pgettext_lazy("resource", "requests"),
    "assets": pgettext_lazy("resource", "assets"),
    "bytes": pgettext_lazy("resource", "bytes"),
    "vectors": pgettext_lazy("resource", "vectors"),
    "generations": pgettext_lazy("resource", "generations"),
    "cpu_s": pgettext_lazy("resource", "CPU seconds"),
    "gpu_s": pgettext_lazy("resource", "GPU seconds"),
}


@dataclass(frozen=True)
class HealthProblem:
    """One thing that is wrong; `page` names the address of the operator's page about it, with its arguments."""

    what: str
    detail: str = ""
    page: str = ""
    slug: str = ""
    bad: bool = True


def health_problems() -> list[HealthProblem]:
    """All that is wrong, the worst first."""
    found: list[HealthProblem] = []
    for name, check in CHECKS.items():
        try:
            found.extend(check())
        except Exception:
            log.warning("a check of the installation failed", exc_info=True, extra={"check": name})
            found.append(
                HealthProblem(
                    _("“%(name)s” could not be checked") % {"name": _(name)},
                    _("See the log of the web process."),
                )
            )
    return sorted(found, key=lambda trouble: not trouble.bad)


def queues() -> list[dict[str, Any]]:
    """Of every queue: how many jobs wait, since when the oldest, and how old its last canary is."""
    try:
        ages = canary_ages()
    except Unavailable:
        ages = {}
    return [{**asdict(queue), "canary_s": ages.get(queue.name)} for queue in worker_registry.queues()]


def index_memory(limit: int = 20) -> list[dict[str, object]]:
    """The tenants whose indexes that answer now are the largest: vectors and bytes of their files."""
    with operator_scope("list the largest indexes"):
        rows = IndexPointer.objects.filter(current__isnull=False).values("tenant__slug", "tenant__name")
        sums = rows.annotate(vectors=Sum("current__vectors"), bytes=Sum("current__bytes"))
        return list(sums.order_by("-bytes", "tenant__slug")[:limit])


def _workers() -> Iterator[HealthProblem]:
    served = {queue for worker in worker_registry.workers() for queue in worker.queues}
    if missing := sorted(set(QUEUES) - served):
        what = _("No worker reports itself for the queues %(names)s") % {"names": ", ".join(missing)}
        yield HealthProblem(what, _("Start it; see its log in the data directory."), "fleet")


def _restarts() -> Iterator[HealthProblem]:
    """Processes that hung of late, and those that end again and again."""
    recent = [one for one in worker_registry.restarts() if timezone.now() - one.at < LATELY]
    for program in sorted({one.program for one in recent}):
        mine = [one for one in recent if one.program == program]
        hung = sum(one.hung for one in mine)
        if hung:
            what = ngettext(
                "%(name)s stopped answering and was restarted, %(n)d time within an hour",
                "%(name)s stopped answering and was restarted, %(n)d times within an hour",
                hung,
            )
            yield HealthProblem(
                what % {"name": program, "n": hung}, _("Look at its log."), "fleet", bad=False
            )
        elif len(mine) >= MANY_RESTARTS:
            what = _("%(name)s ended and was restarted %(n)d times within an hour")
            detail = _("The last time: %(reason)s. Look at its log.") % {"reason": mine[0].reason}
            yield HealthProblem(what % {"name": program, "n": len(mine)}, detail, "fleet")


def _webhooks() -> Iterator[HealthProblem]:
    """Endpoints to which nothing has come through for an hour; those that are off are their tenants' concern."""
    with operator_scope("look for webhooks that fail"):
        failing = Webhook.objects.filter(failing_since__lt=timezone.now() - LONG_FAILING)
        failing = failing.exclude(state=Webhook.State.DISABLED).order_by()
        slugs = list(failing.values_list("tenant__slug", flat=True).distinct()[: FEW + 1])
    if len(slugs) > FEW:
        what = _("Webhooks of more than %(few)s tenants fail") % {"few": FEW}
    else:
        what = ngettext("Webhooks of %d tenant fail", "Webhooks of %d tenants fail", len(slugs)) % len(slugs)
    if slugs:
        yield HealthProblem(what, ", ".join(slugs[:FEW]), "tenant", slugs[0], bad=False)


def _canaries() -> Iterator[HealthProblem]:
    late = {queue: age for queue, age in canary_ages().items() if age > LATE_CANARY_S}
    if late:
        names = ", ".join(sorted(late))
        yield HealthProblem(
            _("No worker serves the queues %(names)s") % {"names": names},
            _("Their canaries are late: a worker is missing, or hangs. Look at its log and restart it."),
            "canaries",
        )


def _old_queues() -> Iterator[HealthProblem]:
    for queue in worker_registry.queues():
        if queue.oldest_s > OLD_QUEUE.total_seconds():
            minutes = round(queue.oldest_s / 60)
            what = _("The oldest job of the queue %(name)s waits for %(minutes)d minutes") % {
                "name": queue.name,
                "minutes": minutes,
            }
            detail = ngettext("%d job waits.", "%d jobs wait.", queue.waiting) % queue.waiting
            yield HealthProblem(what, detail, "fleet", bad=False)


def _dead_letters() -> Iterator[HealthProblem]:
    count = job_figures.count_dead_letters()
    if count:
        shown = f"{job_figures.MANY}+" if count > job_figures.MANY else str(count)
        what = ngettext("%(n)s job failed within a day", "%(n)s jobs failed within a day", count) % {
            "n": shown
        }
        yield HealthProblem(
            what, _("Look at their tracebacks, and retry them once the cause is gone."), "jobs", bad=False
        )


def _disk() -> Iterator[HealthProblem]:
    room = shutil.disk_usage(settings.DATA_DIR)
    share = room.free / room.total
    if share < LITTLE_ROOM:
        what = _("The disk of the data directory is nearly full")
        yield HealthProblem(
            what, _("%(free)s are free.") % {"free": filesizeformat(room.free)}, bad=share < HARDLY_ROOM
        )


def _storage() -> Iterator[HealthProblem]:
    """A full or read-only storage is found by writing only."""
    try:
        name = default_storage.save(f"readyz/{uuid.uuid4()}", ContentFile(b"ready"))
        default_storage.delete(name)
    except Exception:
        log.warning("the storage does not take a file", exc_info=True)
        yield HealthProblem(_("The storage takes no files"), _("See the log of the web process."))


def _indexes() -> Iterator[HealthProblem]:
    figures = index.read_figures()
    if figures is None and time.monotonic() - BEGUN < 2 * UPKEEP_S:
        return  # Of a stack that has just begun; the first upkeep is still to come.
    if figures is None:
        detail = _("The scheduler or the worker of the queue system is missing.")
        yield HealthProblem(_("The upkeep has not run of late"), detail, "canaries")
    elif n := figures.failed:
        what = ngettext("%d index failed to build within a day", "%d indexes failed to build within a day", n)
        yield HealthProblem(what % n, _("Searches go on with the earlier ones, or exactly."), "jobs")


def _quotas() -> Iterator[HealthProblem]:
    for row in tenant_figures.near_quota():
        share = round(100 * row["used"] / row["limit"])
        what = _("%(tenant)s has used %(share)d %% of its %(resource)s") % {
            "tenant": row["tenant"].name,
            "share": share,
            "resource": RESOURCE_NAMES.get(row["name"], row["name"]),
        }
        yield HealthProblem(what, "", "tenant", row["tenant"].slug, bad=False)


def _erasures() -> Iterator[HealthProblem]:
    long_ago = timezone.now() - LONG_ERASURE
    for row in TenantErasure.objects.filter(finished_at=None, created_at__lt=long_ago)[:10]:
        what = _("The erasure of %(slug)s has not come to its end") % {"slug": row.slug}
        yield HealthProblem(what, "", "erasures", bad=False)


def _requests() -> Iterator[HealthProblem]:
    if number := PlanRequest.objects.filter(state=PlanRequest.State.OPEN).count():
        what = ngettext("%d tenant asks for more", "%d tenants ask for more", number) % number
        yield HealthProblem(what, "", "requests", bad=False)
    for row in Tenant.objects.exclude(closes_at=None).order_by("closes_at")[:10]:
        what = _("%(slug)s is being closed by its owner") % {"slug": row.slug}
        yield HealthProblem(what, "", "requests", bad=False)


CHECKS: dict[str, Callable[[], Iterator[HealthProblem]]] = {
    gettext_noop("workers"): _workers,
    gettext_noop("canaries"): _canaries,
    gettext_noop("restarts"): _restarts,
    gettext_noop("queues"): _old_queues,
    gettext_noop("storage"): _storage,
    gettext_noop("disk"): _disk,
    gettext_noop("indexes"): _indexes,
    gettext_noop("dead letters"): _dead_letters,
    gettext_noop("webhooks"): _webhooks,
    gettext_noop("quotas"): _quotas,
    gettext_noop("erasures"): _erasures,
    gettext_noop("requests"): _requests,
}
