"""From text to tree. The grammar is CEL's, without maps, messages, bytes, unsigned numbers and optional values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenants.moderation.expressions.tokens import Token, number, tokens, unescaped
from tenants.moderation.expressions.tree import (
    Binary,
    Call,
    Chain,
    Choice,
    ExpressionError,
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
    children,
)

MAX_LENGTH, MAX_NODES, MAX_DEPTH = 2_000, 400, 24
FUNCTIONS = frozenset({"size", "int", "double", "string"})
METHODS = frozenset({"size", "contains", "startsWith", "endsWith", "matches"})
LOOPS = frozenset({"all", "exists", "exists_one", "map", "filter"})
RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "in",
    ]
)
RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
CONSTANTS = {"true": True, "false": False, "null": None}


def read(text: str) -> Node:
    """The tree of an expression. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"An expression has at most {MAX_LENGTH:,} characters; this one has {len(text):,}."
        )
    tree = _Reader(tokens(text)).whole()
    if _count(tree) > MAX_NODES:
        raise ExpressionError(f"An expression has at most {MAX_NODES} parts; make two rules of it.")
    return tree


def _count(node: Node, depth: int = 0) -> int:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"Parts may stand {MAX_DEPTH} deep in each other at most.", node.at)
    return 1 + sum(_count(child, depth + 1) for child in children(node))


class _Reader:
    """Recursive descent; each method reads what its name says and everything that binds tighter."""

    def __init__(self, found: list[Token]) -> None:
        self._tokens, self._place, self._depth = found, 0, 0

    def whole(self) -> Node:
        tree = self._expression()
        if self._next.kind != "end":
            raise ExpressionError(f"{self._next.text!r} is one part too many.", self._next.at)
        return tree

    # --- Tokens ---

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self) -> Token:
        token = self._next
        self._place += token.kind != "end"
        return token

    def _taken(self, *signs: str) -> Token | None:
        """The next token if it is one of these signs (or the word `in`)."""
        token = self._next
        if token.text in signs and token.kind in ("sign", "name"):
            return self._take()
        return None

    def _demand(self, sign: str) -> Token:
        token = self._taken(sign)
        if token is None:
            found = repr(self._next.text) if self._next.text else "the end"
            raise ExpressionError(f"Here should stand {sign!r}, not {found}.", self._next.at)
        return token

    # --- Expressions, loosest first ---

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"Parts may stand {MAX_DEPTH} deep in each other at most.", self._next.at)
        condition = self._either()
        if mark := self._taken("?"):
            yes = self._either()
            self._demand(":")
            condition = Choice(condition, yes, self._expression(), at=mark.at)
        self._depth -= 1
        return condition

    def _either(self) -> Node:
        return self._chain("||", self._both)

    def _both(self) -> Node:
        return self._chain("&&", self._relation)

    def _chain(self, operator: str, operand: Callable[[], Node]) -> Node:
        operands, at = [operand()], self._next.at
        while self._taken(operator):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else Chain(operator, tuple(operands), at=at)

    def _relation(self) -> Node:
        return self._binary(RELATIONS, self._sum)

    def _sum(self) -> Node:
        return self._binary(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._binary(("*", "/", "%"), self._unary)

    def _binary(self, operators: Any, operand: Callable[[], Node]) -> Node:
        left = operand()
        while sign := self._taken(*operators):
            left = Binary(sign.text, left, operand(), at=sign.at)
        return left

    def _unary(self) -> Node:
        signs = []
        while sign := self._taken("!", "-"):
            signs.append(sign)
        if signs and signs[-1].text == "-" and self._next.kind == "number":
            first = signs.pop()
            operand = self._members(Literal(number("-" + self._next.text, self._take().at), at=first.at))
        else:
            operand = self._members(self._primary())
        for sign in reversed(signs):
            operand = (Not if sign.text == "!" else Negate)(operand, at=sign.at)
        return operand

    def _members(self, target: Node) -> Node:
        while sign := self._taken(".", "["):
            if sign.text == "[":
                target = Index(target, self._expression(), at=sign.at)
                self._demand("]")
            else:
                target = self._member(target)
        return target

    def _member(self, target: Node) -> Node:
        name = self._take()
        if name.kind != "name":
            raise ExpressionError("After a dot stands the name of a field.", name.at)
        if not self._taken("("):
            return Field(target, name.text, at=name.at)
        if name.text in LOOPS:
            return self._loop(target, name)
        if name.text not in METHODS:
            raise ExpressionError(f"There is no method {name.text!r}; {_listed(METHODS | LOOPS)}.", name.at)
        return Call(name.text, target, self._list(")"), at=name.at)

    def _loop(self, target: Node, name: Token) -> Node:
        variable = self._take()
        if variable.kind != "name" or variable.text in RESERVED | set(CONSTANTS):
            raise ExpressionError(f"{name.text} begins with a name: {name.text}(x, …).", variable.at)
        self._demand(",")
        body = self._expression()
        self._demand(")")
        return Loop(name.text, target, variable.text, body, at=name.at)

    def _list(self, end: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._taken(end):
            if items:
                self._demand(",")
            items.append(self._expression())
        return tuple(items)

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return Literal(number(token.text, token.at), at=token.at)
        if token.kind == "raw":
            return Literal(token.text[2:-1], at=token.at)
        if token.kind == "text":
            return Literal(unescaped(token), at=token.at)
        if token.text == "(":
            inner = self._expression()
            self._demand(")")
            return inner
        if token.text == "[":
            return Items(self._list("]"), at=token.at)
        if token.kind == "name":
            return self._named(token)
        found = repr(token.text) if token.text else "the end"
        raise ExpressionError(f"Here should stand a value, not {found}.", token.at)

    def _named(self, token: Token) -> Node:
        if token.text in CONSTANTS:
            return Literal(CONSTANTS[token.text], at=token.at)
        if token.text in RESERVED:
            raise ExpressionError(f"{token.text!r} is a word that CEL keeps for itself.", token.at)
        if not self._taken("("):
            return Name(token.text, at=token.at)
        arguments = self._list(")")
        if token.text == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Field):
                raise ExpressionError("has() asks for a field: has(item.metadata.price).", token.at)
            return Has(arguments[0], at=token.at)
        if token.text not in FUNCTIONS:
            known = _listed(FUNCTIONS | {"has"})
            raise ExpressionError(f"There is no function {token.text!r}; {known}.", token.at)
        if len(arguments) != 1:
            raise ExpressionError(f"{token.text}() takes one argument.", token.at)
        return Call(token.text, arguments[0], method=False, at=token.at)


def _listed(names: Any) -> str:
    return f"there are {', '.join(sorted(names))}"
