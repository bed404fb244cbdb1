"""Which assets a query may find, for a state: by a generation's postings, and by facets in memory for what is newer."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np

from tenants.retrieval.filters import facet_postings, filter_plan
from tenants.retrieval.query import lexical
from tenants.retrieval.types import IndexStatus, Known, Query, Restriction, State


def restriction(query: Query, state: State, now: IndexStatus, until: int | None = None) -> Restriction:
    """In the tenant's scope. Raises Invalid for a value that a key of its type cannot have."""
    only = Restriction(
        datasets=query.datasets,
        modalities=query.modalities,
        hidden_datasets=list(now.hidden),
        without=frozenset([*query.like, *query.unlike]),
        until=until,
    )
    if not query.conditions:
        return only
    planned = filter_plan.plan(query.conditions, query.datasets)
    known = state.facets.known(state, filter_plan.keys_of(planned))
    return _by_memory(planned, state, known, only) if known else _by_database(planned, state, only)


def _by_memory(planned: filter_plan.Plan, state: State, known: Known, only: Restriction) -> Restriction:
    """Of the base by its postings; what has changed since and what is newer by the facets in memory."""
    mask = facet_postings.mask_of(planned, known.postings, known.count)
    bare = [asset_id for asset_id, slot in known.others.items() if mask[slot]]
    only = replace(only, newer=mask[known.slots], bare=bare)
    if state.base is None:
        return only
    changed = known.base_numbers, mask[known.base_slots]
    return state.base.filtered(planned, only, changed, lambda: _alive(state, only.newer))


def _alive(state: State, newer: np.ndarray | None = None) -> list[uuid.UUID]:
    numbers = np.unique(state.rows.assets[state.rows.alive])
    chosen = numbers if newer is None else numbers[newer[numbers]]
    return [state.assets.ids[number] for number in chosen.tolist()]


def _by_database(planned: filter_plan.Plan, state: State, only: Restriction) -> Restriction:
    """The same where facets are too many for memory: seconds where very many match."""
    base = state.base
    if base is None:
        return replace(only, assets=list(facet_postings.all_of(planned)))
    live = facet_postings.live_of(planned, {*_alive(state), *state.changed})
    numbers = base.numbers(state.changed)
    changed = numbers, np.isin(numbers, base.numbers(state.changed & live))
    return base.filtered(planned, replace(only, assets=list(live)), changed, lambda: list(live))


# --- The same for a search by words ----------------------------------------------------------------------


def matching_words(words: str, limit: int, only: Restriction, state: State) -> list[tuple[uuid.UUID, float]]:
    """Assets that hold these words, the best first, under the same restriction."""
    wanted = limit + len(only.without)
    if only.planned:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        meeting = facet_postings.live_of(only.planned, {asset_id for asset_id, _ in found})
        found = [pair for pair in found if pair[0] in meeting]
    elif only.numbers is None and only.newer is None:
        found = lexical.matching(words, wanted, only)
    elif _count(only) <= lexical.MAX_ALLOWED:
        found = lexical.matching(words, wanted, replace(only, assets=_named(only, state)))
    else:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        found = _allowed(found, only, state)
    return [pair for pair in found if pair[0] not in only.without][:limit]


def _count(only: Restriction) -> int:
    masks = [mask for mask in (only.numbers, only.newer) if mask is not None]
    return sum(int(np.count_nonzero(mask)) for mask in masks) + len(only.bare) + len(only.assets or ())


def _named(only: Restriction, state: State) -> list[uuid.UUID]:
    named = [*only.bare, *(only.assets or ())]
    if only.newer is not None:
        named += [state.assets.ids[number] for number in np.flatnonzero(only.newer).tolist()]
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
    number = state.assets.numbers.get(asset_id, len(newer))
    return number < len(newer) and bool(newer[number])
