"""What comparing an asset that arrives with all standing queries of a workspace costs (`make bench-standing`).

Queries are random unit vectors with bars of relevance, assets lie near some of them: the product over all of them, the
bars and the exact scores of what is near, as the worker's process does it, without the database. And that the two steps
together find what comparing each with each in float64 finds. Then a stack: how long after an asset is ready a
webhook has its alert.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import _standing_webhooks
import numpy as np
from _report import Report, at_most, sized
from _stack import SHARED
from numpy.typing import NDArray

from ml.alignment.relevance import Curve, Relevance
from ml.standing import Arrived, QueryTable, StandingQuery

QUERIES = int(os.environ.get("QUERIES", sized(100_000, 3_000)))
DIMENSION, BATCH = 256, 32
ROUNDS = sized(20, 2)
RELEVANCE = Relevance(0.5, 0.8, {("text", "text"): Curve(20.0, 0.3), ("text", "image"): Curve(40.0, 0.25)})
CURVES = {"text": RELEVANCE}


def unit(chance: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = chance.standard_normal((count, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def arrived(chance: np.random.Generator, queries: NDArray[np.float32], count: int) -> list[Arrived]:
    """Pictures, each near one query."""
    rows = queries[chance.integers(0, len(queries), count)] + 3 * unit(chance, count)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [Arrived(rows[at : at + 1], ["image"]) for at in range(count)]


def run() -> dict[str, Any]:
    chance = np.random.default_rng(1)
    queries = unit(chance, QUERIES)
    table = QueryTable(DIMENSION)
    begun = time.process_time()
    table.put(StandingQuery(uuid.UUID(int=at), queries[at], "text", 0.5) for at in range(QUERIES))
    filled_s = time.process_time() - begun
    # The first look turns relevance into scores, once for as long as neither changes.
    table.match(arrived(chance, queries, 1), CURVES)
    alone, batch = (timed(table, chance, queries, count) for count in (1, BATCH))
    wrong, found = differences(table, chance, queries)
    print(
        f"\n{QUERIES:,} queries of {DIMENSION} numbers, {table.bytes / 1e6:.0f} MB, read in {filled_s:.1f} s"
    )
    print(f"CPU for a vector: {batch:.2f} ms at batch {BATCH}, {alone:.2f} ms alone")
    print(f"against each with each in float64: {wrong} differences among {found} matches")
    return {
        "queries": QUERIES,
        "bytes": table.bytes,
        "cpu_ms_batch": round(batch, 3),
        "cpu_ms_alone": round(alone, 3),
        "matches": found,
        "differences": wrong,
    }


def timed(table: QueryTable, chance: np.random.Generator, queries: NDArray[np.float32], count: int) -> float:
    """Milliseconds of CPU for a vector: the median of the rounds."""
    took = []
    for _ in range(ROUNDS):
        new = arrived(chance, queries, count)
        begun = time.process_time()
        table.match(new, CURVES)
        took.append((time.process_time() - begun) * 1000 / count)
    return float(np.median(took))


def differences(
    table: QueryTable, chance: np.random.Generator, queries: NDArray[np.float32]
) -> tuple[int, int]:
    """Matches that one way finds and the other does not, and how many there are."""
    new = arrived(chance, queries, BATCH)
    found = {(one.query.int, one.asset) for one in table.match(new, CURVES)}
    vectors = np.concatenate([one.vectors for one in new]).astype(np.float64)
    bar = RELEVANCE.curves["text", "image"].score_at(0.5)
    exact: set[tuple[int, int]] = set()
    for low in range(0, QUERIES, 8_192):
        row, column = np.nonzero(queries[low : low + 8_192].astype(np.float64) @ vectors.T >= bar)
        exact |= set(zip((row + low).tolist(), column.tolist(), strict=True))
    return len(found ^ exact), len(exact)


def main() -> int:
    report = Report("standing")
    figures = report.run("standing queries", run) or {}
    if figures:
        report.judge(
            "standing queries",
            [
                at_most("ms of CPU for a vector at batch 32", figures["cpu_ms_batch"], 5),
                at_most("ms of CPU for a vector alone", figures["cpu_ms_alone"], 25),
                at_most("differences", figures["differences"], 0, unit=""),
            ],
        )
    # A stack that others use as well tells no receiver on this machine.
    told = None if SHARED else report.run("webhooks", _standing_webhooks.run)
    if told:
        figures |= {"webhooks": told}
        report.judge(
            "webhooks",
            [
                at_most("s from ready to the webhook, p99", told["p99_s"], 1),
                at_most("alerts lost", told["lost"], 0, unit=""),
            ],
        )
    return report.finish(figures)


if __name__ == "__main__":
    sys.exit(main())
