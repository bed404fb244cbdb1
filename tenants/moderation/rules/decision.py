"""What a policy decides about the evidence of one item. Pure: the same document and evidence, the same decision.

Rules are asked in their order, all of them: the decision is the strongest `then` among those that fired, so that no
rule can be silenced by one before it. A rule with `stop` that fires is the last one asked; it is how exceptions are
written (docs/adr/0018). A rule that cannot be evaluated does not fire and is listed as unclear. Where something could
not look, the decision is at least the policy's `on_failure`, unless a rule with `stop` has fired; that a process ended
is no reason for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard

import msgspec

from ml.reasoning import FactsError, Program, RulesError, TooMuch
from tenants.moderation.expressions.compiler import Expression, compile_expression
from tenants.moderation.expressions.syntax import ExpressionError
from tenants.moderation.expressions.variables import EvidenceView
from tenants.moderation.rules import facts
from tenants.moderation.rules.document import ALLOW, DECISIONS, DETECTOR_FAILED, REVIEW, SEVERITY, THRESHOLD

STRENGTH = {decision: place for place, decision in enumerate(DECISIONS)}

THIRDS = ("low", "medium", "high")


@dataclass(frozen=True)
class FiredRule:
    """A rule that fired, or `detector-failed` where the policy's `on_failure` applies."""

    id: str
    then: str
    reason: str
    severity: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """`fired` in the order of the rules; `unclear`: ids of rules that could not be evaluated."""

    decision: str
    fired: tuple[FiredRule, ...] = ()
    unclear: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(rule.id for rule in self.fired)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(rule.reason for rule in self.fired)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(label for rule in self.fired for label in rule.labels))

    @property
    def severity(self) -> int:
        return max((rule.severity for rule in self.fired), default=0)


@dataclass(frozen=True)
class Rule:
    """`expression` is None for one that this version of the product cannot read any more."""

    fired: FiredRule
    stop: bool
    expression: Expression | None
    variables: frozenset[str]


@dataclass(frozen=True)
class Compiled:
    """A policy ready to decide. Immutable; safe in many threads."""

    rules: tuple[Rule, ...]
    thresholds: Mapping[str, float]
    off: frozenset[str]
    on_failure: str
    view: EvidenceView
    #: What conditions read as `facts`, and whether there are rules that cannot be read any more.
    program: Program | None = None
    lost_rules: bool = False

    def decide(self, evidence: Mapping[str, Any], facts_seen: Mapping[str, object] | None = None) -> Decision:
        """Never raises, whatever the evidence holds. `facts_seen`: in place of what the evidence's facts conclude."""
        import cel

        evidence = _without_ended(evidence)
        known, wrong = (facts_seen, "") if facts_seen is not None else self._conclude(evidence)
        evidence = {**evidence, "facts": known}
        values, cut = self.view.of(evidence)
        for name, found in values.get("categories", {}).items():
            found |= {key: value for key, value in self._judgement(name, found).items() if key in found}
        context = cel.Context(values)
        fired: list[FiredRule] = []
        unclear: list[str] = []
        failed = [*_failures(evidence), *([wrong] if wrong else [])]
        for rule in self.rules:
            holds = rule.expression.holds(context) if rule.expression else None
            if holds:
                fired.append(rule.fired)
                if rule.stop:
                    return _decided(fired, unclear)
            elif holds is None or cut & rule.variables:
                unclear.append(rule.fired.id)
                if rule.expression is None or holds is not None:
                    failed.append(f"rule {rule.fired.id}")
        return _decided(self._with_failures(fired, failed), unclear)

    def _conclude(self, evidence: Mapping[str, Any]) -> tuple[Mapping[str, object], str]:
        """What conditions see of facts, and what went wrong."""
        if self.program is None:
            return {}, "facts" if self.lost_rules else ""
        try:
            return facts.values_of(facts.conclude(self.program, evidence)), ""
        except (FactsError, TooMuch) as error:
            return {}, f"facts ({str(error).rstrip('.')})"

    def judged(self, categories: object) -> dict[str, object]:
        """The evidence's categories with `flagged`, `severity` and `threshold` by this policy's thresholds."""
        given = categories if isinstance(categories, Mapping) else {}
        return {
            name: {**found, **self._judgement(name, found)}
            for name, found in given.items()
            if isinstance(found, Mapping)
        }

    def _judgement(self, name: str, found: Mapping[str, object]) -> dict[str, object]:
        """By the policy's threshold, else by that of the detector whose score it is, else by the common one."""
        threshold = self.thresholds.get(name)
        if threshold is None:
            own = found.get("suggested_threshold")
            threshold = float(own) if _is_number(own) and 0 <= own <= 1 else THRESHOLD
        score, off = found.get("score"), name in self.off
        flagged = found.get("state") == "examined" and not off and _is_number(score) and score >= threshold
        severity = _third(score, threshold) if flagged and _is_number(score) else None
        return {"flagged": flagged, "severity": severity, "threshold": threshold, "off": off}

    def _with_failures(self, fired: list[FiredRule], failed: Sequence[str]) -> list[FiredRule]:
        strongest = max((STRENGTH[rule.then] for rule in fired), default=0)
        if not failed or STRENGTH[self.on_failure] <= strongest:
            return fired
        reason = f"Could not look: {', '.join(failed[:10])}."
        return [*fired, FiredRule(DETECTOR_FAILED, self.on_failure, reason, SEVERITY[self.on_failure])]


def decide(document: Mapping[str, object], evidence: Mapping[str, object]) -> Decision:
    """What the policy decides. An empty document allows, except what could not be looked at."""
    return compile_policy(document).decide(evidence)


def apply_thresholds(document: Mapping[str, object], evidence: Mapping[str, object]) -> dict[str, object]:
    """The evidence with its categories flagged by the policy's thresholds: what is shown and stored."""
    return {**evidence, "categories": compile_policy(document).judged(evidence.get("categories"))}


def compile_policy(document: Mapping[str, object]) -> Compiled:
    """The policy ready to decide; kept for the documents that are used."""
    return _compiled(msgspec.json.encode(document))


@lru_cache(256)
def _compiled(content: bytes) -> Compiled:
    document = msgspec.json.decode(content)
    rules = tuple(_rule(rule) for rule in document.get("rules", ()))
    paths = {path for rule in rules if rule.expression for path in rule.expression.inspection.paths}
    text = document.get("facts_rules", "")
    try:
        program = facts.read_policy_rules(text) if text else None
    except RulesError:
        program = None
    return Compiled(
        rules,
        document.get("thresholds", {}),
        frozenset(document.get("off", ())),
        document.get("on_failure", REVIEW),
        EvidenceView(paths),
        program,
        bool(text) and program is None,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    severity = rule.get("severity")
    fired = FiredRule(
        rule["id"],
        rule["then"],
        rule.get("reason", ""),
        SEVERITY[rule["then"]] if severity is None else severity,
        tuple(rule.get("labels", ())),
    )
    try:
        expression: Expression | None = compile_expression(rule["when"])
    except ExpressionError:
        expression = None
    variables = expression.inspection.variables if expression else frozenset()
    return Rule(fired, rule.get("stop", False), expression, variables)


def _without_ended(evidence: Mapping[str, object]) -> Mapping[str, object]:
    """As if those had not been asked whose process ended: the machine's trouble decides about no item."""
    ended, failed = evidence.get("process_ended"), evidence.get("could_not_look")
    if not isinstance(ended, list) or not isinstance(failed, list):
        return evidence
    return {**evidence, "could_not_look": [name for name in failed if name not in ended]}


def _failures(evidence: Mapping[str, object]) -> list[str]:
    failed = evidence.get("could_not_look")
    if not failed:
        return []
    return [str(name)[:100] for name in failed[:20]] if isinstance(failed, list) else ["unknown"]


def _decided(fired: Sequence[FiredRule], unclear: Sequence[str]) -> Decision:
    strongest = max((rule.then for rule in fired), key=STRENGTH.__getitem__, default=ALLOW)
    return Decision(strongest, tuple(fired), tuple(unclear))


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _third(score: float, threshold: float) -> str:
    """How far over the threshold, in thirds of what is left to 1."""
    room = 1.0 - threshold
    return THIRDS[min(2, int((score - threshold) / room * 3))] if room > 0 else THIRDS[2]
