"""A manifest store as a tree for people: claims, assertions, and what each was made from. Bounded in every way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# --- Text ------------------------------------------------------------------------------------------------
# Strings out of strangers' files, fit to be stored and shown: short, one line, nothing that hides or reorders.


#: Controls, surrogates, private characters and those of format: zero-width, right-to-left overrides.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
_SPACE = re.compile(r"\s+")


def sanitize_text(value: Any, most: int = 200) -> str:
    """``value`` as one line of at most ``most`` characters; "" for what is neither text nor number."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    text = _SPACE.sub(" ", str(value)[: 4 * most])
    text = "".join(c for c in text if unicodedata.category(c) not in _HIDDEN).strip()
    return text if len(text) <= most else text[: most - 1] + "…"


# --- Source types ----------------------------------------------------------------------------------------
# IPTC's digital source types: how a picture, sound or film came into being, as C2PA, XMP and IPTC name it.
#
# Source: https://cv.iptc.org/newscodes/digitalsourcetype/ and the two that C2PA adds.


#: Made by a trained model as a whole.
GENERATED = frozenset({"trainedAlgorithmicMedia", "trainedAlgorithmicData"})
#: Captured or drawn, with parts made by a trained model (generative fill, magic erasers).
COMPOSITE = frozenset({"compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"})
OTHER = frozenset(
    {
        "digitalCapture", "computationalCapture", "negativeFilm", "positiveFilm", "print", "minorHumanEdits",
        "humanEdits", "compositeCapture", "composite", "algorithmicallyEnhanced", "softwareImage", "digitalArt",
        "digitalCreation", "dataDrivenMedia", "algorithmicMedia", "screenCapture", "virtualRecording", "empty",
    }
)  # fmt: skip
_KNOWN = {code.lower(): code for code in GENERATED | COMPOSITE | OTHER}
_LAST = re.compile(r"[^/:#]*$")


def source_type_code(value: Any) -> str:
    """The code in a URI, a qualified code (``digsrctype:…``) or alone; "" for what is none of them."""
    found = _LAST.search(value.strip()[-200:]) if isinstance(value, str) else None
    return _KNOWN.get(found.group().lower(), "") if found else ""


def ai_kind(codes: Iterable[str]) -> str:
    """``generated``, ``composite`` or "": the strongest that the codes say."""
    kept = set(codes)
    return "generated" if kept & GENERATED else "composite" if kept & COMPOSITE else ""


# --- Manifests -------------------------------------------------------------------------------------------


MAX_MANIFESTS, MAX_DEPTH = 12, 4
MAX_ASSERTIONS, MAX_INGREDIENTS, MAX_ACTIONS, MAX_CODES = 12, 8, 8, 6
MAX_TEXT = 120


def manifest_tree(report: Mapping[str, Any]) -> dict[str, Any]:
    """The active manifest with its ingredients, as the SDK read and validated it; empty where there is none.

    Each claim has `title`, `format`, `generator`, `signer`, `signed_at`, `assertions` (label, says), `ingredients`
    (title, relation, problems and, where one was carried along, its own `claim`), and `left_out` where it was cut.
    """
    reader = _Reader(_dict(report.get("manifests")), _problems(report))
    return reader.claim(str(report.get("active_manifest")), 0) or {}


@dataclass
class _Reader:
    manifests: Mapping[str, Any]
    problems: Mapping[tuple[str, str], list[str]]
    left: int = MAX_MANIFESTS

    def claim(self, label: str, depth: int) -> dict[str, Any] | None:
        manifest = _dict(self.manifests.get(label))
        if not manifest or depth >= MAX_DEPTH or self.left <= 0:
            return None
        self.left -= 1
        assertions, ingredients = _list(manifest.get("assertions")), _list(manifest.get("ingredients"))
        info = _dict(manifest.get("signature_info"))
        return {
            "title": _text(manifest.get("title")),
            "format": _text(manifest.get("format")),
            "generator": _generator(manifest),
            "signer": _text(info.get("issuer") or info.get("common_name")),
            "signed_at": sanitize_text(info.get("time"), 40),
            "assertions": [_assertion(_dict(one)) for one in assertions[:MAX_ASSERTIONS]],
            "ingredients": [
                self._ingredient(label, _dict(one), depth) for one in ingredients[:MAX_INGREDIENTS]
            ],
            "left_out": max(0, len(assertions) - MAX_ASSERTIONS) + max(0, len(ingredients) - MAX_INGREDIENTS),
        }

    def _ingredient(self, manifest: str, ingredient: Mapping[str, Any], depth: int) -> dict[str, Any]:
        label = str(ingredient.get("active_manifest") or "")
        found = {
            "title": _text(ingredient.get("title")),
            "format": _text(ingredient.get("format")),
            "relation": sanitize_text(ingredient.get("relationship"), 40),
            "problems": self.problems.get((manifest, str(ingredient.get("label") or "")), [])
            or _own_problems(ingredient),
        }
        claim = self.claim(label, depth + 1) if label else None
        return found | ({"claim": claim} if claim else {"carried": bool(label)})


def _assertion(assertion: Mapping[str, Any]) -> dict[str, Any]:
    data = _dict(assertion.get("data"))
    actions = [_action(_dict(one)) for one in _list(data.get("actions"))[:MAX_ACTIONS]]
    says = [said for said in actions if said] or _plain_values(data)
    return {"label": sanitize_text(assertion.get("label"), 80), "says": says}


def _action(action: Mapping[str, Any]) -> str:
    agent = action.get("softwareAgent")
    software = agent.get("name") if isinstance(agent, dict) else agent
    parts = (
        action.get("action"),
        source_type_code(action.get("digitalSourceType")),
        software,
        action.get("when"),
    )
    return ", ".join(filter(None, (sanitize_text(part, 80) for part in parts)))


def _plain_values(data: Mapping[str, Any]) -> list[str]:
    """The values of an assertion that are texts or numbers; hashes and pictures say nothing to people."""
    shown = []
    for name, value in data.items():
        if isinstance(value, str | int | float) and not str(name).startswith("@") and name not in _BINARY:
            shown.append(f"{sanitize_text(name, 40)}: {sanitize_text(str(value), MAX_TEXT)}")
    return shown[:MAX_ACTIONS]


_BINARY = frozenset({"hash", "pad", "pad2", "alg", "thumbnail"})


def _generator(manifest: Mapping[str, Any]) -> str:
    infos = [_dict(info) for info in _list(manifest.get("claim_generator_info"))]
    names = [_text(f"{info.get('name') or ''} {info.get('version') or ''}".strip()) for info in infos]
    return ", ".join(filter(None, names[:3])) or _text(manifest.get("claim_generator"))


def _problems(report: Mapping[str, Any]) -> Mapping[tuple[str, str], list[str]]:
    """What failed of ingredients, by their manifest and the label of their assertion there, which others have, too."""
    found: dict[tuple[str, str], list[str]] = {}
    deltas = _list(_dict(report.get("validation_results")).get("ingredientDeltas"))
    for delta in deltas[: MAX_INGREDIENTS * MAX_DEPTH]:
        address = str(_dict(delta).get("ingredientAssertionURI") or "")
        manifest, _, label = address.rpartition("/c2pa.assertions/")
        failures = _list(_dict(_dict(delta).get("validationDeltas")).get("failure"))
        found[manifest.rpartition("/")[2], label] = [
            sanitize_text(_dict(one).get("code"), 80) for one in failures[:MAX_CODES]
        ]
    return found


def _own_problems(ingredient: Mapping[str, Any]) -> list[str]:
    results = _dict(_dict(ingredient.get("validation_results")).get("activeManifest"))
    return [sanitize_text(_dict(one).get("code"), 80) for one in _list(results.get("failure"))[:MAX_CODES]]


def _text(value: Any) -> str:
    return sanitize_text(value, MAX_TEXT)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
