"""The process that trains: started, followed line by line, killed when nobody wants its result any more.

It ends by itself when this process dies, as its standard input closes then. What it printed last tells how it ended.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from django.conf import settings

from tenants.errors import Conflict

ROOT = Path(__file__).resolve().parents[2]
RUN = "run.json"
# The code of an error that another attempt may not meet.
PASSING = "failed"
# How often somebody looks whether to go on, also while the process says nothing.
PATIENCE_S = 1.0

Event = dict[str, Any]


class TrainingRefused(Conflict):
    """The trainer said why there is no model; the same data and settings would bring the same."""

    title = "The training ended without a model"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = code.replace("_", "-")


@dataclass(frozen=True)
class Trained:
    """The last event, and what the process took."""

    result: Event
    peak_mb: float


class Ended(Protocol):
    """Told what a process took that ended without a result."""

    def __call__(self, cpu_s: float) -> None: ...


def train(
    folder: Path, recipe: dict[str, Any], told: Callable[[Event | None], None], in_vain: Ended
) -> Trained:
    """Run the recipe in `folder` to its end. `told` gets each event, and None about every second.

    Whatever `told` raises ends the process. Raises TrainingRefused, and RuntimeError where it died without a word.
    """
    (folder / RUN).write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "ml.training", "run", str(folder)]
    threads = str(settings.LEARNING_THREADS)
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            last = _follow(process, told)
        except BaseException:
            process.kill()
            in_vain(_cpu_s(_reap(process)))
            raise
        used = _reap(process)
    if process.returncode or last.get("event") != "result":
        in_vain(_cpu_s(used))
        _refuse(process.returncode, last)
    return Trained(last, used.ru_maxrss / 1024)


def _reap(process: subprocess.Popen[str]) -> resource.struct_rusage:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used


def _cpu_s(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _refuse(status: int | None, last: Event) -> NoReturn:
    if last.get("event") == "error" and last["code"] != PASSING:
        raise TrainingRefused(str(last["code"]), str(last["detail"]))
    # Killed, out of room, or a fault of its own: another attempt may fare better.
    raise RuntimeError(f"the trainer ended with status {status}: {last.get('detail', 'it said nothing')}")


def _follow(process: subprocess.Popen[str], told: Callable[[Event | None], None]) -> Event:
    last: Event = {}
    for event in _events(process):
        told(event)
        last = event or last
    return last


def _events(process: subprocess.Popen[str]) -> Iterator[Event | None]:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        if (event := _parsed(line)) is not None:
            yield event


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout  # noqa: S101 - for the type checker
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _parsed(line: str) -> Event | None:
    """None for what is no event: libraries print, too."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
