"""The text of rules: Datalog as Soufflé writes it, with thresholds on confidence.

    minor_and_alcohol(A) :- face(A, F), age_below(F, 18) @ 0.8, contains(A, "alcohol") @ 0.6.
    crowd(A) :- picture(A), N = count : { face(A, _) @ 0.5 }, N >= 10.
    unsigned(A) :- picture(A), !signed(A).

Variables begin with an upper-case letter, `_` stands for anything, texts stand in double quotes. `@ 0.8`: only with
this confidence at least. Comments begin with `//`. docs/auditing/reasoning.md describes all of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

Constant = str | int | float

#: In place of an argument: anything.
ANYTHING = None

MAX_CHARACTERS, MAX_RULES, MAX_LITERALS, MAX_ARGUMENTS = 100_000, 500, 16, 8

MAX_NAME, MAX_TEXT, MAX_NUMBER = 64, 1_000, 2**53

#: What one reading reports at most.
MAX_ERRORS = 20

_NAME_THE_COUNT = "A count is given a name first: N = count : { face(A, _) }, N >= 3."

OPERATORS = ("<=", ">=", "!=", "<", ">", "=")


@dataclass(frozen=True)
class RuleError:
    """What is wrong and what to do about it; `line` and `column` from 1."""

    line: int
    column: int
    detail: str

    def __str__(self) -> str:
        return f"Line {self.line}, column {self.column}: {self.detail}"


class RulesError(ValueError):
    """Rules that cannot be used. `errors`: in the order of the text."""

    def __init__(self, errors: Sequence[RuleError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, errors)))


@dataclass(frozen=True)
class Variable:
    name: str


Term = Variable | Constant | None


@dataclass(frozen=True)
class Atom:
    """`terms`: variables, constants, and None for `_`."""

    predicate: str
    terms: tuple[Term, ...]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(term.name for term in self.terms if isinstance(term, Variable))


@dataclass(frozen=True)
class Match:
    """A fact of this form, or with `negated` none, of confidence `least` at least."""

    atom: Atom
    least: float = 0.0
    negated: bool = False


@dataclass(frozen=True)
class Count:
    """`variable` is how many facts of this form there are, of confidence `least` at least."""

    variable: str
    atom: Atom
    least: float = 0.0


@dataclass(frozen=True)
class Comparison:
    left: Variable | Constant
    operator: str
    right: Variable | Constant


Literal = Match | Count | Comparison


@dataclass(frozen=True)
class Rule:
    """`number` from 1. Without a body it states its head, with `confidence`."""

    number: int
    line: int
    head: Atom
    body: tuple[Literal, ...]
    confidence: float = 1.0


@dataclass(frozen=True)
class Program:
    """`strata`: the numbers of the rules, lowest stratum first; what a rule negates or counts lies in a lower one."""

    text: str
    rules: tuple[Rule, ...]
    strata: tuple[tuple[int, ...], ...]
    arities: Mapping[str, int]

    @property
    def derived(self) -> frozenset[str]:
        return frozenset(rule.head.predicate for rule in self.rules)

    @property
    def asserted(self) -> frozenset[str]:
        """What rules read and none derives."""
        return frozenset(self.arities) - self.derived


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Wrong(Exception):
    def __init__(self, at: int, detail: str) -> None:
        self.at, self.detail = at, detail


_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]++|//[^\n]*+|%[^\n]*+)
      | (?P<text>"(?:[^"\\\n]|\\.)*+")
      | (?P<number>-?[0-9]++(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*+)
      | (?P<sign>:-|<=|>=|!=|[<>=!(){},.:@])""",
    re.VERBOSE,
)


@lru_cache(64)
def read_rules(text: str, known: tuple[tuple[str, int], ...] | None = None) -> Program:
    """The program that the text is. `known`: predicates that are asserted, each with its number of arguments; where it
    is given, rules may read no others. Raises RulesError."""
    return _Reader(text, None if known is None else dict(known)).program()


class _Reader:
    def __init__(self, text: str, known: Mapping[str, int] | None) -> None:
        self._text, self._known = text, known
        self._tokens: list[_Token] = []
        self._place = 0
        self._starts: list[int] = []
        self._errors: list[RuleError] = []

    def program(self) -> Program:
        if len(self._text) > MAX_CHARACTERS:
            raise RulesError(
                [RuleError(1, 1, f"Rules have at most {MAX_CHARACTERS:,} characters; shorten them.")]
            )
        rules: list[Rule] = []
        try:
            self._tokens = list(self._scan())
            while self._peek().kind != "end":
                if len(rules) == MAX_RULES:
                    raise _Wrong(self._peek().at, f"At most {MAX_RULES:,} rules; join or drop some.")
                self._starts.append(self._peek().at)
                rules.append(self._rule(len(rules) + 1))
        except _Wrong as wrong:
            # What comes after would be misread.
            self._add(wrong.at, wrong.detail)
            raise RulesError(self._errors) from None
        arities = self._arities(rules)
        for rule in rules:
            self._safe(rule)
        if self._errors:
            raise RulesError(self._errors[:MAX_ERRORS])
        return Program(self._text, tuple(rules), self._strata(rules), arities)

    def _add(self, at: int, detail: str) -> None:
        line = self._text.count("\n", 0, at) + 1
        self._errors.append(RuleError(line, at - self._text.rfind("\n", 0, at), detail))

    # --- Reading ---

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                sign = self._text[at]
                detail = (
                    "This text has no end; close it with a double quote on the same line."
                    if sign == '"'
                    else f"{sign!r} means nothing here; texts stand in double quotes, names are of a-z, A-Z, 0-9, _."
                )
                raise _Wrong(at, detail)
            if found.lastgroup != "blank":
                yield _Token(found.lastgroup or "", found[0], at)
            at = found.end()
        yield _Token("end", "", at)

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._place + ahead, len(self._tokens) - 1)]

    def _next(self) -> _Token:
        token = self._peek()
        self._place += 1
        return token

    def _want(self, sign: str, detail: str) -> _Token:
        token = self._next()
        if token.text != sign or token.kind == "text":
            raise _Wrong(token.at, detail)
        return token

    def _has(self, sign: str) -> bool:
        if self._peek().kind == "sign" and self._peek().text == sign:
            self._place += 1
            return True
        return False

    def _rule(self, number: int) -> Rule:
        start = self._peek()
        head = self._atom()
        line = self._text.count("\n", 0, start.at) + 1
        if ANYTHING in head.terms:
            raise _Wrong(
                start.at,
                "`_` cannot stand before :-; give what is derived a constant or a variable of the body.",
            )
        if not self._has(":-"):
            confidence = self._least() if self._peek().text == "@" else 1.0
            self._want(".", "A rule goes on with :- or ends with a full stop.")
            return Rule(number, line, head, (), confidence)
        body: list[Literal] = []
        while True:
            if len(body) == MAX_LITERALS:
                raise _Wrong(
                    self._peek().at, f"A rule has at most {MAX_LITERALS} parts; derive something in between."
                )
            body.append(self._literal())
            if self._has("."):
                return Rule(number, line, head, tuple(body))
            self._want(",", "After a part of a rule comes a comma, or a full stop at its end.")

    def _literal(self) -> Literal:
        first, second = self._peek(), self._peek(1)
        if self._has("!"):
            return Match(self._atom(), self._least(), True)
        if first.kind == "name" and second.text == "(":
            return Match(self._atom(), self._least())
        if first.text == "not":
            raise _Wrong(first.at, "Absence is written with an exclamation mark: !signed(A).")
        if first.text == "count" and second.text == ":":
            raise _Wrong(first.at, _NAME_THE_COUNT)
        left = self._term()
        sign = self._next()
        if sign.text not in OPERATORS or sign.kind != "sign":
            raise _Wrong(
                sign.at, f"Here stands one of {', '.join(OPERATORS)}, or before it name(…) of a fact."
            )
        if left is None:
            raise _Wrong(first.at, "`_` cannot be compared; give it a name.")
        if self._peek().text == "count" and self._peek(1).text == ":":
            if sign.text != "=" or not isinstance(left, Variable):
                raise _Wrong(first.at, _NAME_THE_COUNT)
            return self._count(left.name)
        at = self._peek().at
        right = self._term()
        if right is None:
            raise _Wrong(at, "`_` cannot be compared; give it a name.")
        return Comparison(left, sign.text, right)

    def _count(self, variable: str) -> Count:
        self._next()
        self._next()
        self._want("{", "What is counted stands in braces: N = count : { face(A, _) }.")
        atom, least = self._atom(), self._least()
        self._want(
            "}",
            "A count is of one kind of fact: N = count : { face(A, _) @ 0.5 }. Derive it first if it needs more.",
        )
        return Count(variable, atom, least)

    def _least(self) -> float:
        if not self._has("@"):
            return 0.0
        token = self._next()
        value = _number(token) if token.kind == "number" else None
        if value is None or not 0 <= value <= 1:
            raise _Wrong(token.at, "After @ stands the least confidence, a number from 0 to 1.")
        return float(value)

    def _atom(self) -> Atom:
        token = self._next()
        if token.kind != "name" or not token.text[0].islower() or len(token.text) > MAX_NAME:
            raise _Wrong(
                token.at, "Here stands the name of a fact: lower-case letters first, such as face(A, F)."
            )
        self._want("(", f"After {token.text[:MAX_NAME]} come its arguments in brackets.")
        terms = [self._term()]
        while self._has(","):
            if len(terms) == MAX_ARGUMENTS:
                raise _Wrong(self._peek().at, f"A fact has at most {MAX_ARGUMENTS} arguments.")
            terms.append(self._term())
        self._want(")", "After an argument comes a comma or a closing bracket.")
        return Atom(token.text, tuple(terms))

    def _term(self) -> Term:
        token = self._next()
        if token.kind == "text":
            return _text(token)
        if token.kind == "number":
            value = _number(token)
            if value is None:
                raise _Wrong(token.at, f"Numbers lie between -{MAX_NUMBER:,} and {MAX_NUMBER:,}.")
            return value
        if token.text == "_":
            return ANYTHING
        if token.kind != "name":
            raise _Wrong(token.at, "Here stands a variable, a number, or a text in double quotes.")
        if not token.text[0].isupper():
            raise _Wrong(
                token.at,
                f'Write "{token.text[:MAX_NAME]}" in double quotes if it is a text; '
                "variables begin with an upper-case letter.",
            )
        if len(token.text) > MAX_NAME:
            raise _Wrong(token.at, f"Names have at most {MAX_NAME} characters.")
        return Variable(token.text)

    # --- What a program has to be ---

    def _arities(self, rules: Sequence[Rule]) -> dict[str, int]:
        heads = {rule.head.predicate for rule in rules}
        arities = dict(self._known or {})
        for rule in rules:
            atoms = [rule.head, *(part.atom for part in rule.body if not isinstance(part, Comparison))]
            for place, atom in enumerate(atoms):
                name, given = atom.predicate, len(atom.terms)
                at = self._starts[rule.number - 1]
                if place == 0 and self._known is not None and name in self._known:
                    self._add(
                        at,
                        f"{name} is told by what examines items, so no rule derives it; rename it.",
                    )
                elif self._known is not None and name not in heads and name not in self._known:
                    near = get_close_matches(name, sorted({*heads, *self._known}), 1)
                    hint = f" Do you mean {near[0]}?" if near else ""
                    self._add(at, f"Nothing tells or derives {name}.{hint}")
                elif arities.setdefault(name, given) != given:
                    self._add(at, f"{name} has {arities[name]} arguments, and here {given}.")
        return {name: arities[name] for name in sorted(arities)}

    def _safe(self, rule: Rule) -> None:
        """Every variable is bound by a fact that is there, or is a count."""
        bound: set[str] = set()
        counted: list[str] = []
        for part in rule.body:
            if isinstance(part, Match) and not part.negated:
                bound |= part.atom.variables
            elif isinstance(part, Count):
                counted.append(part.variable)
        at = self._starts[rule.number - 1]
        if len(set(counted)) < len(counted) or bound & set(counted):
            self._add(at, "A count has a variable of its own; compare it with another one by =.")
        needed = set(rule.head.variables)
        for part in rule.body:
            if isinstance(part, Match) and part.negated:
                needed |= part.atom.variables
            elif isinstance(part, Comparison):
                needed |= {side.name for side in (part.left, part.right) if isinstance(side, Variable)}
            elif isinstance(part, Count) and part.atom.variables & set(counted):
                self._add(at, "What is counted cannot depend on a count; derive the count first.")
        for name in sorted(needed - bound - set(counted)):
            self._add(at, f"{name} is not bound: let it stand in a fact of the body that is not negated.")

    def _strata(self, rules: Sequence[Rule]) -> tuple[tuple[int, ...], ...]:
        """Raises RulesError where something depends on its own absence or number."""
        level = {rule.head.predicate: 0 for rule in rules}
        edges = {
            (
                rule.head.predicate,
                part.atom.predicate,
                int(isinstance(part, Count) or part.negated),
                rule.number,
            )
            for rule in rules
            for part in rule.body
            if not isinstance(part, Comparison) and part.atom.predicate in level
        }
        ordered = sorted(edges, key=lambda edge: (edge[3], *edge[:3]))
        changed = True
        while changed:
            changed = False
            for head, needs, above, number in ordered:
                if level[head] < level[needs] + above:
                    level[head] = level[needs] + above
                    changed = True
                    if level[head] > len(level):
                        self._add(
                            self._starts[number - 1],
                            f"{head} depends on its own absence or number; take {needs} out of the circle.",
                        )
                        raise RulesError(self._errors)
        strata = sorted(set(level.values()))
        return tuple(tuple(r.number for r in rules if level[r.head.predicate] == one) for one in strata)


def _text(token: _Token) -> str:
    try:
        value = json.loads(token.text, strict=True)
        value.encode()
    except ValueError:
        raise _Wrong(
            token.at, 'In a text, write \\" for a quote, \\\\ for a backslash and \\n for a line feed.'
        ) from None
    if "\0" in value:
        raise _Wrong(token.at, "A text cannot hold the character NUL; leave it out.")
    if len(value) > MAX_TEXT:
        raise _Wrong(token.at, f"Texts have at most {MAX_TEXT:,} characters.")
    return str(value)


def _number(token: _Token) -> int | float | None:
    """In one form, so that 1 and 1.0 are the same; None for one that is too large."""
    if len(token.text) > 40:
        return None
    value = float(token.text)
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        return None
    return int(value) if value.is_integer() else value
