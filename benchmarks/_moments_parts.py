"""For `moments.py`: how many of the exact best ten of a query of several parts its two steps find, and how fast."""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np

DIMENSION, TOPICS, TOP = 256, 50, 10


def main(_stack: Any, given: dict[str, Any]) -> dict[str, Any]:
    """`given`: `assets`, `queries`, and `depths` to try. Assets of 1 to 12 vectors, each near one of
    50 topics; queries of two to four parts, each near a vector that some asset has."""
    from tenants.retrieval.query import composed
    from tenants.retrieval.types import Query, QueryPart, Restriction

    chance = np.random.default_rng(5)
    state, owners = _world(chance, given["assets"])
    vectors = state.index.scores(np.eye(DIMENSION, dtype=np.float32), np.arange(len(owners)))
    told: dict[str, Any] = {
        "assets": given["assets"],
        "vectors": len(owners),
        "megabytes": vectors.nbytes / 1e6,
    }
    asked = []
    for number in range(given["queries"]):
        rows = chance.integers(0, len(owners), 2 + number % 3)
        near = vectors[rows] + 0.7 * unit(chance, len(rows))
        asked.append(near / np.linalg.norm(near, axis=1, keepdims=True))
    exact, took = [], []
    for parts in asked:
        begun = time.perf_counter()
        best = np.maximum.reduceat(
            vectors @ parts.T, np.flatnonzero(np.r_[True, np.diff(owners) > 0]), axis=0
        )
        order = np.argsort(-best.mean(axis=1), kind="stable")[:TOP]
        took.append((time.perf_counter() - begun) * 1000)
        exact.append({uuid.UUID(int=int(place) + 1) for place in order})
    told["exact_ms"] = float(np.median(took))
    told["two_steps"] = []
    composed.EXACT_ROWS = 0
    for depths in given["depths"]:
        composed.DEPTHS, found, took = tuple(depths), [], []
        for parts, right in zip(asked, exact, strict=True):
            query = Query(parts=[QueryPart(vector=one) for one in parts], top_k=TOP)
            begun = time.perf_counter()
            hits = composed.rank_parts(state, parts, query, Restriction(), model="").hits[:TOP]
            took.append((time.perf_counter() - begun) * 1000)
            found.append(len(right & {hit.asset_id for hit in hits}) / TOP)
        told["two_steps"].append(
            {
                "depths": depths,
                "recall": float(np.mean(found)),
                "p50_ms": float(np.median(took)),
                "p95_ms": float(np.percentile(took, 95)),
            }
        )
    return told


def unit(chance: np.random.Generator, count: int) -> np.ndarray:
    rows = chance.standard_normal((count, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _world(chance: np.random.Generator, assets: int) -> tuple[Any, np.ndarray]:
    """An index in memory, searched exactly: so what is missed is missed by the two steps."""
    from tenants.retrieval.index.memory import FacetMemory
    from tenants.retrieval.types import Rows, State

    sizes = chance.integers(1, 13, assets)
    owners = np.repeat(np.arange(assets), sizes)
    topics = unit(chance, TOPICS)
    near = topics[chance.integers(0, TOPICS, len(owners))] + 0.8 * unit(chance, len(owners))
    state = State(FacetMemory())
    state.index.add(near / np.linalg.norm(near, axis=1, keepdims=True))
    numbers = [state.assets.number(uuid.UUID(int=place + 1)) for place in range(assets)]
    zeros = [0] * len(owners)
    rows = Rows().appended(
        assets=np.array(numbers)[owners],
        datasets=zeros,
        kinds=zeros,
        parts=zeros,
        seqs=list(range(len(owners))),
        alive=[True] * len(owners),
    )
    return State(state.facets, seq=len(owners), index=state.index, rows=rows, assets=state.assets), owners
