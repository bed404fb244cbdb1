"""Why a policy's rules over facts concluded what its conditions read: what is stored beside an audit's evidence. Pure.

    {"rules": text, "proof": document of ml.reasoning.proofs, "read": {policy rule: [derived predicates that it reads]},
     "otherwise": {"changes": [[change]], "decision", "complete"} | null}

or `{"rules": text, "error": why}` where nothing could be concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml.reasoning import Conclusions, FactsError, Limits, TooMuch, checker, find_counterfactuals, prove
from tenants.moderation.rules import facts
from tenants.moderation.rules.decision import Compiled, Decision, compile_policy

#: Searching for the smallest change of one decision.
EVALUATIONS, SEARCH_LIMITS = 60, Limits(facts=2_000, derived=500, rounds=200, steps=5_000)

MOST_SHOWN = 3


def reason(
    document: Mapping[str, object], evidence: Mapping[str, Any], decided: Decision
) -> dict[str, Any] | None:
    """What is stored of an audit that was decided by this policy; None where the policy has no rules over facts."""
    policy = compile_policy(document)
    if policy.program is None:
        return None
    try:
        conclusions = facts.conclude(policy.program, evidence)
    except (FactsError, TooMuch) as error:
        return {"rules": policy.program.text, "error": str(error)}
    return {
        "rules": policy.program.text,
        "proof": prove(conclusions),
        "read": {rule: sorted(names) for rule, names in read_by(policy).items() if rule in decided.rules},
        "otherwise": _otherwise(policy, evidence, decided),
    }


def read_by(policy: Compiled) -> dict[str, set[str]]:
    """Of each rule that reads facts, which."""
    found = {}
    for rule in policy.rules:
        paths = rule.expression.inspection.paths if rule.expression else ()
        if names := {path[1] for path in paths if path[0] == "facts" and len(path) > 1}:
            found[rule.fired.id] = names
    return found


def _otherwise(policy: Compiled, evidence: Mapping[str, Any], decided: Decision) -> dict[str, Any] | None:
    """The smallest changes of facts or thresholds after which the policy decides otherwise; None where no rule that
    fired reads facts, or nothing was found."""
    read = read_by(policy)
    goals = sorted({name for rule in decided.rules for name in read.get(rule, ())})
    if not goals or policy.program is None:
        return None

    def decision_of(conclusions: Conclusions) -> str:
        return policy.decide(evidence, facts.values_of(conclusions)).decision

    try:
        search = find_counterfactuals(
            policy.program,
            facts.facts_of(evidence),
            decision_of,
            goals=goals,
            most_changes=2,
            evaluations=EVALUATIONS,
            limits=SEARCH_LIMITS,
        )
    except (FactsError, TooMuch):
        return None
    if not search.found:
        return None
    nearest = search.found[0]
    alike = [one for one in search.found if one.outcome == nearest.outcome][:MOST_SHOWN]
    return {
        "changes": [[change.as_dict() for change in one.changes] for one in alike],
        "decision": nearest.outcome,
        "complete": search.complete,
    }


def check(
    stored: Mapping[str, Any],
    document: Mapping[str, object],
    evidence: Mapping[str, Any],
    rules_fired: tuple[str, ...],
) -> str:
    """What does not fit in a stored proof, in words; empty where everything does. By the checker and the policy's own
    conditions, without the engine: the rules are the version's, the proof is one, and what it proves decides so."""
    text = document.get("facts_rules")
    if stored.get("rules") != text or not isinstance(text, str):
        return "The rules over facts are not those of the policy's version."
    if "error" in stored:
        return ""
    proof = stored.get("proof")
    try:
        checker.check_proof(proof, text)
    except checker.Mismatch as error:
        return str(error)
    policy = compile_policy(document)
    decided = policy.decide(evidence, _values_of(proof, policy))
    if decided.rules != rules_fired:
        fires, did = ", ".join(decided.rules) or "no rule", ", ".join(rules_fired) or "none"
        return f"By what is proven {fires} fires, and {did} did."
    return ""


def _values_of(proof: Any, policy: Compiled) -> dict[str, dict[str, object]]:
    """What conditions see, from a proof that was checked."""
    sure: dict[str, list[float]] = {}
    for node in proof["derived"]:
        sure.setdefault(node["fact"][0], []).append(node["confidence"])
    values: dict[str, dict[str, object]] = {}
    for name in sorted(policy.program.derived if policy.program else ()):
        found, is_open = sure.get(name, []), name in proof["open"]
        values[name] = {
            "holds": bool(found),
            "state": "holds" if found else "not_examined" if is_open else "does_not_hold",
            "confidence": max(found, default=None),
            "count": None if is_open else len(found),
        }
    return values
