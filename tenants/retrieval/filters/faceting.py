"""The facets of a search: counts over every asset that it may find, however few of them it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.db.models import QuerySet

from tenants.datasets.models import Asset
from tenants.retrieval.filters.facet_counts import Allowed, count_facets
from tenants.retrieval.filters.filter_plan import assets_of
from tenants.retrieval.query.ranking import row_mask
from tenants.retrieval.types import Known, Restriction, Segment, State

MAX_KEYS = 10


def count(keys: Sequence[str], state: State, only: Restriction) -> dict[str, dict[str, Any]]:
    """Of each key its values with their counts, as `count_facets` tells them. In the tenant's scope."""
    wanted = list(dict.fromkeys(keys))
    here = state.base is None or state.base.is_local
    known = state.facets.known(state, wanted) if here else None
    return count_facets(wanted, _allowed(state, only) if known is None else _in_memory(state, known, only))


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


def _allowed(state: State, only: Restriction) -> Allowed:
    """The same where Postgres is asked: ids of the newer assets and a mask of the generation's."""
    base = state.base
    numbers = np.unique(state.rows.assets[row_mask(state, only)])
    newer = {state.assets.ids[number] for number in numbers.tolist()} - only.without
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
