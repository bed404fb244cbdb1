"""The database's half: one snapshot of it past row-level security, and loading that again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import make_dsn, parse_dsn

from standalone.config import ROOT
from standalone.errors import StackError
from standalone.postgres import binary
from standalone.processes import Command, Spawner

# What provisioning of earlier releases made and only a superuser drops: a server to restore to may not have it.
LEFT_OUT = ["--exclude-schema=pgvector", "--exclude-extension=vector"]
TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') ORDER BY c.relname
"""


class RowDigest:
    """Takes the lines of a COPY: how many, and the SHA-256 of them all."""

    def __init__(self) -> None:
        self.sha, self.rows = hashlib.sha256(), 0

    def write(self, lines: bytes | str) -> int:
        data = lines.encode() if isinstance(lines, str) else lines
        self.sha.update(data)
        self.rows += data.count(b"\n")
        return len(lines)


class View:
    """A database as one role sees it, in one transaction."""

    def __init__(self, url: str, connection: Any) -> None:
        self.url = url
        self._connection = connection

    def rows(self, statement: Any, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, statement: Any, parameters: tuple[Any, ...] = ()) -> Any:
        return self.rows(statement, parameters)[0][0]

    def tables(self) -> list[str]:
        return [name for (name,) in self.rows(TABLES)]

    def digests(self, without: Collection[str] = ()) -> dict[str, dict[str, Any]]:
        """Rows and SHA-256 of each table: of the digests of its rows in order, so that no row's place matters."""
        return {table: self._digest(table) for table in self.tables() if table not in without}

    def _digest(self, table: str) -> dict[str, Any]:
        taken = RowDigest()
        statement = sql.SQL(
            "COPY (SELECT sha256(convert_to(t::text, 'UTF8')) FROM {} t ORDER BY 1) TO STDOUT"
        ).format(sql.Identifier(table))
        with self._connection.cursor() as cursor:
            cursor.copy_expert(statement, taken)
        return {"rows": taken.rows, "sha256": taken.sha.hexdigest()}

    def migrations(self) -> dict[str, list[str]]:
        if "django_migrations" not in self.tables():
            return {}
        applied: dict[str, list[str]] = {}
        for app, name in self.rows("SELECT app, name FROM django_migrations ORDER BY app, name"):
            applied.setdefault(app, []).append(name)
        return applied


class Snapshot(View):
    """The database as it was at one moment; the files that its rows name are kept until it is closed."""

    def __init__(self, url: str, connection: Any, name: str) -> None:
        super().__init__(url, connection)
        self.name = name

    def tenants(self) -> list[str]:
        return [name for (name,) in self.rows("SELECT id::text FROM tenant ORDER BY id")]

    def blobs(self, tenant: str) -> set[str]:
        return {name for (name,) in self.rows("SELECT sha256 FROM blob WHERE tenant_id = %s", (tenant,))}

    @contextmanager
    def dump(self, spawner: Spawner, log: Path, without: Collection[str] = ()) -> Iterator[IO[bytes]]:
        """Read what pg_dump writes of what this snapshot sees, but the rows of some tables. Raises StackError with the
        end of its log."""
        options = ["--format=custom", "--compress=1", f"--snapshot={self.name}", *LEFT_OUT]
        options += [f"--exclude-table-data={table}" for table in without]
        with spawner.piped(pg_command("pg_dump", self.url, log, *options), stdout=PIPE) as child:
            assert child.stdout is not None  # noqa: S101 - for the type checker
            yield child.stdout


@contextmanager
def snapshot(url: str, hold: int) -> Iterator[Snapshot]:
    """Open a snapshot as a role that bypasses row-level security, holding the advisory lock `hold`."""
    with connected(url) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        # Dumping and copying may take hours, during which this session only waits.
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", (hold,))
        connection.autocommit = False
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor.execute("SET LOCAL TimeZone = 'UTC'")
        cursor.execute("SELECT pg_export_snapshot()")
        yield Snapshot(url, connection, cursor.fetchone()[0])
        connection.rollback()


@contextmanager
def view(url: str) -> Iterator[View]:
    """The database as the role of this address sees it now."""
    with connected(url) as connection:
        found = View(url, connection)
        found.rows("SET LOCAL TimeZone = 'UTC'")
        yield found
        connection.rollback()


@contextmanager
def connected(url: str) -> Iterator[Any]:
    try:
        connection = psycopg2.connect(url, connect_timeout=5, application_name="crosslight backup")
    except psycopg2.OperationalError as error:
        raise StackError(f"The database does not answer: {str(error).strip()}") from error
    try:
        yield connection
    finally:
        connection.close()


def load(copy: Callable[[IO[bytes]], None], url: str, spawner: Spawner, log: Path) -> None:
    """Fill an empty, provisioned database as its owner, in one transaction, with the dump that `copy` writes. Raises
    StackError; a dump that breaks off changes nothing.

    The owner is enough: row-level security is switched on after the rows are there. The default privileges of
    provisioning go first and come back from the dump: a dump says what is granted, so that what a migration has
    revoked (from the audit log) would stay granted on tables that get them.
    """
    _clear_default_privileges(url)
    options = ["--single-transaction", "--exit-on-error", "--no-comments"]
    with spawner.piped(pg_command("pg_restore", url, log, *options), stdin=PIPE) as child:
        assert child.stdin is not None  # noqa: S101 - for the type checker
        copy(child.stdin)


def _clear_default_privileges(url: str) -> None:
    with connected(url) as connection, connection, connection.cursor() as cursor:
        cursor.execute(DEFAULT_PRIVILEGES)
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)


DEFAULT_PRIVILEGES = """
    SELECT DISTINCT format('ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON %s FROM %I',
        CASE defaclobjtype WHEN 'r' THEN 'TABLES' ELSE 'SEQUENCES' END, rolname)
    FROM pg_default_acl, aclexplode(defaclacl) JOIN pg_roles r ON r.oid = grantee
    WHERE defaclrole = current_user::regrole
        AND defaclnamespace = 'public'::regnamespace AND defaclobjtype IN ('r', 'S') AND grantee <> defaclrole
"""


def pg_command(program: str, url: str, log: Path, *options: str) -> Command:
    """The password goes through the environment: an argument could be read by everybody with `ps`."""
    parts = parse_dsn(url)
    secret = {"PGPASSWORD": parts.pop("password")} if "password" in parts else {}
    arguments = [str(binary(program)), f"--dbname={make_dsn(**parts)}", *options]
    return Command(arguments, {**os.environ, **secret}, ROOT, log)
