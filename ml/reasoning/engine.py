"""What follows from facts by rules, semi-naively, stratum by stratum, with a derivation of each fact.

A conclusion is as sure as the least sure fact of its proof, and of several proofs the surest counts (minimum along a
proof, maximum over proofs). What nothing examined is neither there nor absent: a rule that asks for its absence or
number does not fire, and what it might have derived is `not_examined`. The same rules and facts give the same
conclusions and proofs, in whatever order the facts come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ml.reasoning.language import (
    MAX_ARGUMENTS,
    MAX_NUMBER,
    MAX_TEXT,
    Atom,
    Comparison,
    Constant,
    Count,
    Literal,
    Match,
    Program,
    Rule,
    Variable,
)

HOLDS, DOES_NOT_HOLD, NOT_EXAMINED = "holds", "does_not_hold", "not_examined"

#: A predicate with its arguments.
Tuple = tuple[Constant, ...]


class Fact(NamedTuple):
    """`arguments`: texts and finite numbers. `confidence`: 0 to 1. `source`: who says so."""

    predicate: str
    arguments: Tuple
    confidence: float = 1.0
    source: str = ""


class Pattern(NamedTuple):
    """Facts of this form were looked for, and all that were found are there. None as an argument: whatever it is."""

    predicate: str
    arguments: tuple[Constant | None, ...]


@dataclass(frozen=True)
class Limits:
    """`steps`: facts that are looked at, which bounds the time without a clock, so that the same rules and facts always
    end in the same way. `seconds`: None for no clock."""

    facts: int = 10_000
    derived: int = 10_000
    rounds: int = 1_000
    steps: int = 1_000_000
    seconds: float | None = None


DEFAULT_LIMITS = Limits()


class FactsError(ValueError):
    """Facts that are none, or more than are allowed."""


class TooMuch(RuntimeError):
    """A limit was reached; nothing is concluded."""


@dataclass(frozen=True)
class Derivation:
    """`used`: of each part of the rule's body what it found: a fact's key, the values that were compared, the arguments
    that are absent (None: any), or the keys of what was counted."""

    rule: Rule
    confidence: float
    used: tuple[tuple[object, ...], ...]


Key = tuple[str, Tuple]


@dataclass(frozen=True)
class FactBase:
    """Facts in one order, each once, by its surest source; and what was examined. Raises FactsError."""

    given: tuple[Fact, ...] = ()
    examined: tuple[Pattern, ...] = ()

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        surest: dict[Key, Fact] = {}
        for fact in self.given:
            fact = _normal(fact)
            known = surest.get((fact.predicate, fact.arguments))
            if known is None or (-fact.confidence, fact.source) < (-known.confidence, known.source):
                surest[fact.predicate, fact.arguments] = fact
        return tuple(sorted(surest.values(), key=lambda fact: order_of(fact.predicate, fact.arguments)))

    @cached_property
    def patterns(self) -> tuple[Pattern, ...]:
        unique = {
            Pattern(one.predicate, tuple(map(_constant_or_any, one.arguments))) for one in self.examined
        }
        return tuple(sorted(unique, key=lambda one: order_of(one.predicate, one.arguments)))

    def covers(self, atom: Atom) -> bool:
        """Whether everything that the atom can mean was examined."""
        return any(
            pattern.predicate == atom.predicate
            and len(pattern.arguments) == len(atom.terms)
            and all(
                given is None or given == term
                for given, term in zip(pattern.arguments, atom.terms, strict=True)
            )
            for pattern in self.patterns
        )


def order_of(predicate: str, arguments: Sequence[Constant | None]) -> tuple[object, ...]:
    """What facts are sorted by: predicate, then arguments, anything before numbers before texts."""
    return (predicate, *(_rank(one) for one in arguments))


def _rank(value: Constant | None) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    return (2, 0.0, value) if isinstance(value, str) else (1, float(value), "")


def _normal(fact: Fact) -> Fact:
    confidence = fact.confidence
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise FactsError(
            f"{fact.predicate}: the confidence of a fact is a number from 0 to 1, not {confidence!r}."
        )
    if not fact.arguments or len(fact.arguments) > MAX_ARGUMENTS:
        raise FactsError(f"{fact.predicate}: a fact has 1 to {MAX_ARGUMENTS} arguments.")
    return Fact(fact.predicate, tuple(map(_constant, fact.arguments)), float(confidence), fact.source)


def _constant(value: object) -> Constant:
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise FactsError(f"A text in a fact has at most {MAX_TEXT:,} characters; cut it.")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FactsError(f"Arguments of facts are texts and numbers, not {value!r:.50}.")
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise FactsError(f"Numbers in facts lie between -{MAX_NUMBER:,} and {MAX_NUMBER:,}.")
    return int(value) if float(value).is_integer() else value


def _constant_or_any(value: object) -> Constant | None:
    return None if value is None else _constant(value)


@dataclass(frozen=True)
class Answer:
    """`state`: `holds`, `does_not_hold`, or `not_examined` where something that it depends on was not looked for.
    `confidence`: of the surest fact, None unless it holds. `count`: of facts; None where it is not known how many."""

    state: str
    confidence: float | None
    count: int | None


@dataclass(frozen=True)
class Conclusions:
    """`derivations`: of each derived fact, by its key. `open`: derived predicates of which more may be true than was
    derived, since something was not examined."""

    program: Program
    base: FactBase
    derivations: Mapping[Key, Derivation]
    open: frozenset[str]

    def answer(self, predicate: str) -> Answer:
        """What is known of a derived predicate, whatever its arguments."""
        found = [one.confidence for (name, _), one in self.derivations.items() if name == predicate]
        whole = predicate in self.program.derived and predicate not in self.open
        count = len(found) if whole else None
        if found:
            return Answer(HOLDS, max(found), count)
        return Answer(DOES_NOT_HOLD if whole else NOT_EXAMINED, None, count)


def evaluate(program: Program, base: FactBase, limits: Limits = DEFAULT_LIMITS) -> Conclusions:
    """Everything that follows. Raises FactsError, and TooMuch where a limit is reached."""
    if len(base.given) > limits.facts or len(base.examined) > limits.facts:
        raise FactsError(f"At most {limits.facts:,} facts.")
    return _Evaluation(program, base, limits).run()


def find_open(program: Program, base: FactBase) -> tuple[frozenset[str], frozenset[int]]:
    """Derived predicates that are open, and the numbers of the rules that cannot fire as they ask for the absence or
    number of what was not examined."""
    derived = program.derived
    reading: dict[str, list[tuple[Rule, bool]]] = {}
    waiting: list[tuple[Rule, bool]] = []
    for rule in program.rules:
        for part in rule.body:
            if isinstance(part, Comparison):
                continue
            asks = isinstance(part, Count) or part.negated
            if part.atom.predicate in derived:
                reading.setdefault(part.atom.predicate, []).append((rule, asks))
            elif not base.covers(part.atom):
                waiting.append((rule, asks))
    found: set[str] = set()
    silent: set[int] = set()
    while waiting:
        rule, asks = waiting.pop()
        if asks:
            silent.add(rule.number)
        if rule.head.predicate not in found:
            found.add(rule.head.predicate)
            waiting += reading.get(rule.head.predicate, ())
    return frozenset(found), frozenset(silent)


class _Store:
    """Facts of one predicate by those arguments that a join knows."""

    def __init__(self) -> None:
        self.sure: dict[Tuple, float] = {}
        self._by: dict[tuple[int, ...], dict[Tuple, list[Tuple]]] = {}

    def put(self, arguments: Tuple, confidence: float) -> None:
        if arguments not in self.sure:
            for places, found in self._by.items():
                found.setdefault(tuple(arguments[p] for p in places), []).append(arguments)
        self.sure[arguments] = confidence

    def look_up(self, places: tuple[int, ...], values: Tuple) -> Sequence[Tuple]:
        if len(places) and places not in self._by:
            index: dict[Tuple, list[Tuple]] = {}
            for one in self.sure:
                index.setdefault(tuple(one[p] for p in places), []).append(one)
            self._by[places] = index
        return self._by[places].get(values, ()) if places else list(self.sure)


@dataclass
class _Evaluation:
    program: Program
    base: FactBase
    limits: Limits
    stores: dict[str, _Store] = field(default_factory=dict)
    derivations: dict[Key, Derivation] = field(default_factory=dict)
    steps: int = 0

    def run(self) -> Conclusions:
        self._until = None if self.limits.seconds is None else time.monotonic() + self.limits.seconds
        self.stores = {name: _Store() for name in self.program.arities}
        derived = self.program.derived
        for fact in self.base.facts:
            arity = self.program.arities.get(fact.predicate)
            if fact.predicate in derived:
                raise FactsError(f"{fact.predicate} is derived by rules, so it cannot be told as a fact.")
            if arity is not None and arity != len(fact.arguments):
                raise FactsError(
                    f"{fact.predicate} has {arity} arguments in the rules, and {len(fact.arguments)} as a fact."
                )
            if arity is not None:
                self.stores[fact.predicate].put(fact.arguments, fact.confidence)
        is_open, silent = find_open(self.program, self.base)
        for stratum in self.program.strata:
            self._saturate([self.program.rules[n - 1] for n in stratum if n not in silent])
        return Conclusions(self.program, self.base, self.derivations, is_open)

    def _saturate(self, rules: Sequence[Rule]) -> None:
        grown: dict[str, dict[Tuple, None]] = {}
        for rule in rules:
            self._apply(rule, None, {}, grown)
        reading: dict[str, list[tuple[Rule, int]]] = {rule.head.predicate: [] for rule in rules}
        for rule in rules:
            for place, part in enumerate(rule.body):
                if isinstance(part, Match) and not part.negated and part.atom.predicate in reading:
                    reading[part.atom.predicate].append((rule, place))
        rounds = 0
        while grown:
            rounds += 1
            if rounds > self.limits.rounds:
                raise TooMuch(
                    f"More than {self.limits.rounds:,} rounds of derivations; rules need a shorter way."
                )
            new, grown = grown, {}
            for name in new:
                for rule, place in reading[name]:
                    self._apply(rule, place, new[name], grown)

    def _apply(
        self, rule: Rule, place: int | None, new: Mapping[Tuple, None], grown: dict[str, dict[Tuple, None]]
    ) -> None:
        """What the rule derives, with the part at `place` among new facts alone."""
        first = () if place is None else (place,)
        order = _join_order(rule, first)
        # What is derived is put where it is looked for, and may be found there at once: lists only grow.
        for values, used, confidence in self._join(rule, order, 0, {}, {}, 1.0, place, new):
            name = rule.head.predicate
            arguments = tuple(values[t.name] if isinstance(t, Variable) else t for t in rule.head.terms)
            known = self.derivations.get((name, arguments))  # type: ignore[arg-type]  # `_` never stands in a head
            if known is not None and known.confidence >= confidence:
                continue
            if known is None and len(self.derivations) == self.limits.derived:
                raise TooMuch(f"More than {self.limits.derived:,} facts follow; make the rules narrower.")
            found = tuple(used[number] for number in range(len(rule.body)))
            self.derivations[name, arguments] = Derivation(rule, confidence, found)  # type: ignore[index]
            self.stores[name].put(arguments, confidence)  # type: ignore[arg-type]
            grown.setdefault(name, {})[arguments] = None  # type: ignore[index]

    def _join(
        self,
        rule: Rule,
        order: Sequence[int],
        depth: int,
        values: dict[str, Constant],
        used: dict[int, tuple[object, ...]],
        confidence: float,
        place: int | None,
        new: Mapping[Tuple, None],
    ) -> Iterator[tuple[dict[str, Constant], dict[int, tuple[object, ...]], float]]:
        """At most as deep as a rule is long."""
        if depth == len(order):
            yield values, used, min(confidence, rule.confidence) if not rule.body else confidence
            return
        number = order[depth]
        for more, found, sure in self._found(rule.body[number], values, new if number == place else None):
            yield from self._join(
                rule,
                order,
                depth + 1,
                {**values, **more} if more else values,
                {**used, number: found},
                min(confidence, sure),
                place,
                new,
            )

    def _found(
        self, part: Literal, values: Mapping[str, Constant], among: Mapping[Tuple, None] | None
    ) -> Iterator[tuple[dict[str, Constant], tuple[object, ...], float]]:
        """Ways in which the part is true: what it binds, what it rests on, how sure that is."""
        if isinstance(part, Comparison):
            left, right = (values[s.name] if isinstance(s, Variable) else s for s in (part.left, part.right))
            self._step()
            if compare(left, part.operator, right):
                yield {}, (left, right), 1.0
            return
        matching = self._matching(part.atom, part.least, values, among)
        if isinstance(part, Match) and not part.negated:
            for arguments, sure in matching:
                bound = {
                    term.name: value
                    for term, value in zip(part.atom.terms, arguments, strict=True)
                    if isinstance(term, Variable)
                }
                yield bound, (arguments,), sure
        elif isinstance(part, Match):
            if next(matching, None) is None:
                yield {}, (substituted(part.atom, values),), 1.0
        else:
            counted = sorted(matching, key=lambda one: order_of("", one[0]))
            found = (substituted(part.atom, values), tuple(arguments for arguments, _ in counted))
            yield {part.variable: len(counted)}, found, min((sure for _, sure in counted), default=1.0)

    def _matching(
        self, atom: Atom, least: float, values: Mapping[str, Constant], among: Mapping[Tuple, None] | None
    ) -> Iterator[tuple[Tuple, float]]:
        store, asked = self.stores[atom.predicate], substituted(atom, values)
        places = tuple(place for place, value in enumerate(asked) if value is not None)
        names = [term.name if isinstance(term, Variable) else "" for term in atom.terms]
        repeated = len(set(free := [n for p, n in enumerate(names) if n and p not in places])) < len(free)
        known = tuple(value for value in asked if value is not None)
        for arguments in store.look_up(places, known) if among is None else among:
            self._step()
            sure = store.sure[arguments]
            if sure < least or (among is not None and tuple(arguments[p] for p in places) != known):
                continue
            if repeated and len({(n, arguments[p]) for p, n in enumerate(names) if n}) != len(
                {n for n in names if n}
            ):
                continue
            yield arguments, sure

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.limits.steps:
            raise TooMuch(
                f"More than {self.limits.steps:,} steps; let parts of a rule share variables, or narrow them."
            )
        if self._until is not None and self.steps % 1_000 == 0 and time.monotonic() > self._until:
            raise TooMuch(
                f"More than {self.limits.seconds:g} seconds; let parts of a rule share variables, or narrow them."
            )


def substituted(atom: Atom, values: Mapping[str, Constant]) -> tuple[Constant | None, ...]:
    """The atom's arguments, None for what is not bound."""
    return tuple(values.get(term.name) if isinstance(term, Variable) else term for term in atom.terms)


def compare(left: Constant, operator: str, right: Constant) -> bool:
    """Only numbers have an order; a text is equal to itself alone."""
    if operator in ("=", "!="):
        return (left == right) is (operator == "=")
    if isinstance(left, str) or isinstance(right, str):
        return False
    if operator in ("<", "<="):
        return left < right or (operator == "<=" and left == right)
    return left > right or (operator == ">=" and left == right)


def _join_order(rule: Rule, first: Iterable[int]) -> list[int]:
    """What asks and binds nothing as soon as it can be asked; of facts that which shares most with what is bound."""
    order, bound, left = [], set(), set(range(len(rule.body)))
    positive = {n for n in left if isinstance(part := rule.body[n], Match) and not part.negated}

    def take(number: int) -> None:
        part = rule.body[number]
        order.append(number)
        left.discard(number)
        if isinstance(part, Count):
            bound.add(part.variable)
        elif number in positive and isinstance(part, Match):
            bound.update(part.atom.variables)

    for number in first:
        take(number)
    outside = {v for n in positive for v in rule.body[n].atom.variables}  # type: ignore[union-attr]
    while left:
        ready = [n for n in sorted(left - positive) if _needs(rule.body[n], outside) <= bound]
        if ready:
            take(ready[0])
            continue
        shared = [(-_known_terms(rule.body[n], bound), n) for n in sorted(left & positive)]
        take(min(shared)[1])
    return order


def _needs(part: Literal, outside: set[str]) -> set[str]:
    """A count waits for the variables that other parts bind; its others are its own."""
    if isinstance(part, Comparison):
        return {side.name for side in (part.left, part.right) if isinstance(side, Variable)}
    return set(part.atom.variables) & outside if isinstance(part, Count) else set(part.atom.variables)


def _known_terms(part: Literal, bound: set[str]) -> int:
    terms = part.atom.terms if isinstance(part, Match) else ()
    return sum(term is not None and (not isinstance(term, Variable) or term.name in bound) for term in terms)
