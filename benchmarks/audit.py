"""Content auditing, measured part by part (`make bench-audit`).

Provenance, known content, statistics, text, policies, and what all of it costs. `PARTS=text,policy` runs some of it.
Sets come from ../shared/data (or CROSSLIGHT_DATA); where one is absent its lines say so. Writes var/bench/audit.json.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import asdict

from _data import OUT
from _search_bench import Line

PARTS = {
    "provenance": "Provenance: signatures, declarations, watermarks",
    "known": "Known content: hashes and neighbours",
    "statistics": "Statistics: manipulated pictures, synthetic speech",
    "text": "Text: abuse, hate, personal data",
    "policy": "Policies: decisions and backtests",
    "throughput": "What an audit costs",
}


def chosen() -> list[str]:
    wanted = os.environ.get("PARTS", "").replace(",", " ").split() or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        sys.exit(f"error: no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def measure(name: str) -> list[Line]:
    try:
        lines: list[Line] = importlib.import_module(f"_audit_{name}").run(OUT / "audit")
        return lines
    except Exception as error:
        traceback.print_exc()
        return [Line(f"broke off: {type(error).__name__}: {error}"[:200], "-", met=False)]


def show(title: str, lines: list[Line], seconds: float) -> None:
    print(f"\n{title} ({seconds:.0f} s)")
    for line in lines:
        print(line.shown())
    sys.stdout.flush()


def main() -> int:
    (OUT / "audit").mkdir(parents=True, exist_ok=True)
    kept = OUT / "audit.json"
    figures = json.loads(kept.read_text()) if kept.is_file() else {}
    missed = 0
    for name in chosen():
        start = time.monotonic()
        lines = measure(name)
        show(PARTS[name], lines, time.monotonic() - start)
        figures[name] = [asdict(line) for line in lines]
        missed += sum(line.met is False for line in lines)
        kept.write_text(json.dumps(figures, indent=1))
    print(f"\n{missed} of these figures missed their target." if missed else "\nEvery figure met its target.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
