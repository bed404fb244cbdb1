"""Request bodies, strictly: no type is converted into another, and no unknown field is overlooked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from tenants.accounts import networks
from tenants.retrieval.model_routing import MAX_DIMENSION

# More than any service takes: what they take is theirs to say.
MAX_TEXTS = 1_000
NUMBERS = frozenset({int, float})


class Body(serializers.Serializer):
    """A JSON object (or a form) whose fields are all known."""

    def to_internal_value(self, data: object) -> object:
        if not isinstance(data, Mapping):
            raise ValidationError({"non_field_errors": ["The body must be a JSON object."]})
        if unknown := [key for key in data if key not in self.fields]:
            raise ValidationError({key: ["There is no such field."] for key in unknown})
        return self._checked(data)

    def _checked(self, data: Mapping[str, object]) -> dict[str, object]:
        """What is there, field by field. The stock serializer asks each absent field, too: 1 µs for each of twenty."""
        values, errors = {}, {}
        for field in self._writable_fields:
            name = str(field.field_name)
            if name not in data and not field.required and field.default is serializers.empty:
                continue
            try:
                values[name] = field.run_validation(data.get(name, serializers.empty))
            except ValidationError as error:
                errors[name] = error.detail
            except serializers.SkipField:
                continue
        if errors:
            raise ValidationError(errors)
        return values

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """The validated fields. Raises ValidationError."""
        return dict(_prototype(cls).run_validation(data))


@cache
def _prototype(body: type[Body]) -> Body:
    """One instance for all requests: validating leaves no trace in it, and making its fields costs 0.3 ms."""
    return body()


class Text(serializers.CharField):
    """A JSON string, kept as it is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def run_validation(self, data: object = serializers.empty) -> object:
        if data is not serializers.empty and data is not None and not isinstance(data, str):
            self.fail("invalid")
        return super().run_validation(data)


class Texts(serializers.ListField):
    """A list of JSON strings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"child": Text(allow_blank=True), "max_length": MAX_TEXTS, **options})


class NetworkList(serializers.ListField):
    """Networks from which something may be used; what is one is for `tenants.accounts.networks` to say."""

    def __init__(self, **options: Any) -> None:
        child = Text(min_length=1, max_length=networks.MAX_LENGTH)
        super().__init__(**{"child": child, "max_length": networks.MOST, "allow_empty": True, **options})


class Flag(serializers.BooleanField):
    def to_internal_value(self, data: object) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Whole(serializers.IntegerField):
    def to_internal_value(self, data: object) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class Number(serializers.FloatField):
    def to_internal_value(self, data: object) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        if abs(data) > 1e308 or not math.isfinite(data):
            raise ValidationError("Numbers must be finite.")
        return float(data)


@extend_schema_field({"type": "object", "additionalProperties": True})
class Object(serializers.Field):
    """Any JSON object; what may stand in it is the service's concern."""

    def to_internal_value(self, data: object) -> dict[str, object]:
        if not isinstance(data, dict):
            raise ValidationError("This must be a JSON object.")
        return data

    def to_representation(self, value: object) -> object:
        return value


# How many numbers a vector has depends on the model that answers, which is known only later.
@extend_schema_field({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MAX_DIMENSION})
class UnitVector(serializers.Field):
    """Finite numbers, not all zero, made a unit vector. One pass: a ListField costs 0.4 ms here."""

    def to_internal_value(self, data: Any) -> np.ndarray:
        if not isinstance(data, list) or not 1 <= len(data) <= MAX_DIMENSION:
            raise ValidationError(f"A vector has 1 to {MAX_DIMENSION} numbers.")
        if not NUMBERS.issuperset(map(type, data)):
            raise ValidationError("A vector holds numbers only.")
        return _unit(data)

    def to_representation(self, value: object) -> object:
        return value


def _unit(data: list[float]) -> np.ndarray:
    try:
        values = np.array(data, dtype=np.float64)
    except OverflowError as error:
        raise ValidationError("Numbers must be finite.") from error
    largest = np.abs(values).max()
    if not np.isfinite(largest):
        raise ValidationError("Numbers must be finite.")
    if largest < 1e-30:
        raise ValidationError("A vector of zeros points nowhere.")
    # Scaled first, so that squares of very large numbers do not overflow.
    scaled = values / largest
    # Not `norm`: its dot product gives up the interpreter's lock, and getting it back may take milliseconds.
    return (scaled / math.sqrt(float((scaled * scaled).sum()))).astype(np.float32)


def parse_json(text: str, name: str) -> object:
    """The JSON in a form field. Raises ValidationError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValidationError({name: ["This is not valid JSON."]}) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
