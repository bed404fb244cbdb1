"""What a part of an expression can be, as far as reading alone tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["bool", "int", "double", "string", "list", "object", "null", "any"]
NUMBERS = frozenset({"int", "double"})

#: What anything of unknown type is at most: texts in characters, lists in entries.
MAX_TEXT, MAX_LIST = 500, 50


@dataclass(frozen=True)
class Type:
    """`size`: characters of a string, entries of a list, at most. `fields`: of an object; an `open` one may have more.

    `nullable`: may be null, which no comparison but `== null` survives. `choices`, `low`, `high`: the values that it
    can have, where they are known. `refers`: what its texts name: `detector`, `list`, `list_name`.
    """

    kind: Kind
    size: int = 0
    element: Type | None = None
    fields: Mapping[str, Type] = field(default_factory=dict)
    open: bool = False
    nullable: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    refers: str = ""
    about: str = ""

    def __hash__(self) -> int:
        return hash((self.kind, self.size, self.choices, self.refers))

    @property
    def items(self) -> Type:
        return self.element or ANY

    def orders_with(self, other: Type) -> bool:
        """Whether `<` between the two can succeed."""
        if "any" in (self.kind, other.kind):
            return True
        both = {self.kind, other.kind}
        return both <= NUMBERS or both == {"string"}

    def equals(self, other: Type) -> bool:
        """Whether `==` between the two can be true."""
        if "any" in (self.kind, other.kind) or self.kind == other.kind:
            return True
        if {self.kind, other.kind} <= NUMBERS:
            return True
        return (self.kind == "null" and other.nullable) or (other.kind == "null" and self.nullable)

    def told(self) -> str:
        """The type in words."""
        names = {"list": "list", "object": "object", "any": "any", "string": "text", "double": "number"}
        name = f"list of {self.items.told()}" if self.kind == "list" else names.get(self.kind, self.kind)
        return f"{name} or null" if self.nullable else name


def a_kind(kind: Type) -> str:
    """The type in words, with its article."""
    return f"{'an' if kind.told()[0] in 'aio' else 'a'} {kind.told()}"


BOOL, INT, DOUBLE, NULL = Type("bool"), Type("int"), Type("double"), Type("null")
ANY = Type("any", size=MAX_TEXT)


def text(about: str = "", *, size: int = MAX_TEXT, refers: str = "", nullable: bool = False) -> Type:
    return Type("string", size=size, refers=refers, nullable=nullable, about=about)


def choice(*values: str, about: str = "", nullable: bool = False) -> Type:
    return Type("string", size=max(map(len, values)), choices=values, nullable=nullable, about=about)


def number(
    about: str = "", *, low: float | None = None, high: float | None = None, nullable: bool = False
) -> Type:
    return Type("double", low=low, high=high, nullable=nullable, about=about)


def whole(about: str = "", *, nullable: bool = False) -> Type:
    return Type("int", low=0, nullable=nullable, about=about)


def flag(about: str = "") -> Type:
    return replace(BOOL, about=about)


def entries(element: Type, about: str = "", *, size: int = MAX_LIST) -> Type:
    return Type("list", size=size, element=element, about=about)


def record(
    about: str = "", named: Mapping[str, Type] | None = None, *, open: bool = False, **fields: Type
) -> Type:
    return Type("object", fields={**(named or {}), **fields}, open=open, about=about)
