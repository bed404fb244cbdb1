"""Queries of several parts over every place where vectors lie: in memory, in a generation, in another engine."""

from __future__ import annotations

import itertools
import uuid

import numpy as np
import pytest

from tenants.retrieval.index import memory
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.models import Vector
from tenants.retrieval.query import composed, ranking
from tenants.retrieval.types import Hit, Query, QueryPart
from tenants.scope import tenant_scope
from tests.tenants.test_engines import Moved, library, process, slow  # noqa: F401 - fixtures
from tests.tenants.test_index_lifecycle import COUNT, MODEL, unit

pytestmark = pytest.mark.slow

PARTS = [
    QueryPart(vector=unit(3)),
    QueryPart(vector=unit(1001), weight=2),
    QueryPart(vector=unit(7), weight=0.3, unwanted=True),
]


def found(library: Moved, parts: list[QueryPart], **asked: object) -> list[Hit]:  # noqa: F811
    vectors = np.stack([part.vector for part in parts])
    query = Query(parts=parts, **asked)
    with tenant_scope(library.tenant_id):
        now = read_index_status(library.tenant_id, MODEL)
        state = library.cached.refresh(now)
        only = composed.narrowed(query, ranking.restriction(query, state, now))
        return composed.rank_parts(state, vectors, query, only, model=MODEL).hits


def truth(library: Moved, parts: list[QueryPart]) -> dict[uuid.UUID, float]:  # noqa: F811
    """Every asset's score, by what the database says, in float64."""
    stored: dict[uuid.UUID, list[np.ndarray]] = {}
    with tenant_scope(library.tenant_id):
        for asset_id, data in Vector.objects.filter(model=MODEL).values_list("asset_id", "data"):
            stored.setdefault(asset_id, []).append(np.frombuffer(bytes(data), "<f4").astype(np.float64))
    whole = sum(part.weight for part in parts if not part.unwanted)
    scores = {}
    for asset_id, vectors in stored.items():
        best = [max(float(vector @ part.vector) for vector in vectors) for part in parts]
        signed = [
            -part.weight * max(0.0, one) if part.unwanted else part.weight * one
            for part, one in zip(parts, best, strict=True)
        ]
        scores[asset_id] = sum(signed) / whole
    return scores


def agrees(library: Moved) -> bool:  # noqa: F811
    expected = truth(library, PARTS)
    hits = found(library, PARTS)
    assert [hit.asset_id for hit in hits] == sorted(expected, key=lambda one: -expected[one])
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-5)
    return True


def test_wherever_the_vectors_lie_the_score_is_exact(library: Moved) -> None:  # noqa: F811
    old = library.fill()
    both = library.put(3, 1001, 1002)
    assert agrees(library)
    library.build()
    library.cached = memory.TenantVectors(MODEL)
    assert agrees(library)
    # What is newer, was embedded anew, and was deleted.
    newer = library.put(3, 1001, 4000)
    library.embed(old[5], 1001, 5)
    library.delete(old[7])
    library.delete(both)
    assert agrees(library)
    hit = next(one for one in found(library, PARTS) if one.asset_id == newer.id)
    assert [one.segment for one in hit.parts or ()][:2] == [
        {"start_char": 3, "end_char": 4},
        {"start_char": 1001, "end_char": 1002},
    ]
    assert hit.segment == {"start_char": 1001, "end_char": 1002}
    library.move()
    assert agrees(library)
    assert library.kind != "flat"
    library.embed(old[9], 1001, 8)
    assert agrees(library)


def test_rows_are_bounded_by_whole_assets(library: Moved, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    both, one = library.put(3, 1001), library.put(3, 5, 6)
    library.put(8, 9)
    every = [hit.asset_id for hit in found(library, PARTS)]
    assert len(every) == 3
    monkeypatch.setattr(composed, "EXACT_ROWS", 6)
    for most, expected in ((7, every), (6, every[:2]), (5, every[:2]), (4, every[:1]), (1, every[:1])):
        monkeypatch.setattr(composed, "MOST_ROWS", most)
        assert [hit.asset_id for hit in found(library, PARTS)] == expected
    assert every[:2] == [both.id, one.id]


def test_it_looks_deeper_where_the_first_candidates_may_not_be_enough(
    library: Moved,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library.fill()
    best = library.put(3, 1001)
    expected = truth(library, PARTS)
    order = sorted(expected, key=lambda one: -expected[one])
    monkeypatch.setattr(composed, "EXACT_ROWS", COUNT)
    monkeypatch.setattr(composed, "DEPTHS", (2, 1_000))
    # It has all of both parts, so nothing behind two candidates of each can be better.
    hits = found(library, PARTS, top_k=1)
    assert hits[0].asset_id == best.id
    assert 2 <= len(hits) <= 4
    # Of the others that cannot be said.
    assert [hit.asset_id for hit in found(library, PARTS, top_k=10)] == order
    monkeypatch.setattr(composed, "DEPTHS", (2,))
    assert len(found(library, PARTS, top_k=10)) <= 4


def test_chains_are_the_best_of_all() -> None:
    """Against every combination, of small random assets; with and without a bound of the time between."""
    from ml.indexes.late import best_in_order, max_sim

    chance = np.random.default_rng(0)
    for trial in range(150):
        sizes = chance.integers(1, 7, chance.integers(1, 6))
        starts, parts = np.r_[0, np.cumsum(sizes)[:-1]], int(chance.integers(1, 4))
        scores = chance.normal(size=(sizes.sum(), parts)).round(1).astype(np.float32)
        weights, within = chance.uniform(0.2, 2, parts), None if trial % 2 else float(chance.integers(1, 5))
        times = np.concatenate([np.sort(chance.integers(0, 8, size)) for size in sizes]).astype(float)
        totals, chains = best_in_order(scores, starts, times, weights, within)
        sums, places = max_sim(scores, starts, weights, np.ones(parts, bool))
        for asset, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            rows = range(start, start + size)
            every = {
                chain: sum(float(scores[row, part]) * weights[part] for part, row in enumerate(chain))
                / weights.sum()
                for chain in itertools.product(rows, repeat=parts)
            }
            assert sums[asset] == pytest.approx(max(every.values()))
            assert every[tuple(places[asset].tolist())] == pytest.approx(sums[asset])
            fitting = [
                chain
                for chain in every
                if all(
                    0 < times[later] - times[row] <= (within or np.inf)
                    for row, later in itertools.pairwise(chain)
                )
            ]
            if not fitting:
                assert totals[asset] == -np.inf
            else:
                assert totals[asset] == pytest.approx(max(every[chain] for chain in fitting))
                assert tuple(chains[asset].tolist()) in fitting
                assert every[tuple(chains[asset].tolist())] == pytest.approx(totals[asset])
