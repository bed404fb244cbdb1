"""The syntax tree of an expression. `at`: where it stands in the text, for messages; two trees are equal without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any


class ExpressionError(ValueError):
    """An expression that cannot be used; `at` is the place in it, counted in characters from 0."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(message)
        self.message, self.at = message, at


@dataclass(frozen=True)
class Node:
    at: int = field(default=0, compare=False, kw_only=True)


@dataclass(frozen=True)
class Literal(Node):
    """true, false, null, an int of 64 bits, a finite double or a string."""

    value: Any

    def __eq__(self, other: object) -> bool:
        # 1, 1.0 and true are different literals.
        return isinstance(other, Literal) and (type(self.value), self.value) == (
            type(other.value),
            other.value,
        )

    def __hash__(self) -> int:
        return hash((type(self.value), self.value))


@dataclass(frozen=True)
class Name(Node):
    name: str


@dataclass(frozen=True)
class Field(Node):
    target: Node
    name: str


@dataclass(frozen=True)
class Index(Node):
    target: Node
    key: Node


@dataclass(frozen=True)
class Call(Node):
    """`function(target, …)` or `target.function(…)`: the same to us, printed as it was written."""

    function: str
    target: Node
    arguments: tuple[Node, ...] = ()
    method: bool = True


@dataclass(frozen=True)
class Loop(Node):
    """`target.function(variable, body)`: all, exists, exists_one, map, filter."""

    function: str
    target: Node
    variable: str
    body: Node


@dataclass(frozen=True)
class Has(Node):
    target: Field


@dataclass(frozen=True)
class Items(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Not(Node):
    operand: Node


@dataclass(frozen=True)
class Negate(Node):
    operand: Node


@dataclass(frozen=True)
class Chain(Node):
    """Operands joined by `&&` or by `||`."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Choice(Node):
    condition: Node
    yes: Node
    no: Node


def children(node: Node) -> Iterator[Node]:
    for part in fields(node):
        value = getattr(node, part.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from value


def names(node: Node) -> set[str]:
    """Every name in the expression that no loop has introduced."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, Loop):
        return names(node.target) | (names(node.body) - {node.variable})
    return set().union(*(names(child) for child in children(node)))
