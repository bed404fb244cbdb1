"""Which tests are required, which run by commands of their own (tests/tiers.toml), which guard (tests/guards.toml).

A plugin of pytest: `--tier live` leaves out what is in another tier. tests/run.py runs a tier as `make test` does, and
reads what this writes down. `make update` writes tests/guards.toml anew.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
GUARDS = FOLDER / "guards.toml"
#: What no pattern of tests/tiers.toml matches.
REQUIRED = "required"
#: The one folder of required tests that has a stack.
SMOKE = "tests/smoke/"
#: At the end of a pattern that names a table of cases: all of them but the first, which is required.
REST = "[1:]"
#: What runs first.
WAITING = (SMOKE, "tests/test_tiers.py")
#: Where each outcome is written down as it comes, and what was collected: names of files.
LOG = "CROSSLIGHT_TEST_LOG"
COLLECTED = "CROSSLIGHT_TEST_COLLECTED"


@dataclass(frozen=True)
class Tier:
    name: str
    about: str
    tests: dict[str, str] = field(default_factory=dict)
    processes: int = 2
    minutes: int = 40
    #: Of a tier that tests/run.py does not run.
    command: str = ""


@dataclass(frozen=True)
class Collection:
    """What pytest found: the tier of each test, how many cases each guard has, and which tests run."""

    tiers: dict[str, str]
    guards: dict[str, int]
    selected: list[str]


@cache
def written() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "tiers.toml").read_text())


@cache
def tiers() -> dict[str, Tier]:
    return {name: Tier(name, **table) for name, table in written().items() if isinstance(table, dict)}


def chained(nodeid: str) -> bool:
    """Whether the tests of its file build on each other, so that one alone says nothing."""
    return nodeid.partition("::")[0] in written()["chained"]


def function_of(nodeid: str) -> str:
    """Without the parameters of a case."""
    return nodeid.partition("[")[0]


@cache
def patterns_of(function: str) -> list[tuple[str, str]]:
    """(tier, pattern) of whatever matches a test."""
    return [
        (tier.name, pattern)
        for tier in tiers().values()
        for pattern in tier.tests
        if matches(pattern, function)
    ]


def matches(pattern: str, function: str) -> bool:
    pattern = pattern.removesuffix(REST)
    if pattern.endswith("/"):
        return function.startswith(pattern)
    return fnmatchcase(function, pattern) or fnmatchcase(function, f"{pattern}::*")


def tier_of(nodeid: str) -> str:
    found = patterns_of(function_of(nodeid))
    return found[0][0] if found else REQUIRED


def placed_of(nodeids: Iterable[str]) -> dict[str, str]:
    """The tier of each test; of a table whose pattern ends with REST the first case that is there is required."""
    placed: dict[str, str] = {}
    begun: set[str] = set()
    for nodeid in nodeids:
        function = function_of(nodeid)
        first = function not in begun and any(p.endswith(REST) for _, p in patterns_of(function))
        placed[nodeid] = REQUIRED if first else tier_of(nodeid)
        begun.add(function)
    return placed


@cache
def agreed_guards() -> dict[str, int]:
    """The least number of cases of each guard."""
    return tomllib.loads(GUARDS.read_text()) if GUARDS.exists() else {}


def pytest_addoption(parser: pytest.Parser) -> None:
    names = [REQUIRED, *tiers()]
    parser.addoption("--tier", choices=names, help="only tests of one tier of tests/tiers.toml")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # For a run that takes too long: tests/run.py asks each process where it is.
    stderr = config.stash.get(fault_handler_stderr_fd_key, None)
    if stderr is not None:
        faulthandler.register(signal.SIGUSR1, file=stderr, all_threads=True)
    if (path := os.environ.get(LOG)) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(Path(path)))
        # tests/run.py interrupts a run that takes too long; a shell lets what it runs in the background ignore that.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, Any, Any]:
    placed = placed_of(item.nodeid for item in items)
    guards = Counter(function_of(item.nodeid) for item in items if item.get_closest_marker("guard"))
    if wanted := config.getoption("tier"):
        config.hook.pytest_deselected(items=[item for item in items if placed[item.nodeid] != wanted])
        items[:] = [item for item in items if placed[item.nodeid] == wanted]
        refuse_stacks(item for item in items if wanted == REQUIRED)
    # What waits for processes, for the most part: the sooner it begins, the more goes on beside it.
    items.sort(key=lambda item: not item.nodeid.startswith(WAITING))
    yield
    found = Collection(placed, dict(guards), [item.nodeid for item in items])
    config.stash[FOUND] = found
    if path := os.environ.get(COLLECTED):
        write_whole(Path(path), json.dumps(found.__dict__))


FOUND = pytest.StashKey[Collection]()


def refuse_stacks(items: Iterable[pytest.Item]) -> None:
    """A required test that starts the demo or a browser would make `make test` take minutes longer."""
    for item in items:
        asks = "stack" in getattr(item, "fixturenames", ()) or item.get_closest_marker("browser")
        if asks and not item.nodeid.startswith(SMOKE):
            raise pytest.UsageError(f"{item.nodeid} needs a stack: name its tier in tests/tiers.toml")


def write_whole(path: Path, text: str) -> None:
    """Several processes write the same."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A guard that is skipped where it is required has failed."""
    report = yield
    required = (
        item.config.getoption("tier") == REQUIRED and os.environ.get("CROSSLIGHT_TEST_SERVICES") != "off"
    )
    if report.skipped and required and item.get_closest_marker("guard"):
        report.outcome, report.longrepr = "failed", f"a guard must not be skipped: {report.longrepr}"
    return report


class Outcomes:
    """Writes each outcome down as it comes, for a run that is killed as well."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        line = {"id": report.nodeid, "when": report.when, "outcome": report.outcome}
        self.file.write(json.dumps(line) + "\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.file.write(json.dumps({"id": report.nodeid, "when": "collect", "outcome": "failed"}) + "\n")


def collect() -> Collection:
    """Every test there is, as another process of pytest finds them; without services."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "collected"
        env = {**os.environ, COLLECTED: str(path), "CROSSLIGHT_TEST_SERVICES": "off"}
        env.pop(LOG, None)
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:xdist", "tests"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if not path.exists():
            raise RuntimeError(f"pytest collected nothing:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return Collection(**json.loads(path.read_text()))


HEAD = """\
# Tests that carry the marker `guard`, and how many cases each has at least: who may do what, what workspaces see of
# each other, the API's document, idempotency, erasure, killed jobs, the record. `make test` runs all of them, a skipped
# one has failed, and none gets a second run. tests/test_tiers.py compares. `make update` writes this file: look at what
# it takes away.
"""


def main() -> None:
    guards = collect().guards
    lines = [f'"{name}" = {cases}\n' for name, cases in sorted(guards.items())]
    GUARDS.write_text(HEAD + "\n" + "".join(lines))
    print(f"{sum(guards.values())} cases of {len(guards)} guards in {GUARDS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
