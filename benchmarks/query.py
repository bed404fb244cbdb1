"""Where the time of a text query goes, over HTTP on the demo data (`make bench-query`).

Starts a stack of its own under $DATA_DIR/bench/stack. Warm means that the models are loaded and the connection is
open; every query text is new, so its embedding is computed. The figures of a noisy machine: compare the steps.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import requests
from _report import OUT, Line, Report, at_most, sized
from _stack import stack_in

from standalone.stack import Stack

THINGS = ["apples", "oranges", "milk", "yoghurt", "peppers", "onions", "melons", "juice", "potatoes", "kiwis"]
LOOKS = ["red", "green", "yellow", "fresh", "ripe", "small", "large", "sliced", "organic", "cheap"]
PLACES = ["on a shelf", "in a box", "in a bag", "on a table", "in a shop"]
TARGET_MS = 30.0


def queries() -> Iterator[str]:
    """500 texts that no earlier run has sent: the stack remembers embeddings for an hour."""
    run = f"number {time.time_ns() % 1_000_000}"
    for place in PLACES:
        for look in LOOKS:
            for thing in THINGS:
                yield f"{look} {thing} {place} {run}"


def measure(stack: Stack, key: str, texts: list[str]) -> dict[str, Any]:
    """Medians in milliseconds over these queries, one client, one connection."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    url = f"{stack.base_url}/api/v1/search"
    walls, tooks, steps = [], [], []
    cpu = _cpu_seconds(stack)
    for text in texts:
        start = time.perf_counter()
        answer = session.post(url, json={"text": text, "explain": True}, timeout=60)
        walls.append((time.perf_counter() - start) * 1000)
        answer.raise_for_status()
        body = answer.json()
        tooks.append(body["took_ms"])
        steps.append(body["explain"]["timings_ms"])
    return {
        "queries": len(texts),
        "client_ms": _spread(walls),
        "server_ms": _spread(tooks),
        "steps_ms": {name: round(statistics.median(s.get(name, 0) for s in steps), 3) for name in steps[0]},
        "web_cpu_ms_per_query": round((_cpu_seconds(stack) - cpu) * 1000 / len(texts), 2),
    }


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[int(len(ordered) * 0.95)], 2),
        "p99": round(ordered[int(len(ordered) * 0.99)], 2),
    }


def _cpu_seconds(stack: Stack) -> float:
    pid = stack.pid("web")
    if pid is None:
        return 0.0
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


def run() -> dict[str, Any]:
    """Measure and print; also returns the figures."""
    texts = list(queries())
    with stack_in(OUT / "stack") as stack:
        key = next(t["api_key"] for t in stack.demo["tenants"] if t["slug"] == "grocery")
        measure(stack, key, texts[: sized(20, 2)])
        new = measure(stack, key, texts[20 : sized(320, 30)])
        cached = measure(stack, key, texts[20 : sized(320, 30)])
    _print(new, cached)
    return {"new": new, "cached": cached, "target_ms": TARGET_MS}


def _print(new: dict[str, Any], cached: dict[str, Any]) -> None:
    print(f"\nText query over HTTP, demo data, {new['queries']} queries, one client; milliseconds")
    print(f"{'':24}{'new text':>12}{'cached':>12}")
    for name, key in (("client, median", "median"), ("client, p95", "p95"), ("client, p99", "p99")):
        print(f"{name:24}{new['client_ms'][key]:>12}{cached['client_ms'][key]:>12}")
    print(f"{'server, median':24}{new['server_ms']['median']:>12}{cached['server_ms']['median']:>12}")
    for step in new["steps_ms"]:
        print(f"  {step:22}{new['steps_ms'][step]:>12}{cached['steps_ms'].get(step, 0):>12}")
    print(f"{'cpu of web, a query':24}{new['web_cpu_ms_per_query']:>12}{cached['web_cpu_ms_per_query']:>12}")
    print(promise(new).shown())


def promise(new: dict[str, Any]) -> Line:
    return at_most("a new text, median", new["client_ms"]["median"], TARGET_MS)


def main() -> int:
    report = Report("query")
    found = report.run("queries", run)
    if found is not None:
        report.judge("queries", [promise(found["new"])])
    return report.finish(found or {})


if __name__ == "__main__":
    sys.exit(main())
