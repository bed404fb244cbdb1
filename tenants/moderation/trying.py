"""One version tried on one past audit: which rules fire, and what each of them saw. Nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.moderation.decision import Compiled, Decision, Rule, compile_policy
from tenants.moderation.models import Audit, Evidence

FIRED, SILENT, UNCLEAR, NOT_ASKED = "fired", "silent", "unclear", "not_asked"
MAX_SEEN, MAX_TEXT = 12, 120


@dataclass(frozen=True)
class Line:
    """A rule: its `state`, and what it reads, as far as that is a single value or a list's length."""

    id: str
    then: str
    reason: str
    state: str
    seen: list[tuple[str, str]]


@dataclass(frozen=True)
class Trial:
    """`decision` is what the document decides, beside `audit.decision`, which was decided then."""

    audit: Audit
    decision: Decision
    lines: list[Line]


def try_on(*, document: Mapping[str, Any], audit: Audit) -> Trial:
    """`document` in normal form. Raises NotFound where the audit's evidence was erased."""
    evidence = Evidence.objects.filter(audit=audit).values_list("document", flat=True).first()
    if evidence is None:
        raise NotFound(_("The evidence of this audit was erased, so nothing can be tried on it."))
    policy = compile_policy(document)
    decision = policy.decide(evidence)
    seen = {**evidence, "categories": policy.judged(evidence.get("categories"))}
    states = _states(policy, decision)
    lines = [_line(rule, state, seen) for rule, state in zip(policy.rules, states, strict=True)]
    return Trial(audit, decision, lines)


def _states(policy: Compiled, decision: Decision) -> list[str]:
    fired, unclear, states, stopped = set(decision.rules), set(decision.unclear), [], False
    for rule in policy.rules:
        name = rule.fired.id
        state = FIRED if name in fired else UNCLEAR if name in unclear else SILENT
        states.append(NOT_ASKED if stopped else state)
        stopped = stopped or (rule.stop and state == FIRED)
    return states


def _line(rule: Rule, state: str, evidence: Mapping[str, Any]) -> Line:
    paths = sorted(rule.expression.inspection.paths) if rule.expression else []
    seen = [(".".join(path), _shown(evidence, path)) for path in paths if "*" not in path and "" not in path]
    return Line(rule.fired.id, rule.fired.then, rule.fired.reason, state, seen[:MAX_SEEN])


def _shown(evidence: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = evidence
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, Mapping):
        return "{…}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:MAX_TEXT]
