"""Which assets a query may find, for a state: filters against a generation's postings, and live for what is newer."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np

from tenants.retrieval import columns, filters, lexical
from tenants.retrieval.base import Base
from tenants.retrieval.engines import Copy
from tenants.retrieval.opening import Opening
from tenants.retrieval.queries import Query
from tenants.retrieval.state import Restriction, State


def restriction(query: Query, state: State, now: Opening, until: int | None = None) -> Restriction:
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
    if state.base is None:
        return replace(only, assets=filters.matching_ids(query.conditions, query.datasets))
    if isinstance(state.base, Copy):
        return _by_plan(query, state, only)
    return _by_postings(query, state, state.base, only)


def _by_postings(query: Query, state: State, base: Base, only: Restriction) -> Restriction:
    """Of the base by its postings; what has changed since and what is newer is asked of the database."""
    planned = filters.plan(query.conditions, query.datasets)
    numbers = columns.mask_of(planned, base.postings, base.asset_count)
    live = columns.live_of(planned, {*_newer(state), *state.changed})
    numbers[base.numbers(state.changed)] = False
    numbers[base.numbers(state.changed & live)] = True
    return replace(only, assets=list(live), numbers=numbers)


def _by_plan(query: Query, state: State, only: Restriction) -> Restriction:
    """Of a copy by its engine; what is newer is asked of the database."""
    planned = filters.plan(query.conditions, query.datasets)
    return replace(only, assets=list(columns.live_of(planned, _newer(state))), planned=planned)


def _newer(state: State) -> set[uuid.UUID]:
    alive = np.unique(state.rows.assets[state.rows.alive])
    return {state.assets.ids[number] for number in alive.tolist()}


def matching_words(words: str, limit: int, only: Restriction, state: State) -> list[tuple[uuid.UUID, float]]:
    """Assets that hold these words, the best first, under the same restriction."""
    base = state.base
    if only.planned:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        meeting = columns.live_of(only.planned, {asset_id for asset_id, _ in found})
        found = [pair for pair in found if pair[0] in meeting]
    elif only.numbers is None or not isinstance(base, Base):
        found = lexical.matching(words, limit + len(only.without), only)
    elif np.count_nonzero(only.numbers) <= lexical.MAX_ALLOWED:
        named = [base.asset_id(number) for number in np.flatnonzero(only.numbers).tolist()]
        found = lexical.matching(
            words, limit + len(only.without), replace(only, assets=[*named, *(only.assets or ())])
        )
    else:
        found = lexical.matching(words, 2 * lexical.CANDIDATES, replace(only, assets=None))
        found = _allowed(found, only, base)
    return [pair for pair in found if pair[0] not in only.without][:limit]


def _allowed(
    found: list[tuple[uuid.UUID, float]], only: Restriction, base: Base
) -> list[tuple[uuid.UUID, float]]:
    assert only.numbers is not None  # noqa: S101 - for the type checker
    numbers = base.numbers(asset_id for asset_id, _ in found)
    allowed = {base.asset_id(number) for number in numbers[only.numbers[numbers]].tolist()}
    allowed |= set(only.assets or ())
    return [pair for pair in found if pair[0] in allowed]
