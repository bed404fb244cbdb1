"""The supervisor with real, tiny processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standalone.stack import living, wait_until
from tests.waiting import pause

SUPERVISED = Path(__file__).with_name("supervised.py")
SLEEP = "import time; time.sleep(600)"
# Starts a child of its own, as a web server starts its workers, and notes its process id.
PARENT = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}])
pathlib.Path("grandchild").write_text(str(child.pid))
time.sleep(600)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Supervised:
    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process

    def pid(self, name: str) -> int | None:
        state = self.folder / "processes.json"
        known = json.loads(state.read_text()) if state.exists() else {}
        return known[name]["pid"] if name in known else None

    def running_pid(self, name: str, other_than: int | None = None) -> int:
        wait_until(lambda: self.pid(name) not in (None, other_than), 20, lambda: f"{name} stays away")
        pid = self.pid(name)
        assert pid
        return pid

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=30)[0]


@contextmanager
def supervised(folder: Path, *programs: dict[str, Any], misses: int = 3) -> Iterator[Supervised]:
    (folder / "programs.json").write_text(json.dumps(programs))
    command = [sys.executable, str(SUPERVISED), str(folder)]
    env = {**os.environ, "MISSES": str(misses)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield Supervised(folder, process)
    finally:
        process.kill()
        process.communicate()


def number_in(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text().isdigit(), 20, lambda: f"no {path}")
    return int(path.read_text())


def test_a_killed_process_comes_back_and_its_children_go(tmp_path: Path) -> None:
    with supervised(tmp_path, {"name": "web", "code": PARENT}) as run:
        first = run.running_pid("web")
        orphan = number_in(tmp_path / "grandchild")
        (tmp_path / "grandchild").unlink()
        os.kill(first, signal.SIGKILL)
        second = run.running_pid("web", other_than=first)
        assert living([first, orphan]) == []
        successor = number_in(tmp_path / "grandchild")
        assert living([second, successor]) == [second, successor]
        output = run.stop()
        assert "web ended (signal SIGKILL), again in 0.1 s" in output
        assert living([second, successor]) == []
        assert run.process.returncode == 0


def test_what_cannot_start_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    with supervised(tmp_path, {"name": "web", "code": "raise SystemExit('no such setting')"}) as run:
        output, _ = run.process.communicate(timeout=30)
    assert run.process.returncode == 1
    assert "web does not start (exit status 1):\nno such setting" in output
    assert output.count("web ended") == 3


def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, {"name": "web", "code": STUBBORN, "stop_timeout_s": 0.5}) as run:
        pid = run.running_pid("web")
        wait_until(lambda: ignores_sigterm(pid), 20, lambda: "never ignored it")
        assert "web does not stop, killing it" in run.stop()
        assert living([pid]) == []


def ignores_sigterm(pid: int) -> bool:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("SigIgn"))
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_the_highest_stage_stops_first(tmp_path: Path) -> None:
    code = """
import pathlib, signal, sys, time
def end(number, frame):
    time.sleep(0.3)
    with open("order", "a") as order:
        order.write(NAME + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(NAME).touch()
time.sleep(600)
"""
    programs = [
        {"name": name, "code": f"NAME = {name!r}\n{code}", "stage": stage}
        for name, stage in (("postgres", 0), ("web", 1))
    ]
    with supervised(tmp_path, *programs) as run:
        for name in ("postgres", "web"):
            wait_until((tmp_path / name).exists, 20, lambda: "a program did not start")
        run.stop()
    assert (tmp_path / "order").read_text() == "web postgres "


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, {"name": "web", "code": SLEEP}, {"name": "beat", "code": SLEEP}) as run:
        pids = [run.running_pid("web"), run.running_pid("beat")]
        run.process.kill()
        run.process.wait()
        wait_until(lambda: living(pids) == [], 10, lambda: f"still there: {living(pids)}")


# Shows that it lives as a worker does, five times a second.
ALIVE = """
import os, pathlib, signal, sys, threading, time
def beat():
    while True:
        pathlib.Path(NAME + ".alive").touch()
        time.sleep(0.2)
threading.Thread(target=beat, daemon=True).start()
"""


def alive(name: str, code: str = "time.sleep(600)", **options: Any) -> dict[str, Any]:
    return {"name": name, "code": f"NAME = {name!r}\n{ALIVE}\n{code}", "touches": True, **options}


def beats(folder: Path, name: str) -> None:
    wait_until((folder / f"{name}.alive").exists, 20, lambda: f"{name} never began")
    pause(0.6, "until the supervisor has seen it, too")


def restarts(folder: Path) -> list[dict[str, Any]]:
    path = folder / "restarts.json"
    return json.loads(path.read_text()) if path.exists() else []


@dataclass(frozen=True)
class Watched:
    """What became of some programs, each of which went silent, or is slow, in its own way."""

    folder: Path
    first: dict[str, int]
    last: dict[str, int]
    orphan: int
    output: str

    @property
    def restarts(self) -> dict[str, dict[str, Any]]:
        return {note["program"]: note for note in restarts(self.folder)}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    tidies = "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('tidied').touch(), sys.exit()))"
    programs = [
        alive("web", PARENT),
        alive("valkey", f"{tidies}\ntime.sleep(600)", hung_signal=int(signal.SIGTERM)),
        # Native code that does not let go of the interpreter.
        alive("computes", "import re; time.sleep(2); re.match(r'(a+)+b', 'a' * 60)"),
        {**alive("slow"), "code": "import time; time.sleep(2)\n" + alive("slow")["code"]},
        alive("beat"),
    ]
    names = [entry["name"] for entry in programs]
    with supervised(folder, *programs) as run:
        first = {name: run.running_pid(name) for name in names}
        for name in ("web", "valkey"):
            beats(folder, name)
        orphan = number_in(folder / "grandchild")
        for name in ("web", "valkey"):
            os.kill(first[name], signal.SIGSTOP)
        for name in ("web", "valkey", "computes"):
            run.running_pid(name, other_than=first[name])
        beats(folder, "slow")
        last = {name: run.running_pid(name) for name in names}
        assert len(living(list(last.values()))) == len(names)
        yield Watched(folder, first, last, orphan, run.stop())


@pytest.mark.slow
def test_a_process_that_hangs_is_ended_and_comes_back(watched: Watched) -> None:
    """With its children, or by a signal on which it may tidy up."""
    assert living([watched.first["web"], watched.first["valkey"], watched.orphan]) == []
    assert (watched.folder / "tidied").exists()
    assert "web has not answered for" in watched.output
    for name in ("web", "valkey"):
        assert watched.restarts[name]["reason"] == "hung"
        assert watched.restarts[name]["silent_s"] > 0.5


def test_one_that_computes_in_silence_has_more_time(watched: Watched) -> None:
    assert watched.restarts["computes"]["silent_s"] >= 2.0  # noted to a tenth


def test_a_slow_start_is_no_hang(watched: Watched) -> None:
    for name in ("slow", "beat"):
        assert watched.last[name] == watched.first[name]
        assert name not in watched.restarts


def test_a_time_in_which_all_stood_still_is_not_counted(tmp_path: Path) -> None:
    """As when a laptop sleeps: what was silent before, and what does not answer at once after, is no hang."""
    with supervised(tmp_path, alive("web"), misses=5) as run:
        first = run.running_pid("web")
        beats(tmp_path, "web")
        os.kill(first, signal.SIGSTOP)
        pause(1.2, "it misses some beats")
        os.kill(run.process.pid, signal.SIGSTOP)
        pause(1.2, "nobody looks meanwhile")
        os.kill(run.process.pid, signal.SIGCONT)
        pause(1.3, "it misses some more")
        os.kill(first, signal.SIGCONT)
        pause(0.5, "until the supervisor has seen it again")
        assert run.pid("web") == first
        run.stop()
    assert restarts(tmp_path) == []


@pytest.mark.parametrize("failures", [1, 4])
def test_the_pause_grows_to_its_limit(failures: int, tmp_path: Path) -> None:
    from standalone.processes import Command
    from standalone.supervise import Program, Running

    command = Command(["true"], {}, tmp_path, tmp_path / "log")
    running = Running(Program("x", command, stage=0, retry_s=0.5, retry_limit_s=3.0), failures=failures)
    assert running.pause() == {1: 0.5, 4: 3.0}[failures]
