"""What benchmarks over HTTP share: a client of a running stack, and what its processes hold and spend."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import requests

from standalone.stack import Stack


class Client:
    """A tenant of a running stack."""

    def __init__(self, stack: Stack, slug: str) -> None:
        self._api = f"{stack.base_url}/api/v1"
        self._session = requests.Session()
        entry = next(tenant for tenant in stack.demo["tenants"] if tenant["slug"] == slug)
        self._session.headers["Authorization"] = f"Bearer {entry['api_key']}"

    def send(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._session.request(method, f"{self._api}{path}", timeout=600, **kwargs)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def dataset(self, name: str) -> str:
        return str(self.send("POST", "/datasets", json={"name": f"{name} {time.time_ns()}"})["id"])

    def wait(self, job_id: str, every_s: float = 0.2) -> dict[str, Any]:
        """The job once it has ended."""
        while (job := self.send("GET", f"/jobs/{job_id}"))["state"] in ("queued", "running"):
            time.sleep(every_s)
        return dict(job)


class Watch:
    """The memory of one supervised process with its children, sampled, and the processor time of the stack."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack, self._name = stack, name
        self.peak_mb, self.cpu_s, self.wall_s = 0.0, 0.0, 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), daemon=True)
        cpu, start = cpu_seconds(self._stack), time.monotonic()
        sampler.start()
        try:
            yield
        finally:
            stop.set()
            sampler.join()
            self.wall_s = time.monotonic() - start
            self.cpu_s = cpu_seconds(self._stack) - cpu

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(0.25):
            self.peak_mb = max(self.peak_mb, memory_mb(self._stack, self._name))


def memory_mb(stack: Stack, name: str) -> float:
    """Resident, without what several processes share counted twice (PSS)."""
    return sum(_pss(process) for process in _family(stack.pid(name))) / 2**20


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def cpu_seconds(stack: Stack) -> float:
    """Of the stack with everything that it started and that still runs."""
    return sum(_spent(process) for process in _family(stack.pid("stack")))


def _spent(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.Error:
        return 0.0


def _family(pid: int | None) -> list[psutil.Process]:
    if pid is None:
        return []
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
