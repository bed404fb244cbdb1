"""One audit as its page shows it: the evidence in an order that a reader can follow, and the viewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from django.utils.translation import gettext as _

from console.audits import labels
from tenants.datasets.content_responses import read_text
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.moderation.models import Audit, PolicyVersion
from tenants.retrieval.query import Highlight

AUTHENTICITY_TIERS = ("cryptographic", "declared", "statistical")

_ORDER = {name: place for place, name in enumerate(labels.CATEGORIES)}

# Of the text around a marked place.
ROOM = 60

MAX_PASSAGES = 5

# Of a piece of evidence: places, which are shown in the labels, and what only machines ask for.
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
    """`changes`: what is estimated of changes where that is not the verdict; `looked_for` in labels."""

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
class AuditSummary:
    """`looked`: categories of which something was seen, flagged first; `unseen` those that were looked for in vain;
    `unlooked` the others, by state."""

    rules: list[Rule]
    tiers: list[TierLine]
    looked: list[CategoryLine]
    unseen: list[str]
    unlooked: list[tuple[str, list[str]]]
    could_not: list[str]


def audit_summary(audit: Audit, shape: Mapping[str, Any], asset: Asset | None) -> AuditSummary:
    """Of an audit and its shape in the API. `asset` only if its words may be shown."""
    categories = shape.get("categories") or {}
    pieces = _examined_texts(asset, shape) if categories else []
    return AuditSummary(
        rules=rules_of(audit),
        tiers=[_tier(tier, shape.get("authenticity") or {}) for tier in AUTHENTICITY_TIERS],
        looked=_category_lines(categories, pieces),
        unseen=[_category_label(name) for name in _ordered(categories) if _is_clear(categories[name])],
        unlooked=_not_examined(categories),
        could_not=[str(labels.COULD_NOT.get(name, name)) for name in shape.get("could_not_look") or ()],
    )


def _tier(tier: str, authenticity: Mapping[str, Any]) -> TierLine:
    """Audits of before these were kept have neither `estimates` nor `looked_for`."""
    verdict = (authenticity.get("tiers") or {}).get(tier, "not_examined")
    changes = (authenticity.get("estimates") or {}).get("manipulation", "") if tier == "statistical" else ""
    looked_for = (authenticity.get("looked_for") or {}).get(tier) or ()
    return TierLine(
        tier,
        verdict,
        str(labels.SAYINGS[tier].get(verdict, "")),
        str(labels.CHANGES.get(changes, "")),
        [str(labels.LOOKED_FOR.get(sign, sign)) for sign in looked_for],
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
        return Rule(name, document.get("on_failure", "review"), f"{labels.RULES[name]}.")
    return Rule(name)


# --- Categories ------------------------------------------------------------------------------------------


def _category_lines(categories: Mapping[str, Any], pieces: Sequence[tuple[str, str]]) -> list[CategoryLine]:
    lines = [
        CategoryLine(name, found, _passages(found["evidence"], pieces), _notes(found["evidence"]))
        for name, found in categories.items()
        if found["state"] == "examined" and not _is_clear(found)
    ]
    return sorted(lines, key=lambda line: (not line.found["flagged"], -(line.found["score"] or 0)))


def _is_clear(found: Mapping[str, Any]) -> bool:
    return found["state"] == "examined" and not found["score"] and not found["flagged"]


def _ordered(categories: Mapping[str, Any]) -> list[str]:
    return sorted(categories, key=lambda name: _ORDER.get(name, len(_ORDER)))


def _category_label(category: str) -> str:
    return str(labels.CATEGORIES.get(category, category))


def _not_examined(categories: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Names by state, what failed first; in one order, which the database does not keep."""
    by_state: dict[str, list[str]] = {"failed": [], "abstained": [], "not_examined": []}
    for name in _ordered(categories):
        if (state := categories[name]["state"]) in by_state:
            by_state[state].append(_category_label(name))
    return [(state, names) for state, names in by_state.items() if names]


def _examined_texts(asset: Asset | None, shape: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Origin and text of what detectors read, in their order: the item's own labels, then those found in it."""
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
    notes = [said for seen in evidence if (said := describe_evidence(seen))]
    return list(dict.fromkeys(notes))[:MAX_PASSAGES]


def describe_evidence(seen: Mapping[str, Any]) -> str:
    """The plain values of one piece of evidence, in labels."""
    kept = {
        name.replace("_", " "): value
        for name, value in seen.items()
        if name not in TECHNICAL and isinstance(value, str | int | float) and value not in ("", False)
    }
    said = [name if value is True else f"{name}: {_short(value)}" for name, value in kept.items()]
    return ", ".join(said)


def _short(value: str | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:200]


MAX_BOXES, MAX_MOMENTS = 40, 60


@dataclass(frozen=True)
class Overlay:
    """A picture that a detector made of the item: a mask or heat-map."""

    name: str
    picture: str


@dataclass(frozen=True)
class Box:
    """A marked place: `points` in hundredths of the picture's width and height, as SVG reads them."""

    points: str
    label: str


@dataclass(frozen=True)
class Span:
    """A stretch or a moment of sound or film that a detector speaks of, in seconds and in hundredths of the whole."""

    detector: str
    start_s: float
    end_s: float
    left: float
    width: float
    score: float | None
    is_frame: bool


@dataclass(frozen=True)
class Viewer:
    overlays: list[Overlay]
    boxes: list[Box]
    spans: list[Span]
    duration_s: float

    @property
    def frames(self) -> list[Span]:
        return [span for span in self.spans if span.is_frame]

    def __bool__(self) -> bool:
        return bool(self.overlays or self.boxes or self.spans)


def viewer_of(shape: Mapping[str, Any]) -> Viewer:
    """Of an audit's shape in the API; empty where its evidence was erased."""
    item = shape.get("item") or {}
    duration = float(item.get("duration_s") or 0)
    size = (item.get("width") or 0, item.get("height") or 0)
    evidence = list(_evidence(shape))
    return Viewer(
        overlays=[Overlay(name, picture) for name, picture in sorted((shape.get("pictures") or {}).items())],
        boxes=[box for one in evidence if (box := _box(one, size))][:MAX_BOXES] if not duration else [],
        spans=sorted(_spans(evidence, duration), key=lambda span: span.start_s)[:MAX_MOMENTS],
        duration_s=duration,
    )


def _evidence(shape: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every piece of evidence with the detector that gave it; once where it also stands at a category."""
    for part in shape.get("detectors") or ():
        for one in part.get("evidence") or ():
            if isinstance(one, dict):
                yield {"detector": part["name"], **one}
    for found in (shape.get("categories") or {}).values():
        for one in found.get("evidence") or ():
            if isinstance(one, dict):
                yield {"detector": found.get("detector", ""), **one}


# --- Places of a picture ---------------------------------------------------------------------------------

# Pixels of what detectors were shown, whose longest side is no longer.
LONGEST = 1024


def _box(one: Mapping[str, Any], size: tuple[int, int]) -> Box | None:
    given = one.get("box")
    if not isinstance(given, list) or len(given) != 4:
        return None
    corners = _corners(given) if isinstance(given[0], list) else _sides(given, size)
    if not corners or not all(0 <= value <= 1.001 for point in corners for value in point):
        return None
    points = " ".join(f"{100 * x:.1f},{100 * y:.1f}" for x, y in corners)
    return Box(points, str(one.get("detector", "")))


def _corners(given: Sequence[Any]) -> list[tuple[float, float]]:
    """Shares of width and height, corner by corner."""
    if not all(isinstance(one, list) and len(one) == 2 and all(map(_is_number, one)) for one in given):
        return []
    return [(float(x), float(y)) for x, y in given]


def _sides(given: Sequence[Any], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Left, top, width and height in pixels of what the detector saw."""
    if not all(map(_is_number, given)) or not min(size):
        return []
    shown = min(1.0, LONGEST / max(size))
    width, height = size[0] * shown, size[1] * shown
    left, top, wide, high = (float(value) for value in given)
    if wide <= 0 or high <= 0:
        return []
    right, bottom = left + wide, top + high
    return [(x / width, y / height) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


# --- Moments of sound and film ---------------------------------------------------------------------------


def _spans(evidence: Sequence[Mapping[str, Any]], duration: float) -> Iterator[Span]:
    seen = set()
    for one in evidence:
        start, end = one.get("start_s", one.get("at_s")), one.get("end_s", one.get("at_s"))
        if not _is_number(start) or not _is_number(end) or not 0 <= start <= end or not duration:
            continue
        key = (one.get("detector"), start, end)
        if key in seen or start > duration + 1:
            continue
        seen.add(key)
        score = one.get("score")
        yield Span(
            detector=str(one.get("detector", "")),
            start_s=float(start),
            end_s=float(end),
            left=round(100 * min(1.0, start / duration), 2),
            width=round(100 * max(0.004, (min(end, duration) - start) / duration), 2),
            score=float(score) if _is_number(score) else None,
            is_frame=start == end,
        )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- Content credentials ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One line of the tree; `state` colours it: `good`, `bad` or empty."""

    name: str
    says: str = ""
    state: str = ""
    children: tuple[Node, ...] = ()


def credentials_of(shape: Mapping[str, Any]) -> Node | None:
    """The manifest as a tree: what is claimed, by whom, whether it holds, and what it was made from."""
    c2pa = (shape.get("provenance") or {}).get("c2pa") or {}
    if c2pa.get("state") not in ("trusted", "valid", "invalid"):
        return None
    claim = c2pa.get("tree") or _flat(c2pa)
    return _claim(claim, _validation(c2pa))


def _flat(c2pa: Mapping[str, Any]) -> dict[str, Any]:
    """Of an audit before trees were kept: what was recorded then."""
    signer = c2pa.get("signer") or {}
    actions = [", ".join(filter(None, map(str, one.values()))) for one in c2pa.get("actions") or ()]
    return {
        "title": c2pa.get("title", ""),
        "generator": c2pa.get("generator", ""),
        "signer": signer.get("organisation") or signer.get("name", ""),
        "signed_at": c2pa.get("signed_at", ""),
        "assertions": [{"label": "c2pa.actions", "says": actions}] if actions else [],
        "ingredients": [],
        "left_out": c2pa.get("ingredients") or 0,
    }


def _validation(c2pa: Mapping[str, Any]) -> Node:
    is_bad = c2pa["state"] == "invalid"
    codes = tuple(
        Node(str(one.get("code", "")), str(one.get("explanation", "")), "bad" if is_bad else "")
        for one in c2pa.get("codes") or ()
    )
    said = {
        "trusted": (_("Intact, and the signer is trusted here."), "good"),
        "valid": (_signer_of(c2pa), ""),
        "invalid": (_("It does not fit the file."), "bad"),
    }
    saying, state = said[c2pa["state"]]
    return Node(_("Validation"), saying, state, codes)


def _signer_of(c2pa: Mapping[str, Any]) -> str:
    if c2pa.get("certificate") in (None, "", "untrusted"):
        return _("Intact; the signer is not on the list of trusted ones.")
    return str(labels.CERTIFICATES.get(c2pa["certificate"], labels.C2PA["valid"]))


def _claim(claim: Mapping[str, Any], validation: Node | None = None) -> Node:
    children = [validation] if validation else []
    signer, when = str(claim.get("signer", "")), str(claim.get("signed_at", ""))
    if signer or when:
        children.append(Node(_("Signer"), ", ".join(filter(None, (signer, when)))))
    if generator := str(claim.get("generator", "")):
        children.append(Node(_("Made with"), generator))
    if assertions := tuple(_assertion(one) for one in claim.get("assertions") or ()):
        children.append(Node(_("Assertions"), "", "", assertions))
    if ingredients := tuple(_ingredient(one) for one in claim.get("ingredients") or ()):
        children.append(Node(_("Made from"), "", "", ingredients))
    if left := claim.get("left_out"):
        children.append(Node(_("Not listed here"), str(left)))
    name = str(claim.get("title", "")) or _("Claim")
    return Node(name, str(claim.get("format", "")), "", tuple(children))


def _assertion(one: Mapping[str, Any]) -> Node:
    says = [str(said) for said in one.get("says") or ()]
    return Node(str(one.get("label", "")), "", "", tuple(Node(said) for said in says))


def _ingredient(one: Mapping[str, Any]) -> Node:
    problems = tuple(Node(str(code), _("failed validation"), "bad") for code in one.get("problems") or ())
    inner = _claim(one["claim"]) if isinstance(one.get("claim"), dict) else None
    if inner is None and not one.get("carried"):
        problems = (*problems, Node(_("It carries no credentials of its own.")))
    name = str(one.get("title", "")) or _("Without a name")
    says = ", ".join(filter(None, (str(one.get("relation", "")), str(one.get("format", "")))))
    return Node(name, says, "bad" if one.get("problems") else "", (*problems, *([inner] if inner else [])))
