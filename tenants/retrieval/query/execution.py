"""A query against the index of this moment: candidates, newer vectors, restrictions, and the ranking by words."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tenants.retrieval.cache import candidates
from tenants.retrieval.engines import SegmentGone
from tenants.retrieval.filters import restriction
from tenants.retrieval.index import memory, samples
from tenants.retrieval.index.reader import opening
from tenants.retrieval.query import cursors, lexical
from tenants.retrieval.query.ranking import rank
from tenants.retrieval.query.stopwatch import Stopwatch
from tenants.retrieval.types import MAX_DEPTH, Ahead, Hit, Opening, Query, Ranking, Restriction, State
from tenants.scope import tenant_scope

# How deep two rankings are fused for a first page: beyond it a rank adds next to nothing.
FUSED_DEPTH = 200
# Candidates for each result that is wanted: some rows are dead, belong to one asset, or do not pass a light filter.
AHEAD = 2
AHEAD_MOST = 512
# What an answer of Valkey costs, with some to spare: an index that needs less is asked instead.
QUICK_MS = 2.0
NOTHING_HIDDEN = Opening(0, 0, (), "memory", None)


class NotLive(RuntimeError):
    """Another model answers the tenant's searches than the one that was asked: `live`."""

    def __init__(self, live: str) -> None:
        super().__init__(live)
        self.live = live


@dataclass
class Asked:
    """What the ranking is made of, also later for another page: `words` only for a hybrid search.

    `model` is the one that the vector is of; `wanted` are the words to highlight.
    """

    vector: np.ndarray
    words: str
    query: Query
    model: str
    wanted: list[str] | None = None
    until: int | None = None

    @property
    def needs_scope(self) -> bool:
        """Whether more is asked of the database than what stands there prepared."""
        query = self.query
        return bool(self.words or query.conditions or query.facets or query.group_duplicates or self.wanted)


@dataclass
class Guess:
    """What is found if nothing is newer than what this process knows: mostly so, and one trip then tells everything."""

    state: State
    only: Restriction
    ranking: Ranking

    def holds(self, state: State, now: Opening) -> bool:
        return self.state is state and list(now.hidden) == self.only.hidden_datasets


@dataclass
class Found:
    ranking: Ranking
    state: State
    only: Restriction


def ahead(tenant_id: uuid.UUID, asked: Asked) -> tuple[Ahead | None, str | None]:
    """Candidates of the generation that served last, outside of any scope as it may wait for Valkey.

    None where the tenant has none, or where restrictions would leave too little of them; and which layer had them.
    """
    query = asked.query
    base = memory.cache.of(tenant_id, asked.model).state.base
    restricted = query.conditions or query.datasets is not None or query.modalities is not None
    depth = AHEAD * query.depth if not asked.words else max(AHEAD * query.depth, FUSED_DEPTH)
    if base is None or restricted or query.exact or depth > AHEAD_MOST:
        return None, None

    def compute() -> tuple[np.ndarray, np.ndarray]:
        samples.note(tenant_id, asked.model, asked.vector)
        return base.candidates(asked.vector, candidates.depth_class(depth))

    try:
        found = candidates.get(
            tenant_id, base.id, asked.vector, depth, compute, quick=base.cost_ms < QUICK_MS
        )
    except SegmentGone:
        return None, None
    return Ahead(base.id, found.scores, found.rows), found.layer


def guess(tenant_id: uuid.UUID, asked: Asked, count: int, ahead: Ahead | None) -> Guess | None:
    """The best `count` assets of what this process knows, without asking anybody; None where that is not enough."""
    query, state = asked.query, memory.cache.of(tenant_id, asked.model).state
    if not state.seq or asked.needs_scope or query.exact or (state.base and not state.base.is_local):
        return None
    only = restriction.restriction(query, state, NOTHING_HIDDEN)
    return Guess(state, only, rank(state, asked.vector, count, only, ahead=ahead))


def find(
    tenant_id: uuid.UUID,
    asked: Asked,
    count: int,
    ahead: Ahead | None,
    watch: Stopwatch,
    guessed: tuple[Guess, Opening] | None = None,
) -> Found:
    """The best `count` assets. In the tenant's scope if `asked.needs_scope`.

    `guessed`: what was guessed, and the opening that was read afterwards. Raises NotLive where a first page was asked
    of another model than the one that answers.
    """
    query = asked.query
    vectors = memory.cache.of(tenant_id, asked.model)
    with watch.step("refresh"):
        now = guessed[1] if guessed else opening(tenant_id, asked.model)
        if now.live != asked.model and asked.until is None:
            raise NotLive(now.live)
        state = vectors.current(now)
        if state is None:
            with tenant_scope(tenant_id):
                state = vectors.refresh(now)
    if guessed and guessed[0].holds(state, now):
        return Found(guessed[0].ranking, state, guessed[0].only)
    with watch.step("filter"):
        only = restriction.restriction(query, state, now, asked.until)
    depth = max(FUSED_DEPTH, count) if asked.words else count
    with watch.step("search"):
        ranking = rank(state, asked.vector, depth, only, ahead=ahead, exact=query.exact)
    if asked.words:
        with watch.step("lexical"):
            words = restriction.matching_words(asked.words, MAX_DEPTH, only, state)
            ranking = _with_words(ranking, words, count)
    return Found(ranking, state, only)


def _with_words(ranking: Ranking, found: list[tuple[uuid.UUID, float]], count: int) -> Ranking:
    """Both rankings in one by reciprocal rank, which is then the score: cosines and word weights do not compare."""
    known = {hit.asset_id: hit for hit in ranking.hits}
    fused = lexical.fuse([hit.asset_id for hit in ranking.hits], [asset_id for asset_id, _ in found])
    hits = [
        replace(known.get(asset_id) or Hit(asset_id, 0.0, "text"), score=score)
        for asset_id, score in fused[:count]
    ]
    return replace(ranking, hits=hits, total=max(ranking.total, len(fused)))


def described(asked: Asked) -> dict[str, Any]:
    query = asked.query
    named = [*query.like, *query.unlike]
    return {
        "words": asked.words,
        "wanted": asked.wanted,
        "datasets": None if query.datasets is None else [str(one) for one in query.datasets],
        "modalities": query.modalities,
        "conditions": query.conditions,
        "exact": query.exact,
        "named": [str(one) for one in named],
        "model": asked.model,
    }


def remembered(seed: cursors.Seed) -> Asked:
    told = seed.query
    query = Query(
        datasets=None if told["datasets"] is None else [uuid.UUID(one) for one in told["datasets"]],
        modalities=told["modalities"],
        conditions=[(key, operator, value) for key, operator, value in told["conditions"]],
        exact=told["exact"],
        like=[uuid.UUID(one) for one in told["named"]],
    )
    return Asked(seed.vector, told["words"], query, told["model"], told["wanted"], until=seed.seq)
