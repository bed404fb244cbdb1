"""A benchmark of several parts: `PARTS=text,policy make bench-…` runs some of them, the figures of the rest stay."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from types import ModuleType

from _data import OUT
from _search_bench import Line

Measure = Callable[[ModuleType], list[Line]]


def run_parts(name: str, parts: dict[str, str], measure: Measure) -> int:
    """Measure the chosen of ``parts`` (title by part, in ``_<name>_<part>.py``), print them, write ``<name>.json``.

    Returns 0 also where figures missed: the table says so.
    """
    OUT.mkdir(parents=True, exist_ok=True)
    kept = OUT / f"{name}.json"
    figures = json.loads(kept.read_text()) if kept.is_file() else {}
    missed = 0
    for part in chosen(parts):
        start = time.monotonic()
        lines = measured(f"_{name}_{part}", measure)
        show(parts[part], lines, time.monotonic() - start)
        figures[part] = [asdict(line) for line in lines]
        missed += sum(line.met is False for line in lines)
        kept.write_text(json.dumps(figures, indent=1))
    print(f"\n{missed} of these figures missed their target." if missed else "\nEvery figure met its target.")
    return 0


def chosen(parts: dict[str, str]) -> list[str]:
    wanted = os.environ.get("PARTS", "").replace(",", " ").split() or list(parts)
    if unknown := set(wanted) - set(parts):
        sys.exit(f"error: no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return [name for name in parts if name in wanted]


def measured(module: str, measure: Measure) -> list[Line]:
    try:
        return measure(importlib.import_module(module))
    except Exception as error:
        traceback.print_exc()
        return [Line(f"broke off: {type(error).__name__}: {error}"[:200], "-", met=False)]


def show(title: str, lines: list[Line], seconds: float) -> None:
    print(f"\n{title} ({seconds:.0f} s)")
    for line in lines:
        print(line.shown())
    sys.stdout.flush()
