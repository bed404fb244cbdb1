"""What a look-up in the caches of searches costs, and how often they hit (`make bench-cache`).

Embedded services of its own under $DATA_DIR/bench/cache. Costs are medians of single calls, and processor time of this
process beside them, since the wall clock of a shared machine is noisy. The trace is Zipf (s = 1.0), 20,000 queries over
5,000 distinct ones, with a new generation in the middle.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from standalone.stack import Stack, embedded_services

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(os.environ.get("DATA_DIR", ROOT / "var")).resolve() / "bench"
CALLS = 2_000
DISTINCT, QUERIES = 5_000, 20_000
TARGETS_US = {"candidates, process": 20.0, "candidates, valkey": 300.0}


def start_django(stack: Stack) -> None:
    os.environ.update({**stack.env, "DJANGO_SETTINGS_MODULE": "config.settings"})
    import django

    django.setup()


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
    from tenants.retrieval import candidates
    from tenants.retrieval.query_cache import QueryCache

    tenant, generation, vectors = uuid.uuid4(), uuid.uuid4(), _vectors(CALLS, 1)
    found = (np.linspace(1, 0, candidates.DEPTH, dtype=np.float32), np.arange(candidates.DEPTH))
    cache = candidates.cache
    queries = QueryCache(lambda text: vectors[0], lambda: "bench:1", str)

    def look(number: int) -> None:
        cache.get(tenant, generation, vectors[number], 10, lambda: found)

    def ask(number: int) -> None:
        queries.get(tenant, f"query {number}")

    return {
        "candidates, miss": _spent(look),
        "candidates, process": _spent(look),
        "candidates, valkey": _spent(look, cache.local.clear),
        "embedding, miss": _spent(ask),
        "embedding, process": _spent(ask),
        "embedding, valkey": _spent(ask, queries.local.clear),
    }


def trace() -> dict[str, float]:
    """Hit rates of the trace, and what theory says: in each half every distinct query misses once."""
    from tenants.retrieval.candidates import DEPTH, CandidateCache

    weights = 1 / np.arange(1, DISTINCT + 1)
    shares = weights / weights.sum()
    asked = np.random.default_rng(7).choice(DISTINCT, QUERIES, p=shares)
    vectors, tenant = _vectors(DISTINCT, 2), uuid.uuid4()
    found = (np.zeros(DEPTH, np.float32), np.arange(DEPTH))
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
    OUT.mkdir(parents=True, exist_ok=True)
    with embedded_services(OUT / "cache") as stack:
        start_django(stack)
        report = {"costs": costs(), "trace": trace()}
    for name, spent in report["costs"].items():
        target = f"  (at most {TARGETS_US[name]:.0f})" if name in TARGETS_US else ""
        print(
            f"{name:22}p50 {spent['p50_us']:7.1f} us  p99 {spent['p99_us']:8.1f}  cpu {spent['cpu_us']:6.1f}{target}"
        )
    print("trace: " + ", ".join(f"{name} {value:.3f}" for name, value in report["trace"].items()))
    (OUT / "cache.json").write_text(json.dumps(report, indent=1))
    met = all(report["costs"][name]["p50_us"] <= target for name, target in TARGETS_US.items())
    return 0 if met and report["trace"]["hit_rate"] >= 0.65 else 1


if __name__ == "__main__":
    sys.exit(main())
