"""The stack that the console is measured on, with a small and a busy tenant; kept under $DATA_DIR/bench/console.

`FRESH=1` starts anew. The numbers can be made smaller: `ASSETS=10000 JOBS=5000`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _data import OUT, ROOT

from standalone.stack import Stack, inherited, running_stack

HOME = OUT / "console"
ASSETS, JOBS = int(os.environ.get("ASSETS") or 100_000), int(os.environ.get("JOBS") or 50_000)
SIZES = {"small": (1_000, 500), "busy": (ASSETS, JOBS)}


@dataclass
class World:
    """`tenants` by size: `user`, `password`, `tenant`, `pages` (address by name), and how they were written."""

    stack: Stack
    tenants: dict[str, dict[str, Any]]

    def run(self, program: str, *arguments: Any, given: Any = None) -> dict[str, Any]:
        """What a program of this folder prints, in a process beside the stack that reaches its database."""
        return _run(self.stack, program, *arguments, given=given)


@contextmanager
def world() -> Iterator[World]:
    if os.environ.pop("FRESH", ""):
        shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True, exist_ok=True)
    with running_stack(HOME, demo=True) as stack:
        yield World(stack, {size: _tenant(stack, size) for size in SIZES})


def _tenant(stack: Stack, size: str) -> dict[str, Any]:
    assets, jobs = SIZES[size]
    kept = HOME / f"{size}-{assets}-{jobs}.json"
    if not kept.exists():
        made = _run(stack, "_console_seed.py", assets, jobs)
        print(
            f"wrote {assets:,} assets and {jobs:,} jobs with what belongs to them in {made['seconds']:.0f} s"
        )
        kept.write_text(json.dumps(made))
    return dict(json.loads(kept.read_text()))


def _run(stack: Stack, program: str, *arguments: Any, given: Any = None) -> dict[str, Any]:
    env = {**inherited(), **stack.env, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    # -P: this folder has a console.py, which would hide the package.
    command = [sys.executable, "-P", str(Path(__file__).with_name(program)), *map(str, arguments)]
    sent = None if given is None else json.dumps(given)
    done = subprocess.run(command, cwd=ROOT, env=env, input=sent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
