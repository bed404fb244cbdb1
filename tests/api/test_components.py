"""What the OpenAPI document says of a shape, by its annotations."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import pytest
from drf_spectacular.plumbing import ComponentRegistry, build_mocked_view
from drf_spectacular.utils import extend_schema
from msgspec import Meta

from api.components import page_of, serializer_of
from api.rendering import to_json
from tenants.shapes import UNSET, Choices, Doc, Json, JsonObject, Maybe, Shape, plain

pytestmark = pytest.mark.guard


class Point(Shape, kw_only=True):
    x: float
    y: float = 0.0


class Everything(Shape, kw_only=True):
    """One of each."""

    id: str
    parent: Annotated[str | None, Doc("What it came from.")]
    state: Annotated[str, Choices(("on", "off"))]
    states: list[Annotated[str, Choices(("on", "off"))]]
    level: Annotated[int | None, Choices((1, 2)), Doc("How high.")]
    share: Annotated[float, Meta(ge=0, le=1)]
    pair: Annotated[list[int], Meta(min_length=2, max_length=2)]
    at: dt.datetime
    day: dt.date
    known: bool
    free: JsonObject
    value: Json
    weights: Mapping[str, float]
    point: Point
    points: Annotated[list[Point], Doc("In order.")]
    stored: Annotated[JsonObject | None, Point]
    from_: str = msgspec.field(name="from")
    note: Maybe[Annotated[str | None, Doc("If there is one.")]] = UNSET


def schemas_of(shape: type[Shape]) -> Any:
    registry = ComponentRegistry()
    view = build_mocked_view("GET", "/", extend_schema(responses=shape), registry)
    view.schema.resolve_serializer(shape, "response")
    return {name: found.schema for (name, _), found in registry._components.items()}


def test_each_annotation_has_its_schema() -> None:
    found = schemas_of(Everything)
    assert set(found) == {"Everything", "Point"}
    everything = found["Everything"]
    assert everything["description"] == "One of each."
    members = everything["properties"]
    assert set(members) - set(everything["required"]) == {"note"}
    number, text = {"type": "number", "format": "double"}, {"type": "string"}
    assert members["id"] == text
    assert members["parent"] == {"type": ["string", "null"], "description": "What it came from."}
    assert members["state"]["enum"] == ["on", "off"]
    assert members["states"]["items"]["enum"] == ["on", "off"]
    assert members["level"]["enum"] == [1, 2, None]
    assert members["share"] == {**number, "minimum": 0, "maximum": 1}
    assert members["pair"] == {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    assert members["at"] == {**text, "format": "date-time"}
    assert members["day"] == {**text, "format": "date"}
    assert members["known"] == {"type": "boolean"}
    assert members["free"] == {"type": "object", "additionalProperties": {}}
    assert members["value"] == {}
    assert members["weights"] == {"type": "object", "additionalProperties": number}
    reference = {"$ref": "#/components/schemas/Point"}
    assert members["point"] == reference
    assert members["points"] == {"type": "array", "items": reference, "description": "In order."}
    assert reference in members["stored"]["oneOf"] and {"type": "null"} in members["stored"]["oneOf"]
    assert members["from"] == text and "from_" not in members
    assert members["note"] == {"type": ["string", "null"], "description": "If there is one."}


def test_a_page_is_named_after_what_it_lists() -> None:
    assert page_of(Point).__name__ == "PointPage"
    assert page_of(Point, "Line").__name__ == "Line"
    assert page_of(Point) is page_of(Point)
    (page,) = (found for name, found in schemas_of(page_of(Point)).items() if name == "PointPage")
    assert set(page["properties"]) == {"next", "results"} == set(page["required"])


def test_what_is_no_json_is_refused() -> None:
    class Odd(Shape, kw_only=True):
        at: complex

    with pytest.raises(TypeError, match="complex"):
        serializer_of(Odd)


def test_as_json_absent_is_not_null() -> None:
    class Said(Shape, kw_only=True):
        note: Maybe[str | None] = UNSET
        from_: str = msgspec.field(name="from", default="here")
        at: Maybe[dt.datetime] = UNSET

    noon = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
    assert to_json(Said()) == b'{"from":"here"}'
    assert to_json(Said(note=None, at=noon)) == b'{"note":null,"from":"here","at":"2026-01-02T12:00:00Z"}'
    assert plain([Said(note="n", at=noon)]) == [{"note": "n", "from": "here", "at": noon}]
