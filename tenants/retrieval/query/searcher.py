"""The query path: one unit vector, one index search, live rows, paging by snapshot.

An asset's score is the greatest cosine over its vectors. A search first catches up with the database, so it sees every
asset whose job has succeeded; what a generation's candidates say is checked against tombstones and filters of this
moment, and hydration reads live rows, so a deleted asset cannot come back.
"""

from __future__ import annotations

import math
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
from tenants.retrieval import cache, model_routing, model_store, query_pictures
from tenants.retrieval.cache import MISS
from tenants.retrieval.index import memory
from tenants.retrieval.index.memory import read_index_status
from tenants.retrieval.query import composed, encoding, fusion_weights, names, relevance, result_page
from tenants.retrieval.query.fusion_weights import explained
from tenants.retrieval.query.ranking import (
    by_kind,
    facet_counts,
    matching_words,
    meeting,
    merged,
    rank,
    restriction,
    with_words,
)
from tenants.retrieval.query.relevance import Judge, judge_of, reaching
from tenants.retrieval.query.result_page import (
    Highlights,
    Page,
    Read,
    Reader,
    add_passages,
    highlights,
    read_page,
    wanted_words,
)
from tenants.retrieval.types import (
    MAX_DEPTH,
    NAME,
    NEWEST,
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
# Results of a kind whose facets are counted one by one where a relevance is asked for, and how much deeper it is looked
# for them each time.
COUNTED, DEEPER = 10_000, 8
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

    `duplicates` of each result and `highlights` in it, by its asset; None where they were not asked for. `passages`:
    the words of what was found in documents. `layers`: who
    answered for each cache (`cache`); None where it was not asked. `why` its parts weigh what they do
    (`fusion_weights.explained`); None where that was not asked for. `left_out`: something was made here, and none of
    that was looked at. `counted`: over how many assets its facets are.
    """

    search_id: str
    results: list[tuple[Any, Hit]]
    next: str | None
    meta: dict[str, Any]
    timings: dict[str, float]
    duplicates: dict[uuid.UUID, list[Hit]] | None = None
    highlights: Highlights | None = None
    passages: Mapping[uuid.UUID, str] = field(default_factory=dict)
    layers: dict[str, str | None] = field(default_factory=dict)
    why: dict[str, Any] | None = None
    left_out: bool = False
    counted: int | None = None


@dataclass
class SearchRequest:
    """What the ranking is made of, also later for another page: `words` only for a hybrid search.

    `model` is the one that the vector is of; `wanted` are the words to highlight; `named`: what the words name. `judge`
    says how likely a result is right; None where nobody can say.
    """

    vector: np.ndarray
    words: str
    query: Query
    model: str
    wanted: list[str] | None = None
    until: int | None = None
    named: names.Named = names.NOTHING
    judge: Judge | None = None

    @property
    def needs_scope(self) -> bool:
        """Whether more is asked of the database than what stands there prepared."""
        query = self.query
        return bool(
            self.words
            or query.conditions
            or query.facets
            or query.group_duplicates
            or query.sort
            or self.wanted
            or self.by_relevance
        )

    @property
    def by_relevance(self) -> bool:
        """Whether what is too unlikely is left out."""
        return self.judge is not None and self.query.min_relevance is not None

    @property
    def deepest(self) -> int:
        """How many candidates a ranking needs at least, beyond what a page shows: to be fused with another one, or to
        be ordered by relevance."""
        return FUSED_DEPTH if self.words or self.named or self.least is not None else 0

    @property
    def least(self) -> float | None:
        """From which relevance on all is wanted, to be shown or counted; None where nobody can say or asks."""
        if self.judge is None or not (self.by_relevance or self.query.facets):
            return None
        return self.judge.line if self.query.min_relevance is None else self.query.min_relevance


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
    if query.cursor:
        answer = _next_page(tenant_id, query, read, watch)
    else:
        with _with_picture(tenant_id, query) as asked:
            answer = _first_page(tenant_id, asked, read, watch)
    metering.note(tenant_id=tenant_id, amounts={"searches": 1})
    answer.meta["took_ms"] = round(watch.total_ms(), 3)
    return answer


@contextmanager
def _with_picture(tenant_id: uuid.UUID, query: Query) -> Iterator[Query]:
    """The query with the picture that was kept of an earlier search as a file. Raises NotFound."""
    if query.image_file is None:
        yield query
        return
    with query_pictures.opened(tenant_id, query.image_file) as path:
        yield replace(query, image=path)


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
    if query.parts:
        return _of_parts(tenant_id, query, reader, watch, model)
    with watch.step("encode"):
        encoded = encoding.encode(tenant_id, query, model)
    judge = judge_of(model_store.space(model, tenant_id), encoded.vector, query, encoded)
    judge = relevance.corrected(judge, tenant_id, model)
    query = _with_line(query, judge)
    words = encoded.words if query.hybrid else ""
    with watch.step("names"):
        named = names.looked_up(tenant_id, query)
    wanted = _wanted(encoded, query)
    asked = SearchRequest(encoded.vector, words, query, model, wanted, named=named, judge=judge)
    with watch.step("cache"):
        prefetched, layer = prefetch_candidates(tenant_id, asked)
    guessed, read = _optimistically(tenant_id, asked, prefetched, reader, watch)
    layers = {"embedding": encoded.layer, "candidates": layer}
    # A scope costs a transaction, which is more than the plainest search asks of the database.
    with tenant_scope(tenant_id) if asked.needs_scope else nullcontext():
        found = execute(tenant_id, asked, query.depth, prefetched, watch, guessed)
        shown = _shown(tenant_id, found, asked, read, watch)
    return _finished(tenant_id, found, encoded, asked, layers, shown, watch)


def _of_parts(tenant_id: uuid.UUID, query: Query, reader: Reader, watch: Stopwatch, model: str) -> Answer:
    """A query of several parts, as `composed` ranks it. Nobody has calibrated its scores."""
    composed.check(query)
    _with_line(query, None)
    with watch.step("encode"):
        parts = composed.encode(tenant_id, query, model)
    encoded = parts.encoded
    asked = SearchRequest(encoded.vector, "", query, model, _wanted(encoded, query))
    with tenant_scope(tenant_id):
        state, now = _caught_up(tenant_id, asked, watch)
        with watch.step("filter"):
            only = composed.narrowed(query, restriction(query, state, now))
        with watch.step("search"):
            searched = state.searched_for(query.generated)
            ranking = composed.rank_parts(searched, parts.vectors, query, only, model=model)
        found = SearchResult(ranking, searched, only)
        shown = _shown(tenant_id, found, asked, reader.read, watch)
    layers = {"embedding": encoded.layer, "candidates": None}
    return _finished(tenant_id, found, encoded, asked, layers, shown, watch)


@dataclass
class _Shown:
    """The first page, and what the answer says beside it."""

    groups: list[list[Hit]]
    page: Page
    beside: dict[str, Any]
    counted: int | None


def _shown(
    tenant_id: uuid.UUID, found: SearchResult, asked: SearchRequest, read: Read, watch: Stopwatch
) -> _Shown:
    query = asked.query
    groups = _grouped(found.ranking.hits, asked, watch)
    groups, sorted_by = _sorted(groups, found, asked, watch)
    page = _read(tenant_id, groups[: query.top_k], read, asked.wanted, query.group_duplicates, watch)
    facets, counted = _facets(tenant_id, found, asked, watch)
    return _Shown(groups, page, {**facets, **sorted_by}, counted)


def _finished(
    tenant_id: uuid.UUID,
    found: SearchResult,
    encoded: encoding.Encoded,
    asked: SearchRequest,
    layers: dict[str, str | None],
    shown: _Shown,
    watch: Stopwatch,
) -> Answer:
    """The answer of a first page, with what later pages and feedback need of it kept. In no scope."""
    query, page = asked.query, shown.page
    meta = _meta(found, encoded, asked, [known for known in layers.values() if known is not None])
    search_id = str(uuid7())
    following = _keep(tenant_id, search_id, asked, found, shown.groups, meta, page.end)
    answer = _answer(tenant_id, search_id, page, following, {**meta, **shown.beside}, asked.wanted, watch)
    answer.layers, answer.counted = layers, shown.counted
    answer.left_out = query.generated == "exclude" and _has_generated(tenant_id, found.state)
    # Of several parts nothing is weighed but what was sent.
    answer.why = explained(encoded.weighed, encoded.parts) if query.explain and not query.parts else None
    fusion_weights.keep_trace(
        tenant_id,
        search_id,
        model=asked.model,
        weighed=encoded.weighed,
        parts=encoded.parts,
        shown=[hit.asset_id for _, hit in page.results],
        end=page.end,
    )
    return answer


def _with_line(query: Query, judge: Judge | None) -> Query:
    """The query with the relevance that is asked for. Raises Invalid where nobody can say what its results have."""
    if judge is None:
        if query.min_relevance:
            raise Invalid(
                gettext(
                    "Relevance is known of searches by words, by speech or by one picture, in a model that was "
                    "calibrated for it. Leave min_relevance out, or search by one of them."
                ),
                pointer="/min_relevance",
            )
        return query
    if query.worth_showing and query.min_relevance is None:
        return replace(query, min_relevance=judge.line)
    return query


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
    depth = max(PREFETCH * query.depth, asked.deepest)
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
    ranking = _ranked(state, asked, max(asked.deepest, count), only, prefetched)
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
    state, now = _caught_up(tenant_id, asked, watch, guessed[1] if guessed else None)
    if guessed and guessed[0].holds(state, now):
        return SearchResult(guessed[0].ranking, state.searched_for(query.generated), guessed[0].only)
    with watch.step("filter"):
        only = restriction(query, state, now, asked.until)
    depth = max(asked.deepest, count)
    with watch.step("search"):
        ranking = _ranked(state, asked, depth, only, prefetched)
    if asked.words:
        with watch.step("lexical"):
            words = matching_words(asked.words, MAX_DEPTH, only, state, query.generated)
            ranking = with_words(ranking, words, max(depth, len(ranking.hits)))
    if asked.least is None:
        ranking = _with_named(ranking, state, asked, count, only)
    else:
        # All that is likely enough is counted, or ordered anew.
        ranking = _with_named(ranking, state, asked, max(depth, len(ranking.hits)), only)
        with watch.step("relevance"):
            ranking = _reaching(ranking, asked)
    return SearchResult(ranking, state.searched_for(query.generated), only)


def _caught_up(
    tenant_id: uuid.UUID, asked: SearchRequest, watch: Stopwatch, now: IndexStatus | None = None
) -> tuple[State, IndexStatus]:
    """The index with all that was committed before the opening was read. Raises NotLive as `execute`."""
    vectors = memory.vector_cache.of(tenant_id, asked.model)
    with watch.step("refresh"):
        now = now or read_index_status(tenant_id, asked.model)
        if now.live != asked.model and asked.until is None:
            raise NotLive(now.live)
        state = vectors.current(now)
        if state is None:
            with tenant_scope(tenant_id):
                state = vectors.refresh(now)
    return state, now


def _ranked(
    state: State, asked: SearchRequest, count: int, only: Restriction, prefetched: Prefetched | None
) -> Ranking:
    if asked.least is None:
        found = _best(state, asked, count, only, prefetched)
    else:
        # No kind may stand before the other by its score alone.
        found = merged([_deep_enough(state, asked, count, side, prefetched) for side in by_kind(only)])
    return found if asked.judge is None else replace(found, hits=asked.judge.judged(found.hits))


def _best(
    state: State, asked: SearchRequest, count: int, only: Restriction, prefetched: Prefetched | None
) -> Ranking:
    searched = state.searched_for(asked.query.generated)
    return rank(searched, asked.vector, count, only, prefetched=prefetched, exact=asked.query.exact)


def _deep_enough(
    state: State, asked: SearchRequest, count: int, only: Restriction, prefetched: Prefetched | None
) -> Ranking:
    """At least `count` of one kind, and more as long as what follows may be likely enough."""
    most = COUNTED if asked.query.facets else MAX_DEPTH
    # Everything is as likely as that: what a page needs is enough.
    least = asked.judge.least_score(asked.least) if asked.judge and asked.least else math.inf
    while True:
        found = _best(state, asked, count, only, prefetched)
        if len(found.hits) < count or count >= most or found.hits[-1].score < least:
            return found
        count = min(DEEPER * count, most)


def _reaching(ranking: Ranking, asked: SearchRequest) -> Ranking:
    """What is likely enough, the likeliest first; a fused ranking keeps its order. In the tenant's scope."""
    if asked.judge is None:
        return ranking
    hits = asked.judge.read(ranking.hits)
    if asked.query.min_relevance is not None:
        hits = reaching(hits, asked.query.min_relevance, ordered=not asked.words)
    return replace(ranking, hits=hits)


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
        best = _best(state, asked, len(named.ids), just, None).hits
        best = best if asked.judge is None else asked.judge.judged(best)
        scored |= {hit.asset_id: hit for hit in best}
    found = names.with_named(ranking, named, scored, count)
    return found if asked.judge is None else replace(found, hits=asked.judge.named(found.hits))


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
        "min_relevance": query.min_relevance,
        "judge": relevance.as_kept(asked.judge),
    }


def remembered(tenant_id: uuid.UUID, seed: result_page.Seed) -> SearchRequest:
    """The search of a first page. Raises ModelUnavailable where its model went."""
    told = seed.query
    # A cursor of an earlier release says nothing of relevance.
    kept = told.get("judge")
    judge = (
        relevance.of_kept(kept, model_store.space(told["model"], tenant_id), seed.vector) if kept else None
    )
    judge = relevance.corrected(judge, tenant_id, told["model"])
    query = Query(
        datasets=None if told["datasets"] is None else [uuid.UUID(one) for one in told["datasets"]],
        modalities=told["modalities"],
        conditions=[(key, operator, value) for key, operator, value in told["conditions"]],
        exact=told["exact"],
        # Rankings that an earlier release kept know of no difference.
        generated=told.get("generated", "include"),
        hybrid=told.get("hybrid", False),
        text=told.get("text", ""),
        min_relevance=told.get("min_relevance"),
    )
    named = names.looked_up(tenant_id, query)
    # Which are left out: the rest of the query is in its vector.
    query.like = [uuid.UUID(one) for one in told["named"]]
    return SearchRequest(
        seed.vector,
        told["words"],
        query,
        told["model"],
        told["wanted"],
        until=seed.seq,
        named=named,
        judge=judge,
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


def _sorted(
    groups: list[list[Hit]], found: SearchResult, asked: SearchRequest, watch: Stopwatch
) -> tuple[list[list[Hit]], dict[str, Any]]:
    """The best groups in the order that is asked for, by the best of each, and what the answer says of it. In the
    tenant's scope where an order is asked for."""
    sort = asked.query.sort
    if not sort:
        return groups, {}
    groups, more = groups[:MAX_DEPTH], len(found.ranking.hits) >= MAX_DEPTH < found.ranking.total
    with watch.step("sort"):
        keys = selectors.sort_keys([members[0].asset_id for members in groups])
        if sort == NAME:
            # What has no name comes last.
            named = {one: (not key.name, key.name, -key.created_at) for one, key in keys.items()}
            ordered = sorted(groups, key=lambda members: named.get(members[0].asset_id, (True, "", 0.0)))
        else:
            sign = -1 if sort == NEWEST else 1
            made = {one: sign * key.created_at for one, key in keys.items()}
            ordered = sorted(groups, key=lambda members: made.get(members[0].asset_id, math.inf))
    return ordered, {"sorted": {"by": sort, "results": len(groups), "more": more}}


def _facets(
    tenant_id: uuid.UUID, found: SearchResult, asked: SearchRequest, watch: Stopwatch
) -> tuple[dict[str, Any], int | None]:
    """Counted over what is likely enough, by default from the line on; over all that may be found where nobody can say
    how likely something is, or everything is asked for. And over how many that is.

    What a key is filtered by does not narrow its own counts: what else could be chosen stays in sight.
    """
    query = asked.query
    if not query.facets:
        return {}, None
    keys, filtered = list(dict.fromkeys(query.facets)), {key for key, _, _ in query.conditions}
    with watch.step("facets"):
        counts, counted = _counted([key for key in keys if key not in filtered], found, asked)
        for key in keys:
            if key in filtered:
                others = [one for one in query.conditions if one[0] != key]
                wider = replace(asked, query=replace(query, conditions=others))
                counts |= _counted([key], execute(tenant_id, wider, 1, None, Stopwatch()), wider)[0]
    return {"facets": {key: counts[key] for key in keys}}, counted


def _counted(keys: Sequence[str], found: SearchResult, asked: SearchRequest) -> tuple[dict[str, Any], int]:
    """Of each key its values with their counts, and over how many assets these are."""
    if not asked.least:
        return facet_counts(keys, found.state, found.only), found.ranking.total
    reached = [hit.asset_id for hit in reaching(found.ranking.hits, asked.least, ordered=False)]
    only = replace(found.only, assets=reached, numbers=None, newer=None, planned=(), bare=())
    counts = facet_counts(keys, found.state, only)
    if len(reached) >= COUNTED:
        # There may be more of them: the counts are at least so high.
        counts = {key: {**told, "estimated": True} for key, told in counts.items()}
    return counts, len(reached)


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
    there = len(found.ranking.hits) if asked.by_relevance else found.ranking.total
    # Also where the assets were too large for one page.
    more = there > query.top_k or end < min(query.top_k, len(groups))
    kept: result_page.Seed | result_page.KeptRanking | None = None
    if query.sort or query.parts:
        # What another depth would find again at no less cost is kept whole.
        if len(groups) > end:
            hits = [hit for members in groups for hit in members]
            sizes = [len(members) for members in groups] if query.group_duplicates else None
            kept = result_page.KeptRanking(hits, meta, asked.wanted, sizes)
    elif query.group_duplicates and len(groups) > end:
        # Which results are duplicates of each other is known of the whole ranking or not at all.
        hits, sizes = [hit for members in groups for hit in members], [len(members) for members in groups]
        kept = result_page.KeptRanking(hits, meta, asked.wanted, sizes)
    elif not query.group_duplicates and more:
        shown = found.ranking.hits[:MAX_DEPTH]
        kept = result_page.Seed(asked.vector, found.state.seq, described(asked), shown, meta)
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
    add_passages(tenant_id, page)
    answer.passages = page.passages
    if wanted is not None:
        with watch.step("highlight"):
            answer.highlights = highlights(tenant_id, page, frozenset(wanted))
    return answer


def _meta(
    found: SearchResult, encoded: encoding.Encoded, asked: SearchRequest, layers: Sequence[str]
) -> dict[str, Any]:
    base, (space, _, version) = found.state.base, asked.model.rpartition(":")
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
        "relevance_line": asked.judge.line if asked.judge else None,
        "relevance_corrected": asked.judge.is_corrected if asked.judge else False,
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
