"""What the evidence viewer shows of an audit: pictures over the item, moments of it, credentials as a tree.

Only what detectors recorded, and in whose words; what is not there is not drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from django.utils.translation import gettext as _

from console import audit_words as words

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
    return str(words.CERTIFICATES.get(c2pa["certificate"], words.C2PA["valid"]))


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
