"""A benchmark of several parts: `PARTS=text,policy make bench-…` runs some of them, the figures of the rest stay."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from _report import OUT, TOY, Line, Report, skip, skipped

Measure = Callable[[ModuleType], list[Line]]


def run_parts(name: str, parts: dict[str, str], measure: Measure, toy: Collection[str] = ()) -> int:
    """Measure the chosen of ``parts`` (title by part, in ``_<name>_<part>.py``), print them, write ``<name>.json``.

    Returns the exit status. Each part says by which run it was measured. ``toy``: the parts that have a toy size (none:
    all); of the others a toy only imports the code.
    """
    report, kept = Report(name), OUT / f"{name}.json"
    figures = _earlier(kept, parts)
    for part in chosen(parts):
        start = time.monotonic()
        if TOY and toy and part not in toy and not os.environ.get("PARTS"):
            report.run(part, partial(importlib.import_module, f"_{name}_{part}"))
            skip(f"{part}: has no toy size; only its code was loaded")
            continue
        lines = measured(report, f"_{name}_{part}", measure)
        seconds = time.monotonic() - start
        show(parts[part], lines, seconds)
        report.judge(part, lines)
        skipped.update(f"{part}: {line.what}" for line in lines if "skipped" in f"{line.what} {line.value}")
        taken = {
            "revision": report.head["revision"],
            "begun": report.head["begun"],
            "seconds": round(seconds, 1),
        }
        figures[part] = {**taken, "lines": [asdict(line) for line in lines]}
    return report.finish(figures)


def _earlier(path: Path, parts: dict[str, str]) -> dict[str, Any]:
    known = json.loads(path.read_text()) if path.is_file() else {}
    return {name: known[name] for name in parts if isinstance(known.get(name), dict)}


def chosen(parts: dict[str, str]) -> list[str]:
    wanted = os.environ.get("PARTS", "").replace(",", " ").split() or list(parts)
    if unknown := set(wanted) - set(parts):
        sys.exit(f"error: no part {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return [name for name in parts if name in wanted]


def measured(report: Report, module: str, measure: Measure) -> list[Line]:
    return report.run(module, lambda: measure(importlib.import_module(module))) or []


def show(title: str, lines: list[Line], seconds: float) -> None:
    print(f"\n{title} ({seconds:.0f} s)")
    for line in lines:
        print(line.shown())
    sys.stdout.flush()
