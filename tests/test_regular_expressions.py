"""No text makes a regular expression of the product, or a reader beside them, take longer than its length explains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict

import pytest

from tests.hostile_patterns import KNOWN_SLOW, ROOT

CPU_S = 120

Told = dict[str, list[tuple[str, str | None]]]


@pytest.fixture(scope="module")
def told() -> Told:
    """What the child says of each: it has a limit of processor time, so that nothing can hang."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    child = subprocess.run(
        [sys.executable, "-m", "tests.hostile_patterns", str(CPU_S)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths, "DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    found: Told = defaultdict(list)
    for line in child.stdout.splitlines():
        part, name, wrong = json.loads(line)
        found[part].append((name, wrong))
    last = child.stdout.splitlines()[-1:]
    assert child.returncode == 0, f"ended with {child.returncode} after {last}: {child.stderr[-2000:]}"
    return found


@pytest.mark.slow
def test_slow_expressions_are_noticed(told: Told) -> None:
    assert dict(told["known"]).keys() == KNOWN_SLOW.keys()
    assert [name for name, wrong in told["known"] if wrong is None] == []


def test_every_expression_is_linear(told: Told) -> None:
    assert len({name for name, _ in told["expression"]}) > 150
    assert [f"{name}\n  {wrong}" for name, wrong in told["expression"] if wrong] == []


def test_readers_of_text_and_bytes_are_linear(told: Told) -> None:
    assert len(told["scanner"]) > 1_000
    assert [f"{name}: {wrong}" for name, wrong in told["scanner"] if wrong] == []
