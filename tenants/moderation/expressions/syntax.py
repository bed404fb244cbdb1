"""The syntax tree of an expression. `at`: where it stands in the text, for messages; two trees are equal without it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
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


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\f\r]+|//[^\n]*)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:[0-9]*\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_])
    |(?P<raw>[rR](?:"[^"\n\r]*"|'[^'\n\r]*'))
    |(?P<text>"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-<>!+*/%?:.,()\[\]])""",
    re.VERBOSE,
)

_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)", re.DOTALL)

_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    **{c: c for c in "\\'\"`?"},
}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    at: int


def tokenize(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at : at + 12]!r} cannot be read here.", at)
        kind = str(match.lastgroup)
        if kind != "blank":
            found.append(Token(kind, match.group(), at))
        at = match.end()
    return [*found, Token("end", "", len(text))]


def parse_number(text: str, at: int) -> int | float:
    if "x" in text.lower():
        value: int | float = int(text, 16)
    elif any(sign in text for sign in ".eE"):
        value = float(text)
    else:
        value = int(text) if len(text) < 25 else 1 << 64
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ExpressionError("Whole numbers have 64 bits.", at)
    if not math.isfinite(value):
        raise ExpressionError("This number is too large.", at)
    return value


def unescape(token: Token) -> str:
    def one(match: re.Match[str]) -> str:
        code = match.group()[1:]
        if len(code) == 1:
            if code not in _SIMPLE:
                raise ExpressionError(f"\\{code} is no escape; a backslash is written twice.", token.at)
            return _SIMPLE[code]
        number = int(code, 8) if code[0].isdigit() else int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ExpressionError(f"\\{code} is no character.", token.at)
        return chr(number)

    return _ESCAPE.sub(one, token.text[1:-1])


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


def parse(text: str) -> Node:
    """The tree of an expression. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"An expression has at most {MAX_LENGTH:,} characters; this one has {len(text):,}."
        )
    tree = _Parser(tokenize(text)).whole()
    if _count(tree) > MAX_NODES:
        raise ExpressionError(f"An expression has at most {MAX_NODES} parts; make two rules of it.")
    return tree


def _count(node: Node, depth: int = 0) -> int:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"Parts may stand {MAX_DEPTH} deep in each other at most.", node.at)
    return 1 + sum(_count(child, depth + 1) for child in children(node))


class _Parser:
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
            operand = self._members(
                Literal(parse_number("-" + self._next.text, self._take().at), at=first.at)
            )
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
            return Literal(parse_number(token.text, token.at), at=token.at)
        if token.kind == "raw":
            return Literal(token.text[2:-1], at=token.at)
        if token.kind == "text":
            return Literal(unescape(token), at=token.at)
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


_CONSTANTS = {True: "true", False: "false", None: "null"}


def unparse(node: Node) -> str:
    """The expression in its canonical text."""
    match node:
        case Literal(value):
            return _literal(value)
        case Name(name):
            return name
        case Field(target, name):
            return f"{unparse(target)}.{name}"
        case Index(target, key):
            return f"{unparse(target)}[{unparse(key)}]"
        case Call(function, target, _, False):
            return f"{function}({unparse(target)})"
        case Call(function, target, arguments):
            return f"{unparse(target)}.{function}({_joined(arguments)})"
        case Loop(function, target, variable, body):
            return f"{unparse(target)}.{function}({variable}, {unparse(body)})"
        case Has(target):
            return f"has({unparse(target)})"
        case Items(items):
            return f"[{_joined(items)}]"
        case _:
            return f"({_operation(node)})"


def _operation(node: Node) -> str:
    match node:
        case Not(operand):
            return f"!{unparse(operand)}"
        case Negate(operand):
            # In brackets: a minus right before a number would be a part of it.
            return f"-({unparse(operand)})"
        case Chain(operator, operands):
            return f" {operator} ".join(unparse(operand) for operand in operands)
        case Binary(operator, left, right):
            return f"{unparse(left)} {operator} {unparse(right)}"
        case Choice(condition, yes, no):
            return f"{unparse(condition)} ? {unparse(yes)} : {unparse(no)}"
    raise TypeError(f"unknown node {type(node).__name__}")


def _joined(nodes: tuple[Node, ...]) -> str:
    return ", ".join(unparse(node) for node in nodes)


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
