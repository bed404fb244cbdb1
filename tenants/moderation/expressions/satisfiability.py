"""Whether an expression can be true at all, as far as simple comparisons tell.

The expression is written as alternatives of conditions that hold together; each is asked whether its comparisons of one
thing with constants leave it a value. What is not a simple comparison counts as possible, unless its opposite stands
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tenants.moderation.expressions.syntax import (
    Binary,
    Chain,
    Items,
    Literal,
    Loop,
    Node,
    Not,
    names,
    unparse,
)
from tenants.moderation.expressions.variables import path_of, type_of

MAX_ALTERNATIVES = 64

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}

_MIRRORED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


Conditions = tuple[Node, ...]


def never(tree: Node, domains: dict[tuple[str, ...], frozenset[str]] | None = None) -> bool:
    """Whether no document makes the expression true. `domains`: what else is known of texts, by their paths."""
    alternatives = _alternatives(tree, True)
    return alternatives is not None and all(_impossible(one, domains or {}) for one in alternatives)


def always(tree: Node) -> bool:
    """Whether the expression is true of every document that it can be evaluated for."""
    alternatives = _alternatives(tree, False)
    return alternatives is not None and all(_impossible(one, {}) for one in alternatives)


def implies(tree: Node, other: Node) -> bool:
    """Whether `other` is true wherever `tree` is, as far as their parts are the same."""

    def parts(node: Node) -> set[Node]:
        return set(node.operands) if isinstance(node, Chain) and node.operator == "&&" else {node}

    if always(other):
        return True
    if isinstance(other, Chain) and other.operator == "||" and parts(tree) & set(other.operands):
        return True
    return parts(other) <= parts(tree)


def _alternatives(node: Node, wanted: bool) -> list[Conditions] | None:
    """Of the expression, or of its opposite. None where there are too many to look at."""
    match node:
        case Not(operand):
            return _alternatives(operand, not wanted)
        case Chain(operator, operands):
            each = [_alternatives(operand, wanted) for operand in operands]
            if any(one is None for one in each):
                return None
            # The opposite of a conjunction is a disjunction.
            if (operator == "&&") == wanted:
                return _product([one for one in each if one is not None])
            return _bounded([condition for one in each for condition in one or ()])
        case Binary(operator, left, right) if not wanted and operator in _OPPOSITE:
            return [(Binary(_OPPOSITE[operator], left, right),)]
    return [(node if wanted else Not(node),)]


def _product(each: list[list[Conditions]]) -> list[Conditions] | None:
    combined: list[Conditions] = [()]
    for alternatives in each:
        if len(combined) * len(alternatives) > MAX_ALTERNATIVES:
            return None
        combined = [(*one, *other) for one in combined for other in alternatives]
    return combined


def _bounded(found: list[Conditions]) -> list[Conditions] | None:
    return found if len(found) <= MAX_ALTERNATIVES else None


def _impossible(conditions: Conditions, domains: dict[tuple[str, ...], frozenset[str]]) -> bool:
    values: dict[str, _Values] = {}
    said: set[Node] = set()
    for condition in conditions:
        opposite = condition.operand if isinstance(condition, Not) else Not(condition)
        if opposite in said or _value(condition) is False or _finds_nothing(condition):
            return True
        said.add(condition)
        if (comparison := _comparison(condition)) is not None:
            thing, operator, constants = comparison
            kept = values.setdefault(unparse(thing), _Values.of(thing, domains))
            if not kept.narrow(operator, constants):
                return True
    return False


def _finds_nothing(node: Node) -> bool:
    """Whether it asks for an entry that no list can have."""
    return isinstance(node, Loop) and node.function in ("exists", "exists_one") and never(node.body)


def _value(node: Node) -> object:
    """What an expression without variables comes to; None where it has any, or fails."""
    import cel

    if names(node):
        return None
    try:
        return cel.compile(unparse(node)).execute({})
    except Exception:
        return None


def _comparison(node: Node) -> tuple[Node, str, list[object]] | None:
    """(what, operator, constants) of `what operator constant`, whichever side it stands on, and of `what in [...]`."""
    wanted, inner = (False, node.operand) if isinstance(node, Not) else (True, node)
    match inner:
        case Binary("in", left, Items(items)) if all(isinstance(item, Literal) for item in items):
            return (
                left,
                "in" if wanted else "not in",
                [item.value for item in items if isinstance(item, Literal)],
            )
        case Binary(operator, left, Literal(value)) if wanted and operator in _OPPOSITE:
            return left, operator, [value]
        case Binary(operator, Literal(value), right) if wanted and operator in _OPPOSITE:
            return right, _MIRRORED[operator], [value]
        case Binary():
            return None
    return (inner, "==", [wanted]) if path_of(inner) else None


@dataclass
class _Values:
    """What one thing can still be: numbers between two ends, some texts or all, null or not."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    among: set[Any] | None = None
    never: set[object] = field(default_factory=set)

    @classmethod
    def of(cls, thing: Node, domains: dict[tuple[str, ...], frozenset[str]]) -> _Values:
        path = path_of(thing)
        kind = type_of(path) if path else None
        if kind is None or path is None:
            return cls()
        values = cls(
            low=-math.inf if kind.low is None else kind.low, high=math.inf if kind.high is None else kind.high
        )
        if kind.choices:
            known = set(kind.choices) & domains.get(path, frozenset(kind.choices))
            values.among = {*known, None} if kind.nullable else known
        return values

    def narrow(self, operator: str, constants: Iterable[object]) -> bool:
        """Keep what fits the comparison; False where nothing is left."""
        if operator in ("==", "in"):
            kept = {(type(c) is bool, c) for c in constants}
            among = (
                kept
                if self.among is None
                else {pair for pair in kept if pair in {(type(a) is bool, a) for a in self.among}}
            )
            self.among = {value for _, value in among}
        elif operator in ("!=", "not in"):
            self.never |= set(constants)
        else:
            self._bound(operator, next(iter(constants)))
        return self._possible()

    def _bound(self, operator: str, constant: object) -> None:
        if isinstance(constant, bool) or not isinstance(constant, int | float):
            return
        self.never.add(None)
        if operator in (">", ">=") and (constant, operator == ">") > (self.low, self.open_low):
            self.low, self.open_low = constant, operator == ">"
        if operator in ("<", "<=") and (constant, operator == "<=") < (self.high, not self.open_high):
            self.high, self.open_high = constant, operator == "<"

    def _possible(self) -> bool:
        if self.low > self.high or (self.low == self.high and (self.open_low or self.open_high)):
            return False
        return self.among is None or any(self._fits(value) for value in self.among)

    def _fits(self, value: object) -> bool:
        if value in self.never:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        above = value > self.low or (value == self.low and not self.open_low)
        below = value < self.high or (value == self.high and not self.open_high)
        return above and below
