"""Metadata filters: parsed strictly, planned once, and resolved through the facet table or the postings of an index.

`{"price": {"lt": 20}, "colour": {"in": ["red"]}, "label": "x"}`: keys are joined by AND; a bare value means eq.
`ne` also keeps assets that lack the key. A list-valued key matches if any of its values does. A value is compared as
the type that the key has in the schemas of the datasets searched; where they differ, as each of them. What that comes
to is a plan, which says the same to the facet table and to the postings of an index.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Exists, F, IntegerField, OuterRef, Q, QuerySet, Value
from django.utils.translation import gettext as _

from ml.indexes.live_postings import LivePostings
from ml.indexes.postings import Postings, write_postings
from tenants.datasets.metadata import check_json
from tenants.datasets.models import Asset, Dataset, Facet
from tenants.datasets.selectors import is_any
from tenants.datasets.values import as_number, as_text, read_as, read_number
from tenants.errors import Invalid
from tenants.retrieval import computed_fields
from tenants.scope import current_tenant_id

Condition = tuple[str, str, Any]

RANGES = {"lt", "lte", "gt", "gte"}
OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "exists")
MAX_CONDITIONS = 20
MAX_IN = 200
# Keys whose values a search may have counted.
MAX_KEYS = 10


def parse(raw: Any, pointer: str = "/filter") -> list[Condition]:
    """The filter as (key, operator, value) triples. Raises Invalid and names the place."""
    if raw is None:
        return []
    if not isinstance(raw, dict):
        raise Invalid(_("A filter is an object of key: value or key: {operator: value}."), pointer=pointer)
    check_json(raw, pointer)
    conditions = []
    for key, given in raw.items():
        operators = given if isinstance(given, dict) else {"eq": given}
        if not operators:
            raise Invalid(
                _("Name an operator: %(names)s.") % {"names": ", ".join(OPERATORS)},
                pointer=f"{pointer}/{key}",
            )
        for operator, value in operators.items():
            _check(operator, value, f"{pointer}/{key}")
            conditions.append((key, operator, value))
    if len(conditions) > MAX_CONDITIONS:
        raise Invalid(
            _("At most %(conditions)s conditions.") % {"conditions": MAX_CONDITIONS}, pointer=pointer
        )
    return conditions


def _check(operator: str, value: Any, pointer: str) -> None:
    if operator not in OPERATORS:
        raise Invalid(
            _("Operators are %(names)s.") % {"names": ", ".join(OPERATORS)}, pointer=f"{pointer}/{operator}"
        )
    place = f"{pointer}/{operator}"
    if operator == "exists" and not isinstance(value, bool):
        raise Invalid(_("exists takes true or false."), pointer=place)
    if operator in RANGES and _ordered(value) is None:
        raise Invalid(_("Compare with a number or an ISO 8601 time."), pointer=place)
    if operator == "in":
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_IN:
            raise Invalid(_("in takes a list of 1 to %(in)s values.") % {"in": MAX_IN}, pointer=place)
        if any(as_text(item) is None for item in value):
            raise Invalid(_("Compare with text, a number, true or false."), pointer=place)
    if operator in {"eq", "ne"} and as_text(value) is None:
        raise Invalid(_("Compare with text, a number, true or false."), pointer=place)


def _ordered(value: Any) -> float | None:
    """What stands on a scale: a number, a text that spells one, or a time as seconds since 1970."""
    number = as_number(value)
    return read_number(value) if number is None and isinstance(value, str) else number


# --- The plan --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forms:
    """How a value may stand in the facet table; no form at all for a value that the type cannot have."""

    texts: frozenset[str] = frozenset()
    numbers: frozenset[float] = frozenset()

    def __or__(self, other: Forms) -> Forms:
        return Forms(self.texts | other.texts, self.numbers | other.numbers)

    def __bool__(self) -> bool:
        return bool(self.texts or self.numbers)


@dataclass(frozen=True)
class Clause:
    """One condition: which facets of its key it means, and whether an asset must have such a one or none.

    Facets of a `form`, or with a number that is `bound` (operator, number), or any where both are None.
    """

    key: str
    forms: Forms | None = None
    bound: tuple[str, float] | None = None
    negative: bool = False


Plan = tuple[Clause, ...]


def plan(conditions: Sequence[Condition], datasets: Iterable[uuid.UUID] | None = None) -> Plan:
    """What the conditions mean under the types that these datasets (None: all of the tenant) give to their keys.

    One statement, none without conditions. Raises Invalid for a value that a key of its type cannot have, and Stale
    for a computed field of another model than the live one.
    """
    keys = {key for key, _, _ in conditions}
    kinds, computed = kinds_of(keys, datasets), computed_fields.resolve(keys)
    for key in keys - kinds.keys() - computed.keys():
        computed_fields.require_known(key)
    return tuple(
        _computed(*condition, computed[condition[0]])
        if condition[0] in computed
        else _clause(*condition, kinds.get(condition[0], set()))
        for condition in conditions
    )


def keys_of(planned: Plan) -> set[str]:
    return {clause.key for clause in planned}


def _computed(key: str, operator: str, value: Any, facet_key: str) -> Clause:
    """A condition on a number that was computed, which nothing equals by more than chance. Raises Invalid."""
    if operator == "exists":
        return Clause(facet_key, negative=value is False)
    place = f"/filter/{key}/{operator}"
    if operator not in RANGES:
        raise Invalid(
            _("A probability is compared by %(names)s, or by exists.") % {"names": ", ".join(sorted(RANGES))},
            pointer=place,
        )
    return Clause(facet_key, bound=(operator, _on_scale(key, value, {"number"}, place)))


def _clause(key: str, operator: str, value: Any, kinds: set[str]) -> Clause:
    if operator == "exists":
        return Clause(key, negative=value is False)
    place = f"/filter/{key}/{operator}"
    if operator in RANGES:
        return Clause(key, bound=(operator, _on_scale(key, value, kinds, place)))
    forms = Forms()
    for item in value if operator == "in" else [value]:
        forms |= _fitting(key, item, kinds, place)
    return Clause(key, forms, negative=operator == "ne")


def kinds_of(keys: set[str], datasets: Iterable[uuid.UUID] | None) -> dict[str, set[str]]:
    """The types that each key has in these datasets; none for a key that nobody used."""
    if not keys:
        return {}
    searched = Dataset.objects.filter(deleted_at=None)
    if datasets is not None:
        searched = searched.filter(pk__in=datasets)
    found: dict[str, set[str]] = {}
    for schema in searched.values_list("metadata_schema", flat=True):
        for key in keys & schema.keys():
            found.setdefault(key, set()).add(schema[key]["type"])
    return found


def _on_scale(key: str, value: Any, kinds: set[str], place: str) -> float:
    if kinds and not kinds & {"number", "time"}:
        raise Invalid(
            _(
                "%(key)s is %(value)s, which has no order. If it holds numbers or times, declare that "
                "in the dataset's metadata_schema."
            )
            % {"key": f"{key!r}", "value": _named(kinds)},
            pointer=place,
        )
    if kinds:
        _fitting(key, value, kinds & {"number", "time"}, place)
    if (number := _ordered(value)) is None:
        raise TypeError(f"parse let {value!r} through")
    return number


def _fitting(key: str, value: Any, kinds: set[str], place: str) -> Forms:
    """The value's forms under the key's types. Raises Invalid if it has none."""
    forms = _untyped(value) if not kinds else Forms()
    for kind in kinds:
        forms |= _forms(value, kind)
    if not forms:
        raise Invalid(
            _("%(key)s is %(value)s; %(value_2)s is not.")
            % {"key": f"{key!r}", "value": _named(kinds), "value_2": f"{value!r}"},
            pointer=place,
        )
    return forms


def _named(kinds: set[str]) -> str:
    return " or ".join(sorted(kinds))


def _forms(value: Any, kind: str) -> Forms:
    if kind in {"text", "tags"}:
        return _as_words(value)
    read = read_as(value.strip(), kind) if isinstance(value, str) else value
    moment = as_number(read) if isinstance(read, str) else None
    if kind == "time":
        return Forms() if moment is None else Forms(numbers=frozenset([moment]))
    if read is None or isinstance(read, bool) != (kind == "bool"):
        return Forms()
    return Forms(frozenset([str(as_text(read))]))


def _as_words(value: Any) -> Forms:
    """A guessed text may stand beside numbers of the same spelling: 12 and "12" find each other."""
    number = read_number(value) if isinstance(value, str) else None
    spelled = value if isinstance(value, str) else _spelled(value)
    forms = (as_text(spelled), as_text(value), as_text(number))
    return Forms(frozenset(form for form in forms if form is not None))


def _spelled(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(as_text(value)) if isinstance(value, bool) else str(int(value) if whole else value)


def _untyped(value: Any) -> Forms:
    # The same moment may be written in several ways.
    moment = as_number(value) if isinstance(value, str) else None
    return Forms(frozenset([str(as_text(value))]), frozenset() if moment is None else frozenset([moment]))


# --- Against the facet table -----------------------------------------------------------------------------


def matching_ids(
    conditions: Sequence[Condition], datasets: Iterable[uuid.UUID] | None = None
) -> list[uuid.UUID]:
    """The active tenant's assets that meet every condition. `datasets` (None: all) say which types the keys have.

    Raises Invalid for a value that a key of its type cannot have.
    """
    return list(matching_assets(conditions, datasets).values_list("pk", flat=True))


def matching_assets(
    conditions: Sequence[Condition], datasets: Iterable[uuid.UUID] | None = None
) -> QuerySet[Asset]:
    return assets_of(plan(conditions, datasets))


def assets_of(planned: Plan) -> QuerySet[Asset]:
    """The active tenant's assets that a plan means."""
    assets = Asset.objects.all()
    for clause in planned:
        facets = facets_of(clause)
        if clause.negative:
            # Not `exclude(pk__in=…)`: where many match, Postgres compares each asset with each of them.
            assets = assets.exclude(Exists(facets.filter(asset_id=OuterRef("pk"))))
        else:
            assets = assets.filter(pk__in=facets.values("asset_id"))
    return assets


def facets_of(clause: Clause) -> QuerySet[Facet]:
    """The active tenant's facets that a clause means."""
    return Facet.objects.filter(_where(clause), key=clause.key)


def _where(clause: Clause) -> Q:
    if clause.bound is not None:
        operator, number = clause.bound
        return Q(**{f"number__{operator}": number})
    if clause.forms is None:
        return Q()
    same = Q(text__in=sorted(clause.forms.texts))
    return same | Q(number__in=sorted(clause.forms.numbers)) if clause.forms.numbers else same


# --- Against the postings of a generation ---------------------------------------------------------------

# A generation's postings say what was so when it was built. Assets that are newer, or whose metadata has changed since
# (`FacetChange`), are known in memory (`index.memory`), or are asked of Postgres where they are too many: all with the
# same plan of the same conditions.

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
