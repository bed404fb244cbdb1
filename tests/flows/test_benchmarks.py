"""Every benchmark runs: at toy size, all of them in one process beside the session's stack. And how they end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from standalone.stack import inherited
from tests.flows.conftest import ROOT

FOLDER = ROOT / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def toys(stack: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each said and how it ended, by name, and its figures."""
    folder = tmp_path_factory.mktemp("bench")
    env = {**inherited(), "BENCH": "toy", "BENCH_STACK": str(stack.data_dir), "DATA_DIR": str(folder)}
    command = [sys.executable, "-P", str(FOLDER / "_toy.py")]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ran = {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}
    for name, one in ran.items():
        path = folder / "bench" / f"{name}.json"
        one["figures"] = json.loads(path.read_text()) if path.is_file() else {}
    return ran


@pytest.mark.slow
@pytest.mark.timeout(900)  # The first waits for all of them.
@pytest.mark.parametrize("name", NAMES)
def test_every_section_of_a_benchmark_runs(toys: dict[str, dict[str, Any]], name: str) -> None:
    ran = toys[name]
    assert ran["status"] == 0, ran["said"][-5000:]
    assert ran["figures"]["broke_off"] == [], ran["said"][-5000:]
    told = ran["figures"]["run"]
    assert told["command"].startswith("BENCH=toy ")
    assert told["command"].endswith(f"make bench-{name}")
    for where in (told["machine"], f"revision {told['revision']}"):
        assert where in ran["said"]


IMPORTS = """
import importlib, json, pathlib, sys
sys.path.insert(0, "benchmarks")
broken = {}
for path in sorted(pathlib.Path("benchmarks").glob("[!_]*.py")):
    try:
        importlib.import_module(path.stem)
    except Exception as error:
        broken[path.stem] = f"{type(error).__name__}: {error}"
print(json.dumps(broken))
"""


def test_each_begins_without_django_as_make_begins_it() -> None:
    # All at toy size in one process would hide that one needs what another has set up.
    command = [sys.executable, "-P", "-c", IMPORTS]
    done = subprocess.run(command, cwd=ROOT, env=inherited(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {}


# --- How they end ----------------------------------------------------------------------------------------


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, as for a whole run that writes into a folder of its own."""
    spec = importlib.util.spec_from_file_location("bench_report", FOLDER / "_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OUT", tmp_path)
    monkeypatch.setattr(module, "TOY", False)
    return module


def breaks() -> None:
    raise ValueError("null value in column")


@pytest.mark.parametrize("toy", [False, True])
def test_a_section_that_breaks_off_ends_it_with_1(
    report: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any, toy: bool
) -> None:
    monkeypatch.setattr(report, "TOY", toy)
    run = report.Report("some")
    assert run.run("first", lambda: 5) == 5
    assert run.run("second", breaks) is None
    assert run.finish({"first": 5}) == 1
    kept = json.loads((tmp_path / "some.json").read_text())
    assert kept["broke_off"] == ["second broke off: ValueError: null value in column"]
    assert (kept["first"], kept["run"]["revision"], kept["run"]["toy"]) == (5, report.revision(), toy)
    assert "second broke off" in capsys.readouterr().out


def test_a_promise_counts_as_missed_beyond_noise_and_in_whole_runs_only(
    report: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = report.at_most("p50", 10.5, 10.0), report.at_most("p50", 12.0, 10.0)
    assert [line.met for line in (near, far)] == [False, False]
    assert "noise" in near.shown()
    assert "MISSED" in far.shown()
    # Recall hardly differs between runs.
    assert [report.at_least("recall", found, 0.99).broken for found in (0.99, 0.985, 0.97)] == [
        False,
        False,
        True,
    ]
    for lines, status in (([near], 0), ([near, far], 1)):
        run = report.Report("some")
        run.judge("part", lines)
        assert run.finish({}) == status
    monkeypatch.setattr(report, "TOY", True)
    run = report.Report("some")
    run.judge("part", [far])
    assert run.finish({}) == 0


def test_a_benchmark_that_does_not_exist_is_named_with_those_that_do() -> None:
    done = subprocess.run(["make", "bench-serach"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"error: there is no benchmark 'serach'; there are: {' '.join(NAMES)}" in done.stderr


def test_each_benchmark_prepares_what_it_needs() -> None:
    """From a clone in which nothing was prepared."""
    run = subprocess.run(
        ["make", "--dry-run", *(f"bench-{name}" for name in NAMES), f"PYTHON={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = re.findall(r"-m standalone (prepare)|benchmarks/(\w+)\.py", run.stdout)
    assert [one or other for one, other in told] == [step for name in NAMES for step in ("prepare", name)]


def test_benchmark_and_preparation_share_the_models_of_the_checkout(tmp_path: Path) -> None:
    """As the stacks do that a benchmark starts (`standalone.stack.inherited`)."""
    env = {key: value for key, value in os.environ.items() if key not in ("CROSSLIGHT_MODELS", "DATA_DIR")}
    # In the place of Python something that says what it was given.
    says = tmp_path / "python"
    says.write_text('#!/bin/sh\necho "$* $DATA_DIR $CROSSLIGHT_MODELS"\n')
    says.chmod(0o755)
    run = subprocess.run(
        ["make", "bench-query", f"BIN={tmp_path}", f"PYTHON={says}", "DATA_DIR=/elsewhere"],
        cwd=ROOT, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    models = ROOT / "var" / "models"
    assert run.stdout.splitlines()[-2:] == [
        f"-m standalone prepare /elsewhere {models}",
        f"benchmarks/query.py /elsewhere {models}",
    ]
