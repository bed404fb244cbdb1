"""One audit as its page shows it: the evidence document in an order that a reader can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from console import audit_words as words
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.datasets.serving import read_text
from tenants.moderation.models import Audit, PolicyVersion
from tenants.retrieval.highlighting import Highlight

AUTHENTICITY_TIERS = ("cryptographic", "declared", "statistical")
_ORDER = {name: place for place, name in enumerate(words.CATEGORIES)}
# Of the text around a marked place.
ROOM = 60
MAX_PASSAGES = 5
# Of a piece of evidence: places, which are shown in the words, and what only machines ask for.
TECHNICAL = frozenset(
    {
        *("kind", "detector", "origin", "piece", "start", "end", "at_s", "marks", "language"),
        *("model", "calibration", "probability", "suggested_threshold"),
    }
)


@dataclass(frozen=True)
class Rule:
    """A rule that fired, as the policy's version has it; of one that is gone only the id is known."""

    id: str
    then: str = ""
    reason: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TierLine:
    """`changes`: what is estimated of changes where that is not the verdict; `looked_for` in words."""

    tier: str
    verdict: str
    saying: str
    changes: str
    looked_for: list[str]


@dataclass(frozen=True)
class Passage:
    """A place of the words with what was seen there marked; `at_s` of what is spoken."""

    highlight: Highlight
    origin: str
    at_s: float | None = None


@dataclass(frozen=True)
class CategoryLine:
    name: str
    found: Mapping[str, Any]
    passages: list[Passage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sheet:
    """`looked`: categories of which something was seen, flagged first; `unseen` those that were looked for in vain;
    `unlooked` the others, by state."""

    rules: list[Rule]
    tiers: list[TierLine]
    looked: list[CategoryLine]
    unseen: list[str]
    unlooked: list[tuple[str, list[str]]]
    could_not: list[str]


def sheet_of(audit: Audit, shape: Mapping[str, Any], asset: Asset | None) -> Sheet:
    """Of an audit and its shape in the API. `asset` only if its words may be shown."""
    categories = shape.get("categories") or {}
    pieces = _pieces(asset, shape) if categories else []
    return Sheet(
        rules=rules_of(audit),
        tiers=[_tier(tier, shape.get("authenticity") or {}) for tier in AUTHENTICITY_TIERS],
        looked=_looked(categories, pieces),
        unseen=[_name(name) for name in _ordered(categories) if _is_unseen(categories[name])],
        unlooked=_unlooked(categories),
        could_not=[str(words.COULD_NOT.get(name, name)) for name in shape.get("could_not_look") or ()],
    )


def _tier(tier: str, authenticity: Mapping[str, Any]) -> TierLine:
    """Audits of before these were kept have neither `estimates` nor `looked_for`."""
    verdict = (authenticity.get("tiers") or {}).get(tier, "not_examined")
    changes = (authenticity.get("estimates") or {}).get("manipulation", "") if tier == "statistical" else ""
    looked_for = (authenticity.get("looked_for") or {}).get(tier) or ()
    return TierLine(
        tier,
        verdict,
        str(words.SAYINGS[tier].get(verdict, "")),
        str(words.CHANGES.get(changes, "")),
        [str(words.LOOKED_FOR.get(sign, sign)) for sign in looked_for],
    )


def rules_of(audit: Audit) -> list[Rule]:
    """The rules that fired, with the reasons that the policy's version gives."""
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first() if audit.policy_version else None
    document = version.document if version else {}
    known = {rule["id"]: rule for rule in document.get("rules", ())}
    return [_rule(name, known.get(name), document) for name in audit.rules]


def _rule(name: str, rule: Mapping[str, Any] | None, document: Mapping[str, Any]) -> Rule:
    if rule is not None:
        return Rule(name, rule["then"], rule.get("reason", ""), tuple(rule.get("labels") or ()))
    if name == "detector-failed":
        return Rule(name, document.get("on_failure", "review"), f"{words.RULES[name]}.")
    return Rule(name)


# --- Categories ------------------------------------------------------------------------------------------


def _looked(categories: Mapping[str, Any], pieces: Sequence[tuple[str, str]]) -> list[CategoryLine]:
    lines = [
        CategoryLine(name, found, _passages(found["evidence"], pieces), _notes(found["evidence"]))
        for name, found in categories.items()
        if found["state"] == "examined" and not _is_unseen(found)
    ]
    return sorted(lines, key=lambda line: (not line.found["flagged"], -(line.found["score"] or 0)))


def _is_unseen(found: Mapping[str, Any]) -> bool:
    return found["state"] == "examined" and not found["score"] and not found["flagged"]


def _ordered(categories: Mapping[str, Any]) -> list[str]:
    return sorted(categories, key=lambda name: _ORDER.get(name, len(_ORDER)))


def _name(category: str) -> str:
    return str(words.CATEGORIES.get(category, category))


def _unlooked(categories: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Names by state, what failed first; in one order, which the database does not keep."""
    by_state: dict[str, list[str]] = {"failed": [], "abstained": [], "not_examined": []}
    for name in _ordered(categories):
        if (state := categories[name]["state"]) in by_state:
            by_state[state].append(_name(name))
    return [(state, names) for state, names in by_state.items() if names]


def _pieces(asset: Asset | None, shape: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Origin and text of what detectors read, in their order: the item's own words, then those found in it."""
    found = [(one["origin"], one["text"]) for one in shape.get("words") or ()]
    if asset is None:
        return found
    if asset.modality == Asset.Modality.TEXT:
        return [("text", read_text(asset))]
    own = [("caption", caption) for caption in asset.captions]
    spoken = TranscriptSegment.objects.filter(asset=asset).order_by("start_s")
    return [*own, *(("transcript", text) for text in spoken.values_list("text", flat=True)), *found]


def _passages(evidence: Sequence[Mapping[str, Any]], pieces: Sequence[tuple[str, str]]) -> list[Passage]:
    found = [_passage(seen, pieces) for seen in evidence]
    return [passage for passage in found if passage][:MAX_PASSAGES]


def _passage(seen: Mapping[str, Any], pieces: Sequence[tuple[str, str]]) -> Passage | None:
    piece, start, end = seen.get("piece"), seen.get("start"), seen.get("end")
    if not isinstance(piece, int) or not isinstance(start, int) or not isinstance(end, int):
        return None
    if not 0 <= piece < len(pieces):
        return None
    origin, text = pieces[piece]
    # The words may have been changed since, or cut.
    if origin != seen.get("origin") or not 0 <= start < end <= len(text):
        return None
    marks = [(m["start"], m["end"]) for m in seen.get("marks") or ()]
    inside = [(a, b) for a, b in marks if start <= a < b <= end] or [(start, end)]
    at_s = seen.get("at_s")
    return Passage(_excerpt(text, sorted(inside)), origin, at_s if isinstance(at_s, int | float) else None)


def _excerpt(text: str, marks: Sequence[tuple[int, int]]) -> Highlight:
    """The marks that follow each other without overlap, with some text around them."""
    kept: list[tuple[int, int]] = []
    for start, end in marks:
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    begin, stop = max(0, kept[0][0] - ROOM), min(len(text), kept[-1][1] + ROOM)
    before, after = ("…" if begin else ""), ("…" if stop < len(text) else "")
    shift = len(before) - begin
    shown = f"{before}{text[begin:stop]}{after}"
    return Highlight("words", shown, [(start + shift, end + shift) for start, end in kept])


def _notes(evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a detector says of each thing that it saw, without the places: "type: email, masked: …@x.org"."""
    notes = [said for seen in evidence if (said := said_of(seen))]
    return list(dict.fromkeys(notes))[:MAX_PASSAGES]


def said_of(seen: Mapping[str, Any]) -> str:
    """The plain values of one piece of evidence, in words."""
    kept = {
        name.replace("_", " "): value
        for name, value in seen.items()
        if name not in TECHNICAL and isinstance(value, str | int | float) and value not in ("", False)
    }
    said = [name if value is True else f"{name}: {_short(value)}" for name, value in kept.items()]
    return ", ".join(said)


def _short(value: str | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:200]
