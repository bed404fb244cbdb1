"""Facts of an audit's evidence, what was examined for them, and what a policy's `facts_rules` conclude. Pure.

A fact says what a detector said, as sure as it said so. A number of something stands here only where something counts
it: faces by the detector of faces, words by reading them. What nothing counts (pages, shots, speakers) can be asked
about and is never examined. docs/auditing/reasoning.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from ml.reasoning import Conclusions, Fact, FactBase, Limits, Pattern, Program, evaluate, read_rules

#: The constant that stands for what is audited, so that the same evidence always gives the same facts.
ITEM = "item"

MAX_RULES, MAX_CHARACTERS = 100, 20_000

#: Of one decision: some 40 ms at most.
LIMITS = Limits(facts=2_000, derived=1_000, rounds=200, steps=20_000)

MAX_VALUE, MAX_METADATA = 300, 50


@dataclass(frozen=True)
class Told:
    """A predicate that evidence tells: names of its arguments, and what it means. `graded`: its confidence is a score,
    so that rules should ask for a least one."""

    arguments: tuple[str, ...]
    about: str
    graded: bool = False


TOLD: Mapping[str, Told] = {
    "item": Told(("A",), "What is audited."),
    "modality": Told(("A", "MODALITY"), "text, image, audio or video."),
    "dataset": Told(("A", "ID"), "Where an asset lies."),
    "subject": Told(("A", "SENDER"), "Who it comes from, where that was told."),
    "strikes": Told(("A", "N"), "Of the sender, not expired."),
    "duration": Told(("A", "SECONDS"), "Of recordings and films."),
    "size": Told(("A", "WIDTH", "HEIGHT"), "Of pictures and films, in pixels."),
    "metadata": Told(("A", "KEY", "VALUE"), "The asset's: texts and numbers; true and false as texts."),
    "category": Told(("A", "NAME"), "A category's score by its detector.", graded=True),
    "contains": Told(("A", "NAME"), "What a classifier of the workspace says.", graded=True),
    "estimated": Told(("A", "VERDICT"), "What the statistical tier estimates.", graded=True),
    "face": Told(("A", "FACE"), "A frontal face in a picture; needs a detector of faces."),
    "personal_data": Told(
        ("A", "PLACE", "TYPE"), "An e-mail address, a number of a card and so on.", graded=True
    ),
    "term": Told(("A", "LIST", "TERM"), "A word or phrase of a list that was found."),
    "words": Told(("A", "ORIGIN", "N"), "How many words it has: text, caption, picture, transcript."),
    "listed": Told(("A", "LIST", "STANCE"), "It is on a hash list, bad or good."),
    "credentials": Told(("A", "STATE"), "Content credentials: absent, trusted, valid, invalid."),
    "watermark": Told(("A", "STATE"), "This installation's mark: present, absent."),
    "declared_ai": Told(("A",), "Its metadata or credentials say that AI made it."),
    "made_with": Told(("A", "GENERATOR"), "The software that metadata or credentials name."),
    "page": Told(("A", "N"), "Nothing tells pages yet."),
    "shot": Told(("A", "N"), "Nothing counts shots yet."),
    "speaker": Told(("A", "SPEAKER"), "Nothing tells speakers apart yet."),
}

#: What can be asked about and is never examined.
NEVER_EXAMINED = frozenset({"page", "shot", "speaker"})

KNOWN = tuple((name, len(one.arguments)) for name, one in TOLD.items())

#: What a condition can ask about a derived predicate: `facts.NAME.holds`.
FIELDS = ("holds", "state", "confidence", "count")


def read_policy_rules(text: str) -> Program:
    """The rules of a policy, over facts that evidence tells. Raises RulesError."""
    return read_rules(text, KNOWN)


def conclude(program: Program, evidence: Mapping[str, Any], limits: Limits = LIMITS) -> Conclusions:
    """Raises FactsError, TooMuch."""
    return evaluate(program, facts_of(evidence), limits)


def values_of(conclusions: Conclusions) -> dict[str, dict[str, object]]:
    """What conditions see as `facts`: each derived predicate by its name."""
    found = {}
    for name in sorted(conclusions.program.derived):
        answer = conclusions.answer(name)
        found[name] = {
            "holds": answer.state == "holds",
            "state": answer.state,
            "confidence": answer.confidence,
            "count": answer.count,
        }
    return found


# --- Facts ----------------------------------------------------------------------------------------------


def facts_of(evidence: Mapping[str, Any]) -> FactBase:
    """What a stored evidence document tells. Never raises: what is not of the expected shape tells nothing."""
    facts: list[Fact] = []
    examined: list[Pattern] = []
    for tell in (
        _of_item,
        _of_categories,
        _of_classifiers,
        _of_faces,
        _of_words,
        _of_matches,
        _of_provenance,
    ):
        for one in tell(evidence):
            (facts if isinstance(one, Fact) else examined).append(one)  # type: ignore[arg-type]
    return FactBase(tuple(facts[: LIMITS.facts]), () if len(facts) > LIMITS.facts else tuple(examined))


_Told = Iterator[Fact | Pattern]


def _all(name: str, *arguments: str | None) -> Pattern:
    """Everything of that name was looked for, or what the arguments after the item say."""
    rest = arguments or (None,) * (len(TOLD[name].arguments) - 1)
    return Pattern(name, (None, *rest))


def _of_item(evidence: Mapping[str, Any]) -> _Told:
    item = _object(evidence.get("item"))
    yield Fact("item", (ITEM,), 1.0, "audit")
    for name in ("item", "modality", "dataset", "subject", "strikes", "duration", "size", "metadata"):
        yield _all(name)
    for name, key in (("modality", "modality"), ("dataset", "dataset"), ("subject", "subject")):
        if isinstance(value := item.get(key), str) and value:
            yield Fact(name, (ITEM, value[:MAX_VALUE]), 1.0, "audit")
    if _is_number(strikes := evidence.get("strikes", 0)):
        yield Fact("strikes", (ITEM, strikes), 1.0, "audit")
    if _is_number(seconds := item.get("duration_s")) and seconds:
        yield Fact("duration", (ITEM, seconds), 1.0, "decoder")
    width, height = item.get("width"), item.get("height")
    if _is_number(width) and _is_number(height) and width and height:
        yield Fact("size", (ITEM, width, height), 1.0, "decoder")
    for key, value in sorted(_object(item.get("metadata")).items())[:MAX_METADATA]:
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, str) or _is_number(value):
            yield Fact(
                "metadata",
                (ITEM, key[:MAX_VALUE], value[:MAX_VALUE] if isinstance(value, str) else value),
                1.0,
                "asset",
            )


def _of_categories(evidence: Mapping[str, Any]) -> _Told:
    for name, found in sorted(_object(evidence.get("categories")).items()):
        found = _object(found)
        if found.get("state") == "examined" and _is_share(score := found.get("score")):
            yield _all("category", name)
            yield Fact("category", (ITEM, name), float(score), str(found.get("detector") or ""))
        if name == "personal_data" and found.get("state") == "examined":
            yield from _of_personal_data(found, evidence)


def _of_personal_data(found: Mapping[str, Any], evidence: Mapping[str, Any]) -> _Told:
    seen = [one for one in _objects(found.get("evidence")) if one.get("kind") == "personal-data"]
    notes = [one.get("kind") for one in _evidence_of(evidence, "personal_data")]
    if found.get("detector") == "personal_data" and not {"left-out", "cut"} & set(notes):
        yield _all("personal_data")
    for place, one in enumerate(seen, 1):
        if _is_share(sure := one.get("confidence")) and isinstance(one.get("type"), str):
            yield Fact("personal_data", (ITEM, place, one["type"]), float(sure), "personal_data")


def _of_classifiers(evidence: Mapping[str, Any]) -> _Told:
    for name, found in sorted(_object(evidence.get("classifier")).items()):
        found = _object(found)
        if found.get("state") == "examined" and _is_share(sure := found.get("probability")):
            yield _all("contains", name[:MAX_VALUE])
            yield Fact(
                "contains",
                (ITEM, name[:MAX_VALUE]),
                float(sure),
                f"classifier:{name}@{found.get('version')}"[:MAX_VALUE],
            )


def _of_faces(evidence: Mapping[str, Any]) -> _Told:
    """Faces of pictures, where there is a detector of them; it says of none how sure it is that it is a face."""
    if _object(evidence.get("item")).get("modality") != "image":
        return
    looked = [
        one for one in _objects(evidence.get("detectors")) if str(one.get("name")).startswith("hf-face:")
    ]
    # Several look for the same faces.
    for one in sorted(looked, key=lambda one: str(one["name"]))[:1]:
        if str(one["name"]) in _object(_object(evidence.get("counts")).get("faces")):
            yield _all("face")
        seen = [face for face in _objects(one.get("evidence")) if face.get("kind") == "face"]
        for place in range(1, len(seen) + 1):
            yield Fact(
                "face", (ITEM, f"face {place}"), 1.0, f"{one['name']}@{one.get('version')}"[:MAX_VALUE]
            )


def _of_words(evidence: Mapping[str, Any]) -> _Told:
    for origin, count in sorted(_object(_object(evidence.get("counts")).get("words")).items()):
        if _is_number(count):
            yield _all("words", origin, None)
            yield Fact("words", (ITEM, origin, count), 1.0, "ocr" if origin == "picture" else origin)
    for found in _object(evidence.get("categories")).values():
        for one in _objects(_object(found).get("evidence")):
            if (
                one.get("kind") == "list-match"
                and isinstance(one.get("list"), str)
                and isinstance(one.get("term"), str)
            ):
                yield Fact("term", (ITEM, one["list"][:MAX_VALUE], one["term"][:MAX_VALUE]), 1.0, "keywords")


def _of_matches(evidence: Mapping[str, Any]) -> _Told:
    matches = _objects(evidence.get("matches"))
    if _object(evidence.get("fingerprints")) and len(matches) < 50:
        yield _all("listed")
    for one in matches:
        if isinstance(one.get("name"), str) and isinstance(one.get("stance"), str):
            yield Fact(
                "listed", (ITEM, one["name"][:MAX_VALUE], one["stance"]), 1.0, str(one.get("algorithm") or "")
            )


def _of_provenance(evidence: Mapping[str, Any]) -> _Told:
    provenance = _object(evidence.get("provenance"))
    c2pa, declared = _object(provenance.get("c2pa")), _object(provenance.get("declared"))
    for name, part, source in (
        ("credentials", c2pa, "c2pa"),
        ("watermark", _object(provenance.get("watermark")), "watermark"),
    ):
        state = part.get("state")
        if isinstance(state, str) and state != "not_examined":
            yield _all(name)
            yield Fact(name, (ITEM, state[:MAX_VALUE]), 1.0, source)
    looked = [part.get("state") not in (None, "not_examined") for part in (c2pa, declared)]
    if all(looked):
        yield _all("declared_ai")
        yield _all("made_with")
    for part, source in ((c2pa, "c2pa"), (declared, "declared")):
        if part.get("ai") is True:
            yield Fact("declared_ai", (ITEM,), 1.0, source)
        if isinstance(part.get("generator"), str) and part["generator"]:
            yield Fact("made_with", (ITEM, part["generator"][:MAX_VALUE]), 1.0, source)
    yield from _of_estimates(_object(evidence.get("authenticity")))


def _of_estimates(authenticity: Mapping[str, Any]) -> _Told:
    verdict, sure = authenticity.get("verdict"), authenticity.get("probability")
    if authenticity.get("tier") == "statistical" and isinstance(verdict, str) and _is_share(sure):
        yield Fact("estimated", (ITEM, verdict), float(sure), "statistical tier")
        yield _all("estimated")
    elif _object(authenticity.get("tiers")).get("statistical") == "no_evidence":
        yield _all("estimated")


def _evidence_of(evidence: Mapping[str, Any], detector: str) -> list[Mapping[str, Any]]:
    return [
        piece
        for one in _objects(evidence.get("detectors"))
        if one.get("name") == detector
        for piece in _objects(one.get("evidence"))
    ]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def _is_share(value: Any) -> TypeGuard[int | float]:
    return _is_number(value) and 0 <= value <= 1
