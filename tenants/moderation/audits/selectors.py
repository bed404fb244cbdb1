"""Reading audits of the active tenant."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.moderation.models import Audit, AuditPicture, AuditRequest, Evidence, PolicyVersion

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
        raise NotFound(_("There is no such audit."))
    return found


def audit_as_dict(found: Audit | AuditRequest) -> dict[str, Any]:
    """An audit in the shape of the API, with all its evidence; of a request only that it is pending or failed."""
    if isinstance(found, AuditRequest):
        return request_as_dict(found)
    document = Evidence.objects.filter(audit=found).values_list("document", flat=True).first()
    pictures = {p.name: str(p.id) for p in AuditPicture.objects.filter(audit=found).only("id", "name")}
    shape = line_of(found, _versions([found]))
    if document is None:
        return shape | {"evidence": "erased"}
    return shape | {
        "evidence": "kept",
        "item": document["item"],
        "authenticity": document["authenticity"],
        "provenance": document["provenance"],
        "categories": document["categories"],
        "matches": document["matches"],
        "fingerprints": {k: v for k, v in document["fingerprints"].items() if k in SHOWN_FINGERPRINTS},
        "words": document["words"],
        "detectors": document["detectors"],
        "could_not_look": document["could_not_look"],
        "strikes": document["strikes"],
        "pictures": pictures,
    }


def request_as_dict(request: AuditRequest) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "id": str(request.id),
        "state": "failed" if request.error else "pending",
        "asset": str(request.asset_id) if request.asset_id else None,
        "modality": request.modality,
        "created_at": request.created_at,
    }
    return shape | {"error": request.error} if request.error else shape


def lines_of(audits: Iterable[Audit]) -> list[dict[str, Any]]:
    """Audits as lines of a list: what was decided, not what was seen."""
    rows = list(audits)
    versions = _versions(rows)
    return [line_of(audit, versions) for audit in rows]


def line_of(audit: Audit, versions: Mapping[uuid.UUID, PolicyVersion]) -> dict[str, Any]:
    version = versions.get(audit.policy_version) if audit.policy_version else None
    return {
        "id": str(audit.id),
        "state": "done",
        "asset": str(audit.item) if audit.item else None,
        "sha256": audit.sha256,
        "modality": audit.modality,
        "decision": audit.decision,
        "mode": audit.mode,
        "policy": {"id": str(version.policy_id), "version": version.number} if version else None,
        "rules_fired": audit.rules,
        "verdict": audit.verdict,
        "severity": audit.severity,
        "versions": audit.versions,
        "evidence_digest": audit.evidence_digest,
        "created_at": audit.created_at,
    }


def _versions(audits: Iterable[Audit]) -> dict[uuid.UUID, PolicyVersion]:
    ids = {audit.policy_version for audit in audits if audit.policy_version}
    return PolicyVersion.objects.only("id", "policy_id", "number").in_bulk(ids) if ids else {}


def get_picture(*, audit_id: uuid.UUID, picture_id: uuid.UUID | None) -> AuditPicture:
    """Raises NotFound."""
    found = AuditPicture.objects.filter(pk=picture_id, audit_id=audit_id).first() if picture_id else None
    if found is None:
        raise NotFound(_("There is no such picture."))
    return found
