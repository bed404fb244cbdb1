"""The whole stack: what a killed process, a stop and a killed parent leave behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest

from standalone.config import APP_PROCESSES, PRIVILEGED, ROOT
from standalone.ports import free_port
from standalone.programs import WORKERS, worker_answers
from standalone.stack import Stack, inherited, living, running_stack, wait_until
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RECOVERY_S = 20.0
# Nothing is searched here, and it is loaded sooner.
SMALL = {"DEFAULT_MODEL": "prior-2"}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Not the session's: its processes are killed here."""
    quick = {"PROBE_INTERVAL_S": "1", "PROBE_TIMEOUT_S": "2", **SMALL}
    with running_stack(tmp_path_factory.mktemp("own"), extra_env=quick) as stack:
        yield stack


ONES_AND_WORKERS = [("postgres",), ("valkey",), ("web",), (*WORKERS, "beat")]


@pytest.mark.parametrize("names", ONES_AND_WORKERS, ids=["postgres", "valkey", "web", "workers"])
def test_killed_processes_come_back(own_stack: Stack, names: tuple[str, ...]) -> None:
    killed = {name: own_stack.kill(name) for name in names}
    for name, pid in killed.items():
        own_stack.wait_for_successor(name, pid, RECOVERY_S)
    own_stack.wait_ready(RECOVERY_S)
    for worker in WORKERS:
        wait_until(worker_answers(worker, own_stack.env), 2 * RECOVERY_S, lambda: own_stack.log_tail("stack"))


def test_processes_that_hang_come_back(own_stack: Stack) -> None:
    """All at once, the web server's own worker, too. What the database has promised is still there."""
    url, names = own_stack.env["MIGRATION_DATABASE_URL"], ["postgres", "valkey", *APP_PROCESSES]
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 7 AS id")
    below = psutil.Process(own_stack.pid("web")).children()
    stopped = {name: own_stack.kill(name, signal.SIGSTOP) for name in names}
    for child in below:
        child.suspend()
    for name, pid in stopped.items():
        own_stack.wait_for_successor(name, pid, 2 * RECOVERY_S)
    own_stack.wait_ready(2 * RECOVERY_S)
    for worker in WORKERS:
        wait_until(worker_answers(worker, own_stack.env), 2 * RECOVERY_S, lambda: own_stack.log_tail("stack"))
    noted = json.loads((own_stack.data_dir / "run" / "restarts.json").read_text())
    assert {note["program"] for note in noted if note["reason"] == "hung"} == {*names}
    assert living([*stopped.values(), *(child.pid for child in below)]) == []
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT id FROM kept")
        assert cursor.fetchall() == [(7,)]


def test_what_is_secret_is_private(own_stack: Stack) -> None:
    for name in ("secrets.json", "env.json", "manage.json"):
        assert stat.S_IMODE((own_stack.data_dir / name).stat().st_mode) == 0o600
    for secret in json.loads((own_stack.data_dir / "secrets.json").read_text()).values():
        assert secret not in " ".join(command_lines(own_stack))


def test_only_who_needs_it_has_a_role_that_sees_all_tenants(own_stack: Stack) -> None:
    """Neither in the environment of a process or of its children, nor in the file that their settings read."""
    holders: dict[str, set[str]] = {}
    for name in (*APP_PROCESSES, "postgres", "valkey"):
        process = psutil.Process(own_stack.pid(name))
        for member in (process, *process.children(recursive=True)):
            holders.setdefault(name, set()).update({*PRIVILEGED} & {*member.environ()})
    wanted = {name: {"OPERATOR_DATABASE_URL"} for name in ("web", "worker-general")}
    assert holders == {**{name: set() for name in holders}, **wanted}
    readable = json.loads((own_stack.data_dir / "env.json").read_text())
    assert {*PRIVILEGED} & {*readable} == set()
    assert {*PRIVILEGED} <= {*own_stack.env}
    shown = "from django.conf import settings; print(sorted(settings.DATABASES))"
    env = {**inherited(), "DATA_DIR": str(own_stack.data_dir), "DJANGO_SETTINGS_MODULE": "config.settings"}
    read = subprocess.run(
        [sys.executable, "-c", shown], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    )
    assert read.stdout == "['default']\n"


def command_lines(stack: Stack) -> list[str]:
    """Of what runs below. One that ended in between is gone or a zombie; NoSuchProcess stands for both."""
    parts: list[str] = []
    for child in psutil.Process(stack.pid("stack")).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parts += child.cmdline()
    return parts


def test_manage_py_works_beside_the_stack(own_stack: Stack) -> None:
    env = {**inherited(), "DATA_DIR": str(own_stack.data_dir)}
    command = [sys.executable, "manage.py", "migrate", "--check", "--database=migration"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=120)


def test_the_port_of_another_program_is_refused(own_stack: Stack, tmp_path: Path) -> None:
    port = own_stack.env["PORT"]
    env = {**inherited(), "DATA_DIR": str(tmp_path), "PORT": port}
    command = [sys.executable, "-m", "standalone", "run"]
    result = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert f"Port {port} on 127.0.0.1 is taken" in result.stderr


def test_stop_leaves_no_process_and_a_free_port(tmp_path: Path) -> None:
    with running_stack(tmp_path, port=free_port(), extra_env=SMALL) as stack:
        url = f"{stack.base_url}/healthz"
        with closing(urllib.request.urlopen(url, timeout=PATIENCE_S)) as answer:
            assert answer.status == 200
        started = [child.pid for child in psutil.Process(stack.pid("stack")).children(recursive=True)]
        assert len(started) > len(APP_PROCESSES)
        assert stack.stop() == 0
        assert living(started) == []
        assert b"does not stop" not in (tmp_path / "log" / "stack.log").read_bytes()


def test_a_killed_parent_takes_everything_along(tmp_path: Path) -> None:
    with running_stack(tmp_path, processes=("web", "worker-general"), extra_env=SMALL) as stack:
        parent = stack.pid("stack")
        assert parent
        started = [child.pid for child in psutil.Process(parent).children(recursive=True)]
        os.kill(parent, 9)
        wait_until(lambda: living(started) == [], 30, lambda: f"still there: {living(started)}")
    with running_stack(tmp_path, processes=("web",), extra_env=SMALL) as stack:
        stack.wait_ready()
