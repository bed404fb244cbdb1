"""The heartbeat of a worker's process: one thread keeps the leases of its jobs, ends what was cancelled, reports."""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from tenants.jobs import services as jobs
from tenants.jobs import stopping, worker_registry
from tenants.pipeline.upkeep.host import host
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)


class Heartbeat:
    """Of this process. It starts with the first job, or when the worker is ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[jobs.Key, tuple[jobs.Claim, float]] = {}
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._worker: worker_registry.Worker | None = None
        self._reported_at = 0.0

    @contextmanager
    def over(self, claimed: jobs.Claim) -> Iterator[None]:
        """Extend the lease of a job while the block runs."""
        with self._lock:
            self._held[claimed.key] = (claimed, time.monotonic())
        self._start()
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(claimed.key, None)

    def introduce(self, *, name: str, queues: Sequence[str], threads: int) -> None:
        """Report this worker from now on."""
        self._worker = worker_registry.Worker(
            name=name,
            host=platform.node(),
            pid=os.getpid(),
            version=_version(),
            started_at=time.time(),
            queues=list(queues),
            threads=threads,
            devices=_devices(),
        )
        self._start()

    def leave(self) -> None:
        self._stop.set()
        if self._worker is not None:
            try:
                worker_registry.leave(self._worker)
            except Unavailable:
                log.debug("Valkey is away; the report of this worker expires")

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(min(stopping.POLL_S, settings.JOB_LEASE_S / 3)):
            with self._lock:
                held = list(self._held.values())
                if not held and self._worker is None:
                    # Work in a process that is no worker: there is nothing to report in between.
                    self._thread = None
                    break
            for claimed, beat_at in held:
                self._look_after(claimed, beat_at)
            self._report([str(claimed.job_id) for claimed, _ in held])
            if not held:
                close_old_connections()
        connection.close()

    def _look_after(self, claimed: jobs.Claim, beat_at: float) -> None:
        """Extend the lease if it is time; end the work if nobody wants it any more."""
        now = time.monotonic()
        try:
            due = now - beat_at >= settings.JOB_LEASE_S / 3
            wanted = jobs.heartbeat(claimed) if due else jobs.is_wanted(claimed)
        except jobs.LeaseLost:
            wanted = False
        except Exception:
            log.warning("heartbeat failed; trying again", exc_info=True)
            connection.close()
            return
        if not wanted:
            stopping.stop(claimed.key)
        if due:
            with self._lock:
                if claimed.key in self._held:
                    self._held[claimed.key] = (claimed, now)

    def _report(self, running: list[str]) -> None:
        if self._worker is None or time.monotonic() - self._reported_at < worker_registry.REPORT_S:
            return
        self._reported_at = time.monotonic()
        try:
            worker_registry.report(replace(self._worker, running=running))
        except Unavailable:
            log.debug("Valkey is away; this worker is not seen")


def _version() -> str:
    try:
        return version("crosslight")
    except PackageNotFoundError:
        return "unknown"


def _devices() -> list[str]:
    """The processor, and the GPUs that this process may see."""
    cards = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        cards = [f"nvidia{one}" for one in chosen.split(",") if one]
    return [f"cpu x{len(os.sched_getaffinity(0))}", *cards]


heartbeat = Heartbeat()


def on_ready(sender: Any, **_: Any) -> None:
    """Celery's worker_ready: the consumer knows its name and queues."""
    queues = sorted(sender.app.amqp.queues.consume_from)
    heartbeat.introduce(name=sender.hostname, queues=queues, threads=sender.controller.concurrency)
    host.start()


def on_stop(**_: object) -> None:
    heartbeat.leave()
