"""The smallest change of facts or thresholds after which something else would be concluded.

All single changes are tried, then all pairs, and so on, each by evaluating the rules with it: what is returned has been
seen to change the outcome, and nothing smaller does where the search was complete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from ml.reasoning.engine import (
    DEFAULT_LIMITS,
    Conclusions,
    Fact,
    FactBase,
    Limits,
    TooMuch,
    evaluate,
    order_of,
)
from ml.reasoning.language import Atom, Comparison, Constant, Count, Literal, Match, Program, Rule, Variable

BELOW, AT_LEAST, WITHOUT, FOUND, ASKS_MORE, ASKS_LESS = (
    *("below", "at_least", "without", "found"),
    *("asks_more", "asks_less"),
)


@dataclass(frozen=True)
class Change:
    """`kind`: of a fact, that its confidence is `below` or `at_least` the value, that it is not there (`without`), or
    is (`found`); of the part at `place` of rule `rule`, that it asks for more than the value (`asks_more`), or for no
    more than it (`asks_less`). `distance`: how far confidence or threshold moves."""

    kind: str
    predicate: str
    arguments: tuple[Constant, ...] = ()
    value: float = 1.0
    distance: float = 1.0
    rule: int = 0
    place: int = 0

    def as_dict(self) -> dict[str, Any]:
        if self.rule:
            return {
                "kind": self.kind,
                "rule": self.rule,
                "part": self.place,
                "of": self.predicate,
                "value": self.value,
            }
        fact = {"kind": self.kind, "fact": [self.predicate, *self.arguments]}
        return fact | ({"value": self.value} if self.kind in (BELOW, AT_LEAST) else {})


@dataclass(frozen=True)
class Counterfactual:
    """Changes that together give `outcome`."""

    changes: tuple[Change, ...]
    outcome: Hashable

    @property
    def distance(self) -> float:
        return sum(change.distance for change in self.changes)


@dataclass(frozen=True)
class Search:
    """`found`: all of the smallest number of changes that were found, nearest first. `complete`: everything smaller was
    tried, too, and all of this size."""

    found: tuple[Counterfactual, ...]
    complete: bool
    evaluations: int


def find_counterfactuals(
    program: Program,
    base: FactBase,
    outcome: Callable[[Conclusions], Hashable],
    *,
    goals: Iterable[str] = (),
    most_changes: int = 3,
    evaluations: int = 400,
    limits: Limits = DEFAULT_LIMITS,
) -> Search:
    """`outcome`: what is compared, of conclusions. `goals`: the predicates that it reads; all of them if empty.

    Raises what `evaluate` raises for the facts as they are.
    """
    conclusions = evaluate(program, base, limits)
    now = outcome(conclusions)
    changes = sorted(set(_candidates(program, conclusions, _cone(program, goals))), key=_order)
    tried, found = 0, list[Counterfactual]()
    for size in range(1, most_changes + 1):
        for chosen in combinations(changes, size):
            if len({_target(change) for change in chosen}) < size:
                continue
            if tried == evaluations:
                return Search(_nearest(found), False, tried)
            tried += 1
            try:
                then = outcome(evaluate(*apply_changes(program, base, chosen), limits))
            except TooMuch:
                continue
            if then != now:
                found.append(Counterfactual(chosen, then))
        if found:
            break
    return Search(_nearest(found), True, tried)


def apply_changes(program: Program, base: FactBase, changes: Sequence[Change]) -> tuple[Program, FactBase]:
    """Rules and facts as they would be."""
    facts = {(fact.predicate, fact.arguments): fact for fact in base.facts}
    rules = list(program.rules)
    for change in changes:
        key = (change.predicate, change.arguments)
        if change.rule:
            least = math.nextafter(change.value, 2.0) if change.kind == ASKS_MORE else change.value
            rule = rules[change.rule - 1]
            body = list(rule.body)
            part = body[change.place - 1]
            body[change.place - 1] = part if isinstance(part, Comparison) else replace(part, least=least)
            rules[change.rule - 1] = replace(rule, body=tuple(body))
        elif change.kind == WITHOUT:
            del facts[key]
        elif change.kind == FOUND:
            facts[key] = Fact(*key, 1.0, "")
        else:
            sure = change.value if change.kind == AT_LEAST else math.nextafter(change.value, -1.0)
            facts[key] = facts[key]._replace(confidence=sure)
    return replace(program, rules=tuple(rules)), FactBase(tuple(facts.values()), base.examined)


def _nearest(found: Iterable[Counterfactual]) -> tuple[Counterfactual, ...]:
    return tuple(sorted(found, key=lambda one: (one.distance, [_order(change) for change in one.changes])))


def _order(change: Change) -> tuple[object, ...]:
    """Facts before rules, as those are what people look at."""
    return (
        bool(change.rule),
        change.distance,
        change.kind,
        order_of(change.predicate, change.arguments),
        change.rule,
        change.place,
    )


def _target(change: Change) -> tuple[object, ...]:
    return (change.rule, change.place) if change.rule else (change.predicate, *change.arguments)


def _cone(program: Program, goals: Iterable[str]) -> frozenset[int]:
    """Numbers of the rules on which the goals depend."""
    by_head: dict[str, list[Rule]] = {}
    for rule in program.rules:
        by_head.setdefault(rule.head.predicate, []).append(rule)
    waiting = list(goals) or list(by_head)
    seen: set[str] = set(waiting)
    numbers: set[int] = set()
    while waiting:
        for rule in by_head.get(waiting.pop(), ()):
            numbers.add(rule.number)
            needs = {part.atom.predicate for part in rule.body if not isinstance(part, Comparison)} - seen
            seen |= needs
            waiting += sorted(needs)
    return frozenset(numbers)


def _candidates(program: Program, conclusions: Conclusions, cone: frozenset[int]) -> Iterator[Change]:
    sure: dict[str, dict[tuple[Constant, ...], float]] = {}
    for fact in conclusions.base.facts:
        sure.setdefault(fact.predicate, {})[fact.arguments] = fact.confidence
    for (name, arguments), derivation in conclusions.derivations.items():
        sure.setdefault(name, {})[arguments] = derivation.confidence
    derived = program.derived
    for number in sorted(cone):
        for place, part in enumerate(program.rules[number - 1].body, 1):
            if isinstance(part, Comparison):
                continue
            for arguments, confidence in sure.get(part.atom.predicate, {}).items():
                if _fits(part.atom, arguments):
                    yield from _of_threshold(number, place, part, confidence)
                    if part.atom.predicate not in derived:
                        yield from _of_fact(part, arguments, confidence)
    yield from _absent(conclusions.derivations, derived, cone)


def _of_fact(part: Match | Count, arguments: tuple[Constant, ...], confidence: float) -> Iterator[Change]:
    name, least = part.atom.predicate, part.least
    if not least:
        yield Change(WITHOUT, name, arguments, distance=confidence)
    elif least <= confidence:
        yield Change(BELOW, name, arguments, least, confidence - least)
    else:
        yield Change(AT_LEAST, name, arguments, least, least - confidence)


def _of_threshold(number: int, place: int, part: Literal, confidence: float) -> Iterator[Change]:
    if isinstance(part, Comparison) or not part.least:
        return
    name, distance = part.atom.predicate, abs(confidence - part.least)
    if part.least <= confidence < 1:
        yield Change(ASKS_MORE, name, (), confidence, distance, number, place)
    elif confidence < part.least:
        yield Change(ASKS_LESS, name, (), confidence, distance, number, place)


def _absent(
    derivations: Mapping[tuple[str, tuple[Constant, ...]], Any], derived: frozenset[str], cone: frozenset[int]
) -> Iterator[Change]:
    for derivation in derivations.values():
        if derivation.rule.number not in cone:
            continue
        for part, used in zip(derivation.rule.body, derivation.used, strict=True):
            if (
                isinstance(part, Match)
                and part.negated
                and part.atom.predicate not in derived
                and None not in used[0]
            ):
                yield Change(FOUND, part.atom.predicate, used[0])


def _fits(atom: Atom, arguments: tuple[Constant, ...]) -> bool:
    return len(atom.terms) == len(arguments) and all(
        term is None or isinstance(term, Variable) or term == value
        for term, value in zip(atom.terms, arguments, strict=True)
    )
