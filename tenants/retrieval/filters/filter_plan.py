"""Metadata filters: parsed strictly, planned once, and resolved through the facet table to a set of asset ids.

`{"price": {"lt": 20}, "colour": {"in": ["red"]}, "label": "x"}`: keys are joined by AND; a bare value means eq.
`ne` also keeps assets that lack the key. A list-valued key matches if any of its values does. A value is compared as
the type that the key has in the schemas of the datasets searched; where they differ, as each of them. What that comes
to is a plan, which says the same to the facet table here and to the postings of an index in `columns`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Exists, F, Func, OuterRef, Q, QuerySet, Value
from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_json
from tenants.datasets.models import Asset, Dataset, Facet
from tenants.datasets.values import as_number, as_text, read_as, read_number
from tenants.errors import Invalid

Condition = tuple[str, str, Any]

RANGES = {"lt", "lte", "gt", "gte"}
OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "exists")
MAX_CONDITIONS = 20
MAX_IN = 200


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

    One statement, none without conditions. Raises Invalid for a value that a key of its type cannot have.
    """
    kinds = kinds_of({key for key, _, _ in conditions}, datasets)
    return tuple(_clause(*condition, kinds.get(condition[0], set())) for condition in conditions)


def keys_of(planned: Plan) -> set[str]:
    return {clause.key for clause in planned}


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


def is_any(column: str, ids: Collection[uuid.UUID] | Collection[str]) -> Func:
    """That a column is one of these ids: one parameter, where `__in` has one for each."""
    among = Value("{" + ",".join(map(str, ids)) + "}")
    template = "%(expressions)s::uuid[])"
    return Func(F(column), among, template=template, arg_joiner=" = ANY(", output_field=BooleanField())


def _where(clause: Clause) -> Q:
    if clause.bound is not None:
        operator, number = clause.bound
        return Q(**{f"number__{operator}": number})
    if clause.forms is None:
        return Q()
    same = Q(text__in=sorted(clause.forms.texts))
    return same | Q(number__in=sorted(clause.forms.numbers)) if clause.forms.numbers else same
