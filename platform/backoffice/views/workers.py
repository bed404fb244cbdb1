"""The fleet: workers and what they do, queues, caches, indexes; and the canaries' history."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.http import HttpResponse
from django.utils.translation import gettext as _

from backoffice.access import Request, operators, page
from backoffice.sparkline import Sparkline, sparkline
from tenants.jobs import worker_registry
from tenants.pipeline.upkeep import health
from tenants.retrieval.cache import lookup_counts as counts
from tenants.retrieval.index import loaded as cache
from tenants.retrieval.index import opened
from tenants.valkey import Unavailable

MINUTES = 60
HOURS = 24
SHOWN_RESTARTS = 20
# Below it a canary's way is not worth a look: a worker takes one a second or so after it came.
LATE_S = 15.0


@operators()
def index(request: Request) -> HttpResponse:
    minutes = worker_registry.throughput(minutes=MINUTES)
    context = {
        "title": _("Workers"),
        "workers": _reported(worker_registry.workers),
        "restarts": worker_registry.restarts()[:SHOWN_RESTARTS],
        "queues": health.queues(),
        "kinds": _by_kind(minutes),
        "ended": _ended(minutes),
        "minutes": MINUTES,
        "caches": _hit_rates(),
        "memory": {"held": cache.bytes(), "mapped": opened.bytes()},
        "indexes": health.index_memory(),
    }
    return page(request, "fleet.html", context)


def _reported(read: Callable[[], Any]) -> Any:
    """None where Valkey is away, which is not the same as nobody."""
    try:
        return read()
    except Unavailable:
        return None


def _by_kind(minutes: list[worker_registry.Minute]) -> list[dict[str, Any]]:
    kinds: dict[str, list[int]] = {}
    for minute in minutes:
        row = kinds.setdefault(minute.kind, [0, 0])
        row[0] += minute.ended
        row[1] += minute.failed
    return [
        {"kind": kind, "ended": ended, "failed": failed} for kind, (ended, failed) in sorted(kinds.items())
    ]


def _ended(minutes: list[worker_registry.Minute]) -> Sparkline:
    """Jobs that ended in each of the last minutes, also in those in which none did."""
    sums: dict[dt.datetime, int] = {}
    for minute in minutes:
        sums[minute.at] = sums.get(minute.at, 0) + minute.ended
    now = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    return sparkline([sums.get(now - dt.timedelta(minutes=n), 0) for n in reversed(range(MINUTES))])


def _hit_rates() -> list[dict[str, Any]]:
    """Of the caches of searches in this web process: how many look-ups were answered without computing."""
    found: dict[str, dict[str, int]] = {}
    for (name, layer, _tenant), count in counts.read().items():
        layers = found.setdefault(name, {})
        layers[layer] = layers.get(layer, 0) + count
    shown = []
    for name, layers in sorted(found.items()):
        total = sum(layers.values())
        shown.append(
            {"name": name, "asked": total, "share": 1 - layers.get("miss", 0) / total if total else None}
        )
    return shown


@operators()
def canaries(request: Request) -> HttpResponse:
    known = _reported(lambda: worker_registry.canaries(hours=HOURS))
    rows = [_history(name, history) for name, history in (known or {}).items()]
    context = {"title": _("Canaries"), "rows": rows, "away": known is None, "hours": HOURS}
    return page(request, "canaries.html", context)


def _history(name: str, history: list[worker_registry.Canary]) -> dict[str, Any]:
    took = [canary.took_s for canary in history]
    last = dt.datetime.fromtimestamp(history[-1].sent_at, dt.UTC) if history else None
    return {
        "name": name,
        "last": last,
        "came": len(took),
        "expected": HOURS * 60,
        "late": sum(seconds > LATE_S for seconds in took),
        "longest": max(took, default=None),
        "spark": sparkline(took),
    }
