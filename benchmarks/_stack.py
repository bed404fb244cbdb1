"""What benchmarks over HTTP share: a stack, a client of it, and what its processes hold and spend."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import requests

from standalone.config import ROOT
from standalone.stack import Stack, embedded_services, inherited, running_stack

#: The folder of a stack that runs already: at toy size all benchmarks share it.
SHARED = os.environ.get("BENCH_STACK", "")
SAMPLED_S = 0.02


@contextmanager
def stack_in(folder: Path, *, demo: bool = True, **options: Any) -> Iterator[Stack]:
    """A stack of one's own in this folder, with the demo tenants; or the one that is shared."""
    if SHARED:
        yield Stack(Path(SHARED), [], {})
        return
    with running_stack(folder, demo=demo, **options) as stack:
        yield stack


@contextmanager
def services_in(folder: Path) -> Iterator[Stack]:
    """Postgres and Valkey, migrated, for this process's Django: embedded ones of one's own, or those of the stack that
    is shared."""
    if SHARED:
        start_django(Stack(Path(SHARED), [], {}))
        yield Stack(Path(SHARED), [], {})
        return
    with embedded_services(folder) as stack:
        start_django(stack)
        yield stack


def start_django(stack: Stack) -> None:
    """Let the product's services work on this stack in this process, which can do so for one stack only."""
    # This folder has a console.py, which would hide the package; `tests` furnishes a workspace.
    here = str(Path(__file__).parent)
    sys.path[:] = [*(one for one in sys.path if one != here), str(ROOT), str(ROOT / "platform"), here]
    from django.apps import apps

    if not apps.ready:
        os.environ.update({**stack.env, "DJANGO_SETTINGS_MODULE": "config.settings"})
        import django

        django.setup()
    if os.environ["DATABASE_URL"] != stack.env["DATABASE_URL"]:
        raise RuntimeError("this process works on the database of another stack")


def beside(stack: Stack, program: str, given: Any) -> Any:
    """What a program of this folder answers to `given`: its function `main`, with the product's services at hand.

    In a process beside the stack, as a stack that comes later has another address; in this one where that works on the
    stack already. Both as JSON.
    """
    if SHARED:
        start_django(stack)
        return json.loads(json.dumps(importlib.import_module(program).main(stack, given), default=str))
    # -P: this folder has a console.py, which would hide the package.
    command = [
        sys.executable,
        "-P",
        str(Path(__file__).with_name("_beside.py")),
        program,
        str(stack.data_dir),
    ]
    env = {**inherited(), **stack.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        input=json.dumps(given, default=str),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Client:
    """A tenant of a running stack."""

    def __init__(self, stack: Stack, slug: str = "", key: str = "") -> None:
        """By the slug of a demo tenant, or with a key."""
        self._api = f"{stack.base_url}/api/v1"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key or _key_of(stack, slug)}"

    def send(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self._session.request(method, f"{self._api}{path}", timeout=600, **kwargs)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def dataset(self, name: str) -> str:
        return str(self.send("POST", "/datasets", json={"name": f"{name} {time.time_ns()}"})["id"])

    def wait(self, job_id: str, every_s: float = 0.2) -> dict[str, Any]:
        """The job once it has ended."""
        while (job := self.send("GET", f"/jobs/{job_id}"))["state"] in ("queued", "running"):
            time.sleep(every_s)
        return dict(job)


@cache
def _own_key(slug: str) -> str:
    from _search_load import create_tenant

    return create_tenant(f"{slug}-{time.time_ns() % 10**9}").key


def _key_of(stack: Stack, slug: str) -> str:
    """Of a demo tenant; on a stack that others use as well, of a tenant of one's own in its place."""
    if SHARED:
        start_django(stack)
        return _own_key(slug)
    return next(str(one["api_key"]) for one in stack.demo["tenants"] if one["slug"] == slug)


class Watch:
    """The memory of one supervised process with its children, sampled, and the processor time of the stack."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack, self._name = stack, name
        self.peak_mb, self.cpu_s, self.wall_s = 0.0, 0.0, 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), daemon=True)
        cpu, start = cpu_seconds(self._stack), time.monotonic()
        sampler.start()
        try:
            yield
        finally:
            stop.set()
            sampler.join()
            self.wall_s = time.monotonic() - start
            self.cpu_s = cpu_seconds(self._stack) - cpu

    def _sample(self, stop: threading.Event) -> None:
        over = False
        while not over:
            self.peak_mb = max(self.peak_mb, memory_mb(self._stack, self._name))
            over = stop.wait(0.25)


def own_memory() -> int:
    """Bytes of memory that this process wrote to: without files that it has mapped, which the kernel may drop."""
    line = next(
        one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("RssAnon")
    )
    return int(line.split()[1]) * 1024


@contextmanager
def most_memory() -> Iterator[list[int]]:
    """A list of one: the most `own_memory` meanwhile."""
    peak, stop = [own_memory()], threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLED_S):
            peak[0] = max(peak[0], own_memory())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        stop.set()
        sampler.join()


def memory_mb(stack: Stack, name: str) -> float:
    """Resident, without what several processes share counted twice (PSS)."""
    return sum(_pss(process) for process in _family(stack.pid(name))) / 2**20


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def cpu_seconds(stack: Stack) -> float:
    """Of the stack with everything that it started and that still runs."""
    return sum(_spent(process) for process in _family(stack.pid("stack")))


def _spent(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.Error:
        return 0.0


def _family(pid: int | None) -> list[psutil.Process]:
    if pid is None:
        return []
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []
