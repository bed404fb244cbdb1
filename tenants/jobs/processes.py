"""A limited child process of a job: it prints JSON lines, is killed with whoever follows it, and reaped with its cost.

It ends by itself when this process dies, as its standard input closes then. It limits itself by
`ml.sandbox`; here it gets an environment without secrets, and its folders are taken back when it has ended.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml import sandbox

# How often somebody looks whether to go on, also while the process says nothing.
PATIENCE_S = 1.0


class Child:
    """One process. ``status``, ``cpu_s`` and ``peak_mb`` are there once it has ended."""

    status: int
    cpu_s: float
    peak_mb: float

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kill = process.kill

    def lines(self) -> Iterator[dict[str, Any] | None]:
        """Each JSON object that it prints, and None about every second in between. Other lines are libraries' own."""
        said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(said,), daemon=True).start()
        while True:
            try:
                line = said.get(timeout=PATIENCE_S)
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            if (found := _object(line)) is not None:
                yield found

    def _read(self, said: queue.SimpleQueue[str | None]) -> None:
        for line in self._process.stdout or ():
            said.put(line)
        said.put(None)

    def end(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self.reap()

    def reap(self) -> None:
        """Wait for its end."""
        if self._process.returncode is not None:
            return
        _, status, used = os.wait4(self._process.pid, 0)
        self.status = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s, self.peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@contextmanager
def running(
    command: Sequence[str], *, folders: Sequence[Path] = (), env: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """The command as a child; `folders` are those that it makes its own as long as it runs.

    `env` is added to what such children see. It has ended when the block has; what the block raises kills it.
    """
    pipe, seen = subprocess.PIPE, sandbox.environment(**env or {})
    with (
        sandbox.taken_back(folders),
        subprocess.Popen(command, cwd="/", env=seen, stdin=pipe, stdout=pipe, text=True) as process,
    ):
        child = Child(process)
        try:
            yield child
        except BaseException:
            child.end()
            raise
        child.reap()


def _object(line: str) -> dict[str, object] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
