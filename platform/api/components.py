"""Shapes (tenants.shapes) in the OpenAPI document: each struct is a component, each annotation a schema."""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec
from drf_spectacular.extensions import OpenApiSerializerExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_array_type
from drf_spectacular.utils import Direction
from rest_framework import serializers as s

from tenants.shapes import Choices, Doc, Page, Shape

_SIMPLE: dict[object, type[s.Field]] = {
    str: s.CharField,
    bool: s.BooleanField,
    int: s.IntegerField,
    float: s.FloatField,
    dt.datetime: s.DateTimeField,
    dt.date: s.DateField,
    object: s.JSONField,
}
_BOUNDS = {"ge": "min_value", "le": "max_value", "min_length": "min_length", "max_length": "max_length"}
_ABSENT = (types.NoneType, msgspec.UnsetType)


class ShapeExtension(OpenApiSerializerExtension):
    """`responses=shapes.Asset`: a component with the class's name."""

    target_class = Shape
    match_subclasses = True

    def get_name(self, auto_schema: AutoSchema, direction: Direction) -> str:
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, object]:
        serializer = serializer_of(self.target)()
        return auto_schema._map_serializer(serializer, direction, bypass_extensions=True)


class Nested(s.Field):
    """A shape, or a list of them, within another."""

    def __init__(self, shape: type[Shape], *, many: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.shape, self.many = shape, many


class NestedExtension(OpenApiSerializerFieldExtension):
    target_class = Nested

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> dict[str, object]:
        ref = auto_schema.resolve_serializer(self.target.shape, direction).ref
        return build_array_type(ref) if self.target.many else ref


@cache
def serializer_of(shape: type[Shape]) -> type[s.Serializer]:
    """The fields of a shape as drf-spectacular knows fields. Raises TypeError for what stands for no JSON."""
    about = {"__doc__": shape.__doc__ if "__doc__" in vars(shape) else None}
    serializer = type(shape.__name__, (s.Serializer,), about)
    # Not as attributes: `parent` and `data` would hide those that every serializer has.
    serializer._declared_fields = {  # type: ignore[attr-defined]  # where its metaclass keeps them
        field.encode_name: _field(field.type) for field in msgspec.structs.fields(shape)
    }
    return serializer


@cache
def page_of(shape: type[Shape], name: str = "") -> type[Shape]:
    """A page of a list, as `api.paging` makes them; its component is named after what it lists."""
    name = name or f"{shape.__name__.removesuffix('Shape')}Page"
    results = ("results", list.__class_getitem__(shape))
    made = msgspec.defstruct(name, [results], bases=(Page,), module=shape.__module__, kw_only=True)
    return cast(type[Shape], made)


def _field(annotation: Any, **options: Any) -> s.Field:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(args[0], args[1:], options)
    if origin in (Union, types.UnionType):
        options |= {"allow_null": True} if types.NoneType in args else {}
        options |= {"required": False} if msgspec.UnsetType in args else {}
        (inner,) = (arg for arg in args if arg not in _ABSENT)
        return _field(inner, **options)
    if "choices" in options:
        return s.ChoiceField(**options)
    if origin is list:
        if _is_shape(args[0]):
            return Nested(args[0], many=True, **options)
        return s.ListField(child=_field(args[0]), **options)
    if origin is Mapping:
        return s.DictField(**options if args[1] is object else {"child": _field(args[1]), **options})
    if _is_shape(annotation):
        return Nested(annotation, **options)
    if annotation not in _SIMPLE:
        raise TypeError(f"{annotation!r} stands for no JSON")
    return _SIMPLE[annotation](**options)


def _annotated(inner: object, marks: tuple[object, ...], options: dict[str, object]) -> s.Field:
    for mark in marks:
        if isinstance(mark, Doc):
            options["help_text"] = mark.text
        elif isinstance(mark, Choices):
            options["choices"] = list(mark.values)
        elif isinstance(mark, msgspec.Meta):
            bounds = {option: getattr(mark, bound) for bound, option in _BOUNDS.items()}
            options |= {option: bound for option, bound in bounds.items() if bound is not None}
        elif _is_shape(mark):
            # Stored as JSON in this shape.
            options |= {"allow_null": True} if types.NoneType in get_args(inner) else {}
            inner = mark
    return _field(inner, **options)


def _is_shape(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Shape)
