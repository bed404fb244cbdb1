"""Postgres under Patroni: three members, each with etcd, in network namespaces that can be cut off."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2

from standalone.postgres import PROVISION, binary
from tests.conftest import ROOT
from tests.waiting import until

PASSWORD = "of-the-tests"
CONFIGURATION = """
scope: crosslight
name: {name}
restapi: {{listen: '{address}:8008', connect_address: '{address}:8008'}}
etcd3: {{hosts: [{etcds}]}}
bootstrap:
  dcs:
    ttl: 15
    loop_wait: 3
    retry_timeout: 5
    synchronous_mode: true
    postgresql: {{use_pg_rewind: true, parameters: {{max_connections: 100}}}}
  initdb: [{{encoding: UTF8}}, data-checksums]
postgresql:
  listen: '{address}:5432'
  connect_address: '{address}:5432'
  data_dir: {folder}/data
  bin_dir: {programs}
  parameters: {{unix_socket_directories: ''}}
  pg_hba: ['host all all 10.77.9.0/24 scram-sha-256', 'host replication all 10.77.9.0/24 scram-sha-256']
  authentication:
    superuser: {{username: admin, password: {password}}}
    replication: {{username: replicator, password: {password}}}
"""


class Patroni:
    """Started in these namespaces, whose addresses are 10.77.9.1 and so on."""

    def __init__(self, namespaces: Sequence[str], folder: Path, etcd: str, patroni: str) -> None:
        self.folder, self.namespaces = folder, list(namespaces)
        self.addresses = [f"10.77.9.{number}" for number in range(1, len(namespaces) + 1)]
        self._processes: list[subprocess.Popen[bytes]] = []
        # Of the user that Postgres runs as.
        folder.mkdir(parents=True)
        shutil.chown(folder, "postgres")
        for number in range(len(namespaces)):
            self._start_etcd(number, etcd)
        for number in range(len(namespaces)):
            self._start_member(number, patroni)

    def _start(self, number: int, name: str, command: Sequence[str]) -> None:
        owner = pwd.getpwnam("postgres")
        with (self.folder / f"{name}.log").open("wb") as log:
            inside = ["ip", "netns", "exec", self.namespaces[number]]
            as_user = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            self._processes.append(
                subprocess.Popen(
                    [*inside, *as_user, *command],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C.UTF-8"},
                )
            )

    def _start_etcd(self, number: int, program: str) -> None:
        address, name = self.addresses[number], f"etcd{number + 1}"
        peers = ",".join(f"etcd{i}=http://{one}:2380" for i, one in enumerate(self.addresses, 1))
        clients, peer = f"http://{address}:2379", f"http://{address}:2380"
        options = {
            "name": name,
            "data-dir": self.folder / name,
            "initial-cluster": peers,
            "initial-cluster-state": "new",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
        }
        self._start(number, name, [program, *(f"--{key}={value}" for key, value in options.items())])

    def _start_member(self, number: int, program: str) -> None:
        name = f"member{number + 1}"
        own = self.folder / name
        own.mkdir()
        shutil.chown(own, "postgres")
        file = self.folder / f"{name}.yaml"
        etcds = ", ".join(f"'{one}:2379'" for one in self.addresses)
        file.write_text(
            CONFIGURATION.format(
                name=name,
                address=self.addresses[number],
                etcds=etcds,
                folder=own,
                programs=binary("postgres").parent,
                password=PASSWORD,
            )
        )
        self._start(number, name, [program, str(file)])

    def url(self, role: str, password: str, database: str = "crosslight") -> str:
        """Of whichever member is the primary."""
        # Without ports: dj-database-url reads no list of them.
        hosts = ",".join(self.addresses)
        return f"postgres://{role}:{password}@{hosts}/{database}?target_session_attrs=read-write"

    def wait(self, seen_from: int = 0) -> None:
        """Until there is a primary, a member that has every commit as well, and a third: as this one sees it."""

        def complete() -> bool:
            running = [one for one in self.members(seen_from) if one["state"] in ("running", "streaming")]
            roles = [one["role"] for one in running]
            return "leader" in roles and "sync_standby" in roles and len(roles) == len(self.addresses)

        until(complete, 120, self.told, every_s=0.5)

    def members(self, seen_from: int = 0) -> list[dict[str, Any]]:
        """What a member says of all; nothing while it does not answer."""
        try:
            url = f"http://{self.addresses[seen_from]}:8008/cluster"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return list(json.load(answer)["members"])
        except (OSError, ValueError, urllib.error.URLError):
            return []

    def primary(self, seen_from: int = 0) -> int:
        """The place of the primary among the namespaces. One that was cut off knows it last."""
        name = next(one["name"] for one in self.members(seen_from) if one["role"] == "leader")
        return int(name.removeprefix("member")) - 1

    def provision(self) -> dict[str, str]:
        """Make roles, database and tables; the variables that the product's processes need."""
        secrets = {
            "OWNER_PASSWORD": PASSWORD,
            "APP_PASSWORD": PASSWORD,
            "OPERATOR_ROLE_PASSWORD": PASSWORD,
        }
        # `\\connect` in the file keeps no list of hosts.
        where = f"postgres://admin:{PASSWORD}@{self.addresses[self.primary()]}:5432/postgres"
        command = [str(binary("psql")), "-v", "ON_ERROR_STOP=1", "-q", "-f", str(PROVISION), where]
        done = subprocess.run(
            command, env={**os.environ, **secrets}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        roles = {
            "DATABASE_URL": "crosslight_app",
            "OPERATOR_DATABASE_URL": "crosslight_operator",
            "MIGRATION_DATABASE_URL": "crosslight_owner",
        }
        return {name: self.url(role, PASSWORD) for name, role in roles.items()}

    def cut(self, number: int, yes: bool = True) -> None:
        subprocess.run(
            ["ip", "link", "set", f"clv{number + 1}", "down" if yes else "up"], check=True, cwd=ROOT
        )

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """As the superuser, of the primary."""
        connection = psycopg2.connect(self.url("admin", PASSWORD), connect_timeout=2)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def told(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in logs)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
