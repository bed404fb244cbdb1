"""The stack that the console is measured on, with a small and a busy tenant; kept under $DATA_DIR/bench/console.

`FRESH=1` starts anew. The numbers can be made smaller: `ASSETS=10000 JOBS=5000`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from _report import OUT, sized
from _stack import beside, stack_in

from standalone.stack import Stack

HOME = OUT / "console"
ASSETS = int(os.environ.get("ASSETS") or sized(100_000, 200))
JOBS = int(os.environ.get("JOBS") or sized(50_000, 100))
SIZES = {"small": sized((1_000, 500), (100, 50)), "busy": (ASSETS, JOBS)}


@dataclass
class World:
    """`tenants` by size: `user`, `password`, `tenant`, `pages` (address by name), and how they were written."""

    stack: Stack
    tenants: dict[str, dict[str, Any]]

    def run(self, program: str, given: Any) -> dict[str, Any]:
        """What a program of this folder answers beside the stack."""
        return dict(beside(self.stack, program, given))


@contextmanager
def world() -> Iterator[World]:
    if os.environ.pop("FRESH", ""):
        shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True, exist_ok=True)
    with stack_in(HOME) as stack:
        yield World(stack, {size: _tenant(stack, size) for size in SIZES})


def _tenant(stack: Stack, size: str) -> dict[str, Any]:
    assets, jobs = SIZES[size]
    kept = HOME / f"{size}-{assets}-{jobs}.json"
    if not kept.exists():
        made = beside(stack, "_console_seed", {"assets": assets, "jobs": jobs})
        print(
            f"wrote {assets:,} assets and {jobs:,} jobs with what belongs to them in {made['seconds']:.0f} s"
        )
        kept.write_text(json.dumps(made))
    return dict(json.loads(kept.read_text()))
