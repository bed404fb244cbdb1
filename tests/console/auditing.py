"""Audits with evidence of every sort, as the job leaves them behind, for pages that show them."""

from __future__ import annotations

import uuid
from typing import Any

from ml.auditing.examiner import DetectorResult, Examination
from ml.detectors.base import Category, Detector, Finding, Item, Words
from tenants.datasets.models import Asset
from tenants.moderation.audits import evidence
from tenants.moderation.models import Audit, AuditPicture, Review
from tenants.moderation.rules.decision import apply_thresholds
from tenants.scope import tenant_scope
from tests.tenants.reviewing import World

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000"
    "000049454e44ae426082"
)


class Stub(Detector):
    """A detector's name and tier; what it would have found is given."""

    sees = blind_to = ""
    modalities = frozenset({"text"})

    def __init__(self, name: str, tier: str, about: tuple[str, ...] = (), estimates: str = "") -> None:
        self.name, self.tier = name, tier
        self.categories, self.estimates = about, estimates

    def examine(self, item: Item) -> Finding:
        raise NotImplementedError


def part(name: str, tier: str, finding: Finding, **about: Any) -> DetectorResult:
    return DetectorResult(name, Stub(name, tier, **about), finding, 0.25)


def parts(hostile: str = "") -> list[DetectorResult]:
    """One finding of every tier and state; `hostile` stands wherever content could put words."""
    said = hostile or "SomeCamera 3000"
    passage = {
        "kind": "passage",
        "origin": "text",
        "piece": 0,
        "start": 2,
        "end": 12,
        "language": said,
        "marks": [{"start": 2, "end": 5, "share": 0.9}, {"start": 6, "end": 12, "share": 0.1}],
    }
    c2pa = {
        "state": "invalid",
        "ai": False,
        "own": False,
        "signer": {"organisation": said, "name": said},
        "generator": said,
        "codes": [{"code": "assertion.dataHash.mismatch", "explanation": said}],
    }
    declared = {"state": "found", "generator": said, "ai": True, "camera": said, "software": said}
    return [
        part("c2pa", "cryptographic", Finding(evidence=[{"kind": "c2pa"}], fields={"c2pa": c2pa})),
        part("declared", "declared", Finding(fields={"declared": declared})),
        part(
            "ocr",
            "rules",
            Finding(
                words=[Words(hostile or "NO ENTRY", "picture"), Words(hostile or "hello", "transcript", 61.5)]
            ),
        ),
        part(
            "abuse",
            "statistical",
            Finding(
                categories={
                    "abuse": Category(0.91, True, (0.8, 0.97), [passage]),
                    "hate": Category(0.02, True, (0.0, 0.05)),
                }
            ),
            about=("abuse", "hate"),
        ),
        part("nudity", "statistical", Finding("not_installed", "pip install it"), about=("nudity",)),
        part("spam", "rules", Finding("abstained", hostile or "The text is too short."), about=("spam",)),
        part("violence", "rules", Finding("failed", "It took too long."), about=("violence",)),
        part(
            "forgery",
            "statistical",
            Finding(
                synthetic=0.72,
                interval=(0.4, 0.9),
                above="band",
                evidence=[{"kind": "area", "share": 0.2, "text": said}],
                pictures={"mask": PNG},
            ),
            estimates="generation",
        ),
    ]


def matches(list_id: uuid.UUID | None, hostile: str = "") -> list[dict[str, Any]]:
    one = {
        "list": str(list_id or uuid.uuid4()),
        "name": hostile or "Known fakes",
        "stance": "bad",
        "shared": list_id is None,
        "algorithm": "pdq",
        "distance": 12,
        "limit": 31,
        "entry": str(uuid.uuid4()),
    }
    return [one, {**one, "at_s": 3.5, "algorithm": "vector", "distance": 0.11, "limit": 0.2}]


def document(
    world: World, asset: Asset, hostile: str = "", list_id: uuid.UUID | None = None
) -> dict[str, Any]:
    item = {
        "modality": asset.modality,
        "media_type": asset.blob.media_type,
        "bytes": asset.blob.bytes,
        "dataset": str(asset.dataset_id),
        "subject": hostile or "seller-17",
        "metadata": asset.metadata,
    }
    about = {"modality": asset.modality, "width": 640, "height": 480, "duration_s": 75.0}
    found = evidence.assemble(
        item=item,
        examination=Examination(about, parts(hostile), 1.0),
        matches=matches(list_id, hostile),
        strikes=2,
    )
    return apply_thresholds(world.version.document, found)


def audited(
    world: World,
    fired: tuple[str, ...] = ("rude", "made"),
    *,
    hostile: str = "",
    list_id: uuid.UUID | None = None,
    asset: Asset | None = None,
    reasoning: dict[str, str] | None = None,
    **fields: Any,
) -> Audit:
    """An audit of a text asset with all of this, its picture and its flags; with what rules over facts concluded."""
    asset = asset or world.add()
    with tenant_scope(world.id):
        found = document(world, Asset.objects.select_related("blob").get(pk=asset.pk), hostile, list_id)
    found |= {"reasoning": reasoning} if reasoning else {}
    audit = world.audit(fired, asset, evidence=found, subject=found["item"]["subject"], **fields)
    with tenant_scope(world.id):
        AuditPicture.objects.create(audit=audit, asset=asset, name="forgery/mask", content=PNG)
    return audit


def flag_of(world: World, audit: Audit, rule: str = "rude") -> Review:
    return world.flags(audit)[rule]
