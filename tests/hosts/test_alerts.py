"""The alerts of deploy/monitoring, tried by causing them: a real Prometheus watches a real stack (`make test-alerts`).

Every window and every `for` of the rules is sixty times as short; what is compared with them stays, but for the age of
canaries, which are sent once a minute.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import requests

from standalone.ports import free_port
from standalone.stack import Stack, running_stack
from tests.flows.client import Client
from tests.waiting import pause, until

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "monitoring" / "alerts.yaml"
FASTER = 60
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yaml]
scrape_configs: [{job_name: crosslight, static_configs: [{targets: ["127.0.0.1:PORT"]}]}]
"""

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="prometheus is missing: apt-get install prometheus"
    ),
]


def test_the_rules_on_made_up_series(tmp_path: Path) -> None:
    for file in (RULES, Path(__file__).with_name("alerts.test.yaml")):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def shortened(rules: str) -> str:
    """With durations a sixtieth as long, at least three scrapes: ranges and `for`, no names."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * UNITS[found[3]] // FASTER
        return f"{found[1]}{max(3, seconds)}s{found[4]}"

    rules = re.sub(r"(\[)(\d+)([smhd])(\])", shorter, rules)
    rules = re.sub(r"(for: )(\d+)([smhd])()", shorter, rules)
    return rules.replace("crosslight_canary_age_seconds) > 900", "crosslight_canary_age_seconds) > 90")


class Prometheus:
    """Watches one stack."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "alerts.yaml").write_text(shortened(RULES.read_text()))
        (folder / "prometheus.yml").write_text(CONFIG.replace("PORT", str(port)))
        options = [f"--web.listen-address={self.url.removeprefix('http://')}", "--storage.tsdb.path=data"]
        self.log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            ["prometheus", "--config.file=prometheus.yml", *options], cwd=folder, stderr=self.log
        )
        until(self._is_ready, seconds=30)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=1).status_code == 200
        except requests.ConnectionError:
            return False

    def firing(self) -> set[str]:
        answer = requests.get(f"{self.url}/api/v1/alerts", timeout=5).json()
        return {a["labels"]["alertname"] for a in answer["data"]["alerts"] if a["state"] == "firing"}

    def fires(self, name: str, seconds: float = 90) -> None:
        until(lambda: name in self.firing(), seconds, lambda: f"{name} does not fire: {self.firing()}", 0.5)

    def ends(self, name: str, seconds: float = 120) -> None:
        until(lambda: name not in self.firing(), seconds, lambda: f"{name} does not end", 0.5)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self.log.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Nobody starts anew what the tests stop.
    env = {"PROBE_INTERVAL_S": "0"}
    with running_stack(tmp_path_factory.mktemp("watched"), extra_env=env) as stack:
        yield stack


@pytest.fixture(scope="module")
def prometheus(watched: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    port = int(watched.base_url.rpartition(":")[2])
    started = Prometheus(tmp_path_factory.mktemp("prometheus"), port)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def tenant(watched: Stack) -> Client:
    env = {**os.environ, **watched.env, "DATA_DIR": str(watched.data_dir)}
    made = subprocess.run(
        [sys.executable, "manage.py", "create_tenant", "watched", "--owner", "owner@watched.example"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    token = next(line.split()[-1] for line in made.stdout.splitlines() if line.startswith("api key"))
    return Client(watched.base_url, token)


@contextmanager
def as_owner(stack: Stack) -> Iterator[Any]:
    """A cursor of the database's owner, who may do what a release or an administrator can do wrong."""
    url = json.loads((stack.data_dir / "manage.json").read_text())["MIGRATION_DATABASE_URL"]
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def stopped(stack: Stack, name: str) -> Iterator[None]:
    """The process and its children do nothing, without having ended."""
    first = psutil.Process(stack.pid(name))
    family = [first, *first.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


@contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Does it again and again beside the block."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            act()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def search(tenant: Client) -> int:
    return tenant.request("POST", "/search", json={"text": "a red ball"}).status_code


def test_nothing_fires_on_a_stack_that_is_well(prometheus: Prometheus, tenant: Client) -> None:
    until(lambda: search(tenant) == 200, seconds=120, every_s=1)
    with meanwhile(lambda: search(tenant)):
        pause(15, "the rules look at what is well")
    assert prometheus.firing() <= {"CrosslightSearchSlowFast", "CrosslightSearchSlowSlowly"}, (
        "a cold start may be slow"
    )


def test_server_errors(watched: Stack, prometheus: Prometheus, tenant: Client) -> None:
    with as_owner(watched) as cursor:
        cursor.execute("REVOKE SELECT ON dataset FROM crosslight_app")
        cursor.connection.commit()
        try:
            with meanwhile(lambda: tenant.request("GET", "/datasets")):
                prometheus.fires("CrosslightApiErrorsFast")
        finally:
            cursor.execute("GRANT SELECT ON dataset TO crosslight_app")
            cursor.connection.commit()
    with meanwhile(lambda: search(tenant)):
        prometheus.ends("CrosslightApiErrorsFast")


def test_slow_searches(watched: Stack, prometheus: Prometheus, tenant: Client) -> None:
    with as_owner(watched) as cursor:

        def lock() -> None:
            cursor.execute("LOCK TABLE dataset IN ACCESS EXCLUSIVE MODE")
            pause(0.6, "searches wait for the lock")
            cursor.connection.commit()

        with meanwhile(lock), meanwhile(lambda: search(tenant)):
            prometheus.fires("CrosslightSearchSlowFast")


def test_jobs_that_fail(prometheus: Prometheus, tenant: Client) -> None:
    dataset = tenant.dataset("damaged")

    def upload() -> None:
        tenant.upload(dataset, b"\xff\xd8\xff\xe0" + os.urandom(2_000))
        pause(0.5, "a client that sends one file after the other")

    with meanwhile(upload):
        prometheus.fires("CrosslightJobsFailing", seconds=120)


def test_jobs_that_wait(watched: Stack, prometheus: Prometheus, tenant: Client) -> None:
    dataset = tenant.dataset("waiting")
    with stopped(watched, "worker-embed"):
        for number in range(20):
            tenant.upload(dataset, text=f"a text of the number {number}")
        prometheus.fires("CrosslightCanaryOld", seconds=240)
        # Six minutes pass.
        with as_owner(watched) as cursor:
            cursor.execute("SET row_security = on")
            cursor.execute("SELECT id FROM tenant")
            for (tenant_id,) in cursor.fetchall():
                cursor.execute("SELECT set_config('app.tenant', %s, false)", [str(tenant_id)])
                cursor.execute(
                    "UPDATE job SET queued_at = queued_at - interval '6 minutes' WHERE state = 'queued'"
                )
            cursor.connection.commit()
    prometheus.fires("CrosslightJobsLateFast", seconds=120)
    prometheus.ends("CrosslightCanaryOld", seconds=120)


def test_a_backup_that_is_old(watched: Stack, prometheus: Prometheus) -> None:
    last = watched.data_dir / "last-backup.json"
    last.write_text(json.dumps({"created_at": "2026-01-01T00:00:00+00:00", "path": "gone", "missing": 0}))
    prometheus.fires("CrosslightBackupOld", seconds=150)
    last.unlink()
    prometheus.ends("CrosslightBackupOld")


def test_valkey_away(watched: Stack, prometheus: Prometheus) -> None:
    def kill() -> None:
        if (pid := watched.pid("valkey")) is not None and psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
        pause(0.1, "the supervisor starts it anew")

    with meanwhile(kill):
        prometheus.fires("CrosslightMetricsIncomplete")
    prometheus.ends("CrosslightMetricsIncomplete")


def test_a_web_process_that_hangs(watched: Stack, prometheus: Prometheus) -> None:
    with stopped(watched, "web"):
        prometheus.fires("CrosslightWebDown")
    prometheus.ends("CrosslightWebDown")


def test_no_worker(watched: Stack, prometheus: Prometheus) -> None:
    names = [
        name
        for name in json.loads((watched.data_dir / "run" / "processes.json").read_text())
        if "worker" in name
    ]
    assert len(names) > 1
    for name in names:
        os.kill(watched.kill(name, signal.SIGSTOP), 0)
    try:
        prometheus.fires("CrosslightWorkersAbsent", seconds=180)
    finally:
        for name in names:
            watched.kill(name, signal.SIGCONT)
