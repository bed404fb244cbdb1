"""Why a policy's rules over facts concluded what they did, in sentences of the active language."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.moderation.rules.facts import ITEM

#: Of one explanation: lines, and how deep they stand in each other.
MOST_LINES, DEEPEST, MOST_FACTS = 60, 8, 3

#: Facts that evidence tells, by their predicate (`tenants.moderation.rules.facts.TOLD`).
NOUNS = {
    "item": gettext_lazy("the item itself"),
    "modality": gettext_lazy("the kind “{first}”"),
    "dataset": gettext_lazy("the dataset {first}"),
    "subject": gettext_lazy("the sender {first}"),
    "strikes": gettext_lazy("strikes of the sender: {first}"),
    "duration": gettext_lazy("a length of {first} seconds"),
    "size": gettext_lazy("a size of {first} × {second} pixels"),
    "metadata": gettext_lazy("the metadata {first}: {second}"),
    "category": gettext_lazy("the category “{first}”"),
    "contains": gettext_lazy("a match of the classifier “{first}”"),
    "estimated": gettext_lazy("the estimate “{first}”"),
    "face": gettext_lazy("a face ({first})"),
    "personal_data": gettext_lazy("personal data of the kind “{second}”"),
    "term": gettext_lazy("the term “{second}” of the list {first}"),
    "words": gettext_lazy("{second} words ({first})"),
    "listed": gettext_lazy("a match on the hash list {first} ({second})"),
    "credentials": gettext_lazy("content credentials: {first}"),
    "watermark": gettext_lazy("the watermark: {first}"),
    "declared_ai": gettext_lazy("a declaration that AI made it"),
    "made_with": gettext_lazy("the generator {first}"),
}

WOULD_BE = {
    "allow": gettext_lazy("It would be allowed {condition}."),
    "label": gettext_lazy("It would be labelled {condition}."),
    "review": gettext_lazy("It would be sent to review {condition}."),
    "block": gettext_lazy("It would be blocked {condition}."),
}

CHANGES = {
    "below": gettext_lazy("if the confidence of {fact} were below {value}"),
    "at_least": gettext_lazy("if the confidence of {fact} were {value} at least"),
    "without": gettext_lazy("if {fact} had not been found"),
    "found": gettext_lazy("if {fact} had been found"),
    "asks_more": gettext_lazy("if rule {rule} over facts asked “{fact}” for a confidence above {value}"),
    "asks_less": gettext_lazy("if rule {rule} over facts asked “{fact}” for a confidence of {value} only"),
}

#: Facts that may name a person, or hold what a client wrote.
PERSONAL = frozenset({"subject", "metadata", "dataset", "term", "made_with"})

SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠"}


@dataclass
class Line:
    """A sentence, and what it rests on."""

    text: str
    below: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Why:
    """`rules`: each rule of the policy that fired and reads facts, with why. `otherwise`: after which change it would
    be decided differently. `error`: why nothing was concluded. `mismatch`: what does not fit in the
    proof."""

    rules: dict[str, list[Line]]
    otherwise: list[str]
    error: str = ""
    mismatch: str = ""

    def sentences(self) -> list[str]:
        """All of it, one after the other."""
        lines = [text for found in self.rules.values() for line in found for text in _flat(line)]
        return [*lines, *self.otherwise]


def explain(reasoning: Mapping[str, Any], *, public: bool = False) -> Why:
    """What `tenants.moderation.rules.reasoning` stored, in words. `public`: without what may name a person."""
    if "error" in reasoning:
        return Why({}, [], str(reasoning["error"]))
    proof, hidden = reasoning["proof"], PERSONAL if public else frozenset[str]()
    rules = {rule: _Lines(proof, hidden).of(names) for rule, names in reasoning.get("read", {}).items()}
    return Why(rules, list(_otherwise(reasoning.get("otherwise") or {})))


class _Lines:
    def __init__(self, proof: Mapping[str, Any], hidden: frozenset[str]) -> None:
        self._hidden = hidden
        self._open = set(proof["open"])
        self._told = {_key(one["fact"]): one for one in proof["facts"]}
        self._derived = {_key(one["fact"]): one for one in proof["derived"]}
        self._shown: set[str] = set()
        self._left = MOST_LINES

    def of(self, names: list[str]) -> list[Line]:
        lines = []
        for name in names:
            nodes = [node for node in self._derived.values() if node["fact"][0] == name]
            nodes.sort(key=lambda node: -node["confidence"])
            lines += [self._node(node, 0) for node in nodes[:MOST_FACTS]]
            if not nodes:
                said = _("{fact} was not examined.") if name in self._open else _("{fact} does not hold.")
                lines.append(Line(said.format(fact=name)))
        return lines

    def _node(self, node: Mapping[str, Any], depth: int) -> Line:
        fact = self._named(node["fact"])
        key = _key(node["fact"])
        if key in self._shown or depth == DEEPEST or self._left <= 0:
            return Line(_("{fact} follows, as above.").format(fact=fact))
        self._shown.add(key)
        self._left -= 1
        if not node["parts"]:
            said = _("{fact} is stated by rule {rule} over facts (line {line}).")
            return Line(said.format(fact=fact, rule=node["rule"], line=node["line"]))
        said = _("{fact} follows with confidence {confidence}, by rule {rule} over facts (line {line}):")
        text = said.format(
            fact=fact, confidence=_sure(node["confidence"]), rule=node["rule"], line=node["line"]
        )
        return Line(text, [self._part(part, depth + 1) for part in node["parts"] if self._is_shown(part)])

    def _is_shown(self, part: Mapping[str, Any]) -> bool:
        """Values that are compared may come from anywhere."""
        about = part.get("fact") or part.get("of") or part.get("absent")
        return about[0] not in self._hidden if about else not self._hidden

    def _part(self, part: Mapping[str, Any], depth: int) -> Line:
        self._left -= 1
        if "compared" in part:
            left, sign, right = part["compared"]
            return Line(f"{left} {SIGNS.get(sign, sign)} {right}")
        if "count" in part:
            return Line(
                _("Counted: {count} × {fact}.").format(count=part["count"], fact=self._named(part["of"]))
            )
        if "absent" in part:
            if part["least"]:
                said = _("Looked for and not found with confidence {least}: {fact}.")
                return Line(said.format(least=f"{part['least']:g}", fact=self._named(part["absent"])))
            return Line(_("Looked for and not found: {fact}.").format(fact=self._named(part["absent"])))
        key = _key(part["fact"])
        if key in self._derived:
            return self._node(self._derived[key], depth)
        return Line(self._found(part, str(self._told.get(key, {}).get("source", ""))))

    def _found(self, part: Mapping[str, Any], source: str) -> str:
        fact, confidence = self._named(part["fact"]), _sure(part["confidence"])
        if part["least"]:
            said = _("Found: {fact} (confidence {confidence}, {source}); {least} at least is asked for.")
            return said.format(fact=fact, confidence=confidence, source=source, least=f"{part['least']:g}")
        return _("Found: {fact} (confidence {confidence}, {source}).").format(
            fact=fact, confidence=confidence, source=source
        )

    def _named(self, fact: list[Any]) -> str:
        """What rules derive may carry any value on."""
        return str(fact[0]) if self._hidden and fact[0] not in NOUNS else named(fact)


def named(fact: list[Any]) -> str:
    """A fact in words; of one that rules derive its name and arguments. Null arguments are any."""
    name, *arguments = fact
    said = ["…" if one is None else str(one) for one in arguments if one != ITEM][:8]
    if name in NOUNS and arguments[:1] in ([ITEM], [None]):
        rest = ["…" if one is None else str(one) for one in arguments[1:]]
        return str(NOUNS[name]).format(**dict(zip(("first", "second"), [*rest, "…", "…"], strict=False)))
    return f"{name}({', '.join(said)})" if said else str(name)


def _otherwise(found: Mapping[str, Any]) -> Iterator[str]:
    template = WOULD_BE.get(str(found.get("decision")))
    for changes in found.get("changes", ()) if template else ():
        condition = _(" and ").join(_change(change) for change in changes)
        yield str(template).format(condition=condition)


def _change(change: Mapping[str, Any]) -> str:
    fact = named(change["fact"]) if "fact" in change else str(change["of"])
    value = f"{change['value']:.4g}" if "value" in change else ""
    return str(CHANGES[change["kind"]]).format(fact=fact, value=value, rule=change.get("rule", ""))


def _sure(confidence: float) -> str:
    return f"{confidence:.2f}"


def _key(fact: list[Any]) -> str:
    return json.dumps(fact)


def _flat(line: Line) -> Iterator[str]:
    yield line.text
    for one in line.below:
        yield from _flat(one)
