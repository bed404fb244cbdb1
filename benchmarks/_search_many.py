"""Many tenants in turn, and many clients at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _data import CACHE
from _report import Line, at_least, at_most, sized
from _search_bench import EACH, TENANTS, VECTORS, Bench
from _search_client import write_requests
from _search_http import SectionFailed, measure, message, vector_body, web_cpu
from _search_load import Tenant
from _search_single import hundred, warmed
from _stack import SHARED, memory_mb

CLIENTS, PROCESSES, SECONDS = 8, 2, sized(8.0, 0.3)
# For INDEX_MEMORY_BYTES: a thousand tenants of a thousand vectors of 576 numbers fit, little else does.
BUDGET_MB = 2_800


def many(bench: Bench) -> list[Tenant]:
    """Tenants with a thousand vectors each, those of the large one in slices."""
    count = min(TENANTS, VECTORS // EACH)
    return bench.tenants({f"many-{n:04}": (EACH, n * EACH) for n in range(count)})


def tenants(bench: Bench) -> list[Line]:
    """Round robin: the first round after a restart of the web process finds all of them cold."""
    some = many(bench)
    if not SHARED:
        # Others use a shared one.
        bench.stack.restart("web")
        bench.stack.wait_ready()
    measure(bench.stack, [_demo_search(bench)] * sized(50, 2))
    before = memory_mb(bench.stack, "web")
    cold = measure(bench.stack, _round(bench, some, 51))
    warm = measure(bench.stack, _round(bench, some, 52) + _round(bench, some, 53))
    after = memory_mb(bench.stack, "web")
    bench.figures["tenants"] = {
        "tenants": len(some),
        "cold": cold.figures(),
        "warm": warm.figures(),
        "web_mb_before": before,
        "web_mb": after,
    }
    return [
        at_most(
            f"{len(some):,} tenants x {EACH:,} vectors, round robin, p50", warm.p50, 5, cpu_ms=warm.cpu_ms
        ),
        Line("… p99", warm.p99, "ms"),
        at_most("a tenant's first query after a restart, p50", cold.p50, 50, cpu_ms=cold.cpu_ms),
        at_most("… p99", cold.p99, 50),
        Line("web process resident (PSS), with all of them warm", after, "MB"),
        at_most("… grown by; the budget is INDEX_MEMORY_BYTES", after - before, BUDGET_MB, "MB"),
    ]


def _round(bench: Bench, some: list[Tenant], seed: int) -> list[bytes]:
    queries = bench.queries(len(some), seed)
    return [bench.search(tenant, vector_body(query)) for tenant, query in zip(some, queries, strict=True)]


def _demo_search(bench: Bench) -> bytes:
    key = bench.stack.demo["tenants"][0]["api_key"]
    body = vector_body(bench.queries(1, seed=50)[0])
    return message(bench.host, "POST", "/api/v1/search", key, body)


def throughput(bench: Bench) -> list[Line]:
    """Eight clients that never wait, against as many at an empty view, before and after."""
    tenant, workers = hundred(bench), bench.workers
    for _ in range(sized(4 * workers, 1)):
        # A new connection each, so that every web process has opened the index.
        warmed(bench, tenant)
    view = [message(bench.host, "GET", "/healthz")]
    searches = bench.searches(tenant, bench.queries(sized(12_000, 50), seed=61))
    empty = [_rate(bench, view)]
    found = _rate(bench, searches)
    empty.append(_rate(bench, view))
    rate, floor = found["per_s"], float(np.mean([one["per_s"] for one in empty]))
    bench.figures[f"throughput_{workers}"] = {"searches": found, "empty_view": empty, "share": rate / floor}
    what, target = f"searches of {tenant.count:,} vectors, {CLIENTS} clients", min(600.0, 0.35 * floor)
    told = at_least(what, rate, target, "/s", found["web_cpu_ms"])
    if workers < len(os.sched_getaffinity(0)):
        # One interpreter uses one core: this only tells.
        told = Line(what, rate, "/s", cpu_ms=found["web_cpu_ms"])
    return [
        Line(
            f"empty view, {CLIENTS} clients, {workers} web process(es)",
            floor,
            "/s",
            cpu_ms=empty[0]["web_cpu_ms"],
        ),
        told,
        Line("… as a share of the empty view", rate / floor),
        Line("… processor time of the clients, a search", found["client_cpu_ms"], "ms"),
    ]


def _rate(bench: Bench, requests: list[bytes]) -> dict[str, float]:
    """What light clients in processes of their own get done in some seconds."""
    files = [CACHE / f"requests-{number}" for number in range(PROCESSES)]
    for number, path in enumerate(files):
        write_requests(path, requests[number::PROCESSES] or requests)
    cpu = web_cpu(bench.stack)
    running = [_client(bench, path) for path in files]
    done = [json.loads(process.communicate(timeout=SECONDS + 120)[0] or "{}") for process in running]
    cpu = web_cpu(bench.stack) - cpu
    for path in files:
        path.unlink()
    if any(process.returncode for process in running) or sum(one["failed"] for one in done):
        raise SectionFailed(f"clients were refused: {done}")
    answers = sum(one["answers"] for one in done)
    return {
        "answers": answers,
        "per_s": sum(one["answers"] / one["seconds"] for one in done),
        "hits": sum(one["hits"] for one in done) / answers,
        "web_cpu_ms": cpu * 1000 / answers,
        "client_cpu_ms": sum(one["cpu_s"] for one in done) * 1000 / answers,
    }


def _client(bench: Bench, path: Path) -> subprocess.Popen[Any]:
    program = str(Path(__file__).with_name("_search_client.py"))
    arguments = [bench.stack.base_url, str(CLIENTS // PROCESSES), str(SECONDS), str(path)]
    return subprocess.Popen([sys.executable, program, *arguments], stdout=subprocess.PIPE, text=True)
