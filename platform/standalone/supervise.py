"""Keeps processes running: restarts with a growing pause, ordered stop, nothing left behind.

Why not a ready-made supervisor: docs/adr/0007-own-supervision.md.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from standalone.errors import StackError
from standalone.files import write_json
from standalone.logs import rotate, tail
from standalone.processes import Command, Spawner, kill_tree

TICK_S = 0.1
ROTATE_EVERY_S = 5.0
STABLE_S = 10.0


@dataclass(frozen=True)
class Program:
    """One supervised process. Programs of a higher stage are stopped before those of a lower one."""

    name: str
    command: Command
    stage: int
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0
    retry_s: float = 0.5
    retry_limit_s: float = 5.0
    # How many failures in a row mean, before the stack is ready, that it cannot start.
    start_attempts: int = 3


@dataclass
class Running:
    program: Program
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_next_at: float = 0.0
    failures: int = 0
    code: int | None = None

    def pause(self) -> float:
        return min(self.program.retry_s * 2 ** max(0, self.failures - 1), self.program.retry_limit_s)


class Supervisor:
    """Its loop owns every child; other threads ask through `start` and look through `check`."""

    def __init__(self, spawner: Spawner, state_file: Path, say: Callable[[str], None]) -> None:
        self._spawner = spawner
        self._state_file = state_file
        self._say = say
        self._requests: queue.Queue[Program] = queue.Queue()
        self._running: dict[str, Running] = {}
        self._rotate_at = 0.0
        self.ready = False
        self.stopping = False

    def start(self, program: Program) -> None:
        self._requests.put(program)

    def check(self, name: str) -> None:
        """Raise if this program cannot be expected to come up any more."""
        if self.stopping:
            raise StackError("The stack is stopping.")
        running = self._running.get(name)
        if running and running.failures >= running.program.start_attempts:
            log = tail(running.program.command.log)
            raise StackError(f"{name} does not start (exit status {running.code}):\n{log}")

    def wait_for(self, name: str, answers: Callable[[], bool], timeout_s: float) -> None:
        """Wait in another thread than the loop's until the program answers."""
        deadline = time.monotonic() + timeout_s
        while not answers():
            self.check(name)
            if time.monotonic() > deadline:
                running = self._running.get(name)
                log = tail(running.program.command.log) if running else "(never started)"
                raise StackError(f"{name} did not answer within {timeout_s:.0f} s:\n{log}")
            time.sleep(TICK_S)

    def uptime(self, name: str) -> float:
        running = self._running.get(name)
        return time.monotonic() - running.started_at if running and running.child else 0.0

    def loop(self, until: Callable[[], bool]) -> None:
        while not until():
            self._take_requests()
            for running in self._running.values():
                self._look_after(running)
            self._rotate_logs()

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop everything, the highest stage first; `hurry` turns waiting into killing."""
        self.stopping = True
        self._spawner.close(except_pids=[r.child.pid for r in self._running.values() if r.child])
        for stage in sorted({r.program.stage for r in self._running.values()}, reverse=True):
            self._stop_all([r for r in self._running.values() if r.program.stage == stage], hurry)
        self._spawner.kill_strangers()
        self._state_file.unlink(missing_ok=True)

    def _take_requests(self) -> None:
        with contextlib.suppress(queue.Empty):
            program = self._requests.get(timeout=TICK_S)
            self._running[program.name] = Running(program)

    def _look_after(self, running: Running) -> None:
        if running.child is None:
            if time.monotonic() >= running.start_next_at:
                self._spawn(running)
        elif running.child.poll() is not None:
            self._bury(running, running.child)
        elif running.failures and time.monotonic() - running.started_at > STABLE_S:
            running.failures = 0

    def _spawn(self, running: Running) -> None:
        running.started_at = time.monotonic()
        try:
            running.child = self._spawner.spawn(running.program.command)
        except OSError as error:  # no memory, no space for a log: as passing as a process that ends at once
            self._retry_later(running, str(error))
        self._write_state()

    def _bury(self, running: Running, child: subprocess.Popen[bytes]) -> None:
        running.code, running.child = child.returncode, None
        self._spawner.forget(child)
        self._spawner.kill_strangers()
        self._retry_later(running, describe(child.returncode))
        self._write_state()

    def _retry_later(self, running: Running, reason: str) -> None:
        running.failures += 1
        pause = running.pause()
        running.start_next_at = time.monotonic() + pause
        self._say(f"{running.program.name} ended ({reason}), again in {pause:.1f} s")

    def _rotate_logs(self) -> None:
        if time.monotonic() < self._rotate_at:
            return
        self._rotate_at = time.monotonic() + ROTATE_EVERY_S
        for running in self._running.values():
            with contextlib.suppress(OSError):  # a full disk must not end the supervision
                rotate(running.program.command.log)

    def _write_state(self) -> None:
        """Who runs, for `pid()` in tests and for the next start, should this process be killed."""
        pids = {name: r.child.pid for name, r in self._running.items() if r.child}
        with contextlib.suppress(OSError):
            write_json(self._state_file, {name: identify(pid) for name, pid in pids.items()})

    def _stop_all(self, group: list[Running], hurry: Callable[[], bool]) -> None:
        alive = [r for r in group if r.child and r.child.poll() is None]
        for running in alive:
            assert running.child  # noqa: S101 - for the type checker
            running.child.send_signal(running.program.stop_signal)
        started = time.monotonic()
        for running in alive:
            assert running.child  # noqa: S101 - for the type checker
            self._end(running.program, running.child, started, hurry)

    def _end(
        self, program: Program, child: subprocess.Popen[bytes], started: float, hurry: Callable[[], bool]
    ) -> None:
        while child.poll() is None:
            if hurry() or time.monotonic() - started > program.stop_timeout_s:
                self._say(f"{program.name} does not stop, killing it")
                with contextlib.suppress(psutil.NoSuchProcess):
                    kill_tree(psutil.Process(child.pid))
                child.wait()
            time.sleep(TICK_S / 4)
        self._spawner.forget(child)


def describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def identify(pid: int) -> dict[str, float]:
    """A process id alone may be reused; with its time of creation it is one process."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "created": 0.0}


def end_leftovers(state: dict[str, dict[str, float]], say: Callable[[str], None]) -> None:
    """End what a killed stack may have left running on this data directory."""
    left = []
    for name, known in state.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(known["pid"]))
            if process.create_time() == known["created"]:
                say(f"ending {name} (process {process.pid}), left by a killed stack")
                left += [process, *process.children(recursive=True)]
                process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=10)
    for process in alive:
        kill_tree(process)
