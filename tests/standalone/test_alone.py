"""One process by itself: the stack's own command, its secrets, and how a web process stops."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from config.secret_files import SECRETS, read_secret_files
from standalone import alone
from standalone.config import APP_PROCESSES, PRIVILEGED, StackConfig
from standalone.errors import StackError
from tests.conftest import ROOT
from tests.waiting import until

# Answers the readiness that it has, and says in the end whether it was told before it was stopped.
CHILD = """
import os, signal, sys, time
from pathlib import Path
draining, told = Path(os.environ["DRAIN_FILE"]), Path(sys.argv[1])
def end(*_):
    told.write_text(f"stopped, draining={draining.exists()}")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
told.write_text(f"started, draining={draining.exists()}")
while True:
    time.sleep(0.05)
"""
RUN = """
import os, sys
from pathlib import Path
from standalone import alone
from standalone.processes import Command
folder = Path(sys.argv[1])
command = Command([sys.executable, "-c", sys.argv[2], str(folder / "told")], dict(os.environ), folder, folder / "log")
sys.exit(alone._serve(command, folder / "draining", float(sys.argv[3])))
"""


@pytest.mark.parametrize("name", APP_PROCESSES)
def test_it_runs_what_the_stack_runs_with_no_more_secrets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"DATA_DIR": str(tmp_path), **dict.fromkeys(PRIVILEGED, "x")}
    given |= {f"{key}_FILE": "/run/secrets/x" for key in ("SECRET_KEY", *PRIVILEGED)}
    seen: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(alone.os, "chdir", lambda path: None)
    monkeypatch.setattr(alone.os, "execvpe", lambda file, arguments, env: seen.append((arguments, env)))
    monkeypatch.setattr(alone, "_serve", lambda command, *rest: seen.append((command.arguments, command.env)))
    alone.run_alone(StackConfig(tmp_path, "127.0.0.1", 8000, given), name)
    ((arguments, env),) = seen
    assert ("granian" if name == "web" else "celery") in arguments
    secrets = {key for key in env if "DATABASE_URL" in key}
    wide = {"OPERATOR_DATABASE_URL", "OPERATOR_DATABASE_URL_FILE"}
    assert secrets == (wide if name in ("web", "worker-general") else set())
    assert env["SECRET_KEY_FILE"] == "/run/secrets/x"
    assert (name == "web") or env["HEARTBEAT_FILE"] == str(tmp_path / "run" / f"{name}.alive")


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "1e9"])
def test_a_drain_that_is_no_number_of_seconds_is_refused(given: str, tmp_path: Path) -> None:
    config = StackConfig(tmp_path, "127.0.0.1", 8000, {"DRAIN_S": given})
    with pytest.raises(StackError, match="DRAIN_S must be a number"):
        alone.run_alone(config, "web")


def started(folder: Path, child: str, drain_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), child, str(drain_s)], cwd=ROOT / "platform"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_that_it_stops_before_it_stops(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "draining").touch()  # as one that was killed leaves it
    process, told = started(tmp_path, CHILD, 1.0), tmp_path / "told"
    until(lambda: told.exists() and told.read_text())
    assert told.read_text() == "started, draining=False"
    process.send_signal(number)
    until((tmp_path / "draining").exists)
    assert told.read_text() == "started, draining=False"
    assert process.wait(30) == 0
    assert told.read_text() == "stopped, draining=True"


def test_a_child_that_ends_ends_it(tmp_path: Path) -> None:
    assert started(tmp_path, "raise SystemExit(3)", 60).wait(30) == 3


def test_readiness_is_404_while_it_drains(tmp_path: Path, settings: object) -> None:
    settings.DRAIN_FILE = str(tmp_path / "draining")  # type: ignore[attr-defined]
    (tmp_path / "draining").touch()
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()) == (404, {"ready": False, "checks": {"draining": "failed"}})


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" from a file\n")
    environ = {f"{name}_FILE": str(file) for name in SECRETS}
    assert read_secret_files(environ) == dict.fromkeys(SECRETS, "from a file")
    assert read_secret_files({"HEARTBEAT_FILE": str(file), "SECRET_KEY_FILE": "", "SECRET_KEY": "x"}) == {}


def test_a_secret_that_is_not_there_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for environ, said in (
        ({"REDIS_URL_FILE": str(tmp_path / "none")}, "REDIS_URL_FILE: .* cannot be read"),
        ({"REDIS_URL_FILE": str(empty)}, "REDIS_URL_FILE: .* is empty"),
        ({"REDIS_URL_FILE": str(empty), "REDIS_URL": "redis://x"}, "REDIS_URL or REDIS_URL_FILE, not both"),
    ):
        with pytest.raises(ImproperlyConfigured, match=said):
            read_secret_files(environ)
