"""From tree to text, in one way: every compound part in brackets, strings in double quotes."""

from __future__ import annotations

from typing import Any

from tenants.moderation.expressions.tree import (
    Binary,
    Call,
    Chain,
    Choice,
    Field,
    Has,
    Index,
    Items,
    Literal,
    Loop,
    Name,
    Negate,
    Node,
    Not,
)

_CONSTANTS = {True: "true", False: "false", None: "null"}


def show(node: Node) -> str:
    """The expression in its canonical text."""
    match node:
        case Literal(value):
            return _literal(value)
        case Name(name):
            return name
        case Field(target, name):
            return f"{show(target)}.{name}"
        case Index(target, key):
            return f"{show(target)}[{show(key)}]"
        case Call(function, target, _, False):
            return f"{function}({show(target)})"
        case Call(function, target, arguments):
            return f"{show(target)}.{function}({_listed(arguments)})"
        case Loop(function, target, variable, body):
            return f"{show(target)}.{function}({variable}, {show(body)})"
        case Has(target):
            return f"has({show(target)})"
        case Items(items):
            return f"[{_listed(items)}]"
        case _:
            return f"({_operation(node)})"


def _operation(node: Node) -> str:
    match node:
        case Not(operand):
            return f"!{show(operand)}"
        case Negate(operand):
            # In brackets: a minus right before a number would be a part of it.
            return f"-({show(operand)})"
        case Chain(operator, operands):
            return f" {operator} ".join(show(operand) for operand in operands)
        case Binary(operator, left, right):
            return f"{show(left)} {operator} {show(right)}"
        case Choice(condition, yes, no):
            return f"{show(condition)} ? {show(yes)} : {show(no)}"
    raise TypeError(f"unknown node {type(node).__name__}")


def _listed(nodes: tuple[Node, ...]) -> str:
    return ", ".join(show(node) for node in nodes)


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    text = repr(value)
    return f"({text})" if text.startswith("-") else text


def _character(character: str) -> str:
    if character in '\\"':
        return "\\" + character
    # What does not print is escaped, so that no line ends inside of a string.
    return character if character.isprintable() else f"\\U{ord(character):08x}"
