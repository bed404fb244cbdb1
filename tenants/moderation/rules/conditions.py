"""Conditions that can be said without CEL: what is looked for, from which value on, and in which items.

`read_condition` and `write_condition` are each other's inverse. An expression that says more or other than that has no
such condition, and is to be shown and kept as it was written.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ml.auditing import CATEGORIES
from tenants.moderation.expressions.syntax import (
    Binary,
    Chain,
    ExpressionError,
    Field,
    Index,
    Items,
    Literal,
    Name,
    Node,
    parse,
)
from tenants.moderation.expressions.variables import MODALITIES, path_of

EVERYTHING = "everything"

STRIKES = "strikes"

#: What is looked for beside categories, each as it is written in CEL.
SIGNS: Mapping[str, str] = {
    "known_bad": 'matches.exists(m, m.stance == "bad" && m.distance <= m.limit)',
    "known_good": 'matches.exists(m, m.stance == "good" && m.algorithm == "sha256")',
    "declared_ai": 'provenance.c2pa.ai || provenance.declared.ai || provenance.watermark.state == "present"',
    "estimated_ai": 'authenticity.tiers.statistical == "likely_synthetic"',
    "credentials_broken": 'provenance.c2pa.state == "invalid"',
    EVERYTHING: "true",
}

#: Everything that a condition can be about.
SUBJECTS = (*CATEGORIES, *SIGNS, STRIKES)

MOST_STRIKES = 1_000


@dataclass(frozen=True)
class Condition:
    """`least`: from this score on, or so many strikes; None of a category is its threshold in the policy.

    `modalities`, `datasets` (ids): in these only; in all if empty.
    """

    subject: str
    least: float | None = None
    modalities: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


def write_condition(condition: Condition) -> str:
    """The condition in CEL."""
    parts = [
        _subject(condition, alone=not (condition.modalities or condition.datasets)),
        _among("item.modality", [one for one in MODALITIES if one in condition.modalities]),
        _among("item.dataset", sorted(condition.datasets)),
    ]
    return " && ".join(part for part in parts if part)


def keep_or_write(when: str, condition: Condition) -> str:
    """`when` as it stands if it says this already, so that nobody's own notation is changed; else the condition."""
    return when if read_condition(when) == condition else write_condition(condition)


@lru_cache(4096)
def read_condition(when: str) -> Condition | None:
    """What the expression says, or None where only CEL can say it."""
    try:
        tree = parse(when)
    except ExpressionError:
        return None
    whole = _subject_of(tree)
    if whole is not None:
        return Condition(*whole)
    operands = tree.operands if isinstance(tree, Chain) and tree.operator == "&&" else (tree,)
    return _joined(operands)


def _joined(operands: Sequence[Node]) -> Condition | None:
    subject: tuple[str, float | None] | None = None
    only: dict[str, tuple[str, ...]] = {}
    for operand in operands:
        among = _among_of(operand)
        if among is not None and among[0] not in only:
            only[among[0]] = among[1]
        elif subject is None and (found := _subject_of(operand)) is not None:
            subject = found
        else:
            return None
    return Condition(*(subject or (EVERYTHING, None)), only.get("modality", ()), only.get("dataset", ()))


# --- What is looked for ----------------------------------------------------------------------------------


def _subject(condition: Condition, *, alone: bool) -> str:
    name, least = condition.subject, condition.least
    if name in CATEGORIES:
        category = f"categories.{name}"
        return f"{category}.flagged" if least is None else f"{category}.score >= {least!r}"
    if name == STRIKES:
        return f"strikes >= {int(least or 1)}"
    if name == EVERYTHING and not alone:
        return ""
    return SIGNS[name] if alone or "||" not in SIGNS[name] else f"({SIGNS[name]})"


def _subject_of(node: Node) -> tuple[str, float | None] | None:
    for name, tree in _sign_trees().items():
        if node == tree:
            return name, None
    match node:
        case Binary(">=", left, Literal(int() | float() as least)) if not isinstance(least, bool):
            return _numbered(path_of(left), least)
        case Field() | Index():
            match path_of(node):
                case ("categories", name, "flagged") if name in CATEGORIES:
                    return name, None
    return None


def _numbered(path: tuple[str, ...] | None, least: float) -> tuple[str, float | None] | None:
    match path:
        case ("categories", name, "score") if name in CATEGORIES and _is_score(least):
            return name, float(least)
        case ("strikes",) if isinstance(least, int) and 1 <= least <= MOST_STRIKES:
            return STRIKES, float(least)
    return None


def _is_score(value: float) -> bool:
    """Whether it is one that can be written again: in CEL as in Python, without an exponent."""
    return 0 <= value <= 1 and "e" not in repr(float(value))


@lru_cache(1)
def _sign_trees() -> Mapping[str, Node]:
    return {name: parse(text) for name, text in SIGNS.items()}


# --- In which items --------------------------------------------------------------------------------------


def _among(variable: str, values: Sequence[str]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f'{variable} == "{values[0]}"'
    listed = ", ".join(f'"{value}"' for value in values)
    return f"{variable} in [{listed}]"


def _among_of(node: Node) -> tuple[str, tuple[str, ...]] | None:
    match node:
        case Binary("==", Field(Name("item"), name), Literal(str() as value)):
            values = [value]
        case Binary("in", Field(Name("item"), name), Items(items)) if items:
            values = [one.value for one in items if isinstance(one, Literal) and isinstance(one.value, str)]
            if len(values) != len(items):
                return None
        case _:
            return None
    if len(set(values)) != len(values):
        return None
    if name == "modality" and all(value in MODALITIES for value in values):
        return name, tuple(one for one in MODALITIES if one in values)
    if name == "dataset" and all(map(_is_id, values)):
        return name, tuple(sorted(values))
    return None


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
