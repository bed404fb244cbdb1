"""Changing data under many equal queries: how often the cache answers, and whether anything it says is stale.

20,000 queries over 5,000 distinct ones (Zipf, s = 1.0); ten writes a second through the API: assets added, deleted,
their metadata changed, most of them near what is asked most; a compaction in the middle. Everything that the API has
acknowledged is logged with its times, and every answer is checked against exact search over what was there then.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from _report import Line, at_least, at_most, sized
from _search_bench import HUNDRED, RECALL, Bench
from _search_http import Run, SectionFailed, Wire, row_of, vector_body, web_cpu
from _search_load import Tenant
from _search_real import Vectors, embedded, sentences
from _search_single import warmed
from _search_writes import Log, Writer

ASKED = int(os.environ.get("ZIPF") or sized(20_000, 60))
DISTINCT = max(sized(50, 60), ASKED // 4)
WRITES_PER_S, ASKERS = 10, 2
# At least so long, that there are writes in number however fast the answers come.
LEAST_S = float(os.environ.get("ZIPF_S") or sized(100 * ASKED / 20_000, 1.5))


def zipf(bench: Bench) -> list[Line]:
    slug = f"zipf-{HUNDRED}-{time.time_ns() // 10**9}"  # what was changed cannot serve another run
    tenant = bench.built(bench.tenant(slug, HUNDRED))
    warmed(bench, tenant)
    texts, queries = _distinct(bench)
    asked = _trace()
    log = Log(bench, tenant, texts, queries[: len(texts)])
    with _Writing(Writer(bench, tenant, log, _hot(asked, len(texts)))):
        run, replies, compacted = _ask(bench, tenant, queries, asked)
    log.read_vectors()
    found = _checked(bench, log, queries, replies)
    hits = sum(reply["cache"] == "hit" for reply in replies) / len(replies)
    ready = {kind: len(some) for kind, some in log.acknowledged().items()}
    bench.figures["zipf"] = {**run.figures(), **found, "hits": hits, "writes": ready, "compacted": compacted}
    return [
        at_least(f"{ASKED:,} queries over {DISTINCT:,} (Zipf, s = 1.0): share of hits", hits, 0.65),
        Line("… p50 of all of them", run.p50, "ms", cpu_ms=run.cpu_ms),
        Line("… p99", run.p99, "ms"),
        Line(
            "… writes acknowledged: " + ", ".join(f"{n} {kind}" for kind, n in ready.items()),
            sum(ready.values()),
        ),
        Line("… generations that answered", float(found["generations"])),
        at_most("stale: a deleted asset in an answer", found["deleted"], 0, ""),
        at_most("stale: an asset with metadata of before a change", found["outdated"], 0, ""),
        at_most("stale: an asset missed that was added after the index was built", found["missed"], 0, ""),
        at_least("recall@10 of all answers against exact, of what was there then", found["recall"], RECALL),
    ]


def _distinct(bench: Bench) -> tuple[list[str], Vectors]:
    """Half the queries are the vectors of texts, which assets may be made of while the trace runs."""
    half = np.random.default_rng(81).choice(sentences(), DISTINCT // 2, replace=False).tolist()
    texts = [f"{text} (told anew)" for text in half]
    drawn = bench.queries(DISTINCT - len(texts), seed=82)
    return texts, np.concatenate([embedded(bench.space, texts), drawn])


def _trace() -> np.ndarray:
    """Which query is asked when: int [ASKED]."""
    chance = np.random.default_rng(83)
    weights = 1 / np.arange(1, DISTINCT + 1)
    return chance.permutation(DISTINCT)[chance.choice(DISTINCT, ASKED, p=weights / weights.sum())]


def _hot(asked: np.ndarray, texts: int) -> list[int]:
    """The texts' numbers, those asked most first."""
    counts = np.bincount(asked, minlength=DISTINCT)[:texts]
    return np.argsort(-counts).tolist()


class _Writing:
    """Ten writes a second while the block runs."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._stop = writer, threading.Event()
        self._pool = ThreadPoolExecutor(8)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._stop.wait(1 / WRITES_PER_S):
            self._pool.submit(self._writer.write)


def _ask(
    bench: Bench, tenant: Tenant, queries: Vectors, asked: np.ndarray
) -> tuple[Run, list[dict[str, Any]], float]:
    """The trace by two clients; each reply with its query, its times and what was in it; seconds of the compaction."""
    replies: list[list[dict[str, Any]]] = [[] for _ in range(ASKERS)]
    cpu, start = web_cpu(bench.stack), time.perf_counter()
    shares = [asked[number::ASKERS] for number in range(ASKERS)]
    with ThreadPoolExecutor(ASKERS + 1) as pool:
        asking = [
            pool.submit(_client, bench, tenant, queries, share, kept)
            for share, kept in zip(shares, replies, strict=True)
        ]
        compacting = pool.submit(_compact, bench, tenant, replies, start)
        for one in asking:
            one.result()
        took = compacting.result()
    flat = [reply for some in replies for reply in some]
    walls = np.array([(reply["received"] - reply["sent"]) * 1000 for reply in flat])
    return Run(walls, [], web_cpu(bench.stack) - cpu), flat, took


def _compact(bench: Bench, tenant: Tenant, replies: list[list[dict[str, Any]]], start: float) -> float:
    while sum(map(len, replies)) < ASKED // 2:
        if time.perf_counter() - start > 3600:
            raise SectionFailed("the trace does not come to its middle")
        time.sleep(0.05)
    return bench.build(tenant)


def _client(
    bench: Bench, tenant: Tenant, queries: Vectors, asked: np.ndarray, kept: list[dict[str, Any]]
) -> None:
    wire, each = Wire(bench.stack.base_url), LEAST_S / max(1, len(asked))
    start = time.perf_counter()
    for number, query in enumerate(asked.tolist()):
        time.sleep(max(0.0, start + number * each - time.perf_counter()))
        request = bench.search(tenant, vector_body(queries[query]))
        sent = time.perf_counter()
        status, body = wire.send(request)
        received = time.perf_counter()
        if status != 200:
            raise SectionFailed(f"answered {status}: {body[:300]!r}")
        answer = json.loads(body)
        kept.append(
            {
                "query": query,
                "sent": sent,
                "received": received,
                "cache": answer["cache"],
                "generation": answer["index"]["generation"],
                "results": [
                    (hit["asset"]["id"], row_of(hit), hit["asset"]["metadata"]) for hit in answer["results"]
                ],
            }
        )
    wire.close()


def _checked(bench: Bench, log: Log, queries: Vectors, replies: list[dict[str, Any]]) -> dict[str, float]:
    """Stale answers of each kind, and the recall of all."""
    used = np.unique([reply["query"] for reply in replies])
    # Deep enough to be left with ten whatever was deleted: each deletion takes one place.
    depth = min(HUNDRED, 10 + 200)
    truth = np.zeros((len(queries), depth), np.int64)
    truth[used] = bench.truth(HUNDRED, queries[used], k=depth)
    counts = {"deleted": 0, "outdated": 0, "missed": 0}
    reached = []
    for reply in replies:
        counts["deleted"] += log.shows_deleted(reply)
        counts["outdated"] += log.shows_outdated(reply)
        missed, share = log.compared(reply, queries[reply["query"]], truth[reply["query"]])
        counts["missed"] += missed
        reached.append(share)
    generations = len({reply["generation"] for reply in replies})
    return {**counts, "recall": float(np.mean(reached)), "generations": generations}
