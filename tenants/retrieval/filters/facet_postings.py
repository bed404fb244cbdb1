"""Filters against the postings of a generation, and the export of facets that they are made of.

A generation's postings say what was so when it was built. Assets that are newer, or whose metadata has changed since
(`FacetChange`), are known in memory (`facet_memory`), or are asked of Postgres where they are too many: all with the
same plan of the same conditions.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from django.db import connection
from django.db.models import F, IntegerField, QuerySet, Value

from ml.indexes.live_postings import LivePostings
from ml.indexes.postings import Postings, write_postings
from tenants.datasets.models import Asset, Facet
from tenants.retrieval.filters.filter_plan import Clause, Condition, Plan, facets_of, is_any, plan
from tenants.scope import current_tenant_id

# Above, it is cheaper to ask for all that match than to name so many assets.
MAX_NAMED = 40_000
FETCHED = 5_000


def resolve(
    conditions: Sequence[Condition],
    datasets: Iterable[uuid.UUID] | None,
    postings: Postings,
    asset_count: int,
) -> np.ndarray:
    """Which assets of a generation met every condition when it was built: bool [asset_count].

    `datasets` (None: all) say which types the keys have now. Assets whose metadata has changed since are for `live`.
    Raises Invalid for a value that a key of its type cannot have.
    """
    return mask_of(plan(conditions, datasets), postings, asset_count)


def mask_of(planned: Plan, postings: Postings | LivePostings, asset_count: int) -> np.ndarray:
    """`resolve` for conditions that are planned already; slots of live postings as assets."""
    mask = np.ones(asset_count, bool)
    for number, clause in enumerate(planned):
        found = np.full(asset_count, clause.negative)
        found[_assets_of(clause, postings)] = not clause.negative
        mask = mask & found if number else found
    return mask


def _assets_of(clause: Clause, postings: Postings | LivePostings) -> np.ndarray:
    if clause.bound is not None:
        return postings.in_range(clause.key, *clause.bound)
    if clause.forms is None:
        return postings.having(clause.key)
    return postings.matching(clause.key, clause.forms.texts, clause.forms.numbers)


def live(
    conditions: Sequence[Condition], datasets: Iterable[uuid.UUID] | None, asset_ids: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """Those of the assets that meet every condition now, by Postgres; one that is gone meets none.

    One statement beside the plan's. It names each asset once for every condition, up to MAX_NAMED in all; for more it
    asks for every asset of the tenant that matches, which takes as long as there are matches.
    """
    return live_of(plan(conditions, datasets), asset_ids)


def live_of(planned: Plan, asset_ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """`live` for conditions that are planned already."""
    if not asset_ids:
        return set()
    if len(asset_ids) * (1 + len(planned)) > MAX_NAMED:
        return all_of(planned).intersection(asset_ids)
    return _meeting(
        planned,
        lambda facets: facets.filter(is_any("asset_id", asset_ids)),
        Asset.objects.filter(is_any("id", asset_ids)),
    )


def all_of(planned: Plan) -> set[uuid.UUID]:
    """Every asset of the tenant that meets the conditions now, by Postgres; as long as there are matches."""
    return _meeting(planned, lambda facets: facets, Asset.objects.all())


def _meeting(
    planned: Plan, among: Callable[[QuerySet[Facet]], QuerySet[Facet]], assets: QuerySet[Asset]
) -> set[uuid.UUID]:
    required = [facets_of(clause) for clause in planned if not clause.negative]
    refused = [facets_of(clause) for clause in planned if clause.negative]
    asked: list[QuerySet] = [among(facets) for facets in (*required, *refused)]
    if not required:
        # An asset that has some facet is there.
        asked.append(assets.annotate(asset_id=F("id")))
    found = _found(asked)
    meeting = set.intersection(*found[: len(required)]) if required else found[-1]
    return meeting.difference(*found[len(required) : len(planned)])


def _found(asked: Sequence[QuerySet]) -> list[set[uuid.UUID]]:
    """The assets that each query finds, in one statement.

    They are joined in Python: Postgres, which cannot know how many of the assets a condition leaves, takes a hundred
    times as long for some of its plans, and minutes while a new tenant has no statistics.
    """
    first, *others = (
        query.values_list(Value(place, output_field=IntegerField()), "asset_id")
        for place, query in enumerate(asked)
    )
    found: list[set[uuid.UUID]] = [set() for _ in asked]
    for place, asset_id in first.union(*others, all=True) if others else first:
        found[place].add(asset_id)
    return found


# --- For building ----------------------------------------------------------------------------------------


def export_facets(ids: np.ndarray, folder: Path) -> None:
    """Write the postings of these assets of the active tenant (S16 or V16, sorted: their place is their number).

    One statement read through a server-side cursor, so the caller's scope stays open for as long: some 7 s of CPU
    for a million facets. Memory is bounded as `write_postings` says.

    It may run long after the moment (sequence number S) at which the generation's vectors were read. Whoever changes
    the facets of an asset takes a number in the same transaction, and numbers become visible in their order. So a
    change numbered up to S was committed before that moment and is read here; and an asset for which a change
    numbered above S exists counts as changed, whatever is read here of it: before, after or neither. New assets are
    not among `ids`; those that are gone have a tombstone.
    """
    write_postings(folder, _rows(ids.view("S16")))


def _rows(ids: np.ndarray) -> Iterator[tuple[str, int, str | None, float | None]]:
    if not len(ids):
        return
    for page in _pages():
        owners = np.array([bytes(row[0]) for row in page], "S16")
        numbers = np.minimum(np.searchsorted(ids, owners), len(ids) - 1)
        for row, number, known in zip(page, numbers.tolist(), ids[numbers] == owners, strict=True):
            if known:
                yield row[1], number, row[2], row[3]


def _pages() -> Iterator[list[tuple[memoryview, str, str | None, float | None]]]:
    """Every facet of the active tenant: the asset's id as bytes, key, text, number."""
    table = connection.ops.quote_name(Facet._meta.db_table)
    # `uuid_send`: bytes at once, where a UUID object each would cost as much as all the rest.
    statement = f"SELECT uuid_send(asset_id), key, text, number FROM {table} WHERE tenant_id = %s"  # noqa: S608
    with connection.chunked_cursor() as cursor:
        cursor.execute(statement, [str(current_tenant_id())])
        while page := cursor.fetchmany(FETCHED):
            yield page
