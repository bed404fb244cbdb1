"""What training takes: seconds of the processor and the GPU, and how much of an epoch the device is at work."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


class Stopwatch:
    """Laps on the wall and of the processor; the first one does not count when there are more."""

    def __init__(self) -> None:
        self._laps = [(time.perf_counter(), cpu_seconds())]

    def lap(self) -> int:
        """How many there were."""
        self._laps.append((time.perf_counter(), cpu_seconds()))
        return len(self._laps) - 1

    def mean(self) -> tuple[float, float]:
        """Seconds of a lap: wall, processor."""
        first = 1 if len(self._laps) > 2 else 0
        counted = max(len(self._laps) - 1 - first, 1)
        wall, cpu = (
            (end - begin) / counted for begin, end in zip(self._laps[first], self._laps[-1], strict=True)
        )
        return wall, cpu


@dataclass(frozen=True)
class Measured:
    """What a run took before its first epoch, in seconds; a step with the reading of its batch."""

    prepared_s: float
    step_s: float
    step_cpu_s: float
    validation_s: float

    def of_all(self, steps_an_epoch: list[int], epochs: int, gpu: bool) -> dict[str, Any]:
        """The whole run at most (stopping early takes less), one number of steps for each phase."""
        steps = epochs * sum(steps_an_epoch)
        validations = (epochs + 1) * len(steps_an_epoch)
        wall_s = self.prepared_s + steps * self.step_s + validations * self.validation_s
        share = self.step_cpu_s / max(self.step_s, 1e-9)
        return {
            "wall_s": round(wall_s, 1),
            "cpu_s": round(wall_s * share, 1),
            "gpu_s": round(wall_s, 1) if gpu else 0.0,
            "steps": steps,
            "step_s": round(self.step_s, 4),
        }
