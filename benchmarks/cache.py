"""What a look-up in the caches of searches costs, and how often they hit (`make bench-cache`).

Embedded services of its own under $DATA_DIR/bench/cache. Costs are medians of single calls, and processor time of this
process beside them, since the wall clock of a shared machine is noisy. The trace is Zipf (s = 1.0), 20,000 queries over
5,000 distinct ones, with a new generation in the middle.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from _report import OUT, Report, at_least, at_most, sized
from _stack import services_in

CALLS = sized(2_000, 50)
DISTINCT, QUERIES = sized(5_000, 50), sized(20_000, 200)
TARGETS_US = {"candidates, process": 20.0, "candidates, valkey": 300.0}


def _spent(call: Callable[[int], Any], before: Callable[[], Any] = lambda: None) -> dict[str, float]:
    """Microseconds a call: median and 99th percentile by the clock, mean of the processor's time."""
    walls, cpu = [], 0.0
    for number in range(CALLS):
        before()
        cpu -= time.thread_time()
        start = time.perf_counter()
        call(number)
        walls.append(time.perf_counter() - start)
        cpu += time.thread_time()
    return {
        "p50_us": round(statistics.median(walls) * 1e6, 1),
        "p99_us": round(float(np.percentile(walls, 99)) * 1e6, 1),
        "cpu_us": round(cpu / CALLS * 1e6, 1),
    }


def costs() -> dict[str, dict[str, float]]:
    """A look-up answered by each layer. `compute` costs nothing here, so a miss shows what the cache adds to it."""
    from tenants.retrieval.cache import LEAST_DEPTH, QueryCache, candidate_cache

    tenant, generation, vectors = uuid.uuid4(), uuid.uuid4(), _vectors(CALLS, 1)
    found = (np.linspace(1, 0, LEAST_DEPTH, dtype=np.float32), np.arange(LEAST_DEPTH))
    queries = QueryCache(
        lambda tenant_id, model, text: vectors[0],
        lambda tenant_id, model, text: text,
        lambda tenant_id, model: len(vectors[0]),
    )

    def look(number: int) -> None:
        candidate_cache.get(tenant, generation, vectors[number], 10, lambda: found)

    def ask(number: int) -> None:
        queries.find(tenant, f"query {number}", "bench:1")

    return {
        "candidates, miss": _spent(look),
        "candidates, process": _spent(look),
        "candidates, valkey": _spent(look, candidate_cache.local.clear),
        "embedding, miss": _spent(ask),
        "embedding, process": _spent(ask),
        "embedding, valkey": _spent(ask, queries.local.clear),
    }


def trace() -> dict[str, float]:
    """Hit rates of the trace, and what theory says: in each half every distinct query misses once."""
    from tenants.retrieval.cache import LEAST_DEPTH, CandidateCache

    weights = 1 / np.arange(1, DISTINCT + 1)
    shares = weights / weights.sum()
    asked = np.random.default_rng(7).choice(DISTINCT, QUERIES, p=shares)
    vectors, tenant = _vectors(DISTINCT, 2), uuid.uuid4()
    found = (np.zeros(LEAST_DEPTH, np.float32), np.arange(LEAST_DEPTH))
    # A process that keeps a thousand lists, so that both layers have work.
    cache, layers = CandidateCache(1_000 * 2_456), Counter[str]()
    for half in np.split(asked, 2):
        generation = uuid.uuid4()
        for number in half.tolist():
            layers[cache.get(tenant, generation, vectors[number], 10, lambda: found).layer] += 1
    misses = 2 * (1 - (1 - shares) ** (QUERIES // 2)).sum()
    return {
        "hit_rate": round(1 - layers["miss"] / QUERIES, 4),
        "expected": round(1 - float(misses) / QUERIES, 4),
        **{layer: round(layers[layer] / QUERIES, 4) for layer in ("process", "valkey")},
    }


def _vectors(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 256)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> int:
    report = Report("cache")
    with services_in(OUT / "cache"):
        spent, hits = report.run("costs", costs) or {}, report.run("trace", trace) or {}
    for name, took in spent.items():
        shown = f"p50 {took['p50_us']:7.1f} us  p99 {took['p99_us']:8.1f}  cpu {took['cpu_us']:6.1f}"
        print(f"{name:22}{shown}")
    print("trace: " + ", ".join(f"{name} {value:.3f}" for name, value in hits.items()))
    lines = [at_most(name, spent[name]["p50_us"], most, "us") for name, most in TARGETS_US.items() if spent]
    lines += [at_least("hits of the trace", hits["hit_rate"], 0.65)] if hits else []
    for line in lines:
        print(line.shown())
    report.judge("cache", lines)
    return report.finish({"costs": spent, "trace": hits})


if __name__ == "__main__":
    sys.exit(main())
