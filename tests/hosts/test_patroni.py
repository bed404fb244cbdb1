"""The primary of Postgres is cut off while people write: nothing that was acknowledged is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hosts.conftest import needed
from tests.hosts.patroni import Patroni
from tests.hosts.proxy import Client, WebHost, bearer
from tests.waiting import until

Tell = Callable[[str], None]
CLIENTS = 4


@pytest.fixture
def patroni(namespaces: list[str]) -> Iterator[Patroni]:
    etcd, program = needed("etcd", "patroni", package="patroni etcd-server python3-etcd")
    # A path that the user of Postgres may enter.
    folder = Path("/var/tmp") / f"crosslight-patroni-{uuid.uuid4().hex[:8]}"
    cluster = Patroni(namespaces, folder, etcd, program)
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()
        subprocess.run(["rm", "-rf", str(folder)], check=False)


class Writers:
    """Clients that make datasets, each again under its key until it is acknowledged."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self.acknowledged: list[str] = []
        self.times: list[float] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def reach(self, count: int) -> None:
        until(lambda: len(self.acknowledged) >= count, 180, lambda: f"{len(self.acknowledged)} so far")

    def gap_s(self) -> float:
        """The longest time in which nothing was acknowledged."""
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))

    def _run(self, number: int) -> None:
        client, count = Client(self._port), 0
        while not self._stop.is_set():
            count += 1
            name = f"d-{number}-{count}"
            while not self._stop.is_set() and not self._made(client, name):
                client = Client(self._port)
                self._stop.wait(0.2)

    def _made(self, client: Client, name: str) -> bool:
        headers = {**bearer(self._token), "Content-Type": "application/json", "Idempotency-Key": name}
        try:
            answer = client.ask("POST", "/api/v1/datasets", headers, json.dumps({"name": name}).encode())
        except OSError:
            return False
        if answer.status != 201:
            return False
        with self._lock:
            self.acknowledged.append(name)
            self.times.append(time.monotonic())
        return True


@pytest.mark.proof(5)
@pytest.mark.timeout(900)
def test_the_primary_is_cut_off_under_writes(
    patroni: Patroni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    for name, value in {**patroni.provision(), "DEBUG": "1"}.items():
        monkeypatch.setenv(name, value)
    data = {**os.environ, "DATA_DIR": str(tmp_path / "manage")}
    (tmp_path / "manage").mkdir()

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=data, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    manage("migrate", "--database=migration", "--no-input", "-v", "0")
    printed = manage("create_tenant", "patroni", "--owner", "o@patroni.example", "--plan", "demo")
    token = next(line.split()[-1] for line in printed.splitlines() if line.startswith("api key"))
    web = WebHost.product("web", tmp_path)
    writers = Writers(int(web.address.split(":")[1]), token)
    try:
        web.wait()
        writers.start()
        writers.reach(100)
        cut = patroni.primary()
        patroni.cut(cut)
        before = len(writers.acknowledged)
        writers.reach(before + 200)
        writers.stop()
        patroni.cut(cut, yes=False)
        # Back, it follows the new primary, and what only it had is gone.
        other = (cut + 1) % len(patroni.addresses)
        patroni.wait(other)
        assert patroni.primary(other) != cut
    finally:
        writers.stop()
        web.kill()
    kept = {name for (name,) in patroni.ask("SELECT name FROM dataset")}
    lost = set(writers.acknowledged) - kept
    tell(
        f"5. the primary cut off under writes: {len(writers.acknowledged)} acknowledged, {len(lost)} lost, "
        f"nothing acknowledged for {writers.gap_s():.1f} s"
    )
    assert not lost
    assert writers.gap_s() <= 30
