"""Metadata filters: parsed strictly, resolved through the facet table to a set of asset ids.

`{"price": {"lt": 20}, "colour": {"in": ["red"]}, "label": "x"}`: keys are joined by AND; a bare value means eq.
`ne` also keeps assets that lack the key. A list-valued key matches if any of its values does.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Q, QuerySet

from tenants.datasets.metadata import as_number, as_text, check_json
from tenants.datasets.models import Asset, Facet
from tenants.errors import Invalid

RANGES = {"lt", "lte", "gt", "gte"}
OPERATORS = ("eq", "ne", "lt", "lte", "gt", "gte", "in", "exists")
MAX_CONDITIONS = 20
MAX_IN = 200


def parse(raw: Any, pointer: str = "/filter") -> list[tuple[str, str, Any]]:
    """The filter as (key, operator, value) triples. Raises Invalid and names the place."""
    if raw is None:
        return []
    if not isinstance(raw, dict):
        raise Invalid("A filter is an object of key: value or key: {operator: value}.", pointer=pointer)
    check_json(raw, pointer)
    conditions = []
    for key, given in raw.items():
        operators = given if isinstance(given, dict) else {"eq": given}
        if not operators:
            raise Invalid(f"Name an operator: {', '.join(OPERATORS)}.", pointer=f"{pointer}/{key}")
        for operator, value in operators.items():
            _check(operator, value, f"{pointer}/{key}")
            conditions.append((key, operator, value))
    if len(conditions) > MAX_CONDITIONS:
        raise Invalid(f"At most {MAX_CONDITIONS} conditions.", pointer=pointer)
    return conditions


def _check(operator: str, value: Any, pointer: str) -> None:
    if operator not in OPERATORS:
        raise Invalid(f"Operators are {', '.join(OPERATORS)}.", pointer=f"{pointer}/{operator}")
    place = f"{pointer}/{operator}"
    if operator == "exists" and not isinstance(value, bool):
        raise Invalid("exists takes true or false.", pointer=place)
    if operator in RANGES and as_number(value) is None:
        raise Invalid("Compare with a number or an ISO 8601 time.", pointer=place)
    if operator == "in":
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_IN:
            raise Invalid(f"in takes a list of 1 to {MAX_IN} values.", pointer=place)
        if any(as_text(item) is None for item in value):
            raise Invalid("Compare with text, a number, true or false.", pointer=place)
    if operator in {"eq", "ne"} and as_text(value) is None:
        raise Invalid("Compare with text, a number, true or false.", pointer=place)


def matching_assets(conditions: list[tuple[str, str, Any]]) -> QuerySet[Asset]:
    """The active tenant's assets that meet every condition."""
    assets = Asset.objects.all()
    for key, operator, value in conditions:
        facets = Facet.objects.filter(Q(key=key), _where(operator, value)).values("asset_id")
        negative = operator == "ne" or (operator == "exists" and value is False)
        assets = assets.exclude(pk__in=facets) if negative else assets.filter(pk__in=facets)
    return assets


def _where(operator: str, value: Any) -> Q:
    if operator in RANGES:
        return Q(**{f"number__{operator}": as_number(value)})
    if operator == "exists":
        return Q()
    values = value if operator == "in" else [value]
    # The same moment may be written in several ways.
    moments = [as_number(item) for item in values if isinstance(item, str)]
    same = Q(text__in=[as_text(item) for item in values])
    return same | Q(number__in=[m for m in moments if m is not None]) if any(moments) else same


def matching_ids(conditions: list[tuple[str, str, Any]]) -> list[uuid.UUID]:
    return list(matching_assets(conditions).values_list("pk", flat=True))
