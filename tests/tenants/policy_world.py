"""Evidence and policies for tests."""

from __future__ import annotations

import uuid
from typing import Any

from ml.auditing.fusion import CATEGORIES
from tenants.moderation import policies
from tenants.moderation.models import Audit, Evidence


def category(score: float | None = 0.0, state: str = "examined") -> dict[str, Any]:
    return {
        "state": state,
        "flagged": False,
        "score": score,
        "severity": None,
        "calibrated": True,
        "interval": None,
        "threshold": None,
        "detector": "abuse",
        "evidence": [],
    }


def evidence(**changes: Any) -> dict[str, Any]:
    """A picture in which nothing was found; `categories` given are laid over the others."""
    categories = {name: category() for name in CATEGORIES} | changes.pop("categories", {})
    return {
        "item": {
            "modality": "image",
            "media_type": "image/png",
            "bytes": 1234,
            "width": 640,
            "height": 480,
            "duration_s": 0.0,
            "dataset": None,
            "subject": "ann",
            "metadata": {"price": 20},
        },
        "authenticity": {
            "verdict": "no_evidence",
            "probability": None,
            "interval": None,
            "tier": "declared",
            "evidence": [],
            "tiers": {
                "cryptographic": "no_evidence",
                "declared": "no_evidence",
                "statistical": "not_examined",
            },
        },
        "provenance": {
            "c2pa": {"state": "absent", "ai": False, "own": False},
            "declared": {"state": "none", "generator": "", "ai": False},
            "watermark": {"state": "absent"},
        },
        "categories": categories,
        "matches": [],
        "fingerprints": {"sha256": "ab" * 32, "pdq": "cd" * 32, "pdq_quality": 90},
        "words": [{"text": "Sale today", "origin": "picture", "at_s": None}],
        "detectors": [
            {
                "name": "c2pa",
                "version": "1",
                "tier": "cryptographic",
                "state": "examined",
                "reason": "",
                "score": None,
                "cpu_s": 0.01,
                "pictures": [],
                "evidence": [],
            }
        ],
        "could_not_look": [],
        "strikes": 0,
        **changes,
    }


def rule(rule_id: str, when: str, then: str = "review", **more: Any) -> dict[str, Any]:
    labels = {"labels": ["seen"]} if then == "label" else {}
    return {"id": rule_id, "when": when, "then": then, "reason": f"Because of {rule_id}.", **labels, **more}


def document(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rules": list(rules), **more}


def new_policy(*rules: dict[str, Any], **more: Any) -> Any:
    """A policy of the active tenant with one version."""
    made, _ = policies.create_policy(name=uuid.uuid4().hex, document=document(*rules, **more))
    return made


def new_audit(found: dict[str, Any] | None = None, decision: str = "allow", sha256: str = "") -> Audit:
    """A stored audit with its evidence, in the active tenant."""
    shown = evidence() if found is None else found
    audit = Audit.objects.create(
        sha256=sha256 or uuid.uuid4().hex * 2,
        modality=shown["item"]["modality"],
        source="request",
        decision=decision,
        mode="off",
        verdict="no_evidence",
        evidence_digest="00" * 32,
    )
    Evidence.objects.create(audit=audit, document=shown)
    return audit
