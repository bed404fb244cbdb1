"""A tenant's index in a Milvus server of the pip package `milvus`: moved there by the product's own command, and
searched with and without filters. MILVUS_URL names another server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from _report import Line, at_least, sized, skip
from _search_bench import HUNDRED, RECALL, Bench
from _search_http import SectionFailed
from _search_load import SHARES, Tenant, groups
from _search_single import hundred, searched, warmed

from standalone.config import ROOT
from standalone.stack import inherited

SERVER = ROOT / "tests" / "hosts" / "milvus_server.py"


def absent() -> str:
    """What is not installed."""
    needed = ["pymilvus"] if os.environ.get("MILVUS_URL") else ["pymilvus", "milvus"]
    return ", ".join(name for name in needed if find_spec(name) is None)


@contextmanager
def milvus_env(sections: Collection[str], folder: Path) -> Iterator[dict[str, str]]:
    """What the stack is told of a server, which runs for as long as the context lasts; nothing where none is wanted."""
    if "milvus" not in sections or absent():
        yield {}
    elif address := os.environ.get("MILVUS_URL"):
        yield {"MILVUS_URL": address}
    else:
        command = [sys.executable, str(SERVER), str(folder / "milvus")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield {"MILVUS_URL": process.stdout.readline().strip()} if process.stdout else {}
            finally:
                process.communicate()


def milvus(bench: Bench) -> list[Line]:
    """No promises but the recall: of two cores, Milvus takes what the product does not."""
    if missing := absent():
        skip(f"milvus: {missing} is not installed")
        return [Line("Milvus", f"not installed: {missing}")]
    tenant = hundred(bench)
    lines = [Line("pymilvus", version("pymilvus"))]
    if find_spec("milvus"):
        lines.append(Line("milvus, the server's package", version("milvus")))
    before = _searched(bench, tenant, "in files")
    took = moved(bench, tenant, "milvus")
    lines.append(Line(f"moved there, a 100,000 of {HUNDRED:,} vectors", took * 100_000 / HUNDRED, "s"))
    lines += _searched(bench, tenant, "in Milvus")
    lines.append(Line("moved back", moved(bench, tenant, "files"), "s"))
    return lines + before


def _searched(bench: Bench, tenant: Tenant, where: str) -> list[Line]:
    names, lines = groups(HUNDRED), []
    for share in (None, *SHARES):
        only = {"filter": {"group": share}} if share else {}
        rows = np.flatnonzero(names == share) if share else None
        warmed(bench, tenant, **only)
        run, found = searched(bench, tenant, bench.queries(sized(200, 10), seed=51), rows, **only)
        claimed = float(np.mean([answer["index"]["recall_estimate"] for answer in run.answers()]))
        title = f"{where}, filter that leaves {SHARES[share]:.1%}" if share else f"{where}, no filter"
        lines += [
            Line(f"{title}, p50", run.p50, "ms", cpu_ms=run.cpu_ms),
            Line("… p99", run.p99, "ms"),
            at_least(f"… recall@10 (it claims {claimed:.3f})", found, RECALL),
        ]
        bench.figures.setdefault("milvus", {})[title] = {**run.figures(), "recall": found, "claimed": claimed}
    return lines


def moved(bench: Bench, tenant: Tenant, to: str) -> float:
    """Seconds until its index answers from there."""
    start = time.perf_counter()
    command = [sys.executable, "manage.py", "move_index", tenant.slug, "--to", to, "--wait"]
    env = {**inherited(), **bench.stack.env}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SectionFailed(f"move_index: {(done.stdout + done.stderr).strip().splitlines()[-1][:300]}")
    return time.perf_counter() - start
