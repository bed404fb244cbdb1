"""Asking for an audit: of an asset, or of content that is kept only until it is decided."""

from __future__ import annotations

import logging
import re
import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.datasets import metadata
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_asset
from tenants.datasets.services import drop_blob, keep_blob, write_blob
from tenants.errors import Invalid, NotFound, QuotaExceeded
from tenants.jobs.models import Job
from tenants.jobs.services import enqueue
from tenants.moderation import policies
from tenants.moderation.models import Audit, AuditPicture, AuditRequest, Evidence, Policy, Review
from tenants.moderation.reviews.effects import QUARANTINED
from tenants.pipeline.assets.uploads import Upload
from tenants.scope import current_tenant_id, tenant_scope

log = logging.getLogger(__name__)

MAX_SUBJECT = 200
# Held until the job says what it really took: an item of each kind on one core of 2026.
CPU_ESTIMATE_S = {"image": 1.5, "text": 0.1, "audio": 10.0, "video": 30.0}
# The metadata key that tells who an asset comes from, where a policy names no other.
SUBJECT_KEY = "uploader"


@dataclass(frozen=True)
class RequestedAudit:
    request: AuditRequest
    job: Job


def request_audit(
    *,
    upload: Upload | None = None,
    asset_id: uuid.UUID | None = None,
    subject: str = "",
    policy_id: uuid.UUID | None = None,
    actor: str = "",
) -> RequestedAudit:
    """Queue the audit of an asset or of an upload, by the policy in force or by one that is named.

    Raises Invalid, NotFound, QuotaExceeded.
    """
    with tenant_scope(current_tenant_id()):
        subject = _checked_subject(subject)
        if policy_id is not None and not Policy.objects.filter(pk=policy_id).exists():
            raise NotFound(_("This policy does not exist."))
        if asset_id is not None:
            return ask(get_asset(asset_id), subject=subject, policy_id=policy_id, actor=actor)
        if upload is None:
            raise Invalid(_("Send a file, a text, or the id of an asset."), pointer="/file")
        blob = keep_blob(
            sha256=upload.sha256, length=upload.bytes, media_type=upload.media_type, scan=upload.scan
        )
        request = AuditRequest(
            source=AuditRequest.Source.REQUEST,
            blob=blob,
            modality=upload.modality,
            caption=upload.caption,
            subject=subject,
            policy_id=policy_id,
            requested_by=actor,
        )
        asked = _queue(request)
        write_blob(blob, upload.content)
        return asked


def ask(
    asset: Asset,
    *,
    source: str = AuditRequest.Source.REQUEST,
    subject: str = "",
    policy_id: uuid.UUID | None = None,
    actor: str = "",
    parent: uuid.UUID | None = None,
) -> RequestedAudit:
    """Queue the audit of an asset, in the caller's transaction; `parent` is the job that asks. Raises QuotaExceeded."""
    request = AuditRequest(
        source=source,
        asset=asset,
        modality=asset.modality,
        subject=subject or subject_of(asset),
        policy_id=policy_id,
        requested_by=actor,
    )
    return _queue(request, parent)


def _queue(request: AuditRequest, parent: uuid.UUID | None = None) -> RequestedAudit:
    job = _queue_audit(request.id, request.modality, parent)
    request.job_id = job.id
    request.save(force_insert=True)
    return RequestedAudit(request, job)


def subject_of(asset: Asset, key: str = SUBJECT_KEY) -> str:
    """Who the asset comes from, as its metadata say."""
    value = asset.metadata.get(key)
    return str(value)[:MAX_SUBJECT] if isinstance(value, str | int) else ""


def _checked_subject(subject: str) -> str:
    metadata.check_text(subject, "/subject")
    if len(subject) > MAX_SUBJECT:
        raise Invalid(_("At most %(subject)s characters.") % {"subject": MAX_SUBJECT}, pointer="/subject")
    return subject.strip()


# --- Uploads that a policy audits ------------------------------------------------------------------------


def audits_uploads(*, modality: str, sha256: str) -> policies.InForce | None:
    """What decides about a new upload: the policy in force if it audits uploads."""
    decides = policies.in_force(modality=modality, sha256=sha256)
    return decides if decides is not None and decides.document.get("audit_uploads") else None


def quarantines(decides: policies.InForce | None) -> bool:
    """Whether an upload must not be found before it was audited: only where the policy is enforced for it."""
    return bool(decides and decides.mode == "enforce" and decides.document.get("quarantine"))


def audit_upload(asset: Asset, decides: policies.InForce, actor: str, parent: uuid.UUID | None = None) -> Job:
    """Queue the audit of a new asset, and hold the asset back if the policy wants that."""
    if quarantines(decides):
        asset.moderation = QUARANTINED
        asset.save(update_fields=["moderation"])
    return ask(asset, source=AuditRequest.Source.UPLOAD, actor=actor, parent=parent).job


_READS_CLASSIFIERS = re.compile(r"\bclassifier\b")


def audit_scored(asset: Asset) -> Job | None:
    """Audit an asset once more, now that classifiers have looked at its vectors: where the policy that audits uploads
    has a rule that reads them. In the caller's transaction; not where the audit is over quota, which is logged."""
    decides = audits_uploads(modality=asset.modality, sha256=asset.blob.sha256)
    rules = decides.document.get("rules", []) if decides else []
    if not any(_READS_CLASSIFIERS.search(str(rule.get("when", ""))) for rule in rules):
        return None
    try:
        return ask(asset, source=AuditRequest.Source.AGAIN, actor="classifier").job
    except QuotaExceeded:
        log.warning("no audit by classifiers: over quota", extra={"asset": str(asset.pk)})
        return None


# --- Content of audits without an asset ------------------------------------------------------------------


def drop_content(request: AuditRequest) -> None:
    """Forget the content of an audit of something that is no asset. In the caller's transaction."""
    if request.blob_id is None:
        return
    blob_id, request.blob = request.blob_id, None
    request.save(update_fields=["blob"])
    drop_blob(blob_id)


def forget_evidence() -> int:
    """Erase what was seen in content that was no asset, once its time is over; decisions and digests stay.

    Of the active tenant, at most so many at a time; not where a person still has to look.
    """
    old = timezone.now() - timedelta(days=settings.AUDIT_EVIDENCE_DAYS)
    waiting = Review.objects.filter(state__in=[Review.State.OPEN, Review.State.CLAIMED]).values("audit_id")
    rows = Evidence.objects.filter(asset=None, created_at__lt=old).exclude(audit_id__in=waiting)
    audits = list(rows.order_by("id").values_list("audit_id", flat=True)[:500])
    AuditPicture.objects.filter(audit_id__in=audits).delete()
    Evidence.objects.filter(audit_id__in=audits).delete()
    AuditRequest.objects.filter(pk__in=audits, blob=None).delete()
    return len(audits)


def forget_content() -> int:
    """Drop what nobody has to look at any more of the active tenant: decided, or older than AUDIT_CONTENT_DAYS."""
    old = timezone.now() - timedelta(days=settings.AUDIT_CONTENT_DAYS)
    waiting = Review.objects.filter(state__in=[Review.State.OPEN, Review.State.CLAIMED]).values("audit_id")
    kept = AuditRequest.objects.exclude(blob=None).select_for_update().order_by("id")
    decided = kept.filter(pk__in=Audit.objects.values("id")).exclude(pk__in=waiting)
    done = [*kept.filter(created_at__lt=old)[:500], *decided[:500]]
    for request in {request.pk: request for request in done}.values():
        drop_content(request)
    return len(done)


def _queue_audit(request_id: object, modality: str, parent: uuid.UUID | None = None) -> Job:
    """Raises QuotaExceeded."""
    return enqueue(
        kind="audit_item",
        arguments={"audit": str(request_id)},
        reserve={"cpu_s": CPU_ESTIMATE_S[modality]},
        parent=parent,
    )
