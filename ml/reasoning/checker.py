"""Replays a proof (`ml.reasoning.proofs`) with nothing of the engine that made it: it reads rules and documents itself.

Each derived fact has to be an instance of its rule, as sure as its least sure part; then every rule is matched once
against all facts, and has to give nothing more, and nothing surer: so what is absent is absent, and what was counted
is all. It imports the standard library alone, and shares no code with the rest of this package (a test asserts it).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from functools import lru_cache
from typing import Any

#: Facts that one check looks at, at most.
MAX_STEPS = 5_000_000


class Mismatch(Exception):
    """The first thing in a proof that does not fit, in words."""


def check_proof(proof: Any, rules: str, *, facts: str | None = None, steps: int = MAX_STEPS) -> None:
    """Raises Mismatch unless the proof is one, by these rules, of all that follows. `facts`: the digest of the facts
    that was noted elsewhere; without it, facts that were changed together with their digest stay unnoticed."""
    try:
        _Check(proof, rules, facts, steps).run()
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise Mismatch(f"This is no proof: {type(error).__name__}: {error}"[:300]) from None


# --- Rules, read by hand ---------------------------------------------------------------------------------

# A term is ("v", name), ("c", constant) or ("_",). A part is ("fact"|"absent", predicate, terms, least),
# ("count", predicate, terms, least, variable) or ("compared", left, operator, right).

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"


class _Text:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.skip()

    def skip(self) -> None:
        text = self.text
        while self.at < len(text):
            if text[self.at] in " \t\r\n":
                self.at += 1
            elif text[self.at] == "%" or text.startswith("//", self.at):
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            else:
                return

    def take(self, sign: str) -> bool:
        found = self.text.startswith(sign, self.at)
        if found:
            self.at += len(sign)
            self.skip()
        return found

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise Mismatch(f"The rules cannot be read: {sign!r} is missing at character {self.at}.")

    def word(self) -> str:
        end = self.at
        while end < len(self.text) and self.text[end] in _LETTERS:
            end += 1
        word, self.at = self.text[self.at : end], end
        self.skip()
        return word

    def number(self) -> int | float:
        end = self.at
        while end < len(self.text) and (
            self.text[end] in "0123456789eE"
            or (self.text[end] in "+-" and (end == self.at or self.text[end - 1] in "eE"))
            or (self.text[end] == "." and self.text[end + 1 : end + 2].isdigit())
        ):
            end += 1
        value = float(self.text[self.at : end])
        self.at = end
        self.skip()
        return int(value) if value == math.floor(value) else value

    def term(self) -> tuple[Any, ...]:
        first = self.text[self.at]
        if first == '"':
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            self.skip()
            return ("c", value)
        if first in "-0123456789":
            return ("c", self.number())
        word = self.word()
        return ("_",) if word == "_" else ("v", word)

    def atom(self) -> tuple[str, list[tuple[Any, ...]]]:
        name = self.word()
        self.need("(")
        terms = [self.term()]
        while self.take(","):
            terms.append(self.term())
        self.need(")")
        return name, terms

    def least(self) -> float:
        return float(self.number()) if self.take("@") else 0.0

    def part(self) -> tuple[Any, ...]:
        if self.take("!"):
            return ("absent", *self.atom(), self.least())
        place = self.at
        if self.word() and self.take("("):
            self.at = place
            return ("fact", *self.atom(), self.least())
        self.at = place
        left = self.term()
        operator = next(sign for sign in ("<=", ">=", "!=", "<", ">", "=") if self.take(sign))
        place = self.at
        if self.word() == "count" and self.take(":"):
            self.need("{")
            counted = ("count", *self.atom(), self.least(), left[1])
            self.need("}")
            return counted
        self.at = place
        return ("compared", left, operator, self.term())


@lru_cache(256)
def _rules_of(text: str) -> tuple[tuple[Any, ...], ...]:
    """(head's predicate, its terms, parts, confidence, line) of each rule. Raises Mismatch where one rests on its own
    absence."""
    read, rules = _Text(text), []
    while read.at < len(text):
        line = text.count("\n", 0, read.at) + 1
        name, terms = read.atom()
        parts = []
        if read.take(":-"):
            parts.append(read.part())
            while read.take(","):
                parts.append(read.part())
            sure = 1.0
        else:
            sure = read.least() if read.text.startswith("@", read.at) else 1.0
        read.need(".")
        rules.append((name, terms, parts, sure, line))
    _ordered(rules)
    return tuple(rules)


def _ordered(rules: list[tuple[Any, ...]]) -> None:
    """Predicates are peeled off: those that ask for nothing which is left but by circles without absence and number."""
    left = {rule[0] for rule in rules}
    while left:
        # The greatest set that rests on what is peeled off already, and on itself by plain facts alone.
        level, shrunk = set(left), True
        while shrunk:
            shrunk = False
            for name, _, parts, *_ in rules:
                if name in level and any(
                    part[0] != "compared" and part[1] in left and (part[0] != "fact" or part[1] not in level)
                    for part in parts
                ):
                    level.discard(name)
                    shrunk = True
        if not level:
            raise Mismatch("Rules rest on their own absence or number.")
        left -= level


# --- The check -------------------------------------------------------------------------------------------


class _Check:
    def __init__(self, proof: Any, rules: str, noted: str | None, steps: int) -> None:
        self.proof, self.text, self.noted, self.steps = proof, rules, noted, steps
        self.sure: dict[tuple[Any, ...], float] = {}
        self.depth: dict[tuple[Any, ...], int] = {}
        self.by_name: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.by_first: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)

    def run(self) -> None:
        proof = self.proof
        if (
            set(proof) != {"format", "rules", "facts", "examined", "digest", "open", "derived"}
            or proof["format"] != 1
        ):
            raise Mismatch("The document is no proof of format 1.")
        if hashlib.sha256(self.text.encode()).hexdigest() != proof["rules"]:
            raise Mismatch("The rules are not those that the proof names.")
        self.rules = _rules_of(self.text)
        self.heads = {rule[0] for rule in self.rules}
        self._facts()
        self._coverage()
        self._derivations()
        self._nothing_more()

    def _facts(self) -> None:
        facts, examined = self.proof["facts"], self.proof["examined"]
        content = json.dumps([facts, examined], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(content.encode()).hexdigest()
        if digest != self.proof["digest"] or self.noted not in (None, digest):
            raise Mismatch("The facts are not those of the digest.")
        for told in facts:
            fact = self._fact(told["fact"])
            if fact in self.sure or fact[0] in self.heads:
                raise Mismatch(f"{_said(fact)} is told twice, or is derived by rules.")
            if set(told) != {"fact", "confidence", "source"} or not isinstance(told["source"], str):
                raise Mismatch(f"{_said(fact)} has other fields than a fact has.")
            self._note(fact, _confidence(told["confidence"]), 0)

    def _fact(self, given: Any) -> tuple[Any, ...]:
        if not isinstance(given, list) or len(given) < 2 or not isinstance(given[0], str):
            raise Mismatch("A fact is a list of its name and arguments.")
        for value in given[1:]:
            whole = isinstance(value, float) and value == math.floor(value)
            if whole or isinstance(value, bool) or not isinstance(value, str | int | float):
                raise Mismatch(f"{value!r:.50} is no argument of a fact.")
        return tuple(given)

    def _note(self, fact: tuple[Any, ...], sure: float, depth: int) -> None:
        self.sure[fact], self.depth[fact] = sure, depth
        self.by_name[fact[0]].append(fact)
        self.by_first[fact[:2]].append(fact)

    def _coverage(self) -> None:
        """Which predicates are open, and which rules must be silent."""
        covered = self.proof["examined"]

        def examined(part: tuple[Any, ...]) -> bool:
            return any(
                one[0] == part[1]
                and len(one) == len(part[2]) + 1
                and all(
                    given is None or (term[0] == "c" and term[1] == given)
                    for given, term in zip(one[1:], part[2], strict=True)
                )
                for one in covered
            )

        looked = [
            [part[0] == "compared" or part[1] in self.heads or examined(part) for part in rule[2]]
            for rule in self.rules
        ]
        self.open: set[str] = set()
        count = -1
        while count != len(self.open):
            count = len(self.open)
            for rule, told in zip(self.rules, looked, strict=True):
                if not all(told) or any(part[0] != "compared" and part[1] in self.open for part in rule[2]):
                    self.open.add(rule[0])
        self.silent = {
            number
            for number, (rule, told) in enumerate(zip(self.rules, looked, strict=True), 1)
            for part, known in zip(rule[2], told, strict=True)
            if part[0] in ("absent", "count") and (not known or part[1] in self.open)
        }
        if self.proof["open"] != sorted(self.open):
            raise Mismatch("What was not examined is told otherwise.")

    def _derivations(self) -> None:
        before: tuple[Any, ...] | None = None
        nodes = self.proof["derived"]
        for node in nodes:
            fact = self._fact(node["fact"])
            if fact in self.sure:
                raise Mismatch(f"{_said(fact)} is derived twice.")
            if set(node) != {"fact", "confidence", "rule", "line", "depth", "parts"}:
                raise Mismatch(f"The derivation of {_said(fact)} has other fields than one has.")
            place = (node["depth"], fact[0], [_rank(value) for value in fact[1:]])
            if before is not None and before >= place:
                raise Mismatch(f"{_said(fact)} does not stand in its place.")
            before = place
            self._note(fact, _confidence(node["confidence"]), node["depth"])
        for node in nodes:
            self._derivation(node, tuple(node["fact"]))

    def _derivation(self, node: Any, fact: tuple[Any, ...]) -> None:
        number = node["rule"]
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(self.rules):
            raise Mismatch(f"{_said(fact)}: there is no rule {number!r}.")
        name, terms, parts, sure, line = self.rules[number - 1]
        if number in self.silent:
            raise Mismatch(
                f"{_said(fact)}: rule {number} asks for the absence or number of what was not examined."
            )
        if len(node["parts"]) != len(parts) or node["line"] != line:
            raise Mismatch(f"{_said(fact)} is not derived as rule {number} says.")
        bound: dict[str, Any] = {}
        below = 0
        # What binds comes first, then what asks.
        for kind in ("fact", "count", "absent", "compared"):
            for part, found in zip(parts, node["parts"], strict=True):
                if part[0] == kind:
                    holds, depth = getattr(self, f"_{kind}_part")(part, found, bound)
                    sure, below = min(sure, holds), max(below, depth)
        if name != fact[0] or _filled(terms, bound) != fact[1:]:
            raise Mismatch(f"{_said(fact)} is not what rule {number} derives.")
        if node["confidence"] != sure or node["depth"] != below + 1 or isinstance(node["depth"], bool):
            raise Mismatch(
                f"{_said(fact)} is not as sure as its least sure part, or stands at another depth."
            )

    def _fact_part(self, part: tuple[Any, ...], found: Any, bound: dict[str, Any]) -> tuple[float, int]:
        fact = self._fact(found["fact"])
        if fact not in self.sure or not _binds(part[2], fact[1:], bound) or fact[0] != part[1]:
            raise Mismatch(f"{_said(fact)} is not there, or not what the rule asks for.")
        sure = self.sure[fact]
        if found != {"fact": list(fact), "confidence": sure, "least": part[3]} or sure < part[3]:
            raise Mismatch(f"{_said(fact)} is told with another confidence, or is not sure enough.")
        return sure, self.depth[fact]

    def _count_part(self, part: tuple[Any, ...], found: Any, bound: dict[str, Any]) -> tuple[float, int]:
        form = _filled(part[2], bound)
        matching = sorted(self._alike(part, form), key=lambda fact: [_rank(value) for value in fact[1:]])
        told = {
            "count": len(matching),
            "of": [part[1], *form],
            "least": part[3],
            "facts": [list(f) for f in matching],
        }
        if found != told or isinstance(found["count"], bool):
            raise Mismatch(f"{_said((part[1], *form))} is counted otherwise.")
        bound[part[4]] = len(matching)
        depth = max((self.depth[fact] for fact in matching), default=0)
        return min((self.sure[fact] for fact in matching), default=1.0), depth

    def _absent_part(self, part: tuple[Any, ...], found: Any, bound: dict[str, Any]) -> tuple[float, int]:
        form = _filled(part[2], bound)
        if found != {"absent": [part[1], *form], "least": part[3]} or self._alike(part, form):
            raise Mismatch(f"{_said((part[1], *form))} is not absent.")
        return 1.0, 0

    def _compared_part(self, part: tuple[Any, ...], found: Any, bound: dict[str, Any]) -> tuple[float, int]:
        left, right = _filled((part[1], part[3]), bound)
        if found != {"compared": [left, part[2], right]} or not _true(left, part[2], right):
            raise Mismatch(f"{left!r:.50} {part[2]} {right!r:.50} is not so.")
        return 1.0, 0

    def _alike(self, part: tuple[Any, ...], form: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        among = (
            self.by_name.get(part[1], ()) if form[0] is None else self.by_first.get((part[1], form[0]), ())
        )
        self._spend(len(among))
        return [
            fact
            for fact in among
            if self.sure[fact] >= part[3]
            and all(given is None or given == value for given, value in zip(form, fact[1:], strict=True))
            and _binds(part[2], fact[1:], {})
        ]

    def _spend(self, steps: int) -> None:
        self.steps -= steps + 1
        if self.steps < 0:
            raise Mismatch("Checking this takes too long; it is not checked.")

    def _nothing_more(self) -> None:
        for number, (name, terms, parts, sure, _) in enumerate(self.rules, 1):
            if number in self.silent:
                continue
            told = [part for part in parts if part[0] == "fact"]
            # What has a constant first narrows most.
            told.sort(
                key=lambda part: (all(term[0] != "c" for term in part[2]), len(self.by_name.get(part[1], ())))
            )
            asked = sorted((part for part in parts if part[0] != "fact"), key=lambda part: part[0] != "count")
            self._match(told, asked, {}, sure, name, terms)

    def _match(
        self,
        told: list[tuple[Any, ...]],
        asked: list[tuple[Any, ...]],
        bound: dict[str, Any],
        sure: float,
        name: str,
        terms: list[tuple[Any, ...]],
    ) -> None:
        if told:
            part, *rest = told
            for fact in self._alike(part, _filled(part[2], bound)):
                more = dict(bound)
                if _binds(part[2], fact[1:], more):
                    self._match(rest, asked, more, min(sure, self.sure[fact]), name, terms)
            return
        for part in asked:
            if part[0] == "compared":
                left, right = _filled((part[1], part[3]), bound)
                if not _true(left, part[2], right):
                    return
                continue
            alike = self._alike(part, _filled(part[2], bound))
            if part[0] == "count":
                bound[part[4]] = len(alike)
                sure = min(sure, min((self.sure[fact] for fact in alike), default=1.0))
            elif alike:
                return
        fact = (name, *_filled(terms, bound))
        if self.sure.get(fact, -1.0) < sure:
            raise Mismatch(f"{_said(fact)} follows with confidence {sure:g}, and the proof does not say so.")


def _binds(terms: Any, values: tuple[Any, ...], bound: dict[str, Any]) -> bool:
    """Whether the values fit, adding what variables stand for."""
    if len(terms) != len(values):
        return False
    for term, value in zip(terms, values, strict=True):
        if term[0] == "c" and term[1] != value:
            return False
        if term[0] == "v" and bound.setdefault(term[1], value) != value:
            return False
    return True


def _filled(terms: Any, bound: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        term[1] if term[0] == "c" else bound.get(term[1]) if term[0] == "v" else None for term in terms
    )


def _true(left: Any, operator: str, right: Any) -> bool:
    if operator == "=":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if isinstance(left, str) or isinstance(right, str):
        return False
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


def _confidence(value: Any) -> float:
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise Mismatch(f"{value!r:.50} is no confidence.")
    return value


def _rank(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)


def _said(fact: tuple[Any, ...]) -> str:
    values = ", ".join("_" if value is None else json.dumps(value, ensure_ascii=False) for value in fact[1:])
    return f"{fact[0]}({values})"[:200]
