"""Keeps processes running: restarts with a growing pause, ends what hangs, ordered stop, nothing left behind.

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from standalone.errors import StackError
from standalone.files import read_json, write_json
from standalone.liveness import Probe, ProbeTiming, Watch
from standalone.logs import rotate, tail
from standalone.processes import Command, Spawner, kill_tree

TICK_S = 0.1
ROTATE_EVERY_S = 5.0
STABLE_S = 10.0
# A rest that took so long instead of TICK_S: this process, or all of the machine, stood still.
STOOD_STILL_S = 1.0
# From the signal that ends a process which hangs to SIGKILL.
HUNG_GRACE_S = 5.0
KEPT_RESTARTS = 100


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
    probe: Probe | None = None
    # For one that hangs; what does not end by it is killed.
    hung_signal: signal.Signals = signal.SIGKILL


@dataclass
class Running:
    program: Program
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_next_at: float = 0.0
    failures: int = 0
    code: int | None = None
    watch: Watch | None = None
    # Of one that hung: for how long it had been silent, and when it is killed.
    silent_s: float = 0.0
    kill_at: float = 0.0

    def pause(self) -> float:
        return min(self.program.retry_s * 2 ** max(0, self.failures - 1), self.program.retry_limit_s)


class Supervisor:
    """Its loop owns every child; other threads ask through `start` and look through `check`."""

    def __init__(
        self, spawner: Spawner, state_file: Path, say: Callable[[str], None], patience: ProbeTiming
    ) -> None:
        self._spawner = spawner
        self._state_file = state_file
        # For operators, who see it under /operator/ (tenants.jobs.worker_registry).
        self._restarts_file = state_file.with_name("restarts.json")
        self._say = say
        self._patience = patience
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
            rested_at = time.monotonic()
            self._take_requests()
            if time.monotonic() - rested_at > STOOD_STILL_S:
                self._reset_probes()
            for running in self._running.values():
                self._check_program(running)
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

    def _check_program(self, running: Running) -> None:
        if running.child is None:
            if time.monotonic() >= running.start_next_at:
                self._spawn(running)
        elif running.child.poll() is not None:
            self._on_exit(running, running.child)
        elif running.kill_at:
            if time.monotonic() >= running.kill_at:
                running.kill_at = time.monotonic() + HUNG_GRACE_S
                _kill(running.child.pid)
        elif running.watch and (silent_s := running.watch.silent_for()):
            self._end_hung(running, running.child, silent_s)
        elif running.failures and time.monotonic() - running.started_at > STABLE_S:
            running.failures = 0

    def _spawn(self, running: Running) -> None:
        running.started_at = time.monotonic()
        try:
            running.child = self._spawner.spawn(running.program.command)
            running.silent_s = running.kill_at = 0.0
            probe, wanted = running.program.probe, self._patience.interval_s > 0
            running.watch = Watch(running.child.pid, probe, self._patience) if probe and wanted else None
        except OSError as error:  # no memory, no space for a log: as passing as a process that ends at once
            self._retry_later(running, f"not started: {error}")
        self._write_state()

    def _on_exit(self, running: Running, child: subprocess.Popen[bytes]) -> None:
        running.code, running.child = child.returncode, None
        self._spawner.forget(child)
        self._spawner.kill_strangers()
        self._retry_later(running, "hung" if running.silent_s else describe(child.returncode))
        self._write_state()

    def _end_hung(self, running: Running, child: subprocess.Popen[bytes], silent_s: float) -> None:
        self._say(f"{running.program.name} has not answered for {silent_s:.0f} s, ending it")
        running.silent_s, running.kill_at = silent_s, time.monotonic() + HUNG_GRACE_S
        if running.program.hung_signal == signal.SIGKILL:
            _kill(child.pid)
            return
        child.send_signal(running.program.hung_signal)
        # Which a stopped process sees only once it goes on.
        child.send_signal(signal.SIGCONT)

    def _reset_probes(self) -> None:
        for running in self._running.values():
            if running.watch:
                running.watch.reset()

    def _retry_later(self, running: Running, reason: str) -> None:
        running.failures += 1
        pause = running.pause()
        running.start_next_at = time.monotonic() + pause
        self._say(f"{running.program.name} ended ({reason}), again in {pause:.1f} s")
        self._note_restart(running, reason)

    def _note_restart(self, running: Running, reason: str) -> None:
        note: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "program": running.program.name,
            "reason": reason,
            "silent_s": round(running.silent_s, 1),
        }
        with contextlib.suppress(OSError, ValueError):  # the list is for people; the restart is what matters
            write_json(self._restarts_file, [*read_json(self._restarts_file, []), note][-KEPT_RESTARTS:])

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
        alive = [(r.program, r.child) for r in group if r.child and r.child.poll() is None]
        for program, child in alive:
            child.send_signal(program.stop_signal)
        started = time.monotonic()
        for program, child in alive:
            self._end(program, child, started, hurry)

    def _end(
        self, program: Program, child: subprocess.Popen[bytes], started: float, hurry: Callable[[], bool]
    ) -> None:
        while child.poll() is None:
            if hurry() or time.monotonic() - started > program.stop_timeout_s:
                self._say(f"{program.name} does not stop, killing it")
                _kill(child.pid)
                child.wait()
            time.sleep(TICK_S / 4)
        self._spawner.forget(child)


def _kill(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        kill_tree(psutil.Process(pid))


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
