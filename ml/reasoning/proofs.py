"""The proof of everything that was concluded, as a document that `ml.reasoning.checker` replays without this engine.

    {"format": 1, "rules": sha256, "facts": [{"fact": [name, …], "confidence", "source"}],
     "examined": [[name, …|null]], "digest": sha256 of facts and examined, "open": [name],
     "derived": [{"fact", "confidence", "rule": number, "line", "depth", "parts": [part of the body, in order]}]}

A part is `{"fact", "confidence", "least"}`, `{"absent": [name, …|null], "least"}`, `{"compared": [left, operator,
right]}` or `{"count", "of": [name, …|null], "least", "facts": [[name, …]]}`. The document holds **all** facts, told and
derived, so that absence and numbers can be checked: that nothing is missing among the derived follows as no rule gives
any more. Derived facts stand in the order of their depth (1 + that of the deepest fact they rest on), then of facts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml.reasoning.engine import Conclusions, Derivation, FactBase, Key, Tuple, order_of
from ml.reasoning.language import Comparison, Constant, Count, Match

FORMAT = 1


def prove(conclusions: Conclusions) -> dict[str, Any]:
    """The document; the same for the same rules and facts."""
    depths = _depths(conclusions.derivations)
    sure = {(fact.predicate, fact.arguments): fact.confidence for fact in conclusions.base.facts}
    sure |= {key: derivation.confidence for key, derivation in conclusions.derivations.items()}
    keys = sorted(conclusions.derivations, key=lambda key: (depths[key], order_of(*key)))
    return {
        "format": FORMAT,
        "rules": hashlib.sha256(conclusions.program.text.encode()).hexdigest(),
        **told(conclusions.base),
        "open": sorted(conclusions.open),
        "derived": [_node(key, conclusions.derivations[key], depths[key], sure) for key in keys],
    }


def told(base: FactBase) -> dict[str, Any]:
    """Facts, what was examined, and the digest of both."""
    facts = [
        {"fact": [fact.predicate, *fact.arguments], "confidence": fact.confidence, "source": fact.source}
        for fact in base.facts
    ]
    examined = [[one.predicate, *one.arguments] for one in base.patterns]
    content = json.dumps([facts, examined], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"facts": facts, "examined": examined, "digest": hashlib.sha256(content.encode()).hexdigest()}


def _node(key: Key, derivation: Derivation, depth: int, sure: Mapping[Key, float]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for part, used in zip(derivation.rule.body, derivation.used, strict=True):
        if isinstance(part, Comparison):
            parts.append({"compared": [used[0], part.operator, used[1]]})
            continue
        name = part.atom.predicate
        first: Sequence[Constant | None] = used[0]  # type: ignore[assignment]
        if isinstance(part, Count):
            counted: Sequence[Tuple] = used[1]  # type: ignore[assignment]
            facts = [[name, *arguments] for arguments in counted]
            parts.append({"count": len(facts), "of": [name, *first], "least": part.least, "facts": facts})
        elif part.negated:
            parts.append({"absent": [name, *first], "least": part.least})
        else:
            confidence = sure[name, tuple(first)]  # type: ignore[arg-type]
            parts.append({"fact": [name, *first], "confidence": confidence, "least": part.least})
    return {
        "fact": [key[0], *key[1]],
        "confidence": derivation.confidence,
        "rule": derivation.rule.number,
        "line": derivation.rule.line,
        "depth": depth,
        "parts": parts,
    }


def _depths(derivations: Mapping[Key, Derivation]) -> dict[Key, int]:
    """Of what was told 0. No derivation rests on itself, as only a surer one takes another's place."""
    depths: dict[Key, int] = {}
    for key in derivations:
        path = [key]
        while path:
            below = [one for one in _rests_on(derivations[path[-1]]) if one in derivations]
            missing = [one for one in below if one not in depths]
            if missing:
                path += missing
            else:
                depths[path.pop()] = 1 + max((depths[one] for one in below), default=0)
    return depths


def _rests_on(derivation: Derivation) -> list[Key]:
    keys: list[Key] = []
    for part, used in zip(derivation.rule.body, derivation.used, strict=True):
        if isinstance(part, Match) and not part.negated:
            keys.append((part.atom.predicate, used[0]))  # type: ignore[arg-type]
        elif isinstance(part, Count):
            keys += [(part.atom.predicate, arguments) for arguments in used[1]]  # type: ignore[attr-defined]
    return keys
