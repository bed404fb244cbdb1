"""What a start is doing, in plain lines: when a step begins and ends, and every few seconds how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from standalone.logs import tail

EVERY_S = 5.0
# Of a log's last line.
SHOWN = 70
# A step that took less is told once.
SHORT_S = 1.0


@dataclass
class Step:
    """One thing that is being done; `detail` tells how far it is, or nothing."""

    name: str
    detail: Callable[[], str]
    begun_at: float = field(default_factory=time.monotonic)

    def message(self) -> str:
        detail = self.detail()
        return f"{self.name}: {detail}" if detail else self.name


def last_line(log: Path) -> Callable[[], str]:
    """The newest line of a command's log, once it has written one: logs are added to."""

    def read() -> str:
        return tail(log, 1).strip() if log.exists() and log.stat().st_size else ""

    old = read()

    def detail() -> str:
        line = read()
        return "" if line == old else line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"

    return detail


class Progress:
    """The steps of one start, of which some go on beside each other. `names` are all of them, in order."""

    def __init__(self, say: Callable[[str], None], names: Sequence[str], every_s: float = EVERY_S) -> None:
        self._say, self._every_s = say, every_s
        self._left = list(names)
        self._running: dict[str, Step] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._begun_at = time.monotonic()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Say every few seconds what is done, as long as the block runs."""
        thread = threading.Thread(target=self._report, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextmanager
    def step(self, name: str, detail: Callable[[], str] = lambda: "") -> Iterator[None]:
        step = Step(name, detail)
        with self._lock:
            if name in self._left:
                self._left.remove(name)
            self._running[name] = step
            self._say(f"{self._clock()} {name}")
        try:
            yield
        finally:
            with self._lock:
                del self._running[name]
        took_s = time.monotonic() - step.begun_at
        if took_s >= SHORT_S:
            self._say(f"{self._clock()} {name}: done in {took_s:.0f} s")

    def skip(self, name: str) -> None:
        """Of a step in which nothing is left to do."""
        with self._lock:
            if name in self._left:
                self._left.remove(name)

    def _report(self) -> None:
        while not self._ended.wait(self._every_s):
            with self._lock:
                doing = "; ".join(step.message() for step in self._running.values())
                left = f"; then {', '.join(self._left)}" if self._left else ""
            if doing:
                self._say(f"{self._clock()} … {doing}{left}")

    def _clock(self) -> str:
        return f"[{time.monotonic() - self._begun_at:4.0f} s]"
