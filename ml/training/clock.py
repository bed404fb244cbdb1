"""What training takes: seconds of the processor and the GPU, and how much of an epoch the device is at work."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def cpu_seconds() -> float:
    """Of this process and the children that it waited for, user and system."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Clock:
    """Time at work on one device. On a GPU its own events count: that the host waits for it proves nothing."""

    def __init__(self, device: str) -> None:
        self.gpu = device.startswith("cuda")
        self.total_s = 0.0
        self._events: list[tuple[Any, Any]] = []
        self.start_epoch()

    def start_epoch(self) -> None:
        self._begun, self._busy = time.perf_counter(), 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around everything that keeps the device busy: steps and validation."""
        if self.gpu:
            with self._recorded():
                yield
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self._busy += time.perf_counter() - start

    def end_epoch(self) -> tuple[float, float]:
        """Seconds of the epoch, and the share of them at work."""
        if self.gpu:
            self._settle()
        took = time.perf_counter() - self._begun
        self.total_s += self._busy
        return took, self._busy / took if took else 0.0

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        import torch

        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        try:
            yield
        finally:
            end.record()
            self._events.append((begin, end))

    def _settle(self) -> None:
        import torch

        torch.cuda.synchronize()
        self._busy += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
        self._events = []
