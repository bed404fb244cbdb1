"""Searches of one tenant with many vectors, one client: by vector, filtered, by text, and the same again."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from _report import Line, at_least, at_most, sized
from _search_bench import HUNDRED, QUERIES, RECALL, VECTORS, Bench
from _search_http import Run, SectionFailed, measure
from _search_load import SHARES, Tenant, groups
from _search_real import Vectors, sentences
from _search_vectors import recall

SLOWEST_MS = 2_000.0
FILTER_MS = {"tenth": 25.0, "hundredth": 25.0, "thousandth": 10.0}


def large(bench: Bench) -> Tenant:
    """The tenant with all the vectors, its index built."""
    return bench.built(bench.tenant(f"large-{VECTORS}", VECTORS))


def hundred(bench: Bench) -> Tenant:
    if HUNDRED == VECTORS:
        return large(bench)
    return bench.built(bench.tenant(f"hundred-{HUNDRED}", HUNDRED))


def warmed(bench: Bench, tenant: Tenant, **more: Any) -> None:
    """Until the index is mapped and its pages are there; says so if it is no use to go on."""
    first = measure(bench.stack, bench.searches(tenant, bench.queries(sized(20, 5), seed=11), **more))
    index = first.answers()[-1]["index"]
    bench.figures.setdefault("indexes", {})[tenant.slug] = index
    if first.p50 > SLOWEST_MS:
        raise SectionFailed(f"{first.p50:.0f} ms a search of {tenant.count:,} vectors: index {index}")
    measure(bench.stack, bench.searches(tenant, bench.queries(sized(200, 5), seed=12), **more))


def searched(
    bench: Bench, tenant: Tenant, queries: Vectors, rows: np.ndarray | None = None, **more: Any
) -> tuple[Run, float]:
    """A run over fresh queries and its recall against exact."""
    run = measure(bench.stack, bench.searches(tenant, queries, **more))
    return run, recall(run.rows(), bench.truth(tenant.count, queries, rows))


def million(bench: Bench) -> list[Line]:
    tenant = large(bench)
    warmed(bench, tenant)
    run, found = searched(bench, tenant, bench.queries(QUERIES, seed=21))
    answer = run.answers()[-1]
    claimed = answer["index"]["recall_estimate"]
    bench.figures["million"] = {
        **run.figures(),
        "recall": found,
        "index": answer["index"],
        "took_ms": _took(run),
    }
    lines = [
        at_most(f"{tenant.count:,} vectors by vector, top 10, p50", run.p50, 4, cpu_ms=run.cpu_ms),
        at_most("… p99", run.p99, 10),
        at_least("… recall@10 against exact", found, RECALL),
        Line(f"… index: {answer['index']['kind']}; it claims a recall of", claimed),
    ]
    if "floor" in bench.figures:
        ratio = run.p50 / bench.figures["floor"]["sum_ms"]
        bench.figures["million"]["ratio_to_floor"] = ratio
        lines.append(at_most("… p50 over (raw FAISS + empty view)", ratio, 3, "x"))
    return lines


def _took(run: Run) -> float:
    return float(np.median([answer["took_ms"] for answer in run.answers()]))


def filters(bench: Bench) -> list[Line]:
    tenant, names, lines = large(bench), groups(VECTORS), []
    for name, share in SHARES.items():
        rows = np.flatnonzero(names == name)
        wanted = {"filter": {"group": name}}
        warmed(bench, tenant, **wanted)
        run, found = searched(bench, tenant, bench.queries(min(QUERIES, 300), seed=31), rows, **wanted)
        claimed = float(np.mean([answer["index"]["recall_estimate"] for answer in run.answers()]))
        bench.figures.setdefault("filters", {})[name] = {**run.figures(), "recall": found, "claimed": claimed}
        lines += [
            at_most(f"filter that leaves {share:.1%}, p50", run.p50, FILTER_MS[name], cpu_ms=run.cpu_ms),
            Line("… p99", run.p99, "ms"),
            at_least(f"… recall@10 (it claims {claimed:.3f})", found, RECALL),
        ]
    return lines


def text(bench: Bench) -> list[Line]:
    """Every text is new to the product: its embedding is computed."""
    tenant = large(bench)
    warmed(bench, tenant)
    measure(bench.stack, _texts(bench, tenant, sized(30, 2)))
    run = measure(bench.stack, _texts(bench, tenant, sized(300, 10)))
    bench.figures["text"] = run.figures()
    return [
        at_most("text query, warm, new text each, p50", run.p50, 15, cpu_ms=run.cpu_ms),
        Line("… p99", run.p99, "ms"),
    ]


def _texts(bench: Bench, tenant: Tenant, count: int) -> list[bytes]:
    chosen = np.random.default_rng(time.time_ns()).choice(sentences(), count)
    return [bench.search(tenant, {"text": f"{words} {time.time_ns() % 10**6}"}) for words in chosen]


def cached(bench: Bench) -> list[Line]:
    """The same queries again, by vector and by text."""
    tenant, lines = large(bench), []
    warmed(bench, tenant)
    kinds = {
        "vector": bench.searches(tenant, bench.queries(sized(300, 10), seed=41)),
        "text": _texts(bench, tenant, sized(300, 10)),
    }
    for kind, requests in kinds.items():
        measure(bench.stack, requests)
        run = measure(bench.stack, requests)
        hits = sum(answer["cache"] == "hit" for answer in run.answers()) / len(requests)
        bench.figures.setdefault("cached", {})[kind] = {**run.figures(), "hits": hits}
        lines += [
            at_most(f"the same queries again, by {kind}, p50", run.p50, 2, cpu_ms=run.cpu_ms),
            Line("… p99", run.p99, "ms"),
            at_least("… share that says `cache: hit`", hits, 0.99),
        ]
    return lines
