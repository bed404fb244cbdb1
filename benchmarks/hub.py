"""What a space of a hub's model costs (`make bench-hub`): adding it, and each text and picture afterwards.

A CLIP ViT-B/32 of random weights at true size, as `manage.py add_space` adds it. `PARTS=int8,fp16` adds it at some of
the precisions. Takes minutes and some gigabytes of memory. Writes var/bench/hub.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _report import ROOT, Line, Report, at_least, sized

PRECISIONS = sized(("int8", "fp16", "fp32"), ("int8",))
LEAST_COSINE = 0.99


def main() -> int:
    report, figures = Report("hub"), {}
    for precision in chosen():
        found = report.run(precision, lambda precision=precision: added(precision))
        if found is None:
            continue
        figures[precision] = found
        lines = lines_of(precision, found)
        for line in lines:
            print(line.shown())
        report.judge(precision, lines)
    return report.finish(figures)


def chosen() -> tuple[str, ...]:
    wanted = os.environ.get("PARTS", "").replace(",", " ").split()
    if unknown := set(wanted) - {"int8", "fp16", "fp32"}:
        sys.exit(f"error: no precision {', '.join(sorted(unknown))}; there are int8, fp16, fp32")
    return tuple(wanted) or PRECISIONS


def added(precision: str) -> dict[str, Any]:
    child = [sys.executable, "-P", str(Path(__file__).with_name("_hub_size.py")), precision]
    here = f"{ROOT}:{ROOT / 'benchmarks'}"
    done = subprocess.run(
        child, cwd=ROOT, env={**os.environ, "PYTHONPATH": here}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    *told, last = done.stdout.splitlines()
    print("\n".join(told))
    return dict(json.loads(last))


def lines_of(precision: str, found: dict[str, Any]) -> list[Line]:
    lines = [
        Line(f"{precision}: weights of the original", found["weights_mb"], "MB"),
        Line(f"{precision}: adding", found["seconds"], "s"),
        Line(f"{precision}: memory at the peak", found["peak_mb"], "MB"),
        Line(f"{precision}: kept on disk", found["disk_mb"], "MB"),
    ]
    for name, tower in found["towers"].items():
        lines += [
            Line(f"{precision}: {name} tower", tower["mb"], "MB"),
            Line(f"{precision}: one {name}", tower["ms"], "ms"),
            at_least(f"{precision}: {name}, least cosine", tower["least_cosine"], LEAST_COSINE),
        ]
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
