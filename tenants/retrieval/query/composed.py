"""Queries of several parts: each met by its own vector of an asset (`ml.indexes.late`).

Exactly where all vectors are in memory. Else in two steps: for each part that is wanted a search as that of one
vector, deeper than what is shown; then all vectors of what was found, exactly. What is beyond the thousand best of
every part is not found.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.utils.translation import gettext

from ml.alignment.gating import Part
from ml.indexes.base import as_matrix
from ml.indexes.exact import inner_products
from ml.indexes.late import best_in_order, max_sim
from tenants.errors import Invalid
from tenants.retrieval import model_store, query_pictures
from tenants.retrieval.cache import MISS
from tenants.retrieval.index.registry import FileSegment
from tenants.retrieval.models import Vector
from tenants.retrieval.query import encoding, fusion_weights
from tenants.retrieval.query.fusion_weights import Weighed
from tenants.retrieval.query.ranking import rank, row_mask
from tenants.retrieval.types import (
    MAX_DEPTH,
    MODALITIES,
    Hit,
    PartMatch,
    Query,
    QueryPart,
    Ranking,
    Restriction,
    State,
)
from tenants.scope import tenant_scope

# Of one query; what is not wanted counts, too.
MAX_PARTS = 8
MAX_PART_WEIGHT = 100.0
MAX_WITHIN_S = 86_400.0
# Where no more vectors than this may be found, and all lie in memory, all are compared: candidates would cost as much.
EXACT_ROWS = 50_000
# Candidates of each part that is wanted, at first and where these cannot be enough (`make bench-moments`); and how many
# vectors of all of them are compared, those of the best candidates first.
DEPTHS = (200, MAX_DEPTH)
MOST_ROWS = 100_000
# What plays: only of these it is known when something is said or seen.
TIMED = ("audio", "video")


# --- The parts as vectors --------------------------------------------------------------------------------


@dataclass
class EncodedParts:
    """Vectors float32 [parts, d] of norm 1, and what an answer says of the whole."""

    vectors: np.ndarray
    encoded: encoding.Encoded


def encode(tenant_id: uuid.UUID, query: Query, model: str) -> EncodedParts:
    """In no scope but short ones of its own. Raises Invalid, NotFound, MediaError, Busy, ModelUnavailable."""
    space, layers = model_store.space(model, tenant_id), []
    vectors = []
    for place, part in enumerate(query.parts):
        vector, layer = _encode(tenant_id, part, pointer_of(query, place), space)
        vectors.append(vector)
        layers += [layer] if layer else []
    layer = MISS if MISS in layers else layers[0] if layers else None
    weights = _shares(query)
    task = fusion_weights.find_profile(tenant_id, query.task)
    words = " ".join(part.text for part in query.parts if part.text and not part.unwanted)
    encoded = encoding.Encoded(vectors[0], weights, words, layer, {}, Weighed(weights, task, weights))
    return EncodedParts(np.stack(vectors), encoded)


def pointer_of(query: Query, place: int) -> str:
    """Where a part stands in the body."""
    return f"/sequence/{place}" if query.in_order else f"/parts/{place}"


def _shares(query: Query) -> dict[str, float]:
    whole = sum(part.weight for part in query.parts if not part.unwanted)
    return {
        pointer_of(query, place)[1:]: round(part.weight / whole, 4) for place, part in enumerate(query.parts)
    }


def _encode(tenant_id: uuid.UUID, part: QueryPart, pointer: str, space: Any) -> tuple[np.ndarray, str | None]:
    pointer = f"{pointer}/not" if part.unwanted else pointer
    if part.text:
        found = encoding.query_cache.find(tenant_id, part.text, model_store.model_of(space))
        return found.vector, found.layer
    if part.vector is not None:
        encoding.require_fitting(part.vector, space, f"{pointer}/vector")
        return part.vector, None
    if part.image_file is not None:
        with query_pictures.opened(tenant_id, part.image_file) as path:
            return encoding.query_image(tenant_id, path, space).vector, None
    assert part.asset is not None  # noqa: S101 - for the type checker
    missing = encoding.STORED[part.kind]
    with tenant_scope(tenant_id):
        vector = encoding.of_part(part.asset, part.kind, f"{pointer}/{part.kind}/asset", missing, space=space)
    return Part(vector).vector, None


# --- Ranked ----------------------------------------------------------------------------------------------


def narrowed(query: Query, only: Restriction) -> Restriction:
    """The restriction with what an order asks for: assets that play."""
    if not query.in_order:
        return only
    kinds = [kind for kind in TIMED if only.modalities is None or kind in only.modalities]
    return replace(only, modalities=kinds)


def rank_parts(state: State, vectors: np.ndarray, query: Query, only: Restriction, *, model: str) -> Ranking:
    """The best assets, at most MAX_DEPTH. In the tenant's scope where the index lies in another engine.

    Deeper as long as what no part has found so far could still belong to the first page: what it can have at most is
    known, as it lies behind the last candidate of each part (Fagin, Lotem and Naor, the threshold algorithm, 2001).
    """
    if state.base is None and (everything := _everything(state, vectors, only)) is not None:
        return Ranking(scored(everything, query), len(np.unique(everything.owners)), 1.0)
    wanted = [place for place, part in enumerate(query.parts) if not part.unwanted]
    weights = [query.parts[place].weight for place in wanted]
    for depth in DEPTHS[-1:] if query.exact else DEPTHS:
        found = [rank(state, vectors[place], depth, only, exact=query.exact) for place in wanted]
        hits = scored(_Rows.of(state, _candidates(found, weights), vectors, model), query)
        if all(len(one.hits) < depth for one in found):
            break
        least = [one.hits[-1].score if len(one.hits) == depth else -1.0 for one in found]
        beyond = float(np.dot(least, weights) / sum(weights))
        if len(hits) >= query.top_k and hits[query.top_k - 1].score >= beyond:
            break
    return Ranking(hits, max(one.total for one in found), min(one.recall for one in found))


def _candidates(found: Sequence[Ranking], weights: Sequence[float]) -> list[uuid.UUID]:
    """All that some part found, by what the parts that found them say together."""
    sums: dict[uuid.UUID, float] = {}
    for ranking, weight in zip(found, weights, strict=True):
        # Where a part did not find it, it has at most what the last one has.
        least = ranking.hits[-1].score if ranking.hits else 0.0
        for hit in ranking.hits:
            sums[hit.asset_id] = sums.get(hit.asset_id, 0.0) + weight * (hit.score - least)
    return sorted(sums, key=lambda asset_id: -sums[asset_id])


def scored(rows: _Rows, query: Query) -> list[Hit]:
    """The assets of these rows by the exact score, the best first; equal ones in the order of the candidates."""
    if query.in_order:
        rows = rows.timed()
    if not len(rows.owners):
        return []
    starts = np.flatnonzero(np.r_[True, np.diff(rows.owners) > 0])
    weights = np.array([part.weight for part in query.parts], np.float64)
    if query.in_order:
        totals, places = best_in_order(rows.scores, starts, rows.times, weights, query.within_s)
    else:
        wanted = np.array([not part.unwanted for part in query.parts])
        totals, places = max_sim(rows.scores, starts, weights, wanted)
    order = np.argsort(-totals, kind="stable")
    order = order[np.isfinite(totals[order])][:MAX_DEPTH]
    told = rows.told(places[order].ravel())
    found, count = [], len(query.parts)
    for place, at in enumerate(order.tolist()):
        matches = [
            PartMatch(float(rows.scores[row, part]), *told[place * count + part])
            for part, row in enumerate(places[at].tolist())
        ]
        asset_id = rows.asset_of(int(rows.owners[places[at, 0]]))
        found.append(_hit(asset_id, float(totals[at]), matches, query))
    return found


def _hit(asset_id: uuid.UUID, score: float, matches: list[PartMatch], query: Query) -> Hit:
    """What stands for the whole: of an order from its first to its last, else the part that says most."""
    if query.in_order:
        span = _span([one.segment or {} for one in matches])
        return Hit(asset_id, score, matches[0].modality, span, parts=tuple(matches))
    wanted = [
        (part.weight * one.score, -place)
        for place, (part, one) in enumerate(zip(query.parts, matches, strict=True))
        if not part.unwanted
    ]
    best = matches[-max(wanted)[1]]
    return Hit(asset_id, score, best.modality, best.segment, parts=tuple(matches))


def _span(segments: Sequence[dict]) -> dict[str, float]:
    ends = [one.get("end_s", one["start_s"]) for one in segments]
    return {"start_s": segments[0]["start_s"], "end_s": max(ends)}


# Of each row the modality and the segment.
Told = list[tuple[str, dict | None]]


@dataclass
class _Source:
    """Vectors from one place: `owners` [n] places of assets, `scores` [n, parts], and what rows stand for."""

    owners: np.ndarray
    scores: np.ndarray
    told: Callable[[np.ndarray], Told]


@dataclass
class _Rows(_Source):
    """Vectors by asset: `owners` ascend; `asset_of` names one; `times` [n] where it is known when."""

    asset_of: Callable[[int], uuid.UUID]
    times: np.ndarray

    @classmethod
    def of(cls, state: State, ids: list[uuid.UUID], vectors: np.ndarray, model: str) -> _Rows:
        sources = list(_sources(state, ids, vectors, model))
        owners = np.concatenate([np.zeros(0, np.int64), *(one.owners for one in sources)])
        scores = np.concatenate([np.zeros((0, len(vectors)), np.float32), *(one.scores for one in sources)])
        bounds = np.cumsum([0, *(len(one.owners) for one in sources)])
        order = _within(np.argsort(owners, kind="stable"), owners)

        def told(rows: np.ndarray) -> Told:
            found: Told = [("", None)] * len(rows)
            for source, low, high in zip(sources, bounds, bounds[1:], strict=False):
                here = np.flatnonzero((order[rows] >= low) & (order[rows] < high))
                for at, one in zip(here.tolist(), source.told(order[rows][here] - low), strict=True):
                    found[at] = one
            return found

        return cls(owners[order], scores[order], told, ids.__getitem__, np.zeros(len(order)))

    def timed(self) -> _Rows:
        """Those that say when, in order of time."""
        told = self.told(np.arange(len(self.owners)))
        times = np.array([(segment or {}).get("start_s", -1.0) for _, segment in told], np.float64)
        kept = np.flatnonzero(times >= 0)
        order = kept[np.lexsort((times[kept], self.owners[kept]))]
        return _Rows(
            self.owners[order],
            self.scores[order],
            lambda rows: [told[row] for row in order[rows].tolist()],
            self.asset_of,
            times[order],
        )


def _within(order: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """At most MOST_ROWS of them, whole assets, the best candidates first; one asset at least."""
    if len(order) <= MOST_ROWS:
        return order
    last = owners[order[MOST_ROWS]]
    whole = owners[order] < last
    return order[whole] if whole.any() else order[owners[order] == last]


# --- Where the vectors lie -------------------------------------------------------------------------------


def _sources(state: State, ids: list[uuid.UUID], vectors: np.ndarray, model: str) -> Iterator[_Source]:
    """Of the array, and of what lies beneath it."""
    if not ids:
        return
    newer = _of_array(state, ids, vectors)
    yield newer
    if isinstance(state.base, FileSegment):
        yield _of_files(state, state.base, ids, vectors)
    elif state.base is not None:
        there = set(np.unique(newer.owners).tolist())
        places = {one: place for place, one in enumerate(ids) if place not in there}
        yield _of_database(places, vectors, model)


def _everything(state: State, vectors: np.ndarray, only: Restriction) -> _Rows | None:
    """All vectors in memory that may be found; None where they are too many. Owners are the assets' numbers."""
    chosen = np.flatnonzero(row_mask(state, only))
    if len(chosen) > EXACT_ROWS:
        return None
    chosen = chosen[np.argsort(state.rows.assets[chosen], kind="stable")]
    source = _of_rows(state, chosen, state.rows.assets[chosen], vectors)
    return _Rows(source.owners, source.scores, source.told, state.assets.id, np.zeros(len(chosen)))


def _of_array(state: State, ids: list[uuid.UUID], vectors: np.ndarray) -> _Source:
    rows, places = state.rows, np.full(max(1, len(state.assets)), -1, np.int64)
    for place, one in enumerate(ids):
        if (number := state.assets.find(one)) is not None and number < len(places):
            places[number] = place
    chosen = np.flatnonzero(rows.alive & (places[rows.assets] >= 0))
    return _of_rows(state, chosen, places[rows.assets[chosen]], vectors)


def _of_rows(state: State, chosen: np.ndarray, owners: np.ndarray, vectors: np.ndarray) -> _Source:
    rows = state.rows

    def told(some: np.ndarray) -> Told:
        numbers = chosen[some].tolist()
        return [(MODALITIES[rows.parts[number]], state.segments.get(number)) for number in numbers]

    return _Source(owners, state.index.scores(vectors, chosen), told)


def _of_files(state: State, base: FileSegment, ids: list[uuid.UUID], vectors: np.ndarray) -> _Source:
    """Its rows lie in the order of their assets."""
    numbers = base.numbers(ids)
    if state.dead is not None:
        numbers = numbers[~state.dead[numbers]]
    places = {one: place for place, one in enumerate(ids)}
    starts = base.starts[numbers].astype(np.int64)
    sizes = base.starts[numbers + 1].astype(np.int64) - starts
    chosen = np.repeat(starts - np.r_[0, np.cumsum(sizes)[:-1]], sizes) + np.arange(sizes.sum())
    owners = np.repeat(np.array([places[one] for one in base.ids(numbers)], np.int64), sizes)
    scores = np.zeros((len(chosen), len(vectors)), np.float32)
    for part, vector in enumerate(vectors):
        scores[:, part] = inner_products(base.generation.vectors, np.ascontiguousarray(vector), chosen)

    def told(some: np.ndarray) -> Told:
        rows = chosen[some]
        kinds = [MODALITIES[kind] for kind in base.parts[rows].tolist()]
        return list(zip(kinds, base.segments(rows), strict=True))

    return _Source(owners, scores, told)


def _of_database(places: dict[uuid.UUID, int], vectors: np.ndarray, model: str) -> _Source:
    """Of what lies in another engine, which tells no vectors: the rows that it was made of, in the tenant's scope."""
    rows = Vector.objects.filter(model=model, asset_id__in=list(places)).order_by("seq")
    found = list(rows.values_list("asset_id", "modality", "segment", "data")[:MOST_ROWS])
    stored = as_matrix([row[3] for row in found]).reshape(len(found), vectors.shape[1])
    owners = np.array([places[row[0]] for row in found], np.int64)
    return _Source(owners, stored @ vectors.T, lambda some: [found[row][1:3] for row in some.tolist()])


# --- Checked ---------------------------------------------------------------------------------------------


def check(query: Query) -> None:
    """Raises Invalid for parts that make no question."""
    if all(part.unwanted for part in query.parts):
        raise Invalid(gettext("Say what is wanted, too: all parts are negated."), pointer="/parts")
    if query.in_order and len(query.parts) < 2:
        raise Invalid(gettext("A sequence has two parts at least: use parts for one."), pointer="/sequence")
