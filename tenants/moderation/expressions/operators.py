"""What operators between two types give, and which cannot stand between them."""

from __future__ import annotations

from dataclasses import replace

from tenants.moderation.expressions.tree import Binary, ExpressionError
from tenants.moderation.expressions.types import BOOL, DOUBLE, INT, NUMBERS, Type, a_kind


def result(node: Binary, left: Type, right: Type) -> Type:
    """Raises ExpressionError where the operation could never succeed."""
    if node.operator in ("+", "-", "*", "/", "%"):
        return _arithmetic(node, left, right)
    if node.operator == "in":
        _member(node, left, right)
    elif node.operator in ("==", "!="):
        _equality(node, left, right)
    elif not left.orders_with(right):
        raise ExpressionError(f"{a_kind(left)} and {a_kind(right)} have no order.", node.at)
    return BOOL


def number(kind: Type, operator: str, at: int) -> Type:
    """The type of a number that is reckoned with. Raises ExpressionError for what is none."""
    if kind.kind not in NUMBERS:
        hint = "; write double(…) around it" if kind.kind == "any" else ""
        raise ExpressionError(f"{operator} is for numbers, and this is {a_kind(kind)}{hint}.", at)
    return replace(kind, low=None, high=None)


def _arithmetic(node: Binary, left: Type, right: Type) -> Type:
    # Texts and lists are not joined: repeated, that would take any amount of memory.
    number(left, node.operator, node.left.at)
    number(right, node.operator, node.right.at)
    if left.kind != right.kind or (node.operator == "%" and left.kind != "int"):
        raise ExpressionError(
            f"{node.operator} is for two whole numbers or two others, 1.0 is no whole one; write double(…).",
            node.at,
        )
    return INT if left.kind == "int" else DOUBLE


def _equality(node: Binary, left: Type, right: Type) -> None:
    if {left.kind, right.kind} & {"list", "object"}:
        raise ExpressionError("Lists and objects are not compared; compare their parts.", node.at)
    if not left.equals(right):
        raise ExpressionError(f"{a_kind(left)} is never equal to {a_kind(right)}.", node.at)


def _member(node: Binary, left: Type, right: Type) -> None:
    if right.kind == "object":
        if left.kind not in ("string", "any"):
            raise ExpressionError("Fields have names: a text is asked for.", node.at)
    elif right.kind not in ("list", "any"):
        raise ExpressionError(f"in asks for a list, and this is {a_kind(right)}.", node.right.at)
    elif right.kind == "list" and right.size and not left.equals(right.items):
        raise ExpressionError(f"{a_kind(left)} is in no {right.told()}.", node.at)
