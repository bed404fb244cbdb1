"""Start a stack from Python: for tests, benchmarks and the guided tour.

The stack runs as a process of its own, exactly as `make run` starts it, and ends with the thread that
started it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from standalone import datadir
from standalone.config import APP_PROCESSES, PRIVILEGED, ROOT
from standalone.errors import StackError
from standalone.files import read_json
from standalone.logs import tail
from standalone.ports import free_port
from standalone.processes import Command

# What would tie a new stack to the one that the caller itself works with.
NOT_INHERITED = (
    *("DATABASE_URL", *PRIVILEGED, "REDIS_URL", "BROKER_URL", "STORAGE_URL", "SECRET_KEY"),
    *("SECRET_KEY_FALLBACKS", "MASTER_KEY_FILE", "KMS_URL", "WAL_ARCHIVE"),
    *("HOST", "PORT", "BASE_URL", "ALLOWED_HOSTS", "DATA_DIR", "DEMO", "METRICS_TOKEN"),
    *("TRUSTED_PROXIES", "TRUSTED_PROXY_HEADER", "CSRF_TRUSTED_ORIGINS", "SECURE_SSL_REDIRECT"),
)
START_TIMEOUT_S = 900.0  # the first start builds the models


class Stack:
    """A stack in another process, and what a test wants to do to it."""

    def __init__(self, data_dir: Path, arguments: Sequence[str], extra_env: Mapping[str, str]) -> None:
        self.data_dir = data_dir.resolve()
        self._arguments = [sys.executable, "-m", "standalone", *arguments]
        self._settings = {**inherited(), "DATA_DIR": str(self.data_dir), **extra_env}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = START_TIMEOUT_S) -> Stack:
        """Return once the stack is ready; raise with the end of its log if it is not going to be."""
        datadir.create(self.data_dir)
        log = self.data_dir / "log" / "stack.log"
        with log.open("wb") as output:
            command = Command(self._arguments, self._settings, ROOT, log)
            self._process = subprocess.Popen(
                command.launched_by(os.getpid()),
                env=self._settings,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self._is_ready(log), timeout_s, lambda: f"Not ready:\n{tail(log)}")
        except BaseException:
            self.stop()
            raise
        return self

    def _is_ready(self, log: Path) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise StackError(
                f"The stack ended with status {self._process and self._process.returncode}:\n{tail(log)}"
            )
        return any(line.startswith(b"ready ") for line in log.read_bytes().splitlines())

    @property
    def env(self) -> dict[str, str]:
        """What `manage.py` has beside the stack: database and its roles, broker, secret key, …"""
        return datadir.read_environment(self.data_dir)

    @property
    def base_url(self) -> str:
        return f"http://{self.env['HOST']}:{self.env['PORT']}"

    @property
    def demo(self) -> dict:
        return dict(read_json(self.data_dir / "demo.json", {}))

    def pid(self, name: str) -> int | None:
        """Of a supervised process, or of `stack` itself; None while it is not running."""
        if name == "stack":
            return self._process.pid if self._process else None
        known = read_json(self.data_dir / "run" / "processes.json", {}).get(name)
        return int(known["pid"]) if known else None

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one process; returns the process id that it had."""
        pid = self.pid(name)
        if pid is None:
            raise StackError(f"{name} is not running")
        os.kill(pid, number)
        return pid

    def restart(self, name: str, timeout_s: float = 60.0) -> int:
        """Stop one process politely and wait for its successor's process id."""
        return self.wait_for_successor(name, self.kill(name, signal.SIGTERM), timeout_s)

    def wait_for_successor(self, name: str, old: int, timeout_s: float = 60.0) -> int:
        pids = [old]

        def has_come() -> bool:
            pids.append(self.pid(name) or old)
            return pids[-1] != old

        wait_until(has_come, timeout_s, lambda: f"{name} stays away")
        return pids[-1]

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Until everything that the web process uses is there, also what it could do without for a while."""
        wait_until(self._is_well, timeout_s, lambda: f"/readyz is not well:\n{self.log_tail('web')}")

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=5) as response:  # noqa: S310 - ours
                return {*json.load(response)["checks"].values()} == {"ok"}
        except OSError:
            return False

    def log_tail(self, name: str, lines: int = 40) -> str:
        return tail(self.data_dir / "log" / f"{name}.log", lines)

    def stop(self, timeout_s: float = 60.0) -> int:
        """As Ctrl-C does; returns the exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def inherited() -> dict[str, str]:
    """The caller's environment; built models are shared between the stacks of one checkout."""
    env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    env.setdefault("CROSSLIGHT_MODELS", str(ROOT / "var" / "models"))
    return env


def wait_until(condition: Callable[[], bool], timeout_s: float, message: Callable[[], str]) -> None:
    timeout_s *= float(os.environ.get("CROSSLIGHT_PATIENCE") or 1)  # of tests on a slow or busy machine
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{message()}\n(gave up after {timeout_s:.0f} s)")
        time.sleep(0.05)


@contextmanager
def running_stack(
    data_dir: Path,
    *,
    port: int | None = None,
    extra_env: Mapping[str, str] | None = None,
    processes: Sequence[str] = APP_PROCESSES,
    demo: bool = False,
) -> Iterator[Stack]:
    """The whole stack (or some of its processes) on a port of its own, with the demo tenants if wanted."""
    chosen = {"PORT": str(port or free_port()), "DEMO": "" if demo else "0", **(extra_env or {})}
    stack = Stack(data_dir, ["run", "--only", ",".join(processes)], chosen)
    try:
        yield stack.start()
    finally:
        stack.stop()


@contextmanager
def embedded_services(data_dir: Path, *, throwaway: bool = True, migrated: bool = True) -> Iterator[Stack]:
    """Postgres and Valkey only; throwaway means an empty database, without fsync."""
    options = [*(["--throwaway"] if throwaway else []), *([] if migrated else ["--as-is"])]
    stack = Stack(data_dir, ["services", *options], {})
    try:
        yield stack.start()
    finally:
        stack.stop()


_test_services: dict[Path, Stack] = {}


def start_test_services(data_dir: Path) -> dict[str, str]:
    """Empty, migrated services for a test session, to be called before Django's settings are imported.

    Calling it again returns the same. They end at `stop_test_services`, or with the calling process.
    """
    data_dir = data_dir.resolve()
    if data_dir not in _test_services:
        _test_services[data_dir] = Stack(data_dir, ["services", "--throwaway"], {}).start()
        atexit.register(stop_test_services, data_dir)
    return _test_services[data_dir].env


def stop_test_services(data_dir: Path) -> None:
    stack = _test_services.pop(data_dir.resolve(), None)
    if stack:
        stack.stop()


def living(pids: Sequence[int]) -> list[int]:
    """Those that still run; a zombie does not."""
    return [pid for pid in pids if psutil.pid_exists(pid) and _status(pid) != psutil.STATUS_ZOMBIE]


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE
