"""One audit as its page shows it: the evidence in an order that a reader can follow, and the viewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from django.utils.translation import gettext as _

from console.audits import labels
from console.kept_sentences import translated_sentence
from tenants.datasets import documents
from tenants.datasets.content_responses import read_text
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.moderation import shapes
from tenants.moderation.models import Audit, PolicyVersion
from tenants.retrieval.query import Highlight
from tenants.shapes import Json, JsonObject

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
    found: JsonObject
    passages: list[Passage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    caveat: str = ""


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


def audit_summary(audit: Audit, shape: shapes.Audit, asset: Asset | None) -> AuditSummary:
    """Of an audit and its shape in the API. `asset` only if its words may be shown."""
    categories = _categories(shape)
    pieces = _examined_texts(asset, shape) if categories else []
    return AuditSummary(
        rules=rules_of(audit),
        tiers=[_tier(tier, _object_in(shape.authenticity)) for tier in AUTHENTICITY_TIERS],
        looked=_category_lines(categories, pieces),
        unseen=[_category_label(name) for name in _ordered(categories) if _is_clear(categories[name])],
        unlooked=_not_examined(categories),
        could_not=[str(labels.COULD_NOT.get(name, name)) for name in shape.could_not_look or ()],
    )


def _categories(shape: shapes.Audit) -> dict[str, JsonObject]:
    return {name: _object_in(found) for name, found in _object_in(shape.categories).items()}


def _tier(tier: str, authenticity: JsonObject) -> TierLine:
    """Audits of before these were kept have neither `estimates` nor `looked_for`."""
    verdict = str(_object_in(authenticity.get("tiers")).get(tier, "not_examined"))
    estimates = _object_in(authenticity.get("estimates"))
    changes = str(estimates.get("manipulation", "")) if tier == "statistical" else ""
    looked_for = _texts(_object_in(authenticity.get("looked_for")).get(tier))
    return TierLine(
        tier,
        verdict,
        str(labels.SAYINGS[tier].get(verdict, "")),
        str(labels.CHANGES.get(changes, "")),
        [str(labels.LOOKED_FOR.get(sign, sign)) for sign in looked_for],
    )


def _texts(value: Json) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def rules_of(audit: Audit) -> list[Rule]:
    """The rules that fired, with the reasons that the policy's version gives."""
    version = PolicyVersion.objects.filter(pk=audit.policy_version).first() if audit.policy_version else None
    document = version.document if version else {}
    known = {rule["id"]: rule for rule in _objects_in(document.get("rules"))}
    return [_rule(name, known.get(name), document) for name in audit.rules]


def _rule(name: str, rule: JsonObject | None, document: JsonObject) -> Rule:
    if rule is not None:
        reason = str(rule.get("reason", ""))
        return Rule(name, str(rule["then"]), reason, tuple(_texts(rule.get("labels"))))
    if name == "detector-failed":
        return Rule(name, str(document.get("on_failure", "review")), f"{labels.RULES[name]}.")
    return Rule(name)


# --- Categories ------------------------------------------------------------------------------------------


def _category_lines(
    categories: Mapping[str, JsonObject], pieces: Sequence[tuple[str, str]]
) -> list[CategoryLine]:
    lines = [
        CategoryLine(name, found, _passages(evidence, pieces), _notes(evidence), _caveat(found))
        for name, found in categories.items()
        if found["state"] == "examined" and not _is_clear(found)
        for evidence in [_objects_in(found["evidence"])]
    ]
    return sorted(lines, key=lambda line: (not line.found["flagged"], -_number(line.found["score"])))


def _caveat(found: JsonObject) -> str:
    return str(labels.CAVEATS.get(str(found.get("detector")), ""))


def _number(value: Json) -> float:
    return value if _is_number(value) else 0


def _is_clear(found: JsonObject) -> bool:
    return found["state"] == "examined" and not found["score"] and not found["flagged"]


def _ordered(categories: Mapping[str, JsonObject]) -> list[str]:
    return sorted(categories, key=lambda name: _ORDER.get(name, len(_ORDER)))


def _category_label(category: str) -> str:
    return str(labels.CATEGORIES.get(category, category))


def _not_examined(categories: Mapping[str, JsonObject]) -> list[tuple[str, list[str]]]:
    """Names by state, what failed first; in one order, which the database does not keep."""
    by_state: dict[str, list[str]] = {"failed": [], "abstained": [], "not_examined": []}
    for name in _ordered(categories):
        if (state := str(categories[name]["state"])) in by_state:
            by_state[state].append(_category_label(name))
    return [(state, names) for state, names in by_state.items() if names]


def _examined_texts(asset: Asset | None, shape: shapes.Audit) -> list[tuple[str, str]]:
    """Origin and text of what detectors read, in their order: the item's own labels, then those found in it."""
    found = [(str(one["origin"]), str(one["text"])) for one in shape.words or ()]
    if asset is None:
        return found
    if documents.is_document(asset.blob.media_type):
        read = documents.stored(asset.tenant_id, asset.blob.sha256)
        return [("text", text) for text in documents.examined_texts(read)] if read else []
    if asset.modality == Asset.Modality.TEXT:
        return [("text", read_text(asset))]
    # What it was made from is examined as a caption is.
    own = [("caption", words) for words in (*asset.captions, asset.prompt) if words]
    spoken = TranscriptSegment.objects.filter(asset=asset).order_by("start_s")
    return [*own, *(("transcript", text) for text in spoken.values_list("text", flat=True)), *found]


def _passages(evidence: Sequence[JsonObject], pieces: Sequence[tuple[str, str]]) -> list[Passage]:
    found = [_passage(seen, pieces) for seen in evidence]
    return [passage for passage in found if passage][:MAX_PASSAGES]


def _passage(seen: JsonObject, pieces: Sequence[tuple[str, str]]) -> Passage | None:
    piece, start, end = seen.get("piece"), seen.get("start"), seen.get("end")
    if not isinstance(piece, int) or not isinstance(start, int) or not isinstance(end, int):
        return None
    if not 0 <= piece < len(pieces):
        return None
    origin, text = pieces[piece]
    # The words may have been changed since, or cut.
    if origin != seen.get("origin") or not 0 <= start < end <= len(text):
        return None
    marks = [(m["start"], m["end"]) for m in _objects_in(seen.get("marks"))]
    whole = [(a, b) for a, b in marks if isinstance(a, int) and isinstance(b, int)]
    inside = [(a, b) for a, b in whole if start <= a < b <= end] or [(start, end)]
    at_s = seen.get("at_s")
    return Passage(_excerpt(text, sorted(inside)), origin, at_s if isinstance(at_s, int | float) else None)


def marked_words(shape: shapes.Audit, words: str) -> Highlight:
    """The words of a text item, or as much of them as is shown, with everything marked that was flagged in them."""
    marks = [
        mark
        for found in _categories(shape).values()
        if found.get("flagged") is True
        for seen in _objects_in(found.get("evidence"))
        if seen.get("origin") == "text" and seen.get("piece") == 0
        for mark in _marks_of(seen, words)
    ]
    kept: list[tuple[int, int]] = []
    for start, end in sorted(marks):
        if kept and start <= kept[-1][1]:
            kept[-1] = (kept[-1][0], max(end, kept[-1][1]))
        else:
            kept.append((start, end))
    return Highlight("words", words, kept)


def _marks_of(seen: JsonObject, words: str) -> list[tuple[int, int]]:
    """The places in the words that one piece of evidence names; none where they lie outside of them."""
    named = [*_objects_in(seen.get("marks"))] or [seen]
    places = [(one.get("start"), one.get("end")) for one in named]
    return [
        (start, end)
        for start, end in places
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(words)
    ]


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


def _notes(evidence: Sequence[JsonObject]) -> list[str]:
    """What a detector says of each thing that it saw, without the places: "type: email, masked: …@x.org"."""
    notes = [said for seen in evidence if (said := describe_evidence(seen))]
    return list(dict.fromkeys(notes))[:MAX_PASSAGES]


def describe_evidence(seen: JsonObject) -> str:
    """The plain values of one piece of evidence, in labels."""
    kept = {
        name: value
        for name, value in seen.items()
        if name not in TECHNICAL and isinstance(value, str | int | float) and value not in ("", False)
    }
    return ", ".join(_noted(name, value) for name, value in kept.items())


def _noted(name: str, value: str | float) -> str:
    noun = str(labels.EVIDENCE.get(name, name.replace("_", " ")))
    return noun if value is True else f"{noun}: {_short(name, value)}"


def _short(name: str, value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    words: object = labels.EVIDENCE_VALUES.get(name, {}).get(str(value))
    return translated_sentence(str(value)[:200]) if words is None else str(words)


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


def viewer_of(shape: shapes.Audit) -> Viewer:
    """Of an audit's shape in the API; empty where its evidence was erased."""
    item = _object_in(shape.item)
    duration = float(_number(item.get("duration_s")))
    size = (int(_number(item.get("width"))), int(_number(item.get("height"))))
    evidence = list(_evidence(shape))
    return Viewer(
        overlays=[Overlay(name, str(picture)) for name, picture in sorted((shape.pictures or {}).items())],
        boxes=[box for one in evidence if (box := _box(one, size))][:MAX_BOXES] if not duration else [],
        spans=sorted(_spans(evidence, duration), key=lambda span: span.start_s)[:MAX_MOMENTS],
        duration_s=duration,
    )


def _evidence(shape: shapes.Audit) -> Iterator[JsonObject]:
    """Every piece of evidence with the detector that gave it; once where it also stands at a category."""
    for part in shape.detectors or ():
        for one in _objects_in(part.get("evidence")):
            yield {"detector": part["name"], **one}
    for found in _categories(shape).values():
        for one in _objects_in(found.get("evidence")):
            yield {"detector": found.get("detector", ""), **one}


# --- Places of a picture ---------------------------------------------------------------------------------

# Pixels of what detectors were shown, whose longest side is no longer.
LONGEST = 1024


def _box(one: JsonObject, size: tuple[int, int]) -> Box | None:
    given = one.get("box")
    if not isinstance(given, list) or len(given) != 4:
        return None
    corners = _corners(given) if isinstance(given[0], list) else _sides(given, size)
    if not corners or not all(0 <= value <= 1.001 for point in corners for value in point):
        return None
    points = " ".join(f"{100 * x:.1f},{100 * y:.1f}" for x, y in corners)
    return Box(points, str(one.get("detector", "")))


def _corners(given: Sequence[Json]) -> list[tuple[float, float]]:
    """Shares of width and height, corner by corner."""
    pairs = [one for one in given if isinstance(one, list) and len(one) == 2]
    found = [(float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)]
    return found if len(found) == len(given) else []


def _sides(given: Sequence[Json], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Left, top, width and height in pixels of what the detector saw."""
    sides = [float(value) for value in given if _is_number(value)]
    if len(sides) != len(given) or not min(size):
        return []
    shown = min(1.0, LONGEST / max(size))
    width, height = size[0] * shown, size[1] * shown
    left, top, wide, high = sides
    if wide <= 0 or high <= 0:
        return []
    right, bottom = left + wide, top + high
    return [(x / width, y / height) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


# --- Moments of sound and film ---------------------------------------------------------------------------


def _spans(evidence: Sequence[JsonObject], duration: float) -> Iterator[Span]:
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


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- Content credentials ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One line of the tree; `state` colours it: `good`, `bad` or empty."""

    name: str
    says: str = ""
    state: str = ""
    children: tuple[Node, ...] = ()


def credentials_of(shape: shapes.Audit) -> Node | None:
    """The manifest as a tree: what is claimed, by whom, whether it holds, and what it was made from."""
    c2pa = _object_in(_object_in(shape.provenance).get("c2pa"))
    if c2pa.get("state") not in ("trusted", "valid", "invalid"):
        return None
    claim = _object_in(c2pa.get("tree")) or _flat(c2pa)
    return _claim(claim, _validation(c2pa))


def _flat(c2pa: JsonObject) -> JsonObject:
    """Of an audit before trees were kept: what was recorded then."""
    signer = _object_in(c2pa.get("signer"))
    actions = [", ".join(filter(None, map(str, one.values()))) for one in _objects_in(c2pa.get("actions"))]
    return {
        "title": c2pa.get("title", ""),
        "generator": c2pa.get("generator", ""),
        "signer": signer.get("organisation") or signer.get("name", ""),
        "signed_at": c2pa.get("signed_at", ""),
        "assertions": [{"label": "c2pa.actions", "says": actions}] if actions else [],
        "ingredients": [],
        "left_out": c2pa.get("ingredients") or 0,
    }


def _validation(c2pa: JsonObject) -> Node:
    is_bad = c2pa["state"] == "invalid"
    codes = tuple(
        Node(str(one.get("code", "")), str(one.get("explanation", "")), "bad" if is_bad else "")
        for one in _objects_in(c2pa.get("codes"))
    )
    said = {
        "trusted": (_("Intact, and the signer is trusted here."), "good"),
        "valid": (_signer_of(c2pa), ""),
        "invalid": (_("It does not fit the file."), "bad"),
    }
    saying, state = said[str(c2pa["state"])]
    return Node(_("Validation"), saying, state, codes)


def _signer_of(c2pa: JsonObject) -> str:
    certificate = str(c2pa.get("certificate") or "")
    if certificate in ("", "untrusted"):
        return _("Intact; the signer is not on the list of trusted ones.")
    return str(labels.CERTIFICATES.get(certificate, labels.C2PA["valid"]))


def _claim(claim: JsonObject, validation: Node | None = None) -> Node:
    children = [validation] if validation else []
    signer, when = str(claim.get("signer", "")), str(claim.get("signed_at", ""))
    if signer or when:
        children.append(Node(_("Signer"), ", ".join(filter(None, (signer, when)))))
    if generator := str(claim.get("generator", "")):
        children.append(Node(_("Made with"), generator))
    if assertions := tuple(_assertion(one) for one in _objects_in(claim.get("assertions"))):
        children.append(Node(_("Assertions"), "", "", assertions))
    if ingredients := tuple(_ingredient(one) for one in _objects_in(claim.get("ingredients"))):
        children.append(Node(_("Made from"), "", "", ingredients))
    if left := claim.get("left_out"):
        children.append(Node(_("Not listed here"), str(left)))
    name = str(claim.get("title", "")) or _("Claim")
    return Node(name, str(claim.get("format", "")), "", tuple(children))


def _assertion(one: JsonObject) -> Node:
    says = _texts(one.get("says"))
    return Node(str(one.get("label", "")), "", "", tuple(Node(said) for said in says))


def _ingredient(one: JsonObject) -> Node:
    problems = tuple(Node(code, _("failed validation"), "bad") for code in _texts(one.get("problems")))
    inner = _claim(_object_in(one["claim"])) if isinstance(one.get("claim"), dict) else None
    if inner is None and not one.get("carried"):
        problems = (*problems, Node(_("It carries no credentials of its own.")))
    name = str(one.get("title", "")) or _("Unnamed")
    says = ", ".join(filter(None, (str(one.get("relation", "")), str(one.get("format", "")))))
    return Node(name, says, "bad" if one.get("problems") else "", (*problems, *([inner] if inner else [])))


def _object_in(value: Json) -> JsonObject:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _objects_in(value: Json) -> list[JsonObject]:
    """The objects of a JSON list; none in place of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list | tuple) else []
