"""Metrics of background work: queues, what ended, and the workers. Read when someone asks (config.metrics)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tenants.jobs import job_counters, worker_registry

# Name, what it tells, and how to read it of a fleet.Queue.
QUEUES = (
    ("crosslight_queue_depth", "Jobs that wait for a worker.", "waiting"),
    ("crosslight_queue_oldest_seconds", "How long the oldest of them has waited.", "oldest_s"),
    ("crosslight_queue_tenants", "Tenants whose jobs wait.", "tenants"),
    ("crosslight_jobs_unfinished", "Jobs not ended yet.", "unfinished"),
    ("crosslight_jobs_overdue", "Jobs whose time to wait again has passed.", "overdue"),
)
SECONDS = {
    job_counters.WAITED: (
        "crosslight_job_wait_seconds",
        "From queueing to the first start of jobs that ended.",
    ),
    job_counters.RAN: ("crosslight_job_run_seconds", "From the first start to the end."),
}


def queues() -> Iterator[Metric]:
    found = worker_registry.queues()
    for name, what, field in QUEUES:
        family = GaugeMetricFamily(name, what, labels=["queue"])
        for queue in found:
            family.add_metric([queue.name], getattr(queue, field))
        yield family


def ended() -> Iterator[Metric]:
    found = job_counters.read()
    count = CounterMetricFamily("crosslight_jobs_ended", "Jobs that ended.", labels=["kind", "state"])
    for (kind, state), number in found.ended.items():
        count.add_metric([kind, state], number)
    yield count
    for which, (name, what) in SECONDS.items():
        family = HistogramMetricFamily(name, what, labels=["kind"])
        for (about, kind), spread in found.seconds.items():
            if about == which:
                family.add_metric([kind], buckets(spread), spread.sum_s)
        yield family


def buckets(spread: job_counters.Histogram) -> list[tuple[str, float]]:
    """As Prometheus wants them: how many took no longer than each limit."""
    limits = [*map(str, job_counters.BUCKETS), "+Inf"]
    return list(zip(limits, map(float, accumulate(spread.counts)), strict=True))


@dataclass
class _Process:
    count: int = 0
    threads: int = 0


def workers() -> Iterator[Metric]:
    by_name: dict[str, _Process] = {}
    for worker in worker_registry.workers():
        seen = by_name.setdefault(worker.name.partition("@")[0], _Process())
        seen.count, seen.threads = seen.count + 1, seen.threads + worker.threads
    family = GaugeMetricFamily(
        "crosslight_workers", "Worker processes that report themselves.", labels=["name"]
    )
    threads = GaugeMetricFamily(
        "crosslight_worker_threads", "Jobs that they can run at once.", labels=["name"]
    )
    for name, seen in by_name.items():
        family.add_metric([name], seen.count)
        threads.add_metric([name], seen.threads)
    yield from (family, threads)
