"""Plain paths, such as `item.bytes`: what they name, and of which type it is."""

from __future__ import annotations

from tenants.moderation.expressions.tree import Field, Index, Literal, Name, Node
from tenants.moderation.expressions.types import ANY, Type
from tenants.moderation.expressions.variables import VARIABLES


def path_of(node: Node) -> tuple[str, ...] | None:
    """`("item", "bytes")` of `item.bytes` and of `item["bytes"]`, or None for what is no plain path."""
    match node:
        case Name(name):
            return (name,)
        case Field(target, name) | Index(target, Literal(str() as name)):
            inner = path_of(target)
            return None if inner is None else (*inner, name)
    return None


def type_of(path: tuple[str, ...]) -> Type:
    """The type of a variable's part; anything where it is not declared."""
    kind = VARIABLES.get(path[0], ANY)
    for name in path[1:]:
        kind = kind.fields.get(name, ANY)
    return kind
