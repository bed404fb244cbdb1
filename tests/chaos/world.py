"""The real stack in two halves, with a link before each server, on small file systems, under clocks that can be moved.

Postgres and Valkey run as one stack, web, workers and scheduler as another, each in a file system of its own (tmpfs, as
root) and with a clock of its own (libfaketime, where it is installed). What is absent is named in `without`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from celery import Celery

from standalone.config import APP_PROCESSES
from standalone.errors import StackError
from standalone.ports import free_port
from standalone.stack import Stack, inherited
from tests.chaos.links import Link
from tests.chaos.receiver import Receiver
from tests.conftest import ROOT
from tests.flows.client import Client
from tests.waiting import answers, until

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
ENV = {
    "JOB_LEASE_S": "6",
    "JOB_RESEND_S": "3",
    "JOB_SWEEP_S": "1",
    "WEBHOOK_LEASE_S": "5",
    # Indexes of a few dozen, looked after often.
    "INDEX_FLAT_MAX": "40",
    "UPKEEP_S": "15",
    # Of several tenants' texts it is loaded and encodes sooner; what indexes hold does not matter here.
    "DEFAULT_MODEL": "prior-2",
    "ENCRYPT_FILES": "1",
    "MIN_FREE_MB": "30",
    "WEBHOOK_ALLOW_HTTP": "1",
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
}
POLICY = {
    "name": "chaos",
    "audit_uploads": True,
    "rules": [
        {"id": "ask", "when": "item.metadata.topic == 'unsure'", "then": "review", "reason": "Look at it."}
    ],
}
#: For processes that have to start again, on a busy machine.
HEALED_S = 180.0
SERVERS = ("postgres", "valkey", "web")


class Disk:
    """A file system whose size can be made what is used of it, so that it is full."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._size = folder, megabytes << 20
        folder.mkdir(parents=True)
        self.bounded = (
            os.geteuid() == 0
            and subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(folder)],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )
        # Postgres runs as another user.
        folder.chmod(0o755)

    def fill(self) -> None:
        # Somebody may write between the look and the change.
        for _ in range(20):
            at = os.statvfs(self.folder)
            if self._resize((at.f_blocks - at.f_bfree) * at.f_frsize):
                return

    def heal(self) -> None:
        self._resize(self._size)

    def _resize(self, size: int) -> bool:
        command = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        if self.bounded:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)


class Clock:
    """What processes take for the time, by a file that they read each second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.move(0)

    def move(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        # A process that reads half of it would have a third time.
        new.rename(self._file)

    @property
    def env(self) -> dict[str, str]:
        if FAKETIME is None:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "NO_FAKE_STAT": "1",
        }


@dataclass(frozen=True)
class Tenant:
    slug: str
    id: str
    key: str
    dataset: str
    webhook: str


class World:
    def __init__(self, folder: Path, megabytes: int = 1024) -> None:
        self.folder, self._closing = folder, ExitStack()
        self.links = {name: Link() for name in SERVERS}
        self.receiver = self._with(Receiver())
        for link in self.links.values():
            self._with(link)
        self.disks = {name: self._with(Disk(folder / name, megabytes)) for name in ("services", "app")}
        self.clocks = {name: Clock(folder / f"{name}.clock") for name in ("services", "app")}
        self.services = Stack(folder / "services", ["services", "--as-is"], self.clocks["services"].env)
        self._closing.callback(self.services.stop)
        self.services.start()
        self.app = Stack(folder / "app", ["run", "--only", ",".join(APP_PROCESSES)], self._app_env())
        self._closing.callback(self.app.stop)
        self.app.start()
        self.links["web"].target = int(self.app.env["PORT"])
        self.base_url = f"http://127.0.0.1:{self.links['web'].port}"

    def _with(self, opened: object) -> object:
        self._closing.callback(opened.close)
        return opened

    def keep_logs(self) -> None:
        """Beside the file systems, which go with this world: what a request id of a wrong answer leads to."""
        for stack in (self.services, self.app):
            logs = stack.data_dir / "log"
            if logs.is_dir():
                shutil.copytree(logs, self.folder / "log" / stack.data_dir.name, dirs_exist_ok=True)

    def close(self) -> None:
        self._closing.close()

    def _app_env(self) -> dict[str, str]:
        given, links = self.services.env, self.links
        private = json.loads((self.services.data_dir / "manage.json").read_text())
        database = {
            name: links["postgres"].url(url)
            for name, url in {**given, **private}.items()
            if name.endswith("DATABASE_URL")
        }
        redis = links["valkey"].url(given["REDIS_URL"])
        return {
            **ENV,
            **database,
            "REDIS_URL": redis,
            "BROKER_URL": redis,
            "PORT": str(free_port()),
            "DEMO": "0",
            "WEBHOOK_PORTS": str(self.receiver.port),
            "ALLOWED_HOSTS": "127.0.0.1",
            **self.clocks["app"].env,
        }

    @property
    def without(self) -> list[str]:
        """What this machine lacks."""
        told = [] if FAKETIME else ["clock: libfaketime is not installed (apt-get install faketime)"]
        full = all(disk.bounded for disk in self.disks.values())
        return [*told, *([] if full else ["disk: file systems of a bounded size need root (mount)"])]

    # --- Tenants -----------------------------------------------------------------------------------------

    def tenants(self, count: int) -> list[Tenant]:
        with ThreadPoolExecutor(3) as threads:
            made = list(threads.map(self._tenant, range(count)))
        # Of one of them every upload is audited.
        client = self.client(made[-1])
        policy = client.json("POST", "/policies", 201, json=POLICY)["policy"]["id"]
        client.json("POST", f"/policies/{policy}/activate", json={"version": 1, "mode": "enforce"})
        return made

    def _tenant(self, number: int) -> Tenant:
        slug = f"chaos-{number}"
        said = self.manage("create_tenant", slug, "--owner", f"owner@{slug}.example", "--plan", "demo")
        key = next(line.split()[-1] for line in said.splitlines() if line.startswith("api key"))
        client = Client(self.base_url, key)
        url = f"http://127.0.0.1:{self.receiver.port}/{slug}"
        hook = client.json("POST", "/webhooks", 201, json={"url": url})["id"]
        rows = self.query("SELECT id::text FROM tenant WHERE slug = %s", slug)
        return Tenant(slug, rows[0][0], key, client.dataset("chaos"), hook)

    def client(self, tenant: Tenant) -> Client:
        return Client(self.base_url, tenant.key)

    # --- What lies behind the API ------------------------------------------------------------------------

    def manage(self, *arguments: str, check: bool = True) -> str:
        """What a command of the operator prints."""
        env = {**inherited(), **self.app.env, **ENV, "DATA_DIR": str(self.app.data_dir)}
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done.stdout + ("" if check else done.stderr)

    @contextmanager
    def superuser(self) -> Iterator[psycopg2.extensions.cursor]:
        secrets = json.loads((self.services.data_dir / "secrets.json").read_text())
        url = self.services.env["DATABASE_URL"].replace(
            f"crosslight_app:{secrets['app_password']}", f"crosslight_admin:{secrets['superuser_password']}"
        )
        connection = psycopg2.connect(url)
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def query(self, statement: str, *values: object) -> list[tuple]:
        """Of all tenants; waits for a database that is just starting."""
        rows: list[tuple] = []

        def ask() -> None:
            with self.superuser() as cursor:
                cursor.execute(statement, values)
                rows[:] = cursor.fetchall()

        until(answers(ask, psycopg2.OperationalError), 60, f"no answer to {statement}")
        return rows

    def send(self, task: str, queue: str = "system") -> None:
        """What the scheduler does from time to time, now."""
        app = Celery(broker=self.services.env["BROKER_URL"], set_as_current=False)
        app.send_task(task, queue=queue)

    def heal(self) -> None:
        """Everything as before the faults, and at work."""
        for link in self.links.values():
            link.heal()
        for disk in self.disks.values():
            if disk.bounded:
                disk.heal()
        for clock in self.clocks.values():
            clock.move(0)
        self.receiver.failing = ""
        try:
            self.app.wait_ready(HEALED_S)
        except StackError as error:
            raise AssertionError(f"the stack does not come back: {error}\n{self.logs()}") from error

    def logs(self) -> str:
        names = ("stack", "web", "worker-general", "worker-embed")
        told = [f"--- {name}\n{self.app.log_tail(name, 25)}" for name in names]
        return "\n".join([*told, f"--- services\n{self.services.log_tail('stack', 25)}"])
