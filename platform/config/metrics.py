"""Prometheus metrics: requests as they pass, the rest when it is asked for.

Each web process counts for itself; with WEB_WORKERS above 1 a scrape sees one of them.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config import job_metrics
from ml import devices
from standalone.backup.create import LAST
from standalone.files import read_json
from tenants.pipeline.upkeep.periodic import canary_ages
from tenants.retrieval import cache, index, query
from tenants.retrieval.cache import lookup_counts as counts
from tenants.retrieval.index import loaded, opened

log = logging.getLogger(__name__)
CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("crosslight_requests", "Requests by route.", ["method", "route", "status"])
LATENCY = Histogram(
    "crosslight_request_seconds",
    "Time to the start of the answer, by route.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class MetricsMiddleware:
    """Counts by route, never by path: ids would make a series each."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        start = time.perf_counter()
        response = self.get_response(request)
        match = request.resolver_match
        route = match.route if match else "none"
        method = request.method if request.method in METHODS else "other"
        REQUESTS.labels(method, route, response.status_code).inc()
        LATENCY.labels(method, route).observe(time.perf_counter() - start)
        return response


class StateCollector(Collector):
    """What is read when someone asks. A source that is away leaves its metrics out."""

    def collect(self) -> Iterator[Metric]:
        jobs = (job_metrics.queues, job_metrics.ended, job_metrics.workers, _canaries)
        for read in (*jobs, _vectors, _encoders, _indexes, _lookups, _cached, _disk, _backup):
            try:
                yield from list(read())
            except Exception:
                log.warning("metrics are incomplete", exc_info=True)

    def describe(self) -> list[Metric]:
        # Asked at registration, before the database is there.
        return []


def _canaries() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "crosslight_canary_age_seconds",
        "Since the newest canary that came through was sent.",
        labels=["queue"],
    )
    for queue, age in canary_ages().items():
        family.add_metric([queue], age)
    yield family


def _encoders() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "crosslight_encoder_sessions", "Models opened by ONNX Runtime in this process.", labels=["device"]
    )
    for device in ("cpu", "cuda"):
        family.add_metric([device], devices.opened[device])
    yield family
    yield CounterMetricFamily(
        "crosslight_batches_halved", "Batches halved as memory did not suffice.", value=devices.halved
    )


def _vectors() -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "crosslight_vector_memory_bytes", "Vectors held in this process.", value=loaded.bytes()
    )


def _indexes() -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "crosslight_index_mapped_bytes", "Index files mapped in this process.", value=opened.bytes()
    )
    figures = index.read_figures()
    if figures is None:
        return
    family = GaugeMetricFamily(
        "crosslight_index_generations", "Index generations of all tenants.", labels=["state"]
    )
    for state, count in (figures.states | {"stored": figures.archived}).items():
        family.add_metric([state], count)
    yield family
    recall = GaugeMetricFamily(
        "crosslight_index_recall", "Recall@10 as measured when an index was built.", labels=["of"]
    )
    for of, value in (("lowest", figures.lowest_recall), ("last", figures.last_recall)):
        if value is not None:
            recall.add_metric([of], value)
    yield recall
    for name, what, number in (
        ("vectors", "Vectors in the generations that answer.", figures.vectors),
        ("exact", "Generations that answer without an approximate index.", figures.exact),
        ("last_build_seconds", "What the newest generation took to build.", figures.last_seconds),
        ("builds_failed", "Builds that were given up within a day.", figures.failed),
    ):
        if number is not None:
            yield GaugeMetricFamily(f"crosslight_index_{name}", what, value=number)


def _lookups() -> Iterator[Metric]:
    family = CounterMetricFamily(
        "crosslight_cache_lookups",
        "Look-ups in the caches of searches, by who answered; tenants that are not among the busiest are one.",
        labels=["cache", "layer", "tenant"],
    )
    for labels, count in counts.read().items():
        family.add_metric(labels, count)
    yield family


def _cached() -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "crosslight_cache_memory_bytes", "What the caches of searches hold in this process.", labels=["cache"]
    )
    family.add_metric([cache.CANDIDATES], cache.candidate_cache.local.size_bytes)
    family.add_metric([cache.QUERY_VECTORS], query.query_cache.local.size_bytes)
    yield family


def _disk() -> Iterator[Metric]:
    used = shutil.disk_usage(settings.DATA_DIR)
    yield GaugeMetricFamily(
        "crosslight_disk_free_ratio",
        "Share of the disk below DATA_DIR that is free.",
        value=used.free / used.total,
    )


def _backup() -> Iterator[Metric]:
    last = read_json(settings.DATA_DIR / LAST)
    if last is not None:
        made = datetime.fromisoformat(last["created_at"])
        age = (datetime.now(UTC) - made).total_seconds()
        yield GaugeMetricFamily(
            "crosslight_backup_age_seconds", "Since the last backup of this DATA_DIR was made.", value=age
        )


REGISTRY.register(StateCollector())


def render() -> bytes:
    return generate_latest(REGISTRY)
