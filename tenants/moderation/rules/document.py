"""What a policy says, as one JSON document: checked, brought into one form, and named by its digest.

`rules` in order, each `{"id", "when": CEL, "then", "reason", "labels"?, "severity"?, "stop"?}`; `thresholds` per
category, and which are `off`; what happens where nothing could look (`on_failure`); what happens to uploads
(`audit_uploads`, `quarantine`); what people do (`second_opinion`, `sla_hours`, `strikes`, `appeal_days`).
docs/auditing/policies.md describes each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ml.auditing import CATEGORIES
from ml.provenance.anchors import check_anchors
from ml.reasoning import RulesError
from tenants.errors import Invalid
from tenants.moderation.expressions.compiler import compile_expression
from tenants.moderation.expressions.syntax import ExpressionError
from tenants.moderation.expressions.variables import MODALITIES
from tenants.moderation.json_values import escaped, why_unstorable
from tenants.moderation.rules import facts

ALLOW, LABEL, REVIEW, BLOCK = "allow", "label", "review", "block"

#: Weakest first.
DECISIONS = (ALLOW, LABEL, REVIEW, BLOCK)

SEVERITY = {ALLOW: 0, LABEL: 10, REVIEW: 50, BLOCK: 80}

#: Of a category for which the policy names none.
THRESHOLD = 0.5

#: The name under which a failure to look stands among the rules that fired.
DETECTOR_FAILED = "detector-failed"


MAX_RULES, MAX_STEPS, MAX_BYTES = 200, 50_000, 512_000

MAX_REASON, MAX_LABELS, MAX_LABEL = 500, 10, 60

MAX_DETECTORS, MAX_DETECTOR = 50, 200

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")

#: What a policy may tell detectors; all else belongs to the installation.
OPTIONS = ("trust_anchors", "keywords")

MAX_TERMS, MAX_TERM = 2_000, 200

SLA = ("high", "medium", "low")

# Of a policy that adjusts its thresholds to reviewers' decisions: between two times, and of confirmed flags.
MOST_DAYS, MOST_LOST = 60, 0.2

# In which an appeal can be made.
MOST_APPEAL_DAYS = 3_650


@dataclass(frozen=True)
class Examined:
    """`document`: what can be used, in normal form. `places`: where its rules stood. `errors`: pointers and details."""

    document: dict[str, Any]
    places: tuple[int, ...]
    errors: list[dict[str, str]]


def read_document(document: Any, pointer: str = "") -> dict[str, Any]:
    """The document in normal form, every field there. Raises Invalid with a pointer for each thing that is wrong."""
    examined = examine_document(document, pointer)
    if errors := examined.errors:
        error = Invalid(errors[0]["detail"] if len(errors) == 1 else f"{len(errors)} values are not valid.")
        error.errors = errors
        raise error
    return examined.document


def examine_document(document: Any, pointer: str = "") -> Examined:
    """As much of a document as can be read, and what is wrong with the rest."""
    reader = _Reader(pointer)
    normal = reader.document(document)
    return Examined(normal, tuple(reader.places), reader.errors)


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document in normal form, as canonical JSON: sorted keys, no blanks."""
    return hashlib.sha256(msgspec.json.encode(document, order="deterministic")).hexdigest()


class _Reader:
    def __init__(self, pointer: str) -> None:
        self.errors: list[dict[str, str]] = []
        self.places: list[int] = []
        self._asked: list[tuple[str, tuple[str, ...]]] = []
        self._base = pointer

    def _wrong(self, pointer: str, detail: str) -> None:
        self.errors.append({"pointer": self._base + pointer, "detail": detail})

    def document(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            self._wrong("", "A policy is a JSON object with rules.")
            given = {}
        elif problem := why_unstorable(given, MAX_BYTES):
            self._wrong("", problem)
            given = {}
        elif "rules" not in given:
            self._wrong("/rules", "A policy has rules, a list that may be empty.")
        normal = {name: read(self, given.get(name), f"/{escaped(name)}") for name, read in _FIELDS.items()}
        self._known_only(given, _FIELDS, "")
        self._facts_asked(normal["facts_rules"])
        return {name: value for name, value in normal.items() if value is not None}

    def _known_only(self, given: Mapping[str, Any], known: Iterable[str], pointer: str) -> None:
        for name, value in given.items():
            if name not in known:
                self._wrong(
                    f"{pointer}/{escaped(name)}", f"There is no such field; there are {', '.join(known)}."
                )
            elif value is None:
                self._wrong(f"{pointer}/{escaped(name)}", "null is no value here; leave the field out.")

    # --- Rules ---

    def rules(self, given: Any, pointer: str) -> list[dict[str, Any]]:
        if given is None:
            return []
        if not isinstance(given, list):
            self._wrong(pointer, "Rules are a list.")
            return []
        if len(given) > MAX_RULES:
            self._wrong(pointer, f"At most {MAX_RULES} rules.")
            return []
        rules = [self._rule(rule, f"{pointer}/{place}") for place, rule in enumerate(given)]
        self._unique(rules, pointer)
        steps = sum(steps for _, steps in rules)
        if steps > MAX_STEPS:
            self._wrong(pointer, f"All rules together may take {steps:,.0f} steps, of {MAX_STEPS:,} allowed.")
        self.places = [place for place, (rule, _) in enumerate(rules) if rule]
        return [rule for rule, _ in rules if rule]

    def _unique(self, rules: list[tuple[dict[str, Any], float]], pointer: str) -> None:
        seen: set[str] = set()
        for place, (rule, _) in enumerate(rules):
            if rule and rule["id"] in seen:
                self._wrong(f"{pointer}/{place}/id", f"Another rule is called {rule['id']!r}.")
            seen.add(rule.get("id", ""))

    def _rule(self, given: Any, pointer: str) -> tuple[dict[str, Any], float]:
        """The rule in normal form, empty where something is wrong, and the steps that it may take."""
        if not isinstance(given, dict):
            self._wrong(pointer, "A rule is a JSON object: {id, when, then, reason}.")
            return {}, 0.0
        before = len(self.errors)
        self._known_only(given, _RULE, pointer)
        rule = {name: read(self, given.get(name), f"{pointer}/{name}") for name, read in _RULE.items()}
        if rule["then"] == LABEL and not rule["labels"] and len(self.errors) == before:
            self._wrong(f"{pointer}/labels", "A rule that labels says with what: labels is empty.")
        if len(self.errors) > before:
            return {}, 0.0
        rule["severity"] = SEVERITY[rule["then"]] if rule["severity"] is None else rule["severity"]
        return rule, compile_expression(rule["when"]).inspection.steps

    def rule_id(self, given: Any, pointer: str) -> str:
        if not isinstance(given, str) or not _ID.fullmatch(given):
            self._wrong(pointer, "An id has 1 to 60 letters, digits, dots, hyphens and underscores.")
        elif given == DETECTOR_FAILED:
            self._wrong(pointer, f"{DETECTOR_FAILED!r} stands for what could not look; choose another id.")
        return str(given)

    def when(self, given: Any, pointer: str) -> str:
        if not isinstance(given, str) or not given.strip():
            self._wrong(pointer, "A condition is an expression in CEL, such as categories.abuse.score > 0.9.")
            return ""
        try:
            paths = compile_expression(given).inspection.paths
            self._asked += [(pointer, path) for path in sorted(paths) if path[0] == "facts"]
        except ExpressionError as error:
            self._wrong(pointer, f"{error.message} (at character {error.at + 1})")
        return given

    def reason(self, given: Any, pointer: str) -> str:
        if not isinstance(given, str) or not given.strip() or len(given) > MAX_REASON:
            self._wrong(pointer, f"A reason is a sentence for people, of 1 to {MAX_REASON} characters.")
        return str(given)

    def labels(self, given: Any, pointer: str) -> list[str]:
        if given is None:
            return []
        if not isinstance(given, list) or len(given) > MAX_LABELS:
            self._wrong(pointer, f"Labels are a list of at most {MAX_LABELS} texts.")
            return []
        for place, label in enumerate(given):
            if not isinstance(label, str) or not label.strip() or len(label) > MAX_LABEL:
                self._wrong(f"{pointer}/{place}", f"A label is a text of 1 to {MAX_LABEL} characters.")
        return list(dict.fromkeys(str(label) for label in given))

    # --- Fields of the document ---

    def thresholds(self, given: Any, pointer: str) -> dict[str, float]:
        named = self._object(given, pointer)
        for name in named:
            if name not in CATEGORIES:
                self._wrong(
                    f"{pointer}/{escaped(name)}",
                    f"There is no such category; there are {', '.join(CATEGORIES)}.",
                )
        kept = {
            name: self._number(value, f"{pointer}/{escaped(name)}", 0, 1) for name, value in named.items()
        }
        return {name: float(value) for name, value in sorted(kept.items()) if value is not None}

    def off(self, given: Any, pointer: str) -> list[str] | None:
        """Categories that are never flagged; None where there are none, as in documents of before there was this."""
        if given is None or given == []:
            return None
        if not isinstance(given, list) or not all(one in CATEGORIES for one in given):
            self._wrong(pointer, f"A list of categories; there are {', '.join(CATEGORIES)}.")
            return None
        return [name for name in CATEGORIES if name in given]

    def detectors(self, given: Any, pointer: str) -> list[str] | None:
        if given is None:
            return None
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_DETECTORS:
            self._wrong(
                pointer, f"Detectors are a list of 1 to {MAX_DETECTORS} names; leave it out to ask all."
            )
            return None
        for place, spec in enumerate(given):
            if not isinstance(spec, str) or not 1 <= len(spec) <= MAX_DETECTOR:
                self._wrong(f"{pointer}/{place}", "A detector is named by a text, such as c2pa.")
        return list(dict.fromkeys(str(spec) for spec in given))

    def modalities(self, given: Any, pointer: str) -> list[str] | None:
        if given is None:
            return None
        named = given if isinstance(given, list) else []
        if not 1 <= len(named) <= len(MODALITIES) or not all(one in MODALITIES for one in named):
            self._wrong(pointer, f"Modalities are a list of {', '.join(MODALITIES)}; leave it out for all.")
            return None
        return [one for one in MODALITIES if one in given]

    def options(self, given: Any, pointer: str) -> dict[str, Any]:
        named = self._named(given, pointer, OPTIONS)
        if "trust_anchors" in named:
            try:
                check_anchors(named["trust_anchors"])
            except ValueError as error:
                self._wrong(f"{pointer}/trust_anchors", str(error))
        if "keywords" in named:
            self._keywords(named["keywords"], f"{pointer}/keywords")
        return named

    def _keywords(self, given: Any, pointer: str) -> None:
        if given is None:
            self._wrong(pointer, "This is a JSON object.")
        for name, terms in self._named(given, pointer, CATEGORIES).items():
            self._terms(terms, f"{pointer}/{name}")

    def _terms(self, given: Any, pointer: str) -> None:
        if not isinstance(given, list) or not all(isinstance(term, str) and term.strip() for term in given):
            self._wrong(pointer, "A list of words or phrases.")
        elif len(given) > MAX_TERMS or any(len(term) > MAX_TERM for term in given):
            self._wrong(pointer, f"At most {MAX_TERMS:,} words or phrases of {MAX_TERM} characters.")

    def sla_hours(self, given: Any, pointer: str) -> dict[str, float]:
        named = self._named(given, pointer, SLA)
        kept = {name: self._number(value, f"{pointer}/{name}", 0.1, 8_760) for name, value in named.items()}
        return {name: float(value) for name, value in kept.items() if value is not None}

    def strikes(self, given: Any, pointer: str) -> dict[str, int]:
        named = self._named(given, pointer, ("expire_days",))
        kept = {name: self._number(value, f"{pointer}/{name}", 1, 3_650) for name, value in named.items()}
        return {name: int(value) for name, value in kept.items() if value is not None}

    def appeal_days(self, given: Any, pointer: str) -> int | None:
        """For how many days after a decision an appeal can be made; None for ever, as in documents of before there was
        this."""
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MOST_APPEAL_DAYS:
            self._wrong(
                pointer, f"A whole number of days, from 1 to {MOST_APPEAL_DAYS:,}; leave it out for no limit."
            )
            return None
        return given

    def facts_rules(self, given: Any, pointer: str) -> str | None:
        """Rules over facts, as `ml.reasoning` reads them; None where there are none."""
        if given is None:
            return None
        if not isinstance(given, str) or not given.strip():
            self._wrong(pointer, "Rules over facts are a text; leave the field out if there are none.")
            return None
        if len(given) > facts.MAX_CHARACTERS:
            self._wrong(pointer, f"At most {facts.MAX_CHARACTERS:,} characters of rules over facts.")
            return None
        try:
            program = facts.read_policy_rules(given)
        except RulesError as error:
            for one in error.errors:
                self._wrong(pointer, str(one))
            return None
        if len(program.rules) > facts.MAX_RULES:
            self._wrong(pointer, f"At most {facts.MAX_RULES} rules over facts.")
            return None
        return given

    def _facts_asked(self, text: str | None) -> None:
        """Conditions read what rules over facts derive, and nothing else."""
        derived = facts.read_policy_rules(text).derived if text else frozenset()
        if text is None and any(error["pointer"] == f"{self._base}/facts_rules" for error in self.errors):
            return
        for pointer, path in self._asked:
            if len(path) < 2 or path[1] in ("*", ""):
                self._wrong(pointer, "Name what is asked: facts.NAME.holds.")
            elif path[1] not in derived:
                there = f"there are {', '.join(sorted(derived)[:20])}" if derived else "there are none"
                self._wrong(pointer, f"No rule of facts_rules derives {path[1]!r}; {there}.")
            elif len(path) > 2 and path[2] not in facts.FIELDS:
                self._wrong(pointer, f"Of a fact there are {', '.join(facts.FIELDS)}.")
            elif len(path) == 2:
                self._wrong(pointer, f"Write facts.{path[1]}.holds, or another of {', '.join(facts.FIELDS)}.")

    def recalibrate(self, given: Any, pointer: str) -> dict[str, Any] | None:
        """When thresholds are adjusted to reviewers' decisions, and what becomes of the version; None for never, as in
        documents of before there was this."""
        if given is None:
            return None
        named = self._named(given, pointer, ("every_days", "lose", "activate"))
        days = self._number(named.get("every_days", 7), f"{pointer}/every_days", 1, MOST_DAYS)
        lose = self._number(named.get("lose", 0.02), f"{pointer}/lose", 0, MOST_LOST)
        mode = named.get("activate", "none")
        if mode not in ("none", "shadow", "enforce"):
            self._wrong(f"{pointer}/activate", "One of none, shadow, enforce.")
        return {"every_days": int(days or 0), "lose": float(lose or 0), "activate": mode}

    def _object(self, given: Any, pointer: str) -> dict[str, Any]:
        if given is not None and not isinstance(given, dict):
            self._wrong(pointer, "This is a JSON object.")
        return given if isinstance(given, dict) else {}

    def _named(self, given: Any, pointer: str, known: tuple[str, ...]) -> dict[str, Any]:
        named = self._object(given, pointer)
        for name in named:
            if name not in known:
                self._wrong(
                    f"{pointer}/{escaped(name)}", f"There is no such field; there are {', '.join(known)}."
                )
        return {name: value for name, value in named.items() if name in known}

    def _number(self, given: Any, pointer: str, low: float, high: float) -> float | None:
        if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
            self._wrong(pointer, f"A number from {low:g} to {high:g}.")
            return None
        return given


def _one_of(values: tuple[str, ...], default: str | None = None) -> Callable[[_Reader, Any, str], Any]:
    def read(reader: _Reader, given: Any, pointer: str) -> Any:
        if given is None and default is not None:
            return default
        if not isinstance(given, str) or given not in values:
            reader._wrong(pointer, f"One of {', '.join(values)}.")
            return values[0]
        return given

    return read


def _flag(reader: _Reader, given: Any, pointer: str) -> bool:
    if given is not None and not isinstance(given, bool):
        reader._wrong(pointer, "true or false.")
    return given is True


def _share(reader: _Reader, given: Any, pointer: str) -> float:
    return float(reader._number(0 if given is None else given, pointer, 0, 1) or 0)


def _severity(reader: _Reader, given: Any, pointer: str) -> int | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= 100):
        reader._wrong(pointer, "A severity is a whole number from 0 to 100.")
    return given


_RULE: Mapping[str, Callable[[_Reader, Any, str], Any]] = {
    "id": _Reader.rule_id,
    "when": _Reader.when,
    "then": _one_of(DECISIONS),
    "reason": _Reader.reason,
    "labels": _Reader.labels,
    "severity": _severity,
    "stop": _flag,
}

_FIELDS: Mapping[str, Callable[[_Reader, Any, str], Any]] = {
    "rules": _Reader.rules,
    "thresholds": _Reader.thresholds,
    "off": _Reader.off,
    "detectors": _Reader.detectors,
    "modalities": _Reader.modalities,
    "options": _Reader.options,
    "on_failure": _one_of((REVIEW, ALLOW, BLOCK), REVIEW),
    "quarantine": _flag,
    "audit_uploads": _flag,
    "second_opinion": _share,
    "sla_hours": _Reader.sla_hours,
    "strikes": _Reader.strikes,
    "appeal_days": _Reader.appeal_days,
    "recalibrate": _Reader.recalibrate,
    "facts_rules": _Reader.facts_rules,
}

FIELDS = tuple(_FIELDS)
