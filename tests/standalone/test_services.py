"""Embedded Postgres and Valkey: roles, durability, recovery. Real servers, killed for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import pytest
import redis

from standalone.config import ROOT
from standalone.ports import free_port
from standalone.stack import Stack, embedded_services, inherited, living, wait_until
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A blank and a quote in the path: it goes into command lines and configuration files.
    with embedded_services(tmp_path_factory.mktemp('a "data" dir'), throwaway=False) as stack:
        yield stack


def query(url: str, statement: str) -> list[tuple]:
    connection = psycopg2.connect(url, connect_timeout=2)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def connects(url: str) -> bool:
    try:
        return query(url, "SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def test_the_application_owns_nothing_and_row_level_security_binds_it(services: Stack) -> None:
    url = services.env["DATABASE_URL"]
    statement = (
        "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    )
    assert query(url, statement) == [(False, False, False, False)]
    owners = query(url, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert owners == [("crosslight_owner",)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(url, "CREATE TABLE mine (id int)")


def test_the_application_cannot_become_a_role_that_bypasses_row_level_security(services: Stack) -> None:
    for role in ("crosslight_operator", "crosslight_lexical", "crosslight_owner", "crosslight_admin"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(services.env["DATABASE_URL"], f"SET ROLE {role}")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(services.env["DATABASE_URL"], f"SET SESSION AUTHORIZATION {role}")


def test_the_operator_connects_as_itself(services: Stack) -> None:
    statement = "SELECT rolname, rolbypassrls, rolsuper FROM pg_roles WHERE rolname = session_user"
    assert query(services.env["OPERATOR_DATABASE_URL"], statement) == [("crosslight_operator", True, False)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(services.env["OPERATOR_DATABASE_URL"], "CREATE TABLE mine (id int)")


def test_a_start_takes_away_what_earlier_releases_granted(tmp_path: Path) -> None:
    """They let the application switch to the operator's role."""
    with embedded_services(tmp_path, migrated=False) as stack:
        secrets = json.loads((tmp_path / "secrets.json").read_text())
        admin = urlsplit(stack.env["DATABASE_URL"])
        netloc = f"crosslight_admin:{secrets['superuser_password']}@{admin.hostname}:{admin.port}"
        query(
            admin._replace(netloc=netloc).geturl(),
            "GRANT crosslight_operator TO crosslight_app WITH INHERIT FALSE, SET TRUE;"
            "ALTER ROLE crosslight_operator NOLOGIN PASSWORD NULL",
        )
        query(stack.env["DATABASE_URL"], "SET ROLE crosslight_operator")
    del secrets["operator_password"]
    (tmp_path / "secrets.json").write_text(json.dumps(secrets))
    with embedded_services(tmp_path, migrated=False) as stack:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(stack.env["DATABASE_URL"], "SET ROLE crosslight_operator")
        assert connects(stack.env["OPERATOR_DATABASE_URL"])


def test_a_database_without_the_operators_role_is_refused_at_the_start(
    services: Stack, tmp_path: Path
) -> None:
    env = {**inherited(), "DATA_DIR": str(tmp_path), "DATABASE_URL": services.env["DATABASE_URL"]}
    command = [sys.executable, "-m", "standalone", "run"]
    result = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: Set OPERATOR_DATABASE_URL as well as DATABASE_URL")


def test_only_passwords_open_the_servers(services: Stack) -> None:
    env = services.env
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(env["DATABASE_URL"].replace("crosslight_app:", "crosslight_app:x"), "SELECT 1")
    port = int(env["REDIS_URL"].split(":")[-1].split("/")[0])
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    assert redis.Redis.from_url(env["REDIS_URL"]).config_get("maxmemory-policy") == {
        "maxmemory-policy": "volatile-lru"
    }


def test_postgres_listens_on_loopback_only(services: Stack) -> None:
    settings = query(
        services.env["DATABASE_URL"], "SELECT current_setting('listen_addresses'), current_setting('fsync')"
    )
    assert settings == [("127.0.0.1", "on")]


def test_committed_rows_survive_a_killed_postgres(services: Stack) -> None:
    owner = services.env["MIGRATION_DATABASE_URL"]
    query(owner, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
    old = services.kill("postgres")
    services.wait_for_successor("postgres", old, timeout_s=PATIENCE_S)
    wait_until(lambda: connects(owner), 20, lambda: services.log_tail("postgres"))
    assert query(owner, "SELECT id FROM kept") == [(7,)]


def test_keys_survive_a_killed_valkey(services: Stack) -> None:
    client = redis.Redis.from_url(services.env["REDIS_URL"])
    client.set("kept", "7")
    assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1
    services.wait_for_successor("valkey", services.kill("valkey"), timeout_s=PATIENCE_S)
    wait_until(lambda: answers(services.env["REDIS_URL"]), 20, lambda: services.log_tail("valkey"))
    assert redis.Redis.from_url(services.env["REDIS_URL"]).get("kept") == b"7"


def answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url).ping())
    except redis.ConnectionError:
        return False


def test_ports_passwords_and_rows_survive_a_restart(tmp_path: Path) -> None:
    with embedded_services(tmp_path, throwaway=False) as first:
        env = first.env
        query(env["MIGRATION_DATABASE_URL"], "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
    with embedded_services(tmp_path, throwaway=False) as second:
        assert second.env == env
        assert query(env["MIGRATION_DATABASE_URL"], "SELECT id FROM kept") == [(7,)]


def test_a_second_stack_and_newer_data_are_refused(services: Stack, tmp_path: Path) -> None:
    assert "Another stack" in refusal(services.data_dir)
    (tmp_path / "version.json").write_text('{"layout": 99, "postgres": "18"}')
    assert "written by a newer release" in refusal(tmp_path)
    assert not (tmp_path / "postgres").exists()


def refusal(data_dir: Path) -> str:
    """What a start on this directory says, in one line, before it gives up."""
    env = {**inherited(), "DATA_DIR": str(data_dir), "PORT": str(free_port())}
    command = [sys.executable, "-m", "standalone", "run"]
    result = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_start_after_a_killed_stack_recovers(tmp_path: Path) -> None:
    with embedded_services(tmp_path, throwaway=False) as stack:
        pids = [pid for pid in map(stack.pid, ("postgres", "valkey")) if pid]
        stack_pid = stack.pid("stack")
        assert stack_pid
        os.kill(stack_pid, 9)
        wait_until(lambda: living([stack_pid]) == [], 10, lambda: "not dead")
    with embedded_services(tmp_path, throwaway=False) as stack:
        assert connects(stack.env["DATABASE_URL"])
        assert living(pids) == []


def test_a_throwaway_database_starts_empty(tmp_path: Path) -> None:
    for _ in range(2):
        with embedded_services(tmp_path, throwaway=True) as stack:
            query(stack.env["MIGRATION_DATABASE_URL"], "CREATE TABLE left_over (id int)")
