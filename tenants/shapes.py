"""What a resource looks like from outside: one definition, of which selectors make values and the API its document.

A shape is a msgspec.Struct: writing one as JSON takes no dictionary, and its fields are known to type checkers. Shapes
stand in `tenants/<package>/shapes.py`, beside the selectors that fill them; a class is named as the OpenAPI document
names it. `api.schema` reads the annotations; nothing checks values against them at run time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "UNSET",
    "Choices",
    "Doc",
    "Json",
    "JsonObject",
    "Maybe",
    "Page",
    "Shape",
    "plain",
]

T = TypeVar("T")
#: A field that may be absent (UNSET), which is not the same as null.
Maybe: TypeAlias = T | UnsetType

#: Whatever JSON may be; of an object whose members are not known here, such as metadata.
Json: TypeAlias = object
JsonObject: TypeAlias = Mapping[str, object]


class Shape(msgspec.Struct, kw_only=True, gc=False):
    """Fields in the order of the answer; subclasses say `kw_only=True`, so that optional ones may stand anywhere.

    `gc=False`: no shape holds itself, so the collector need not look.
    """


@dataclass(frozen=True)
class Doc:
    """What the document says of a field: `Annotated[int, Doc("Of pixels.")]`."""

    text: str


@dataclass(frozen=True)
class Choices:
    """The values that a text or number takes: `Annotated[str, Choices(Job.State.values)]`."""

    values: Collection[str] | Collection[int]


class Page(Shape, kw_only=True):
    next: Annotated[str | None, Doc("The cursor of the next page.")]


def plain(shape: object) -> object:
    """The dictionaries and lists that a shape stands for; times stay times."""
    return msgspec.to_builtins(shape, builtin_types=(dt.datetime, dt.date), str_keys=True)
