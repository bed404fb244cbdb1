"""Static checks: what can be told of a policy before it decides about anything.

Errors keep a document from being stored. Warnings do not: a policy may be written before its detectors are installed.
Each names its rule, so that a page can show it where it belongs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml.auditing import ESTIMATES
from ml.reasoning.language import Comparison
from tenants.moderation.expressions import satisfiability
from tenants.moderation.expressions.compiler import Expression, compile_expression
from tenants.moderation.expressions.syntax import ExpressionError
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules import facts

ERROR, WARNING = "error", "warning"

# Names in `could_not_look` that are no detector's.
STAGES = frozenset({"decoding", "everything"})

# What makes a part of the evidence; any of them will do.
SOURCES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("provenance", "c2pa"): ("c2pa",),
    ("provenance", "declared"): ("declared",),
    ("provenance", "watermark"): ("watermark",),
    ("matches",): ("fingerprints",),
    ("fingerprints",): ("fingerprints",),
}

_RULE = re.compile(r"/rules/([0-9]+)(?:/|$)")


@dataclass(frozen=True)
class Problem:
    """`rule`: its id, empty for what concerns the whole document. `at`: from which character of the expression that
    `pointer` names it is wrong, where that is known."""

    level: str
    code: str
    detail: str
    pointer: str
    rule: str = ""
    at: int | None = None

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "rule": self.rule, "pointer": self.pointer, "detail": self.detail}


@dataclass(frozen=True)
class InstalledDetector:
    """A detector that this installation could ask. `missing`: why it cannot look, or empty."""

    spec: str
    categories: tuple[str, ...] = ()
    missing: str = ""
    #: What its probability is of: `generation`, `manipulation`, or empty where it has none.
    estimates: str = ""


@dataclass(frozen=True)
class Environment:
    """What a policy may refer to. `lists`: ids and names of hash lists. None: not known here, so not checked."""

    detectors: Sequence[InstalledDetector] | None = None
    lists: Collection[str] | None = None


@dataclass
class CheckReport:
    """`document`: the normal form of what could be read. `steps`: what deciding may cost at most."""

    document: dict[str, Any]
    steps: float
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == ERROR]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.level == WARNING]


def check_policy(document: Any, around: Environment | None = None) -> CheckReport:
    """Everything that can be told of a document. Never raises for what stands in it."""
    examined = policy_document.examine_document(document)
    normal = examined.document
    rules = [
        _Read(rule, compile_expression(rule["when"]), f"/rules/{place}/when")
        for rule, place in zip(normal["rules"], examined.places, strict=True)
    ]
    report = CheckReport(normal, sum(rule.expression.inspection.steps for rule in rules))
    report.problems += [_error(document, error) for error in examined.errors]
    report.problems += _order(rules)
    report.problems += _off(normal, rules)
    report.problems += _references(normal, rules, around or Environment())
    report.problems += _facts(normal, rules)
    if not examined.errors and not rules:
        report.problems.append(_warn("no-rules", "Without rules everything is allowed.", "/rules"))
    return report


@dataclass(frozen=True)
class _Read:
    rule: Mapping[str, Any]
    expression: Expression
    pointer: str

    def warn(self, code: str, detail: str) -> Problem:
        return _warn(code, detail, self.pointer, self.rule["id"])


def _warn(code: str, detail: str, pointer: str, rule: str = "") -> Problem:
    return Problem(WARNING, code, detail, pointer, rule)


def _error(document: Any, error: Mapping[str, str]) -> Problem:
    found = _RULE.match(error["pointer"])
    rule = document["rules"][int(found[1])] if found else None
    name = rule.get("id") if isinstance(rule, dict) else None
    known = name if isinstance(name, str) else ""
    at = (
        _refused_at(rule.get("when"))
        if isinstance(rule, dict) and error["pointer"].endswith("/when")
        else None
    )
    return Problem(ERROR, "invalid", error["detail"], error["pointer"], known, at)


def _refused_at(condition: object) -> int | None:
    try:
        compile_expression(condition) if isinstance(condition, str) else None
    except ExpressionError as error:
        return error.at
    return None


# --- Rules among each other ------------------------------------------------------------------------------


def _order(rules: Sequence[_Read]) -> Iterator[Problem]:
    for place, rule in enumerate(rules):
        tree = rule.expression.tree
        if satisfiability.never(tree):
            yield rule.warn("never-fires", "This can never be true.")
            continue
        for unlike in rule.expression.inspection.unlike:
            yield rule.warn("unknown-value", f"This comparison is never true: {unlike}.")
        earlier = [other for other in rules[:place] if not satisfiability.never(other.expression.tree)]
        if blocker := next((o for o in earlier if o.rule["stop"] and _covers(rule, o)), None):
            yield rule.warn(
                "unreachable", f"Whenever this is true, {blocker.rule['id']!r} has stopped before."
            )
        elif twin := next((o for o in earlier if o.expression.tree == tree), None):
            yield rule.warn("same-condition", f"This is the condition of {twin.rule['id']!r}, too.")
        elif rule.rule["then"] != policy_document.ALLOW and satisfiability.always(tree):
            yield rule.warn("always-fires", "This is true of everything.")


def _covers(rule: _Read, stopper: _Read) -> bool:
    return satisfiability.implies(rule.expression.tree, stopper.expression.tree)


def _off(document: Mapping[str, Any], rules: Sequence[_Read]) -> Iterator[Problem]:
    off = set(document.get("off", ()))
    for rule in rules:
        paths = rule.expression.inspection.paths
        for name in sorted(off):
            if paths & {("categories", name, "flagged"), ("categories", name, "severity")}:
                yield rule.warn("category-off", f"{name!r} is off in this policy, so it is never flagged.")


def _facts(document: Mapping[str, Any], rules: Sequence[_Read]) -> Iterator[Problem]:
    """What can be told of rules over facts."""
    text = document.get("facts_rules")
    if not text:
        return
    program, pointer = facts.read_policy_rules(text), "/facts_rules"
    for rule in program.rules:
        for part in rule.body:
            if isinstance(part, Comparison):
                continue
            name, where = part.atom.predicate, f"Line {rule.line}: "
            if name in facts.NEVER_EXAMINED:
                yield _warn(
                    "not-examined", f"{where}nothing here tells {name}, so it is never examined.", pointer
                )
            elif name in facts.TOLD and facts.TOLD[name].graded and not part.least:
                detail = f"{where}{name} counts however unsure it is; ask for a confidence: {name}(…) @ 0.8."
                yield _warn("no-threshold", detail, pointer)
    read = {
        path[1]
        for rule in rules
        for path in rule.expression.inspection.paths
        if path[0] == "facts" and len(path) > 1
    }
    needed = read | {
        part.atom.predicate
        for rule in program.rules
        for part in rule.body
        if not isinstance(part, Comparison)
    }
    for name in sorted(program.derived - needed):
        yield _warn("unused-fact", f"No rule reads {name}.", pointer)


# --- What rules refer to ---------------------------------------------------------------------------------


def _references(
    document: Mapping[str, object], rules: Sequence[_Read], around: Environment
) -> Iterator[Problem]:
    if around.detectors is not None:
        yield from _detectors(document, rules, around.detectors)
    if around.lists is not None:
        for rule in rules:
            for kind, name in sorted(rule.expression.inspection.names):
                if kind in ("list", "list_name") and name not in around.lists:
                    yield rule.warn("missing-list", f"There is no hash list {name!r}.")


def _detectors(
    document: Mapping[str, Any], rules: Sequence[_Read], installed: Sequence[InstalledDetector]
) -> Iterator[Problem]:
    known = {detector.spec: detector for detector in installed}
    asked = document.get("detectors") or list(known)
    for place, spec in enumerate(document.get("detectors", ())):
        if spec not in known:
            detail = f"{spec!r} is not here and will not be asked; there are {', '.join(sorted(known))}."
            yield _warn("missing-detector", detail, f"/detectors/{place}")
        elif known[spec].missing:
            detail = f"{spec!r} is not installed: {known[spec].missing}"
            yield _warn("not-installed", detail, f"/detectors/{place}")
    looking = [known[spec] for spec in asked if spec in known and not known[spec].missing]
    for rule in rules:
        yield from _blind(rule, looking, known)


def _blind(
    rule: _Read, looking: Sequence[InstalledDetector], known: Mapping[str, InstalledDetector]
) -> Iterator[Problem]:
    """What the rule asks about that nothing looks for."""
    names = {detector.spec for detector in looking}
    inspection = rule.expression.inspection
    for kind, name in sorted(inspection.names):
        if kind == "detector" and name not in names | STAGES:
            why = "is not installed" if name in known else "is not asked"
            yield rule.warn("missing-detector", f"{name!r} {why}, so it will never be named.")
    spoken = {category for detector in looking for category in detector.categories}
    for category in sorted(
        {path[1] for path in inspection.paths if path[0] == "categories" and len(path) > 1}
    ):
        if category not in spoken:
            yield rule.warn(
                "not-examined",
                f"Nothing looks for {category!r} here; its score stays null, and this unclear.",
            )
    for part, sources in SOURCES.items():
        reads = any(path[: len(part)] == part for path in inspection.paths)
        if reads and not names & set(sources):
            yield rule.warn("not-examined", f"{'.'.join(part)} stays empty: {sources[0]!r} does not look.")
    estimated = {detector.estimates for detector in looking} - {""}
    if ("authenticity", "probability") in inspection.paths and not estimated:
        yield rule.warn("not-examined", "No detector here estimates a probability; it stays null.")
    for kind in ESTIMATES:
        if ("authenticity", "estimates", kind) in inspection.paths and kind not in estimated:
            yield rule.warn("not-examined", f"No detector here estimates {kind}; it stays `not_examined`.")
