"""Reading audits of the active tenant."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from msgspec.structs import asdict

from tenants.errors import NotFound
from tenants.moderation import shapes
from tenants.moderation.models import Audit, AuditPicture, AuditRequest, Evidence, PolicyVersion
from tenants.shapes import UNSET, JsonObject

# Long things that identify content for machines; they stay in the stored evidence.
SHOWN_FINGERPRINTS = ("sha256", "pdq", "pdq_quality")


def list_audits(
    *, decision: str = "", verdict: str = "", asset_id: uuid.UUID | None = None
) -> QuerySet[Audit]:
    """Decided audits, newest first."""
    audits = Audit.objects.order_by("-id")
    if decision:
        audits = audits.filter(decision=decision)
    if verdict:
        audits = audits.filter(verdict=verdict)
    return audits.filter(item=asset_id) if asset_id else audits


def get_request(audit_id: uuid.UUID | None) -> AuditRequest | Audit:
    """The audit if it is decided, else the request for it. Raises NotFound."""
    found = Audit.objects.filter(pk=audit_id).first() if audit_id else None
    found = found or (AuditRequest.objects.filter(pk=audit_id).first() if audit_id else None)
    if found is None:
        raise NotFound(_("This audit does not exist."))
    return found


def audit_shape(found: Audit | AuditRequest) -> shapes.Audit:
    """An audit in the shape of the API, with all its evidence; of a request only that it is pending or failed."""
    if isinstance(found, AuditRequest):
        return request_shape(found)
    document = Evidence.objects.filter(audit=found).values_list("document", flat=True).first()
    pictures = {p.name: str(p.id) for p in AuditPicture.objects.filter(audit=found).only("id", "name")}
    shape = shapes.Audit(**asdict(line_of(found, _versions([found]))))
    if document is None:
        shape.evidence = "erased"
        return shape
    shape.evidence = "kept"
    shape.item = document["item"]
    shape.authenticity = document["authenticity"]
    shape.provenance = document["provenance"]
    shape.categories = document["categories"]
    shape.matches = document["matches"]
    shape.fingerprints = {k: v for k, v in document["fingerprints"].items() if k in SHOWN_FINGERPRINTS}
    shape.words = document["words"]
    shape.detectors = document["detectors"]
    shape.could_not_look = document["could_not_look"]
    shape.strikes = document["strikes"]
    if "document" in document:
        shape.document = document["document"]
    if "classifier" in document:
        shape.classifier = document["classifier"]
    shape.pictures = pictures
    return shape


def request_shape(request: AuditRequest) -> shapes.Audit:
    return shapes.Audit(
        id=str(request.id),
        state="failed" if request.error else "pending",
        asset=str(request.asset_id) if request.asset_id else None,
        modality=request.modality,
        created_at=request.created_at,
        error=request.error or UNSET,
    )


def watermark_of(shape: shapes.Audit) -> JsonObject:
    """What was read of a mark in the item; empty where nobody looked."""
    found = shape.provenance.get("watermark") if shape.provenance else None
    return found if isinstance(found, dict) else {}


def lines_of(audits: Iterable[Audit]) -> list[shapes.AuditLine]:
    """Audits as lines of a list: what was decided, not what was seen."""
    rows = list(audits)
    versions = _versions(rows)
    return [line_of(audit, versions) for audit in rows]


def line_of(audit: Audit, versions: Mapping[uuid.UUID, PolicyVersion]) -> shapes.AuditLine:
    version = versions.get(audit.policy_version) if audit.policy_version else None
    return shapes.AuditLine(
        id=str(audit.id),
        state="done",
        asset=str(audit.item) if audit.item else None,
        sha256=audit.sha256,
        modality=audit.modality,
        decision=audit.decision,
        mode=audit.mode,
        policy=shapes.PolicyRef(id=str(version.policy_id), version=version.number) if version else None,
        rules_fired=audit.rules,
        verdict=audit.verdict,
        severity=audit.severity,
        versions=audit.versions,
        evidence_digest=audit.evidence_digest,
        created_at=audit.created_at,
    )


def _versions(audits: Iterable[Audit]) -> dict[uuid.UUID, PolicyVersion]:
    ids = {audit.policy_version for audit in audits if audit.policy_version}
    return PolicyVersion.objects.only("id", "policy_id", "number").in_bulk(ids) if ids else {}


def get_picture(*, audit_id: uuid.UUID, picture_id: uuid.UUID | None) -> AuditPicture:
    """Raises NotFound."""
    found = AuditPicture.objects.filter(pk=picture_id, audit_id=audit_id).first() if picture_id else None
    if found is None:
        raise NotFound(_("This picture does not exist."))
    return found
