"""A verdict of many findings, without mixing facts and estimates.

Tiers stand in an order of trust and are never averaged: what a signature says is not outvoted by statistics, and ten
weak estimates do not add up to a fact. Within the statistical tier the detector that stands furthest over its own
threshold speaks. There is no verdict "authentic": that nothing was found is all that can be said, and only where
something looked for generation. A file without a signature, a declaration or a mark was not looked at for it: nearly
all that models make comes without. Nor is a search for changed regions one for generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ml.auditing.examiner import DetectorResult

Verdict = Literal["likely_synthetic", "likely_manipulated", "inconclusive", "no_evidence", "not_examined"]
VERDICTS: tuple[Verdict, ...] = (
    "likely_synthetic",
    "likely_manipulated",
    "inconclusive",
    "no_evidence",
    "not_examined",
)
#: Strongest first.
TIERS = ("cryptographic", "declared", "statistical")
#: Everything an audit can be asked about; a category that no detector speaks of stays `not_examined`.
CATEGORIES = (
    "abuse",
    "hate",
    "insult",
    "threat",
    "profanity",
    "personal_data",
    "self_harm",
    "sexual",
    "violence",
    "spam",
    "nudity",
)


#: What the statistical tier estimates, and the verdict of each where it is likely.
ESTIMATES: Mapping[Literal["generation", "manipulation"], Verdict] = {
    "generation": "likely_synthetic",
    "manipulation": "likely_manipulated",
}
#: What a tier can have looked for: what detectors name in ``looks_for``. Detectors of an operator may name others.
LOOKED_FOR: Mapping[str, tuple[str, ...]] = {
    "cryptographic": ("content_credentials", "own_watermark"),
    "declared": ("metadata",),
    "statistical": ("generated_pictures", "synthetic_faces", "synthetic_speech", "copied_regions"),
}


@dataclass(frozen=True)
class Authenticity:
    """``tiers``: each tier's own verdict, so that a strong one never hides a weak one. ``looked_for``: which signs each
    tier looked for in this item. ``estimates``: the statistical tier's verdicts about generation and about
    manipulation. ``probability`` and ``interval`` only where the verdict is the statistical tier's, and of what that
    verdict says."""

    verdict: Verdict
    tier: str | None = None
    probability: float | None = None
    interval: tuple[float, float] | None = None
    evidence: Sequence[dict[str, Any]] = ()
    tiers: dict[str, Verdict] = field(default_factory=dict)
    looked_for: dict[str, list[str]] = field(default_factory=dict)
    estimates: dict[str, Verdict] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "tier": self.tier,
            "probability": self.probability,
            "interval": list(self.interval) if self.interval else None,
            "evidence": list(self.evidence),
            "tiers": self.tiers,
            "looked_for": self.looked_for,
            "estimates": self.estimates,
        }


def authenticity(parts: Sequence[DetectorResult]) -> Authenticity:
    """Whether the item is likely generated or manipulated, as far as what looked can tell."""
    fields = merged_fields(parts)
    signed, declared = _signature(fields), _declaration(fields)
    estimates = {kind: _estimate(parts, kind) for kind in ESTIMATES}
    estimated, speaker = _statistical(estimates)
    tiers: dict[str, Verdict] = {
        "cryptographic": signed[0],
        "declared": declared[0],
        "statistical": estimated,
    }

    def concluded(verdict: Verdict, tier: str | None = None, **more: Any) -> Authenticity:
        apart: dict[str, Verdict] = {kind: found for kind, (found, _) in estimates.items()}
        return Authenticity(
            verdict, tier, **more, tiers=tiers, looked_for=_looked_for(parts), estimates=apart
        )

    for tier, (verdict, evidence) in (("cryptographic", signed), ("declared", declared)):
        if verdict in ("likely_synthetic", "inconclusive"):
            return concluded(verdict, tier, evidence=evidence)
    if speaker is not None and estimated != "no_evidence":
        found = speaker.finding
        evidence = [{"detector": speaker.spec, **seen} for seen in found.evidence]
        return concluded(
            estimated,
            "statistical",
            probability=found.synthetic,
            interval=found.interval,
            evidence=evidence,
        )
    return concluded(estimated, "statistical" if estimated == "no_evidence" else None)


def _looked_for(parts: Sequence[DetectorResult]) -> dict[str, list[str]]:
    """What each tier looked for; a score that is only shown, without a threshold, decides nothing."""
    looked: dict[str, list[str]] = {tier: [] for tier in TIERS}
    for part in parts:
        decides = part.finding.above is not None or not part.detector.estimates
        if part.detector.tier in looked and _examined(part) and decides:
            looked[part.detector.tier] += part.detector.looks_for
    return {tier: list(dict.fromkeys(signs)) for tier, signs in looked.items()}


def _examined(part: DetectorResult) -> bool:
    """Whether it looked; what it says of provenance may be that it could not read it."""
    told = part.finding.fields.values()
    return part.finding.state == "examined" and not any(
        isinstance(field, Mapping) and field.get("state") == "not_examined" for field in told
    )


def merged_fields(parts: Iterable[DetectorResult]) -> dict[str, Any]:
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
    # Whoever signed it, and whatever became of the file since: it says so of itself.
    if c2pa.get("state") in ("valid", "invalid") and c2pa.get("ai"):
        evidence.append({"kind": "c2pa", **c2pa})
    if declared.get("ai"):
        evidence.append({"kind": "declared", **declared})
    if evidence:
        return "likely_synthetic", evidence
    looked = declared.get("state", "not_examined") != "not_examined"
    return ("no_evidence" if looked else "not_examined"), []


def _statistical(
    estimates: Mapping[Literal["generation", "manipulation"], tuple[Verdict, DetectorResult | None]],
) -> tuple[Verdict, DetectorResult | None]:
    """The tier's verdict and who speaks for it: generation, unless only a manipulation is likely.

    That a manipulation may be (``inconclusive``) moves no verdict, as one in twenty untouched photos gets so far.
    """
    for kind, likely in ESTIMATES.items():
        if estimates[kind][0] == likely:
            return estimates[kind]
    return estimates["generation"]


def _estimate(
    parts: Iterable[DetectorResult], kind: Literal["generation", "manipulation"]
) -> tuple[Verdict, DetectorResult | None]:
    """Of detectors that estimate this. Those that abstained said nothing, which is not "nothing found"."""
    spoke = [
        part
        for part in parts
        if part.detector.estimates == kind
        and part.finding.state == "examined"
        and part.finding.above is not None
    ]
    if not spoke:
        return "not_examined", None
    order = {"likely": 2, "band": 1, "none": 0}
    speaker = max(spoke, key=lambda part: (order[str(part.finding.above)], part.finding.synthetic or 0.0))
    verdicts: tuple[Verdict, ...] = ("no_evidence", "inconclusive", ESTIMATES[kind])
    return verdicts[order[str(speaker.finding.above)]], speaker


def categories(parts: Sequence[DetectorResult]) -> dict[str, dict[str, Any]]:
    """Each category's state and highest score; `flagged` and `severity` come with a policy's thresholds."""
    return {name: _category(name, parts) for name in CATEGORIES}


def _category(name: str, parts: Sequence[DetectorResult]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "flagged": False,
        "score": None,
        "severity": None,
        "calibrated": False,
        "interval": None,
        "threshold": None,
        "suggested_threshold": None,
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
        "suggested_threshold": found.threshold,
        "detector": best.spec,
        "evidence": [
            {"detector": part.spec, **seen}
            for part in spoke
            for seen in part.finding.categories[name].evidence
        ][:50],
    }
