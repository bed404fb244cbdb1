"""What no product can be faster than: raw FAISS on the same vectors, and an empty view behind the same server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import faiss
import numpy as np
from _report import Line, sized
from _search_bench import QUERIES, RECALL, VECTORS, Bench
from _search_http import Run, measure, message
from _search_real import Vectors
from _search_vectors import floor_file, recall

LINKS, BUILD_DEPTH = 32, 100
DEPTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


def floor(bench: Bench) -> list[Line]:
    view = empty_view(bench)
    raw = raw_faiss(bench, VECTORS)
    bench.figures["floor"] = {"view_p50_ms": view.p50, **raw, "sum_ms": view.p50 + raw["p50_ms"]}
    note = f"HNSW{LINKS}, ef {raw['depth']:.0f}, recall {raw['recall']:.4f}"
    return [
        Line(f"raw FAISS, one thread, {note}, p50", raw["p50_ms"], "ms", cpu_ms=raw["cpu_ms"]),
        Line("raw FAISS, p99", raw["p99_ms"], "ms"),
        Line("empty view behind the same server (GET /healthz), p50", view.p50, "ms", cpu_ms=view.cpu_ms),
        Line("sum: the floor", view.p50 + raw["p50_ms"], "ms"),
    ]


def empty_view(bench: Bench) -> Run:
    request = message(bench.host, "GET", "/healthz")
    measure(bench.stack, [request] * sized(100, 5))
    return measure(bench.stack, [request] * QUERIES)


def raw_faiss(bench: Bench, count: int) -> dict[str, float]:
    """Times at the cheapest depth at which fresh queries reach the recall."""
    queries = bench.queries(QUERIES, seed=3)
    truth = bench.truth(count, queries)
    index = _hnsw(floor_file(bench.source, count), bench.stored(count))
    faiss.omp_set_num_threads(1)
    try:
        for depth in DEPTHS:
            index.hnsw.efSearch = depth
            start = time.process_time()
            found, walls = _ask(index, queries)
            spent, reached = time.process_time() - start, recall(found, truth)
            if reached >= RECALL:
                break
    finally:
        faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    return {
        "vectors": count,
        "depth": depth,
        "recall": reached,
        "p50_ms": float(np.percentile(walls, 50)),
        "p99_ms": float(np.percentile(walls, 99)),
        "cpu_ms": spent * 1000 / len(walls),
    }


def _hnsw(path: Path, vectors: Vectors) -> faiss.IndexHNSWFlat:
    if not path.exists():
        start = time.perf_counter()
        index = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_DEPTH
        for first in range(0, len(vectors), 100_000):
            index.add(np.ascontiguousarray(vectors[first : first + 100_000]))
        part = path.with_suffix(".part")
        faiss.write_index(index, str(part))
        part.replace(path)
        print(f"raw FAISS index of {len(vectors):,} vectors built in {time.perf_counter() - start:.0f} s")
        return index
    return faiss.read_index(str(path))


def _ask(index: faiss.IndexHNSWFlat, queries: Vectors) -> tuple[list[list[int]], list[float]]:
    found, walls = [], []
    for query in queries:
        start = time.perf_counter()
        _, rows = index.search(query[None], 10)
        walls.append((time.perf_counter() - start) * 1000)
        found.append(rows[0].tolist())
    return found, walls
