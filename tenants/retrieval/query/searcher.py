"""The query path: one unit vector, one index search, live rows, paging by snapshot.

An asset's score is the greatest cosine over its vectors. A search first catches up with the database, so it sees every
asset whose job has succeeded; what a generation's candidates say is checked against tombstones and filters of this
moment, and hydration reads live rows, so a deleted asset cannot come back.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from django.utils.translation import gettext
from uuid_utils.compat import uuid7

from tenants.accounts import metering
from tenants.datasets import selectors
from tenants.datasets.models import Asset
from tenants.errors import CursorExpired, Invalid, ModelUnavailable, Unavailable
from tenants.retrieval import cache, model_routing
from tenants.retrieval.cache import MISS
from tenants.retrieval.index import memory
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.query import encoding, fusion_weights, names, result_page
from tenants.retrieval.query.fusion_weights import explained
from tenants.retrieval.query.ranking import (
    facet_counts,
    matching_words,
    meeting,
    rank,
    restriction,
    with_words,
)
from tenants.retrieval.query.result_page import (
    Highlights,
    Page,
    Read,
    Reader,
    highlights,
    read_page,
    wanted_words,
)
from tenants.retrieval.types import (
    MAX_DEPTH,
    Hit,
    IndexStatus,
    Prefetched,
    Query,
    Ranking,
    Restriction,
    SegmentGone,
    State,
)
from tenants.scope import narrowing, tenant_scope

# How deep two rankings are fused for a first page: beyond it a rank adds next to nothing.
FUSED_DEPTH = 200
# Candidates for each result that is wanted: some rows are dead, belong to one asset, or do not pass a light filter.
PREFETCH = 2
PREFETCH_MOST = 512
# What an answer of Valkey costs, with some to spare: an index that needs less is asked instead.
QUICK_MS = 2.0
NOTHING_HIDDEN = IndexStatus(0, 0, (), "memory", None)
# How often a search is made again because the model was switched while it ran.
SWITCHES = 4


@dataclass
class Answer:
    """What a search found: assets as `read` gives them, with scores, and how it went. `timings` are milliseconds.

    `duplicates` of each result and `highlights` in it, by its asset; None where they were not asked for. `layers`: who
    answered for each cache (`cache`); None where it was not asked. `why` its parts weigh what they do
    (`fusion_weights.explained`); None where that was not asked for. `left_out`: something was made here, and none of
    that was looked at.
    """

    search_id: str
    results: list[tuple[Any, Hit]]
    next: str | None
    meta: dict[str, Any]
    timings: dict[str, float]
    duplicates: dict[uuid.UUID, list[Hit]] | None = None
    highlights: Highlights | None = None
    layers: dict[str, str | None] = field(default_factory=dict)
    why: dict[str, Any] | None = None
    left_out: bool = False


@dataclass
class SearchRequest:
    """What the ranking is made of, also later for another page: `words` only for a hybrid search.

    `model` is the one that the vector is of; `wanted` are the words to highlight; `named`: what the words name.
    """

    vector: np.ndarray
    words: str
    query: Query
    model: str
    wanted: list[str] | None = None
    until: int | None = None
    named: names.Named = names.NOTHING

    @property
    def fuses(self) -> bool:
        """Whether the ranking has to be deep enough to be fused with another one."""
        return bool(self.words or self.named)

    @property
    def needs_scope(self) -> bool:
        """Whether more is asked of the database than what stands there prepared."""
        query = self.query
        return bool(self.words or query.conditions or query.facets or query.group_duplicates or self.wanted)


@dataclass
class OptimisticResult:
    """What is found if nothing is newer than what this process knows: mostly so, and one trip then tells everything."""

    state: State
    only: Restriction
    ranking: Ranking

    def holds(self, state: State, now: IndexStatus) -> bool:
        return self.state is state and list(now.hidden) == self.only.hidden_datasets


@dataclass
class SearchResult:
    ranking: Ranking
    state: State
    only: Restriction


class NotLive(RuntimeError):
    """Another model answers the tenant's searches than the one that was asked: `live`."""

    def __init__(self, live: str) -> None:
        super().__init__(live)
        self.live = live


class Stopwatch:
    """Milliseconds by step, and since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.timings: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.timings[name] = self.timings.get(name, 0) + (time.perf_counter() - begin) * 1000

    def total_ms(self) -> float:
        return (time.perf_counter() - self.start) * 1000


def _live(tenant_id: uuid.UUID, asset_ids: list[uuid.UUID]) -> Mapping[uuid.UUID, Asset]:
    with tenant_scope(tenant_id):
        return selectors.get_assets(asset_ids)


LIVE = Reader(_live)


def search(*, tenant_id: uuid.UUID, query: Query, read: Reader = LIVE) -> Answer:
    """Answer a search of one tenant, in short scopes of its own; `read` gets the assets of a page by id.

    Raises Invalid, NotFound, CursorExpired, IndexRebuilding, ModelUnavailable, and MediaError for a file that cannot be
    decoded.
    """
    watch = Stopwatch()
    answer = (_next_page if query.cursor else _first_page)(tenant_id, query, read, watch)
    metering.note(tenant_id=tenant_id, amounts={"searches": 1})
    answer.meta["took_ms"] = round(watch.total_ms(), 3)
    return answer


# --- First page ------------------------------------------------------------------------------------------


def _first_page(tenant_id: uuid.UUID, query: Query, reader: Reader, watch: Stopwatch) -> Answer:
    """By the model that answers: where another one has taken its place since this process looked, by that one."""
    for _round in range(SWITCHES):
        model = model_routing.serving(tenant_id)
        try:
            return _answered(tenant_id, query, reader, watch, model)
        except NotLive as other:
            model_routing.note(tenant_id, other.live)
        except (Invalid, ModelUnavailable):
            # What is left of a retired model: neither its files nor the vectors of named assets.
            if not model_routing.has_moved_on(tenant_id, model):
                raise
    raise Unavailable(gettext("The models of this workspace are changing; try again."))


def _answered(tenant_id: uuid.UUID, query: Query, reader: Reader, watch: Stopwatch, model: str) -> Answer:
    if query.datasets is not None or query.named_assets:
        # Before the costly part: what is not there answers 404 whatever else is wrong.
        with tenant_scope(tenant_id):
            selectors.require_datasets(query.datasets or [])
            selectors.require_assets(query.named_assets)
    query = _narrowed(tenant_id, query)
    with watch.step("encode"):
        encoded = encoding.encode(tenant_id, query, model)
    words = encoded.words if query.hybrid else ""
    with watch.step("names"):
        named = names.looked_up(tenant_id, query)
    asked = SearchRequest(encoded.vector, words, query, model, _wanted(encoded, query), named=named)
    with watch.step("cache"):
        prefetched, layer = prefetch_candidates(tenant_id, asked)
    guessed, read = _optimistically(tenant_id, asked, prefetched, reader, watch)
    # A scope costs a transaction, which is more than the plainest search asks of the database.
    with tenant_scope(tenant_id) if asked.needs_scope else nullcontext():
        found = execute(tenant_id, asked, query.depth, prefetched, watch, guessed)
        groups = _grouped(found.ranking.hits, asked, watch)
        page = _read(tenant_id, groups[: query.top_k], read, asked.wanted, query.group_duplicates, watch)
        facets = _facets(found, query, watch)
    layers = {"embedding": encoded.layer, "candidates": layer}
    meta = _meta(found, encoded, model, [known for known in layers.values() if known is not None])
    search_id = str(uuid7())
    following = _keep(tenant_id, search_id, asked, found, groups, meta, page.end)
    answer = _answer(tenant_id, search_id, page, following, {**meta, **facets}, asked.wanted, watch)
    answer.layers = layers
    answer.left_out = query.generated == "exclude" and _has_generated(tenant_id, found.state)
    answer.why = explained(encoded.weighed, encoded.parts) if query.explain else None
    fusion_weights.keep_trace(
        tenant_id,
        search_id,
        model=model,
        weighed=encoded.weighed,
        parts=encoded.parts,
        shown=[hit.asset_id for _, hit in page.results],
        end=page.end,
    )
    return answer


def _narrowed(tenant_id: uuid.UUID, query: Query) -> Query:
    """The query within the datasets that whoever asks may see: the index in memory and what looks words up know no
    policies. Those that it names have been looked up already."""
    to = narrowing()
    if to is None or to.datasets is None or query.datasets is not None:
        return query
    with tenant_scope(tenant_id):
        return replace(query, datasets=list(selectors.list_datasets().values_list("pk", flat=True)))


def _has_generated(tenant_id: uuid.UUID, state: State) -> bool:
    """Whether anything was made here, of what whoever asks may see."""
    if not state.generated or narrowing() is None:
        return bool(state.generated)
    with tenant_scope(tenant_id):
        return Asset.objects.exclude(generation_id=None).exists()


# --- The index: prefetched, searched without asking, made sure of ------------------------------------------


def prefetch_candidates(tenant_id: uuid.UUID, asked: SearchRequest) -> tuple[Prefetched | None, str | None]:
    """Candidates of the generation that served last, outside of any scope as it may wait for Valkey.

    None where the tenant has none, or where restrictions would leave too little of them; and which layer had them.
    """
    query = asked.query
    base = memory.vector_cache.of(tenant_id, asked.model).state.base
    restricted = query.conditions or query.datasets is not None or query.modalities is not None
    restricted = restricted or query.generated == "only"
    depth = PREFETCH * query.depth if not asked.fuses else max(PREFETCH * query.depth, FUSED_DEPTH)
    if base is None or restricted or query.exact or depth > PREFETCH_MOST:
        return None, None

    def compute() -> tuple[np.ndarray, np.ndarray]:
        cache.note_query(tenant_id, asked.model, asked.vector)
        return base.candidates(asked.vector, cache.depth_class(depth))

    try:
        found = cache.get_candidates(
            tenant_id, base.id, asked.vector, depth, compute, quick=base.cost_ms < QUICK_MS
        )
    except SegmentGone:
        return None, None
    return Prefetched(base.id, found.scores, found.rows), found.layer


def _optimistically(
    tenant_id: uuid.UUID,
    asked: SearchRequest,
    prefetched: Prefetched | None,
    reader: Reader,
    watch: Stopwatch,
) -> tuple[tuple[OptimisticResult, IndexStatus] | None, Read]:
    """What is probably found, read together with what tells whether it is; and how to read the page."""
    with watch.step("search"):
        guess = (
            optimistic_search(tenant_id, asked, asked.query.depth, prefetched) if reader.together else None
        )
    if guess is None or reader.together is None:
        return None, reader.read
    ids = [hit.asset_id for hit in guess.ranking.hits]
    with watch.step("hydrate"):
        now, assets = reader.together(tenant_id, asked.model, ids)

    def read(tenant: uuid.UUID, wanted: list[uuid.UUID]) -> Mapping[uuid.UUID, Any]:
        return assets if wanted == ids else reader.read(tenant, wanted)

    return (guess, now), read


def optimistic_search(
    tenant_id: uuid.UUID, asked: SearchRequest, count: int, prefetched: Prefetched | None
) -> OptimisticResult | None:
    """The best `count` assets of what this process knows, without asking anybody; None where that is not enough."""
    query, state = asked.query, memory.vector_cache.of(tenant_id, asked.model).state
    if not state.seq or asked.needs_scope or query.exact or (state.base and not state.base.is_local):
        return None
    only = restriction(query, state, NOTHING_HIDDEN)
    depth = max(FUSED_DEPTH, count) if asked.fuses else count
    ranking = _ranked(state, asked, depth, only, prefetched)
    return OptimisticResult(state, only, _with_named(ranking, state, asked, count, only))


def execute(
    tenant_id: uuid.UUID,
    asked: SearchRequest,
    count: int,
    prefetched: Prefetched | None,
    watch: Stopwatch,
    guessed: tuple[OptimisticResult, IndexStatus] | None = None,
) -> SearchResult:
    """The best `count` assets. In the tenant's scope if `asked.needs_scope`.

    `guessed`: what was guessed, and the opening that was read afterwards. Raises NotLive where a first page was asked
    of another model than the one that answers.
    """
    query = asked.query
    vectors = memory.vector_cache.of(tenant_id, asked.model)
    with watch.step("refresh"):
        now = guessed[1] if guessed else read_index_status(tenant_id, asked.model)
        if now.live != asked.model and asked.until is None:
            raise NotLive(now.live)
        state = vectors.current(now)
        if state is None:
            with tenant_scope(tenant_id):
                state = vectors.refresh(now)
    if guessed and guessed[0].holds(state, now):
        return SearchResult(guessed[0].ranking, state.searched_for(query.generated), guessed[0].only)
    with watch.step("filter"):
        only = restriction(query, state, now, asked.until)
    depth = max(FUSED_DEPTH, count) if asked.fuses else count
    with watch.step("search"):
        ranking = _ranked(state, asked, depth, only, prefetched)
    if asked.words:
        with watch.step("lexical"):
            words = matching_words(asked.words, MAX_DEPTH, only, state, query.generated)
            ranking = with_words(ranking, words, depth)
    ranking = _with_named(ranking, state, asked, count, only)
    return SearchResult(ranking, state.searched_for(query.generated), only)


def _ranked(
    state: State, asked: SearchRequest, count: int, only: Restriction, prefetched: Prefetched | None
) -> Ranking:
    searched = state.searched_for(asked.query.generated)
    return rank(searched, asked.vector, count, only, prefetched=prefetched, exact=asked.query.exact)


def _with_named(
    ranking: Ranking, state: State, asked: SearchRequest, count: int, only: Restriction
) -> Ranking:
    """At most `count` hits; before them what the query names, under the same restriction."""
    left_out = state.generated if asked.query.generated == "exclude" and state.generated else frozenset()
    named = asked.named and asked.named.among(meeting(asked.named.ids - only.without - left_out, only, state))
    if not named:
        return replace(ranking, hits=ranking.hits[:count])
    # Those without vectors are found by their names alone.
    scored = {asset_id: Hit(asset_id, 0.0, "text") for asset_id in named.exactly | named.partly}
    just = Restriction(assets=list(named.ids), hidden_datasets=only.hidden_datasets, until=only.until)
    if asked.words:
        scored |= {asset_id: Hit(asset_id, 0.0, "text") for asset_id in named.ids}
    else:
        best = _ranked(state, asked, len(named.ids), just, None)
        scored |= {hit.asset_id: hit for hit in best.hits}
    return names.with_named(ranking, named, scored, count)


def described(asked: SearchRequest) -> dict[str, Any]:
    query = asked.query
    named = [*query.like, *query.unlike]
    return {
        "words": asked.words,
        "wanted": asked.wanted,
        "datasets": None if query.datasets is None else [str(one) for one in query.datasets],
        "modalities": query.modalities,
        "conditions": query.conditions,
        "exact": query.exact,
        "generated": query.generated,
        "hybrid": query.hybrid,
        "text": "" if query.has_other_parts else query.text,
        "named": [str(one) for one in named],
        "model": asked.model,
    }


def remembered(tenant_id: uuid.UUID, seed: result_page.Seed) -> SearchRequest:
    told = seed.query
    query = Query(
        datasets=None if told["datasets"] is None else [uuid.UUID(one) for one in told["datasets"]],
        modalities=told["modalities"],
        conditions=[(key, operator, value) for key, operator, value in told["conditions"]],
        exact=told["exact"],
        # Rankings that an earlier release kept know of no difference.
        generated=told.get("generated", "include"),
        hybrid=told.get("hybrid", False),
        text=told.get("text", ""),
    )
    named = names.looked_up(tenant_id, query)
    # Which are left out: the rest of the query is in its vector.
    query.like = [uuid.UUID(one) for one in told["named"]]
    return SearchRequest(
        seed.vector, told["words"], query, told["model"], told["wanted"], until=seed.seq, named=named
    )


# --- What is made of it ------------------------------------------------------------------------------------


def _wanted(encoded: encoding.Encoded, query: Query) -> list[str] | None:
    """The words to highlight; None where that was not asked for."""
    return wanted_words(encoded.words) if query.highlight else None


def _grouped(hits: list[Hit], asked: SearchRequest, watch: Stopwatch) -> list[list[Hit]]:
    if not asked.query.group_duplicates:
        return [[hit] for hit in hits]
    with watch.step("group"):
        return result_page.group(hits, model=asked.model)


def _facets(found: SearchResult, query: Query, watch: Stopwatch) -> dict[str, Any]:
    if not query.facets:
        return {}
    with watch.step("facets"):
        return {"facets": facet_counts(query.facets, found.state, found.only)}


def _keep(
    tenant_id: uuid.UUID,
    search_id: str,
    asked: SearchRequest,
    found: SearchResult,
    groups: list[list[Hit]],
    meta: dict[str, Any],
    end: int,
) -> str | None:
    """The cursor of the second page, if there is one and what it needs could be kept."""
    query = asked.query
    # Also where the assets were too large for one page.
    more = found.ranking.total > query.top_k or end < min(query.top_k, len(groups))
    kept: result_page.Seed | result_page.KeptRanking | None = None
    if query.group_duplicates and len(groups) > end:
        # Which results are duplicates of each other is known of the whole ranking or not at all.
        hits, sizes = [hit for members in groups for hit in members], [len(members) for members in groups]
        kept = result_page.KeptRanking(hits, meta, asked.wanted, sizes)
    elif not query.group_duplicates and more:
        kept = result_page.Seed(asked.vector, found.state.seq, described(asked), found.ranking.hits, meta)
    if kept is None or not result_page.keep_ranking(tenant_id, search_id, kept):
        return None
    return result_page.encode_cursor(search_id, end)


def _read(
    tenant_id: uuid.UUID,
    groups: Sequence[Sequence[Hit]],
    read: Read,
    wanted: list[str] | None,
    grouped: bool,
    watch: Stopwatch,
) -> Page:
    with watch.step("hydrate"):
        return read_page(tenant_id, groups, read, grouped=grouped, quoted=bool(wanted))


def _answer(
    tenant_id: uuid.UUID,
    search_id: str,
    page: Page,
    following: str | None,
    meta: dict[str, Any],
    wanted: list[str] | None,
    watch: Stopwatch,
) -> Answer:
    """In no scope: highlights may read storage."""
    answer = Answer(search_id, page.results, following, meta, watch.timings, page.duplicates)
    if wanted is not None:
        with watch.step("highlight"):
            answer.highlights = highlights(tenant_id, page, frozenset(wanted))
    return answer


def _meta(
    found: SearchResult, encoded: encoding.Encoded, model: str, layers: Sequence[str]
) -> dict[str, Any]:
    base, (space, _, version) = found.state.base, model.rpartition(":")
    meta = {
        "total_candidates": found.ranking.total,
        "weights": encoded.weights,
        "model": {"id": space, "version": version, "dimension": len(encoded.vector)},
        "index": {
            "generation": str(base.id) if base else str(found.state.seq),
            "kind": base.kind if base else "flat",
            "size": found.state.size,
            "recall_estimate": round(found.ranking.recall, 4),
        },
        "cache": ("miss" if MISS in layers else "hit") if layers else "bypass",
    }
    if heard := encoded.transcript:
        meta["transcript"] = heard.text
        if heard.language:
            meta["transcript_language"] = heard.language
    return meta


# --- Further pages: a snapshot of the ranking, live rows -------------------------------------------------


def _next_page(tenant_id: uuid.UUID, query: Query, reader: Reader, watch: Stopwatch) -> Answer:
    search_id, offset = result_page.decode_cursor(query.cursor)
    with watch.step("snapshot"):
        kept = result_page.kept_ranking(tenant_id, search_id)
    ranking = _deepened(tenant_id, search_id, kept, watch) if isinstance(kept, result_page.Seed) else kept
    groups = ranking.groups()
    wanted, chosen = ranking.wanted, groups[offset : offset + query.top_k]
    with tenant_scope(tenant_id):
        page = _read(tenant_id, chosen, reader.read, wanted, ranking.sizes is not None, watch)
    end = offset + page.end
    following = result_page.encode_cursor(search_id, end) if end < len(groups) else None
    shown = [hit.asset_id for _, hit in page.results]
    fusion_weights.keep_traced_page(tenant_id, search_id, start=offset, shown=shown, end=end)
    return _answer(tenant_id, search_id, page, following, ranking.meta, wanted, watch)


def _deepened(
    tenant_id: uuid.UUID, search_id: str, seed: result_page.Seed, watch: Stopwatch
) -> result_page.KeptRanking:
    """The ranking behind what was shown, as of the moment of the first page, kept for the pages after this one."""
    with tenant_scope(tenant_id):
        asked = remembered(tenant_id, seed)
        found = execute(tenant_id, asked, MAX_DEPTH, None, watch)
        if not model_routing.is_written(asked.model):
            # Asked last: as long as it is so, none of its vectors has been deleted.
            raise CursorExpired(
                gettext("Another model answers the searches now. Send the search again without a cursor.")
            )
    shown = {hit.asset_id for hit in seed.hits}
    rest = [hit for hit in found.ranking.hits if hit.asset_id not in shown]
    hits = [*seed.hits, *rest][:MAX_DEPTH]
    ranking = result_page.KeptRanking(hits, seed.meta, seed.query["wanted"])
    result_page.keep_ranking(tenant_id, search_id, ranking)
    return ranking
