"""Children of the stack: started so that none outlives it, and strangers among them recognised."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from standalone.errors import StackError
from standalone.logs import tail

LAUNCH = Path(__file__).with_name("launch.py")
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Identity:
    """As whom a child runs; by default as whoever runs the stack."""

    user: str | None = None
    capabilities: tuple[int, ...] = ()


@dataclass(frozen=True)
class Command:
    arguments: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    death_signal: signal.Signals = signal.SIGTERM
    identity: Identity = field(default_factory=Identity)

    def launched_by(self, parent: int) -> list[str]:
        capabilities = ",".join(map(str, self.identity.capabilities)) or "-"
        user = self.identity.user or "-"
        death = str(int(self.death_signal))
        launch = [sys.executable, "-I", "-S", str(LAUNCH), str(parent), death, user, capabilities]
        return [*launch, *self.arguments]


class Spawner:
    """Starts children and adopts what they leave behind, so that a killed child's own children die too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def spawn(
        self, command: Command, *, stdin: int = subprocess.DEVNULL, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Must be called from a thread that outlives the child: Linux ties the death signal to it. What it prints goes
        into its log, or to `stdout` but for its errors."""
        with self._lock, command.log.open("ab") as log:
            if self._closed:
                raise StackError("The stack is stopping.")
            child = subprocess.Popen(
                command.launched_by(os.getpid()),
                env=dict(command.env),
                cwd=command.cwd,
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )
            self._known[child.pid] = child
            return child

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._known.pop(child.pid, None)

    def run(self, command: Command) -> None:
        """Run a command to its end; its failure carries the end of its log."""
        child = self.spawn(command)
        try:
            child.wait()
        finally:
            self.forget(child)
        _check(command, child)

    @contextmanager
    def piped(
        self, command: Command, *, stdin: int = subprocess.DEVNULL, stdout: int | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command whose pipes the block reads or fills to their end; its failure carries the end of its log. Where
        the block fails, the command is killed."""
        child = self.spawn(command, stdin=stdin, stdout=stdout)
        try:
            yield child
        except BrokenPipeError:
            # It ended early: its log says why.
            pass
        except BaseException:
            child.kill()
            raise
        finally:
            for pipe in filter(None, (child.stdin, child.stdout)):
                with suppress(BrokenPipeError):
                    pipe.close()
            child.wait()
            self.forget(child)
        _check(command, child)

    def kill_strangers(self) -> None:
        """End what killed children left: orphans come to this process, as it is their subreaper."""
        with self._lock:
            orphans = [child for child in psutil.Process().children() if child.pid not in self._known]
            for orphan in orphans:
                kill_tree(orphan)

    def close(self, except_pids: Sequence[int] = ()) -> None:
        """Refuse new children and end the commands that still run."""
        with self._lock:
            self._closed = True
            for pid, child in self._known.items():
                if pid not in except_pids and child.poll() is None:
                    child.terminate()


def _check(command: Command, child: subprocess.Popen[bytes]) -> None:
    if child.returncode != 0:
        shown = " ".join(Path(part).name if "/" in part else part for part in command.arguments[:4])
        raise StackError(f"`{shown} …` failed ({child.returncode}):\n{tail(command.log)}")


def kill_tree(process: psutil.Process) -> None:
    try:
        # The parent first: it must not take its helpers' end for the fault of what they worked on.
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in tree:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=5)
