"""What rules see of an evidence document: the variables, their types, and the values of one document.

The values always have the declared shape and size, whatever the document holds: what is missing gets an empty value or
null, what is too long is cut. Pieces of evidence (spans, boxes, masks) are left out; rules weigh findings, people look
at pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ml.auditing import CATEGORIES, ESTIMATES, LOOKED_FOR, TIERS, VERDICTS
from tenants.moderation.expressions.syntax import Field, Index, Literal, Name, Node
from tenants.moderation.expressions.types import (
    ANY,
    MAX_LIST,
    MAX_TEXT,
    Type,
    choice,
    entries,
    flag,
    number,
    record,
    text,
    whole,
)

MAX_WORDS, MAX_EXCERPT = 40, 300

MODALITIES = ("text", "image", "audio", "video")

#: Signatures and declarations tell how a file was made; only an estimate can be of what became of it.
TIER_VERDICTS = {
    tier: VERDICTS if tier == "statistical" else tuple(v for v in VERDICTS if v != "likely_manipulated")
    for tier in TIERS
}

ESTIMATE_VERDICTS = {kind: (likely, *VERDICTS[2:]) for kind, likely in ESTIMATES.items()}

SEVERITIES = ("low", "medium", "high")

DETECTOR_TIERS = ("cryptographic", "declared", "match", "rules", "statistical")

DETECTOR_STATES = ("examined", "abstained", "not_applicable", "not_installed", "failed")


_CATEGORY = record(
    state=choice("examined", "abstained", "not_examined", "failed", about="Whether something looked."),
    flagged=flag("The score has reached the policy's threshold."),
    score=number("0 to 1; null unless `state` is `examined`.", low=0.0, high=1.0, nullable=True),
    severity=choice(
        *SEVERITIES, nullable=True, about="How far over the threshold: thirds of what is left to 1."
    ),
    calibrated=flag("Of a hundred items with this score, that share is of the category."),
    threshold=number(
        "The policy's; where it has none, the detector's own, else 0.5.",
        low=0.0,
        high=1.0,
    ),
    suggested_threshold=number(
        "The detector's own, by its calibration; null where it has none.", low=0.0, high=1.0, nullable=True
    ),
    detector=text("Whose score it is.", refers="detector"),
)

VARIABLES: Mapping[str, Type] = {
    "item": record(
        modality=choice(*MODALITIES),
        media_type=text("As the content says, not the name."),
        bytes=whole(),
        width=whole("0 where there are no pictures."),
        height=whole(),
        duration_s=number("0 for texts and pictures.", low=0.0),
        dataset=text("Its id; empty for what is no asset.", refers="dataset"),
        subject=text("Who it comes from, in the client's words; often empty."),
        metadata=record("The asset's; ask `has(item.metadata.key)` first.", open=True),
    ),
    "authenticity": record(
        verdict=choice(
            *VERDICTS, about="Of the strongest tier that says something. There is no `authentic`."
        ),
        tier=choice(*TIERS, nullable=True, about="Which tier that is."),
        probability=number(
            "Only where the statistical tier speaks, and of what the verdict says.",
            low=0.0,
            high=1.0,
            nullable=True,
        ),
        tiers=record("Each tier's own verdict.", {t: choice(*TIER_VERDICTS[t]) for t in TIERS}),
        estimates=record(
            "The statistical tier's verdicts, apart.", {k: choice(*ESTIMATE_VERDICTS[k]) for k in ESTIMATES}
        ),
        looked_for=record(
            "What each tier looked for in this item.", {t: entries(choice(*LOOKED_FOR[t])) for t in TIERS}
        ),
    ),
    "provenance": record(
        c2pa=record(
            open=True,
            state=choice("absent", "trusted", "valid", "invalid", "not_examined"),
            certificate=choice(
                *("trusted", "untrusted", "expired", "revoked", "unsuitable"),
                about="The signer's; empty where nothing was signed.",
            ),
            ai=flag("The credentials say that AI made it or a part of it."),
            own=flag("Signed by this installation."),
            generator=text("The software that made the claim."),
        ),
        declared=record(
            open=True,
            state=choice("found", "none", "not_examined"),
            ai=flag("Metadata name a generator, or declare synthetic content."),
            generator=text(),
        ),
        watermark=record(open=True, state=choice("present", "absent", "not_examined")),
    ),
    "categories": record("", dict.fromkeys(CATEGORIES, _CATEGORY)),
    "document": record(
        format=choice(
            *("pdf", "docx", "pptx", "xlsx", "epub", "html", "markdown", "email"),
            about="Empty of what is no document.",
        ),
        pages=whole("Pages, slides, sheets or chapters; 0 of what is no document."),
        title=text("As the document names itself."),
        hidden_text=flag("It has text that nobody sees who reads it."),
        active_content=flag("Scripts, macros, embedded files, external addresses, or forms that send."),
        text_by_ocr=flag("Some of its text was read from pictures."),
        not_read=flag("Some of it could not be read."),
        findings=entries(
            record(
                kind=choice("active_content", "hidden_text", "text_by_ocr", "not_read"),
                page=whole("0 where it is of no page."),
                detail=text("In English; of hidden text how it begins.", size=MAX_EXCERPT),
                count=whole(),
            ),
            "What a reader of it should know.",
        ),
    ),
    "matches": entries(
        record(
            list=text("The list's id.", refers="list"),
            name=text("The list's name.", refers="list_name"),
            stance=choice("bad", "good"),
            shared=flag("The installation's list, not the tenant's."),
            algorithm=choice("sha256", "pdq", "vector", "sound"),
            distance=number("From the listed hash; 0 is the same.", low=0.0),
            limit=number("Up to which distance it counts.", low=0.0),
            entry=text("The listed item's id."),
        ),
        "What is on hash lists, nearest first.",
    ),
    "fingerprints": record(
        sha256=text(),
        pdq=text("Empty where there is none."),
        pdq_quality=number(low=0.0, high=100.0, nullable=True),
    ),
    "words": entries(
        record(
            text=text("An excerpt.", size=MAX_EXCERPT),
            origin=choice("text", "caption", "transcript", "picture"),
            at_s=number("In a recording or film.", low=0.0, nullable=True),
        ),
        "Excerpts of what was read or heard. Whole texts are what detectors read: use `categories`.",
        size=MAX_WORDS,
    ),
    "detectors": entries(
        record(
            name=text(refers="detector"),
            version=text(),
            tier=choice(*DETECTOR_TIERS),
            state=choice(*DETECTOR_STATES),
            reason=text(),
            score=number(
                "That what it estimates is so, of those that estimate.", low=0.0, high=1.0, nullable=True
            ),
        ),
        "Everything that was asked to look.",
    ),
    "could_not_look": entries(
        text(refers="detector"), "Detectors that failed; `decoding` for an unreadable file."
    ),
    "strikes": whole("Of the subject, not expired."),
    "classifier": record(
        "The workspace's own, by name: `classifier.damaged.probability`, `.state`, `.version`. Of what has no vectors "
        "yet there is no probability: ask `has(classifier.damaged.probability)` first.",
        open=True,
    ),
    "facts": record(
        "What the policy's `facts_rules` conclude, by name: `facts.minor_and_alcohol.holds`, `.state`, `.confidence`, "
        "`.count`. `state` is `holds`, `does_not_hold` or `not_examined`; without a fact `confidence` is null.",
        open=True,
    ),
}


class EvidenceView:
    """The parts of a document that some rules read, and nothing else: making values for the engine is what costs."""

    def __init__(self, paths: Iterable[tuple[str, ...]]) -> None:
        plan = _planned(paths)
        self._shapers = [
            (name, _shaper(_pruned(VARIABLES[name], plan[name]))) for name in VARIABLES if name in plan
        ]

    def of(self, evidence: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """The variables of a document, and the names of those that are cut short. Never raises."""
        values = {name: shape(evidence.get(name)) for name, shape in self._shapers}
        cut = {name for name, _ in self._shapers if _is_cut(VARIABLES[name], evidence.get(name))}
        return values, cut


_Plan = dict[str, "_Plan | None"]


def _planned(paths: Iterable[tuple[str, ...]]) -> _Plan:
    """Paths as a tree; None stands for all that is there."""
    plan: _Plan = {}
    # Short ones last, as whoever reads the whole has the parts.
    for path in sorted(_needed(paths), key=len, reverse=True):
        inner = plan
        for name in path[:-1]:
            inner = inner.setdefault(name, {})  # type: ignore[assignment]  # longer paths come first
        inner[path[-1]] = None
    return plan


def _needed(paths: Iterable[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """With what a category's `flagged`, `severity` and `threshold` are made of."""
    wanted = set(paths)
    judged = [path for path in wanted if path[0] == "categories" and path[2:] in _JUDGED]
    made_of = ("score", "state", "suggested_threshold")
    return wanted | {(*path[:2], name) for path in judged for name in made_of}


_JUDGED = (("flagged",), ("severity",), ("threshold",))


def _pruned(kind: Type, plan: _Plan | None) -> Type:
    if plan is None:
        return kind
    if kind.kind == "list":
        return replace(kind, element=_pruned(kind.items, plan.get("*", {})))
    if kind.kind != "object":
        return kind
    names = {name: inner for name, inner in plan.items() if name}
    return replace(
        kind, open=False, fields={name: _pruned(kind.fields.get(name, ANY), names[name]) for name in names}
    )


def _is_cut(kind: Type, given: object) -> bool:
    return kind.kind == "list" and isinstance(given, list) and len(given) > kind.size


# --- Values of the declared shape ------------------------------------------------------------------------

_Shaper = Callable[[Any], Any]


def _shaper(kind: Type) -> _Shaper:
    """A function from anything to a value of this type."""
    if kind.kind == "object":
        return _object_shaper(kind)
    if kind.kind == "list":
        inner, size = _shaper(kind.items), kind.size
        return lambda value: [inner(one) for one in value[:size]] if isinstance(value, list) else []
    return {"bool": _flag, "string": _text_shaper(kind), "int": _whole, "double": _number_shaper(kind)}.get(
        kind.kind, _loose
    )


def _object_shaper(kind: Type) -> _Shaper:
    shapers = [(name, _shaper(inner)) for name, inner in kind.fields.items() if inner.kind != "any"]
    # Of these there is a value or not, which `has()` tells.
    maybe = [name for name, inner in kind.fields.items() if inner.kind == "any"]

    def shape(value: Any) -> dict[str, Any]:
        given = value if isinstance(value, dict) else {}
        shaped = {name: shaper(given.get(name)) for name, shaper in shapers}
        shaped |= {name: _loose(given[name]) for name in maybe if name in given}
        if kind.open:
            for name in list(given)[:MAX_LIST]:
                if isinstance(name, str) and name not in shaped:
                    shaped[_clean(name)] = _loose(given[name])
        return shaped

    return shape


def _flag(value: object) -> bool:
    return value is True


def _whole(value: object) -> int:
    number = int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
    return number if 0 <= number < 1 << 63 else 0 if number < 0 else (1 << 63) - 1


def _number_shaper(kind: Type) -> _Shaper:
    empty = None if kind.nullable else 0.0

    def shape(value: Any) -> float | None:
        if type(value) is float and math.isfinite(value):
            return value
        if type(value) is int and abs(value) < 1 << 63:
            return float(value)
        return empty

    return shape


def _text_shaper(kind: Type) -> _Shaper:
    empty, size = (
        (None if kind.nullable else kind.choices[-1] if "not_examined" in kind.choices else ""),
        kind.size,
    )
    known = frozenset(kind.choices)

    def shape(value: Any) -> str | None:
        if not isinstance(value, str) or (known and value not in known):
            return empty
        return value if value.isascii() and len(value) <= size else _clean(value[:size])

    return shape


def _clean(value: str) -> str:
    """Without half characters, which the engine cannot hold."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()


def _loose(value: object, depth: int = 0) -> object:
    """Anything that JSON can hold, within bounds."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else float(min(max(value, -(1 << 200)), 1 << 200))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < 2 and isinstance(value, list):
        return [_loose(one, depth + 1) for one in value[:MAX_LIST]]
    if depth < 2 and isinstance(value, dict):
        return {_clean(str(name)): _loose(value[name], depth + 1) for name in list(value)[:MAX_LIST]}
    return None


def path_of(node: Node) -> tuple[str, ...] | None:
    """`("item", "bytes")` of `item.bytes` and of `item["bytes"]`, or None for what is no plain path."""
    match node:
        case Name(name):
            return (name,)
        case Field(target, name) | Index(target, Literal(str() as name)):
            inner = path_of(target)
            return None if inner is None else (*inner, name)
    return None


def type_of(path: tuple[str, ...]) -> Type:
    """The type of a variable's part; anything where it is not declared."""
    kind = VARIABLES.get(path[0], ANY)
    for name in path[1:]:
        kind = kind.fields.get(name, ANY)
    return kind
