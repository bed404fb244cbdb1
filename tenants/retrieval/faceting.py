"""The facets of a search: counts over every asset that it may find, however few of them it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tenants.retrieval.facet_counts import Allowed, count_facets
from tenants.retrieval.ranking import asset_mask, row_mask
from tenants.retrieval.state import Restriction, State

MAX_KEYS = 10


def count(keys: Sequence[str], state: State, only: Restriction) -> dict[str, dict[str, Any]]:
    """Of each key its values with their counts, as `count_facets` tells them. In the tenant's scope."""
    return count_facets(list(dict.fromkeys(keys)), _allowed(state, only))


def _allowed(state: State, only: Restriction) -> Allowed:
    """What a search may find, as ids of the newer assets and as a mask of the generation's."""
    numbers = np.unique(state.rows.assets[row_mask(state, only)])
    newer = {state.assets.ids[number] for number in numbers.tolist()} - only.without
    base = state.base
    if base is None:
        return Allowed(newer, only.datasets)
    found = asset_mask(state, base, only)
    mask = np.ones(base.asset_count, bool) if found is None else found.copy()
    mask[base.numbers(only.without)] = False
    # What the postings say of an asset whose metadata has changed is no longer so: Postgres is asked.
    changed = base.numbers(state.changed)
    newer |= {base.asset_id(number) for number in changed[mask[changed]].tolist()}
    mask[changed] = False
    return Allowed(newer, only.datasets, base.postings, mask)
