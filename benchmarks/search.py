"""Search at scale, over HTTP on a stack of its own (`make bench-search`).

A million vectors of one tenant against raw FAISS and an empty view; filters, texts, the cache, a thousand tenants,
throughput, freshness, building while serving, other vector databases, an index in Milvus, and a day of changing data.
`SECTIONS=floor,million` runs some of it, `VECTORS=100000` less, `PEERS=lancedb` that one. What was loaded stays under
$DATA_DIR/bench/search for the next run, with the database and its indexes: `FRESH=1` starts anew.

Ratios within one run hold better than times: cores are shared. CPU is the web process's, a search.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from typing import Any

from _peers import peers
from _report import OUT, Line, Report
from _search_bench import VECTORS, Bench
from _search_floor import floor
from _search_fresh import build, fresh
from _search_http import SectionFailed
from _search_many import BUDGET_MB, tenants, throughput
from _search_milvus import milvus, milvus_env
from _search_single import cached, filters, million, text
from _search_zipf import zipf
from _stack import stack_in

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
    "milvus": ("One tenant in Milvus", milvus),
    "zipf": ("Changing data, equal queries", zipf),
    "build": ("Building while serving", build),
    "throughput-cores": ("Throughput, a web process for each core", throughput),
}


def chosen() -> list[str]:
    wanted = os.environ.get("SECTIONS", "").replace(",", " ").split() or list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        sys.exit(f"error: no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in wanted]


def run(report: Report, bench: Bench, names: list[str]) -> dict[str, list[Line]]:
    done: dict[str, list[Line]] = {}
    for name in names:
        title, section = SECTIONS[name]
        begun = time.monotonic()
        try:
            done[name] = section(bench)
        except SectionFailed as error:
            # It says why itself.
            report.broke_off(name, error)
            continue
        except Exception as error:
            traceback.print_exc()
            report.broke_off(name, error)
            continue
        bench.show(f"{title} ({time.monotonic() - begun:.0f} s)", done[name])
        report.judge(name, done[name])
    return done


def main() -> int:
    report, names = Report("search"), chosen()
    if os.environ.get("FRESH"):
        shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[Line]] = {}
    figures: dict[str, Any] = {}
    for workers, some in groupby(names, lambda name: WORKERS.get(name, 1)):
        sections = list(some)
        with (
            milvus_env(sections, HOME) as more,
            stack_in(HOME, extra_env={"WEB_WORKERS": str(workers), **ENV, **more}) as stack,
        ):
            done |= run(report, Bench(stack, workers, figures), sections)
    lines = {name: [asdict(line) for line in some] for name, some in done.items()}
    return report.finish({"vectors": VECTORS, **figures, "lines": lines})


if __name__ == "__main__":
    sys.exit(main())
