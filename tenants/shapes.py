"""What a resource looks like from outside: one definition, of which selectors make values and the API its document.

A shape is a msgspec.Struct: writing one as JSON takes no dictionary, and its fields are known to type checkers. Shapes
stand in `tenants/<package>/shapes.py`, beside the selectors that fill them; a class is named as the OpenAPI document
names it. `api.schema` reads the annotations; nothing checks values against them at run time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar, dataclass_transform

import msgspec
from msgspec import UNSET, UnsetType

__all__ = ["UNSET", "Choices", "Doc", "Json", "JsonObject", "Maybe", "Page", "Shape", "plain"]

T = TypeVar("T")
#: A field that may be absent (UNSET), which is not the same as null.
Maybe: TypeAlias = T | UnsetType

#: Whatever JSON may be; of an object whose members are not known here, such as metadata.
Json: TypeAlias = object
JsonObject: TypeAlias = Mapping[str, object]


@dataclass_transform(kw_only_default=True, field_specifiers=(msgspec.field,))
class _Keywords(msgspec.StructMeta):
    """Every shape is filled by keywords, so that optional fields may stand where the answer has them."""

    def __new__(cls, *args: object, **options: object) -> _Keywords:  # noqa: PYI034 - a metaclass cannot use Self
        return super().__new__(cls, *args, **{"kw_only": True, **options})  # type: ignore[arg-type]


class Shape(msgspec.Struct, metaclass=_Keywords, gc=False):
    """Fields in the order of the answer. `gc=False`: no shape holds itself, so the collector need not look."""


@dataclass(frozen=True)
class Doc:
    """What the document says of a field: `Annotated[int, Doc("Of pixels.")]`."""

    text: str


@dataclass(frozen=True)
class Choices:
    """The values that a text or number takes: `Annotated[str, Choices(Job.State.values)]`."""

    values: Collection[str] | Collection[int]


class Page(Shape):
    next: Annotated[str | None, Doc("The cursor of the next page.")]


def plain(shape: object) -> object:
    """The dictionaries and lists that a shape stands for; times stay times."""
    return msgspec.to_builtins(shape, builtin_types=(dt.datetime, dt.date), str_keys=True)
