"""Which assets a search may return, the best of them, and counts of values over all of them."""

from __future__ import annotations

import datetime as dt
import heapq
import math
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, takewhile
from typing import Any

import numpy as np
from django.contrib.postgres.fields import ArrayField
from django.db.models import (
    Case,
    Count,
    F,
    FloatField,
    Func,
    IntegerField,
    Max,
    Min,
    QuerySet,
    Value,
    When,
    Window,
)
from django.db.models.functions import Collate, Length, RowNumber

from ml.indexes.live_postings import LivePostings
from ml.indexes.postings import Postings
from tenants.datasets.models import Asset, Facet
from tenants.datasets.selectors import is_any
from tenants.datasets.values import FACET_TEXT
from tenants.retrieval import filters
from tenants.retrieval.filters import assets_of, kinds_of
from tenants.retrieval.query import lexical
from tenants.retrieval.types import (
    MODALITIES,
    Hit,
    IndexStatus,
    Known,
    Prefetched,
    Query,
    Ranking,
    Restriction,
    Segment,
    State,
)

# --- Restrictions ---------------------------------------------------------------------------------------

# By a generation's postings, and by facets in memory for what is newer.


def restriction(query: Query, state: State, now: IndexStatus, until: int | None = None) -> Restriction:
    """In the tenant's scope. Raises Invalid for a value that a key of its type cannot have."""
    only = Restriction(
        datasets=query.datasets,
        modalities=query.modalities,
        hidden_datasets=list(now.hidden),
        without=frozenset([*query.like, *query.unlike]),
        until=until,
    )
    planned = filters.plan(query.conditions, query.datasets)
    if query.generated == "only":
        # Few enough to be named, whatever else restricts the search.
        made = state.generated or frozenset()
        return replace(only, assets=list(filters.live_of(planned, made) if planned else made))
    if not planned:
        return only
    known = state.facets.known(state, filters.keys_of(planned))
    return _by_memory(planned, state, known, only) if known else _by_database(planned, state, only)


def _by_memory(planned: filters.Plan, state: State, known: Known, only: Restriction) -> Restriction:
    """Of the base by its postings; what has changed since and what is newer by the facets in memory."""
    mask = filters.mask_of(planned, known.postings, known.count)
    bare = [asset_id for asset_id, slot in known.others.items() if mask[slot]]
    only = replace(only, newer=mask[known.slots], bare=bare)
    if state.base is None:
        return only
    changed = known.base_numbers, mask[known.base_slots]
    return state.base.filtered(planned, only, changed, lambda: _alive(state, only.newer))


def _alive(state: State, newer: np.ndarray | None = None) -> list[uuid.UUID]:
    numbers = np.unique(state.rows.assets[state.rows.alive])
    chosen = numbers if newer is None else numbers[newer[numbers]]
    return state.assets.ids(chosen.tolist())


def _by_database(planned: filters.Plan, state: State, only: Restriction) -> Restriction:
    """The same where facets are too many for memory: seconds where very many match."""
    base = state.base
    if base is None:
        return replace(only, assets=list(filters.all_of(planned)))
    live = filters.live_of(planned, {*_alive(state), *state.changed})
    numbers = base.numbers(state.changed)
    changed = numbers, np.isin(numbers, base.numbers(state.changed & live))
    return base.filtered(planned, replace(only, assets=list(live)), changed, lambda: list(live))


# --- The same for a search by words ----------------------------------------------------------------------


def matching_words(
    words: str, limit: int, only: Restriction, state: State, generated: str = "include"
) -> list[tuple[uuid.UUID, float]]:
    """Assets that hold these words, the best first, under the same restriction."""
    made = (state.generated or frozenset()) if generated == "exclude" else frozenset()
    left_out = only.without | made
    wanted = limit + min(len(left_out), 2 * lexical.CANDIDATES)
    if only.planned:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        meeting = filters.live_of(only.planned, {asset_id for asset_id, _ in found})
        found = [pair for pair in found if pair[0] in meeting]
    elif only.numbers is None and only.newer is None:
        found = lexical.matching(words, wanted, only)
    elif _count(only) <= lexical.MAX_ALLOWED:
        found = lexical.matching(words, wanted, replace(only, assets=_named(only, state)))
    else:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        found = _allowed(found, only, state)
    return [pair for pair in found if pair[0] not in left_out][:limit]


def meeting(ids: Collection[uuid.UUID], only: Restriction, state: State) -> set[uuid.UUID]:
    """Those of these assets that the restriction's filter allows; datasets and kinds are not looked at."""
    if not ids:
        return set()
    if only.planned:
        return filters.live_of(only.planned, ids)
    if only.numbers is None and only.newer is None and only.assets is None:
        return set(ids)
    return {asset_id for asset_id, _ in _allowed([(one, 0.0) for one in ids], only, state)}


def with_words(ranking: Ranking, found: list[tuple[uuid.UUID, float]], count: int) -> Ranking:
    """Both rankings in one by reciprocal rank, which is then the score: cosines and word weights do not compare."""
    known = {hit.asset_id: hit for hit in ranking.hits}
    fused = lexical.fuse([hit.asset_id for hit in ranking.hits], [asset_id for asset_id, _ in found])
    hits = [
        replace(known.get(asset_id) or Hit(asset_id, 0.0, "text"), score=score)
        for asset_id, score in fused[:count]
    ]
    return replace(ranking, hits=hits, total=max(ranking.total, len(fused)))


def _count(only: Restriction) -> int:
    masks = [mask for mask in (only.numbers, only.newer) if mask is not None]
    return sum(int(np.count_nonzero(mask)) for mask in masks) + len(only.bare) + len(only.assets or ())


def _named(only: Restriction, state: State) -> list[uuid.UUID]:
    named = [*only.bare, *(only.assets or ())]
    if only.newer is not None:
        named += state.assets.ids(np.flatnonzero(only.newer).tolist())
    if only.numbers is not None and state.base is not None:
        named += state.base.ids(np.flatnonzero(only.numbers))
    return named


def _allowed(
    found: list[tuple[uuid.UUID, float]], only: Restriction, state: State
) -> list[tuple[uuid.UUID, float]]:
    ids = [asset_id for asset_id, _ in found]
    allowed = {*only.bare, *(only.assets or ())}
    if only.newer is not None:
        allowed |= {asset_id for asset_id in ids if _is_newer(asset_id, only.newer, state)}
    if only.numbers is not None and state.base is not None:
        numbers = state.base.numbers(ids)
        allowed |= set(state.base.ids(numbers[only.numbers[numbers]]))
    return [pair for pair in found if pair[0] in allowed]


def _is_newer(asset_id: uuid.UUID, newer: np.ndarray, state: State) -> bool:
    number = state.assets.find(asset_id)
    return number is not None and number < len(newer) and bool(newer[number])


# --- The best assets ------------------------------------------------------------------------------------

# A generation's candidates and the newer vectors, in one ranking.


def rank(
    state: State,
    query: np.ndarray,
    count: int,
    only: Restriction,
    *,
    prefetched: Prefetched | None = None,
    exact: bool = False,
) -> Ranking:
    """The best `count` assets by greatest inner product over their vectors. `query`: float32 [d] of norm 1."""
    wanted = count + len(only.without)
    newer, newer_total = _of_array(state, query, wanted, only)
    if state.base is None:
        return Ranking(_without(newer, only.without)[:count], newer_total, 1.0)
    older = state.base.search(state, only, exact=exact)
    found = older.best(query, wanted, prefetched)
    hits = heapq.merge(newer, found, key=lambda hit: -hit.score)
    return Ranking(list(islice(_without(hits, only.without), count)), newer_total + older.total, older.recall)


# Kinds whose vectors lie near each other: no picture has the score that two texts have.
KINDS = (("text", "audio"), ("image", "video"))


def by_kind(only: Restriction) -> list[Restriction]:
    """The restriction to each of KINDS, to rank them apart: so none of them keeps another one out."""
    wanted = MODALITIES if only.modalities is None else only.modalities
    sides = [[kind for kind in kinds if kind in wanted] for kinds in KINDS]
    return [replace(only, modalities=side) for side in sides if side]


def merged(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking of several that have no asset in common."""
    hits = list(heapq.merge(*(one.hits for one in rankings), key=lambda hit: -hit.score))
    recall = min((one.recall for one in rankings), default=1.0)
    return Ranking(hits, sum(one.total for one in rankings), recall)


def _without(hits: Iterable[Hit], left_out: frozenset[uuid.UUID]) -> list[Hit]:
    return [hit for hit in hits if hit.asset_id not in left_out] if left_out else list(hits)


# --- The flat array --------------------------------------------------------------------------------------


def _of_array(state: State, query: np.ndarray, count: int, only: Restriction) -> tuple[list[Hit], int]:
    if not len(state.rows.alive):
        return [], 0
    mask = row_mask(state, only)
    assets = state.rows.assets[mask]
    candidates, per_asset = np.unique(assets, return_counts=True)
    if not len(candidates):
        return [], 0
    # The n-th best asset's best row ranks at most n × (most rows an asset has), so this many rows suffice.
    wanted = min(count * int(per_asset.max()), len(assets))
    scores, rows = state.index.search(query, wanted, mask)
    return _best_by_asset(state, scores, rows, count), len(candidates)


def row_mask(state: State, only: Restriction) -> np.ndarray:
    """The rows of the array that may be found; `only.without` is not looked at."""
    rows, mask = state.rows, state.rows.alive
    if only.datasets is not None:
        mask = mask & np.isin(rows.datasets, state.datasets.known(only.datasets))
    if only.hidden_datasets:
        mask = mask & ~np.isin(rows.datasets, state.datasets.known(only.hidden_datasets))
    if only.modalities is not None:
        mask = mask & np.isin(rows.kinds, [MODALITIES.index(m) for m in only.modalities])
    if only.assets is not None:
        mask = mask & np.isin(rows.assets, state.assets.known(only.assets))
    if only.newer is not None:
        mask = mask & only.newer[rows.assets]
    if only.until is not None:
        mask = mask & (rows.seqs <= only.until)
    return mask


def _best_by_asset(state: State, scores: np.ndarray, rows: np.ndarray, count: int) -> list[Hit]:
    hits: dict[int, Hit] = {}
    for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
        number = int(state.rows.assets[row])
        if number not in hits:
            asset_id, part = state.assets.id(number), MODALITIES[state.rows.parts[row]]
            hits[number] = Hit(asset_id, score, part, state.segments.get(row))
            if len(hits) == count:
                break
    return list(hits.values())


# --- Counts of values -----------------------------------------------------------------------------------

# Texts, tags, true and false: the most frequent values. Numbers and times: the least, the greatest and a few buckets.
# What is found in a generation is counted by its postings; what is newer or has no generation by the facets in memory,
# or by Postgres where they are too many. The counts are exact, and a filter by a value finds the assets that were
# counted for it (see `described` for lists).

BUCKETS = 8

_DAY = 86_400.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST, _LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
# Steps of times up to a week, in seconds; above they are months.
_SECONDS = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, _DAY, 2 * _DAY, 7 * _DAY)
_MONTHS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400, 6000, 12_000, 24_000)
_MONTH_S = 30 * _DAY


def edges_of(kind: str, least: float, greatest: float) -> list[float]:
    """Where buckets begin, ascending, and at last `greatest`, which the last of them includes.

    `kind` is "number" or "time" (seconds since 1970). At most BUCKETS + 1 buckets, of equal width but for months of
    different lengths. The first begins at or below `least`.
    """
    # Halves first: the difference of two numbers may be more than a number holds.
    step = greatest / BUCKETS - least / BUCKETS
    if not step > 0:
        return [least, greatest]
    begins = _times(least, step) if kind == "time" else _numbers(least, step)
    found = list(takewhile(lambda edge: edge < greatest, begins))
    # None where the calendar begins too late or a number is too coarse.
    first = min(found[0], least) if found else least
    return [first, *(edge for edge in found if edge > least), greatest]


def described(kind: str, edges: list[float]) -> list[dict[str, Any]]:
    """Each bucket as the conditions of a filter that finds what is in it.

    Of an asset with several numbers each condition may be met by another one, so a filter may find more of those.
    """
    told = [on_scale(kind, edge) for edge in edges]
    last = len(told) - 2
    return [
        {"gte": low, ("lte" if place == last else "lt"): high}
        for place, (low, high) in enumerate(pairwise(told))
    ]


def on_scale(kind: str, number: float) -> float | str:
    """A number as metadata spells it: a time in ISO 8601, as near as its calendar goes."""
    return _moment(number).isoformat().replace("+00:00", "Z") if kind == "time" else number


def _numbers(least: float, step: float) -> Iterator[float]:
    """Multiples of 1, 2 or 5 of a power of ten from at or below `least`."""
    power = math.floor(math.log10(step))
    digit = next((d for d in (1, 2, 5) if _decimal(d, power) >= step), 10)
    place = math.floor(least / _decimal(digit, power))
    while _decimal(digit * place, power) > least:
        place -= 1
    while True:
        yield _decimal(digit * place, power)
        place += 1


def _decimal(digits: int, power: int) -> float:
    """The number that is nearest to digits × 10^power: 3 × 0.1 is another one than 0.3."""
    try:
        return digits / 10**-power if power < 0 else float(digits * 10**power)
    except OverflowError:
        return math.copysign(math.inf, digits)


def _times(least: float, step: float) -> Iterator[float]:
    seconds = next((s for s in _SECONDS if s >= step), None)
    if seconds is not None:
        start = math.floor(least / seconds)
        while True:
            yield start * seconds
            start += 1
    months = next((m for m in _MONTHS if m * _MONTH_S >= step), _MONTHS[-1])
    moment = _moment(least)
    month = (moment.year * 12 + moment.month - 1) // months * months
    while month < (dt.MAXYEAR + 1) * 12:
        year, rest = divmod(max(month, dt.MINYEAR * 12), 12)
        yield dt.datetime(year, rest + 1, 1, tzinfo=dt.UTC).timestamp()
        month += months


def _moment(seconds: float) -> dt.datetime:
    try:
        return _EPOCH + dt.timedelta(seconds=seconds)
    except OverflowError:
        return _FIRST if seconds < 0 else _LAST


TOP_VALUES = 20
_BOOLS = {"true": True, "false": False}


@dataclass(frozen=True)
class Allowed:
    """The assets that a search may find. No asset is in both parts.

    `assets` are asked of Postgres: ids or a query. `mask`, bool by asset number, are those of a generation whose
    `postings` still say what is so; `slots`, bool by slot, those of the facets in memory (`live`). `datasets` (None:
    all) say which types the keys have.
    """

    assets: QuerySet[Asset] | Collection[uuid.UUID] = ()
    datasets: Sequence[uuid.UUID] | None = None
    postings: Postings | None = None
    mask: np.ndarray | None = None
    live: LivePostings | None = None
    slots: np.ndarray | None = None

    def facets(self, keys: Collection[str]) -> QuerySet[Facet]:
        """What Postgres holds of the `assets` under these keys."""
        if not keys:
            return Facet.objects.none()
        if isinstance(self.assets, QuerySet):
            return Facet.objects.filter(key__in=keys, asset_id__in=self.assets.values("pk"))
        if not self.assets:
            return Facet.objects.none()
        return Facet.objects.filter(is_any("asset_id", self.assets), key__in=keys)

    @property
    def indexed(self) -> tuple[Postings, np.ndarray] | None:
        return None if self.postings is None or self.mask is None else (self.postings, self.mask)

    @property
    def held(self) -> tuple[LivePostings, np.ndarray] | None:
        return None if self.live is None or self.slots is None else (self.live, self.slots)

    @property
    def parts(self) -> list[tuple[Postings | LivePostings, np.ndarray]]:
        return [part for part in (self.indexed, self.held) if part is not None]


def count_facets(keys: Sequence[str], allowed: Allowed) -> dict[str, dict[str, Any]]:
    """Of each key `type` and `values`: at most TOP_VALUES `{"value", "count"}`, the most frequent first.

    Where its type is number or time also `min` and `max`, and a `value` is the conditions of a bucket, as in a filter;
    the buckets stand in their order, and there is none where no asset has such a value. Keys of several types, or of
    none, count as text. Texts that are too long to be told are left out.

    One statement where no `assets` are given, at most four else. In the tenant's scope.
    """
    kinds = {key: _type(types) for key, types in _types(keys, allowed).items()}
    scales = {key: kind for key, kind in kinds.items() if kind in ("number", "time")}
    values = _frequent([key for key in kinds if key not in scales], allowed)
    ranges = _ranges(scales, allowed)
    return {
        key: {"type": kind, **ranges[key]}
        if key in scales
        else {"type": kind, "values": [_told(kind, *pair) for pair in values[key]]}
        for key, kind in kinds.items()
    }


def _types(keys: Sequence[str], allowed: Allowed) -> dict[str, set[str]]:
    found = kinds_of(set(keys), allowed.datasets)
    return {key: found.get(key, set()) for key in keys}


def _type(types: set[str]) -> str:
    return next(iter(types)) if len(types) == 1 else "text"


def _told(kind: str, text: str, count: int) -> dict[str, Any]:
    return {"value": _BOOLS.get(text, text) if kind == "bool" else text, "count": count}


# --- Texts -----------------------------------------------------------------------------------------------


def _frequent(keys: list[str], allowed: Allowed) -> dict[str, list[tuple[str, int]]]:
    """Of each key the most frequent texts with their counts; equal counts in the order of the texts."""
    counts: dict[str, Counter[str]] = {key: Counter() for key in keys}
    for key, text, count in _stored_texts(keys, allowed):
        counts[key][text] = count
    if allowed.held is not None:
        live, slots = allowed.held
        for key, known in counts.items():
            known.update(live.text_counts(key, slots, FACET_TEXT))
    if allowed.indexed is not None:
        for key, known in counts.items():
            _add_indexed(*allowed.indexed, key, known)
    ranked = {
        key: sorted(known.items(), key=lambda pair: (-pair[1], pair[0])) for key, known in counts.items()
    }
    return {key: pairs[:TOP_VALUES] for key, pairs in ranked.items()}


def _stored_texts(keys: list[str], allowed: Allowed) -> QuerySet:
    # Longer ones stand there shortened, as no filter would spell them.
    told = (
        allowed.facets(keys)
        .filter(text__isnull=False)
        .alias(length=Length("text"))
        .filter(length__lte=FACET_TEXT)
    )
    # Compared as bytes, which takes a tenth of what a language's order takes, and orders as Python does.
    counted = told.annotate(name=Collate("key", "C"), word=Collate("text", "C")).values("name", "word")
    counted = counted.annotate(assets=Count("asset_id", distinct=True))
    if not allowed.parts:
        place = Window(RowNumber(), partition_by=F("name"), order_by=[F("assets").desc(), F("word")])
        counted = counted.annotate(place=place).filter(place__lte=TOP_VALUES)
    return counted.values_list("name", "word", "assets")


def _add_indexed(postings: Postings, mask: np.ndarray, key: str, known: Counter[str]) -> None:
    """Add what the postings count to what was counted of the others.

    A text that is frequent in both together is one that the others have, or among the most frequent of the postings.
    """
    top = dict(postings.top_values(key, mask, TOP_VALUES, FACET_TEXT))
    rest = [text for text in known if text not in top]
    known.update(dict(zip(rest, postings.count_texts(key, rest, mask), strict=True)))
    known.update(top)


# --- Numbers and times -----------------------------------------------------------------------------------


def _ranges(scales: dict[str, str], allowed: Allowed) -> dict[str, dict[str, Any]]:
    """Of each key `values`, and `min` and `max` where an asset has a number."""
    bounds = _bounds(scales, allowed)
    edges = {key: edges_of(scales[key], *ends) for key, ends in bounds.items()}
    counts = _stored_buckets(edges, allowed)
    found: dict[str, dict[str, Any]] = {key: {"values": []} for key in scales}
    for key, places in edges.items():
        for postings, mask in allowed.parts:
            counts[key].update(dict(enumerate(postings.histogram(key, mask, places))))
        buckets = enumerate(described(scales[key], places))
        least, greatest = (on_scale(scales[key], end) for end in bounds[key])
        told = [{"value": value, "count": counts[key][place]} for place, value in buckets]
        found[key] = {"values": told, "min": least, "max": greatest}
    return found


def _bounds(keys: Collection[str], allowed: Allowed) -> dict[str, tuple[float, float]]:
    """The least and the greatest number of each key that has one."""
    stored = allowed.facets(keys).filter(number__isnull=False).values("key")
    rows = stored.annotate(least=Min("number"), greatest=Max("number")).values_list(
        "key", "least", "greatest"
    )
    found: dict[str, list[float]] = defaultdict(list)
    for key, *bounds in rows:
        found[key].extend(bounds)
    for postings, mask in allowed.parts:
        for key in keys:
            found[key].extend(postings.bounds(key, mask) or ())
    return {key: (min(numbers), max(numbers)) for key, numbers in found.items() if numbers}


def _stored_buckets(edges: dict[str, list[float]], allowed: Allowed) -> dict[str, Counter[int]]:
    """How many `assets` have a number in each bucket of each key, by the bucket's place."""
    counts: dict[str, Counter[int]] = {key: Counter() for key in edges}
    if not edges:
        return counts
    place = Case(
        *(When(key=key, then=_place(places[:-1])) for key, places in edges.items()),
        output_field=IntegerField(),
    )
    stored = allowed.facets(edges.keys()).filter(number__isnull=False).values("key").annotate(place=place)
    for key, bucket, count in stored.annotate(assets=Count("asset_id", distinct=True)).values_list(
        "key", "place", "assets"
    ):
        counts[key][bucket - 1] = count
    return counts


def _place(begins: list[float]) -> Func:
    """In which bucket a number is, from 1."""
    return Func(
        F("number"),
        Value(begins, output_field=ArrayField(FloatField())),
        function="width_bucket",
        template="%(function)s(%(expressions)s::float8[])",
        output_field=IntegerField(),
    )


# --- The facets of a search: counts over every asset that it may find ------------------------------------


def facet_counts(keys: Sequence[str], state: State, only: Restriction) -> dict[str, dict[str, Any]]:
    """Of each key its values with their counts, as `count_facets` tells them. In the tenant's scope."""
    wanted = list(dict.fromkeys(keys))
    here = state.base is None or state.base.is_local
    known = state.facets.known(state, wanted) if here else None
    return count_facets(
        wanted, _allowed_rows(state, only) if known is None else _in_memory(state, known, only)
    )


def _in_memory(state: State, known: Known, only: Restriction) -> Allowed:
    """What a search may find, as masks of the facets in memory and of the generation's postings."""
    found = state.rows.assets[row_mask(state, only)]
    slots = np.zeros(known.count, bool)
    slots[known.slots[found]] = True
    slots[known.slots[state.assets.known(only.without)]] = False
    base = state.base
    if base is None:
        return Allowed((), only.datasets, live=known.postings, slots=slots)
    mask = _mask(state, base, only)
    # What the postings say of an asset whose metadata has changed is no longer so.
    slots[known.base_slots[mask[known.base_numbers]]] = True
    mask[known.base_numbers] = False
    return Allowed((), only.datasets, base.postings, mask, known.postings, slots)


def _mask(state: State, base: Segment, only: Restriction) -> np.ndarray:
    found = base.allowed(state, only)
    mask = np.ones(base.asset_count, bool) if found is None else found.copy()
    mask[base.numbers(only.without)] = False
    return mask


def _allowed_rows(state: State, only: Restriction) -> Allowed:
    """The same where Postgres is asked: ids of the newer assets and a mask of the generation's."""
    base = state.base
    numbers = np.unique(state.rows.assets[row_mask(state, only)])
    newer = set(state.assets.ids(numbers.tolist())) - only.without
    if base is None:
        return Allowed(newer, only.datasets)
    if not base.is_local:
        return Allowed(_every(only), only.datasets)
    mask = _mask(state, base, only)
    changed = base.numbers(state.changed)
    newer |= set(base.ids(changed[mask[changed]]))
    mask[changed] = False
    return Allowed(newer, only.datasets, base.postings, mask)


def _every(only: Restriction) -> QuerySet[Asset]:
    """The same asked of Postgres, for a segment in another engine: who is counted are all that are ready."""
    assets = assets_of(only.planned).filter(status=Asset.State.READY).exclude(pk__in=only.without)
    assets = assets.exclude(dataset_id__in=only.hidden_datasets)
    if only.datasets is not None:
        assets = assets.filter(dataset_id__in=only.datasets)
    if only.assets is not None and not only.planned:
        assets = assets.filter(pk__in=only.assets)
    return assets if only.modalities is None else assets.filter(modality__in=only.modalities)
