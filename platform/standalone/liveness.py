"""Whether a program that runs still works: it is asked now and then, and one that stays silent hangs.

Silence alone is not enough. A process that computes without letting go of its interpreter's lock, or that waits for a
disk, comes back; it gets more time than one that does nothing at all. Times in which nobody could have answered, as
the machine slept or the stack itself stood still, are not counted (`Watch.forget`).
"""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from standalone.errors import StackError

# Of one processor: who uses less of it while silent does nothing.
WORKS = 0.01
LOOK_S = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class ProbeTiming:
    """How often a program is asked (seconds, 0: never), how long it may take to answer, and when it is given up.

    `misses`: after so many silences in a row of one that does nothing; `busy_s`: after so many seconds of silence of
    one that works. Before its first answer it has `start_s`, unless somebody stopped it.
    """

    interval_s: float = 3.0
    timeout_s: float = 3.0
    misses: int = 3
    busy_s: float = 60.0
    start_s: float = 180.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProbeTiming:
        """Raises StackError for what is no number."""
        default = cls()
        try:
            return cls(
                interval_s=float(environ.get("PROBE_INTERVAL_S") or default.interval_s),
                timeout_s=float(environ.get("PROBE_TIMEOUT_S") or default.timeout_s),
                misses=max(1, int(environ.get("PROBE_MISSES") or default.misses)),
                busy_s=float(environ.get("PROBE_BUSY_S") or default.busy_s),
            )
        except ValueError as error:
            raise StackError(
                f"PROBE_… settings must be numbers of seconds, or of misses: {error}."
            ) from error


@dataclass(frozen=True)
class Probe:
    """How to ask one program. `answers` gets the seconds that it may take; an exception is no answer.

    `by_children`: its children do its work, and count when it is looked whether it does anything.
    """

    answers: Callable[[float], bool]
    by_children: bool = False


class Watch:
    """What is known of one running process."""

    def __init__(self, pid: int, probe: Probe, patience: ProbeTiming) -> None:
        self._process = psutil.Process(pid)
        self._probe, self._patience = probe, patience
        self._started_at = time.monotonic()
        self._answered = False
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was asked before could not be answered."""
        self._asked: Future[bool] | None = None
        self._ask_at = time.monotonic() + self._patience.interval_s
        self._misses = 0

    def silent_for(self) -> float:
        """Seconds of silence after which this process is to be given up; 0 as long as it is not."""
        now = time.monotonic()
        if self._asked is None:
            if now >= self._ask_at:
                self._ask(now)
            return 0.0
        if not self._asked.done():
            return 0.0
        answered, self._asked = self._asked.result(), None
        if answered:
            self._answered, self._misses = True, 0
            return 0.0
        self._misses += 1
        return now - self._silent_since if self._is_over(now) else 0.0

    def _ask(self, now: float) -> None:
        self._ask_at = now + self._patience.interval_s
        if self._misses == 0:
            self._silent_since, self._used = now, self._processor_s()
        asked: Future[bool] = Future()
        self._asked = asked
        # Not of a pool: a stack that stops need not wait for answers.
        threading.Thread(target=self._answer, args=(asked,), name="probe", daemon=True).start()

    def _answer(self, asked: Future[bool]) -> None:
        try:
            asked.set_result(self._probe.answers(self._patience.timeout_s) and not self._is_stopped())
        except Exception:
            asked.set_result(False)

    def _is_over(self, now: float) -> bool:
        if not self._answered and not self._is_stopped():
            return now - self._started_at > self._patience.start_s
        if self._misses < self._patience.misses:
            return False
        return now - self._silent_since > self._patience.busy_s or not self._works(now)

    def _works(self, now: float) -> bool:
        """Whether it computed, or waits for a disk."""
        if self._is_stopped():
            return False
        used = self._processor_s() - self._used
        return used > WORKS * (now - self._silent_since) or psutil.STATUS_DISK_SLEEP in self._states()

    def _is_stopped(self) -> bool:
        return psutil.STATUS_STOPPED in self._states()

    def _members(self) -> list[psutil.Process]:
        try:
            return [self._process, *(self._process.children() if self._probe.by_children else [])]
        except psutil.NoSuchProcess:
            return []

    def _states(self) -> set[str]:
        return {state for member in self._members() if (state := _unless_ended(member.status))}

    def _processor_s(self) -> float:
        times = [_unless_ended(member.cpu_times) for member in self._members()]
        return sum(each.user + each.system for each in times if each)


def _unless_ended(read: Callable[[], T]) -> T | None:
    """None of a process that has just ended."""
    try:
        return read()
    except psutil.NoSuchProcess:
        return None


def answers_http(url: str) -> Probe:
    """A web server: its children answer this address with 200."""

    def answers(timeout_s: float) -> bool:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - our own http URL
            return bool(response.status == 200)

    return Probe(answers, by_children=True)


def touches(path: Path) -> Probe:
    """A process that touches a file each second, as long as its interpreter runs. No clock is compared."""
    seen = _changed_at(path)

    def answers(timeout_s: float) -> bool:
        nonlocal seen
        deadline = time.monotonic() + timeout_s
        while (now := _changed_at(path)) == seen:
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
        seen = now
        return True

    return Probe(answers)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
