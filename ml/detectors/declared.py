"""What the file's own metadata declares: which generator made it, or which camera. Anybody can write or remove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from ml.detectors.base import Detector, Finding, Item
from ml.provenance.credentials import sanitize_text, source_type_code
from ml.provenance.generators import GeneratorMark, generator_marks
from ml.provenance.tags import Tag, read_tags

MAX_SIGNS = 20
_ORDER = ("generated", "composite", "suspected")


class Declared(Detector):
    name = "declared"
    tier = "declared"
    modalities: ClassVar = frozenset({"image", "audio", "video"})
    sees = (
        "Generators named in metadata: parameters and workflows in PNG text, EXIF, XMP and IPTC with the digital source"
        " type, tags of sound and film, and China's AIGC label."
    )
    blind_to = "Files saved again, shared through most apps, or stripped of metadata; false declarations."
    timeout_s = 20.0
    order = 11
    looks_for = ("metadata",)

    def examine(self, item: Item) -> Finding:
        if item.path is None:
            reason = "There is no file, so there is no metadata."
            return Finding("not_applicable", reason, fields={"declared": _nothing("not_examined", reason)})
        found = read_tags(item.path, item.media_type)
        signs = generator_marks(found.tags)
        fields = _declared(signs) if signs else _nothing("none")
        fields |= {
            "complete": found.complete,
            "camera": _first(found.tags, ("make",), ("model",)),
            "software": _first(found.tags, ("software", "creatortool", "encoder")),
            "source_types": _source_types(found.tags),
        }
        return Finding(evidence=[_evidence(sign) for sign in signs[:MAX_SIGNS]], fields={"declared": fields})


def load(argument: str) -> Detector:
    return Declared()


def _nothing(state: str, reason: str = "") -> dict[str, Any]:
    why = {"reason": reason} if reason else {}
    return {"state": state, "generator": "", "ai": False, "kind": "", "signs": 0, **why}


def _declared(signs: Sequence[GeneratorMark]) -> dict[str, Any]:
    """``generator``: the one that most tags name, a product's name before "a diffusion tool"."""
    kind = min((sign.kind for sign in signs), key=_ORDER.index)
    names = Counter(sign.generator for sign in signs if sign.generator)
    best = max(names, key=lambda name: (name != "a diffusion tool", names[name]), default="")
    return {
        "state": "found",
        "generator": sanitize_text(best, 100),
        "ai": kind != "suspected",
        "kind": kind,
        "signs": len(signs),
    }


def _evidence(sign: GeneratorMark) -> dict[str, str]:
    return {
        "kind": "declaration",
        "says": sign.kind,
        "generator": sanitize_text(sign.generator, 100),
        "place": sign.tag.place,
        "key": sanitize_text(sign.tag.key, 80),
        "text": sanitize_text(sign.tag.text, 300),
    }


def _first(tags: Sequence[Tag], *wanted: tuple[str, ...]) -> str:
    """The first value of each group of keys, joined."""
    values = [
        next((sanitize_text(tag.text, 80) for tag in tags if tag.key.rpartition(":")[2].lower() in keys), "")
        for keys in wanted
    ]
    return " ".join(value for value in values if value)


def _source_types(tags: Sequence[Tag]) -> list[str]:
    codes = {source_type_code(tag.text) for tag in tags if tag.key.lower().endswith("digitalsourcetype")}
    return sorted(codes - {""})
