"""A verdict of many findings, without mixing facts and estimates.

Tiers stand in an order of trust and are never averaged: what a signature says is not outvoted by statistics, and ten
weak estimates do not add up to a fact. Within the statistical tier the detector that stands furthest over its own
threshold speaks. There is no verdict "authentic": that nothing was found is all that can be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ml.auditing.examiner import Examined

Verdict = Literal["likely_synthetic", "inconclusive", "no_evidence", "not_examined"]
#: Strongest first.
TIERS = ("cryptographic", "declared", "statistical")
#: Everything an audit can be asked about; a category that no detector speaks of stays `not_examined`.
CATEGORIES = (
    "abuse",
    "hate",
    "profanity",
    "personal_data",
    "self_harm",
    "sexual",
    "violence",
    "spam",
    "nudity",
)


@dataclass(frozen=True)
class Authenticity:
    """``tiers``: each tier's own verdict, so that a strong one never hides a weak one. ``probability`` and
    ``interval`` only where the verdict is the statistical tier's."""

    verdict: Verdict
    tier: str | None = None
    probability: float | None = None
    interval: tuple[float, float] | None = None
    evidence: Sequence[dict[str, Any]] = ()
    tiers: dict[str, Verdict] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "tier": self.tier,
            "probability": self.probability,
            "interval": list(self.interval) if self.interval else None,
            "evidence": list(self.evidence),
            "tiers": self.tiers,
        }


def authenticity(parts: Sequence[Examined]) -> Authenticity:
    """Whether the item is likely generated or manipulated, as far as what looked can tell."""
    fields = merged_fields(parts)
    signed, declared = _signature(fields), _declaration(fields)
    estimated, speaker = _estimate(parts)
    tiers: dict[str, Verdict] = {
        "cryptographic": signed[0],
        "declared": declared[0],
        "statistical": estimated,
    }
    for tier, (verdict, evidence) in (("cryptographic", signed), ("declared", declared)):
        if verdict in ("likely_synthetic", "inconclusive"):
            return Authenticity(verdict, tier, evidence=evidence, tiers=tiers)
    if speaker is not None and estimated in ("likely_synthetic", "inconclusive"):
        found = speaker.finding
        evidence = [{"detector": speaker.spec, **seen} for seen in found.evidence]
        return Authenticity(estimated, "statistical", found.synthetic, found.interval, evidence, tiers)
    looked = next((tier for tier in TIERS if tiers[tier] == "no_evidence"), None)
    return Authenticity("no_evidence" if looked else "not_examined", looked, tiers=tiers)


def merged_fields(parts: Iterable[Examined]) -> dict[str, Any]:
    """What detectors say of provenance, by name: `c2pa`, `declared`, `watermark`, `fingerprints`."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part.finding.fields
    return merged


def _signature(fields: dict[str, Any]) -> tuple[Verdict, list[dict[str, Any]]]:
    """Of signatures and our own watermark. A valid signature of an unknown signer is only a declaration."""
    c2pa, mark = _claims(fields), fields.get("watermark") or {}
    if mark.get("state") == "present":
        return "likely_synthetic", [{"kind": "watermark", **mark}]
    state = c2pa.get("state", "not_examined")
    if state == "trusted" and c2pa.get("ai"):
        return "likely_synthetic", [{"kind": "c2pa", **c2pa}]
    if state == "invalid":
        # Signed, and changed since, or carried over from another file: something is wrong, it is not said what.
        return "inconclusive", [{"kind": "c2pa", **c2pa}]
    looked = state != "not_examined" or mark.get("state") == "absent"
    return ("no_evidence" if looked else "not_examined"), []


def _claims(fields: dict[str, Any]) -> dict[str, Any]:
    """What content credentials say, without the tree that people look at: it stands under provenance once."""
    return {name: value for name, value in (fields.get("c2pa") or {}).items() if name != "tree"}


def _declaration(fields: dict[str, Any]) -> tuple[Verdict, list[dict[str, Any]]]:
    c2pa, declared = _claims(fields), fields.get("declared") or {}
    evidence = []
    if c2pa.get("state") == "valid" and c2pa.get("ai"):
        evidence.append({"kind": "c2pa", **c2pa})
    if declared.get("ai"):
        evidence.append({"kind": "declared", **declared})
    if evidence:
        return "likely_synthetic", evidence
    looked = declared.get("state", "not_examined") != "not_examined"
    return ("no_evidence" if looked else "not_examined"), []


def _estimate(parts: Iterable[Examined]) -> tuple[Verdict, Examined | None]:
    """Of detectors that estimate. Those that abstained said nothing, which is not "nothing found"."""
    spoke = [
        part
        for part in parts
        if part.detector.estimates_synthetic
        and part.finding.state == "examined"
        and part.finding.above is not None
    ]
    if not spoke:
        return "not_examined", None
    order = {"likely": 2, "band": 1, "none": 0}
    speaker = max(spoke, key=lambda part: (order[str(part.finding.above)], part.finding.synthetic or 0.0))
    verdicts: tuple[Verdict, ...] = ("no_evidence", "inconclusive", "likely_synthetic")
    return verdicts[order[str(speaker.finding.above)]], speaker


def categories(parts: Sequence[Examined]) -> dict[str, dict[str, Any]]:
    """Each category's state and highest score; `flagged` and `severity` come with a policy's thresholds."""
    return {name: _category(name, parts) for name in CATEGORIES}


def _category(name: str, parts: Sequence[Examined]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "flagged": False,
        "score": None,
        "severity": None,
        "calibrated": False,
        "interval": None,
        "threshold": None,
        "detector": "",
        "evidence": [],
    }
    asked = [part for part in parts if name in part.detector.categories]
    spoke = [part for part in asked if name in part.finding.categories and part.finding.state == "examined"]
    if not spoke:
        # Who looked and says nothing of this category did not look for it, as of hate in a language it cannot read.
        states = {part.finding.state for part in asked}
        return empty | {"state": next((s for s in ("failed", "abstained") if s in states), "not_examined")}
    best = max(spoke, key=lambda part: part.finding.categories[name].score)
    found = best.finding.categories[name]
    return empty | {
        "state": "examined",
        "score": found.score,
        "calibrated": found.calibrated,
        "interval": list(found.interval) if found.interval else None,
        "detector": best.spec,
        "evidence": [
            {"detector": part.spec, **seen}
            for part in spoke
            for seen in part.finding.categories[name].evidence
        ][:50],
    }
