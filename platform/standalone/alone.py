"""`python -m standalone process NAME`: one process of the application by itself, for containers and systemd.

It is the process that the stack would start, on services that others run. A web process says that it is about to stop
before it stops: `/readyz` answers 404 for `DRAIN_S` seconds, in which proxies send it nothing new and it goes on
answering.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from standalone import datadir
from standalone.config import ROOT, StackConfig
from standalone.errors import StackError
from standalone.processes import Command
from standalone.programs import app_programs

# Two questions of a proxy that asks each second, and time for what it sent before the answer came.
DRAIN_S = 5.0


def run_alone(config: StackConfig, name: str) -> int:
    """Run a process of APP_PROCESSES until a signal comes; returns the exit status. Raises StackError."""
    drain_s = _seconds(config.environ.get("DRAIN_S") or str(DRAIN_S))
    datadir.create(config.data_dir)
    given = {**config.environ, "DATA_DIR": str(config.data_dir)}
    command = app_programs(config, given)[name].command
    os.chdir(ROOT)
    if name == "web":
        return _serve(command, config.run_dir / "draining", drain_s)
    return os.execvpe(command.arguments[0], list(command.arguments), dict(command.env))  # noqa: S606 - no shell


def _seconds(given: str) -> float:
    with suppress(ValueError):
        if 0 <= (seconds := float(given)) <= 3600:
            return seconds
    raise StackError(f"DRAIN_S must be a number of seconds from 0 to 3600, not {given!r}.")


def _serve(command: Command, draining: Path, drain_s: float) -> int:
    draining.unlink(missing_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    child = subprocess.Popen(
        command.launched_by(os.getpid()),
        env={**command.env, "DRAIN_FILE": str(draining)},
        # A Ctrl-C is for this process, which passes it on after the drain.
        start_new_session=True,
    )
    while not stop.wait(0.2):
        if child.poll() is not None:
            print(f"web ended with status {child.returncode}", file=sys.stderr, flush=True)
            return child.returncode or 1
    draining.touch()
    with suppress(subprocess.TimeoutExpired):
        child.wait(drain_s)
    child.terminate()
    child.wait()
    return 0
