"""Search at scale, over HTTP on a stack of its own (`make bench-search`).

A million vectors of one tenant against raw FAISS and an empty view; filters, texts, the cache, a thousand tenants,
throughput, freshness, building while serving, other vector databases, and a day of changing data in minutes.
`SECTIONS=floor,million` runs some of it, `VECTORS=100000` less, `PEERS=lancedb` that one. What was loaded stays under
$DATA_DIR/bench/search for the next run, with the database and its indexes: `FRESH=1` starts anew.

Ratios within one run hold better than times: cores are shared. CPU is the web process's, a search.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from typing import Any

from _data import OUT
from _peers import peers
from _search_bench import VECTORS, Bench, Line
from _search_floor import floor
from _search_fresh import build, fresh
from _search_http import SectionFailed
from _search_many import BUDGET_MB, tenants, throughput
from _search_single import cached, filters, million, text
from _search_zipf import zipf

from standalone.stack import running_stack

HOME = OUT / "search"
# Web processes of the stack; the others have one, so that a connection finds the process that is warm.
# As somebody with a million assets would have it.
ENV = {"INDEX_MEMORY_BYTES": str(BUDGET_MB << 20), "POSTGRES_SHARED_BUFFERS": "3GB"}
WORKERS = {"throughput-cores": len(os.sched_getaffinity(0))}
SECTIONS: dict[str, tuple[str, Callable[[Bench], list[Line]]]] = {
    "floor": (f"The floor at {VECTORS:,} vectors", floor),
    "million": (f"One tenant with {VECTORS:,} vectors", million),
    "filters": ("Filters", filters),
    "text": ("Text queries", text),
    "cached": ("The cache", cached),
    "tenants": ("Many tenants", tenants),
    "throughput": ("Throughput, one web process", throughput),
    "fresh": ("Freshness", fresh),
    "peers": ("Other vector databases, each through its own client", peers),
    "zipf": ("Changing data, equal queries", zipf),
    "build": ("Building while serving", build),
    "throughput-cores": ("Throughput, a web process for each core", throughput),
}


def chosen() -> list[str]:
    wanted = os.environ.get("SECTIONS", "").replace(",", " ").split() or list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        sys.exit(f"error: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in wanted]


def run(bench: Bench, names: list[str]) -> dict[str, list[Line]]:
    done: dict[str, list[Line]] = {}
    for name in names:
        title, section = SECTIONS[name]
        try:
            done[name] = section(bench)
        except SectionFailed as error:
            done[name] = [Line(f"says nothing: {error}", "-", met=False)]
        except Exception as error:
            traceback.print_exc()
            done[name] = [Line(f"broke off: {type(error).__name__}: {error}"[:200], "-", met=False)]
        bench.show(title, done[name])
    return done


def main() -> int:
    names = chosen()
    if os.environ.get("FRESH"):
        shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[Line]] = {}
    figures: dict[str, Any] = {}
    for workers, some in groupby(names, lambda name: WORKERS.get(name, 1)):
        with running_stack(HOME, demo=True, extra_env={"WEB_WORKERS": str(workers), **ENV}) as stack:
            done |= run(Bench(stack, workers, figures), list(some))
    lines = {name: [asdict(line) for line in some] for name, some in done.items()}
    report = {"vectors": VECTORS, **figures, "lines": lines}
    (OUT / "search.json").write_text(json.dumps(report, indent=2, default=float))
    missed = [f"{name}: {line.what}" for name, some in done.items() for line in some if line.met is False]
    print(f"\n{len(missed)} missed" + "".join(f"\n  {what}" for what in missed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
