"""What was examined, what was found, what was decided.

An audit is three rows of one id's making: the request (until it is answered), the decision (ids and words of the
policy only, never changed or deleted by the application) and the evidence (erasable: it may quote the content).
"""

from __future__ import annotations

from django.db import models

from tenants.datasets.models import Asset, Blob
from tenants.scope import TenantForeignKey, TenantModel


class AuditRequest(TenantModel):
    """An audit that was asked for, with the job that does it. Its id becomes the audit's."""

    class Source(models.TextChoices):
        # Asked for by a client, of content that need not be kept.
        REQUEST = "request"
        # An upload that a policy audits.
        UPLOAD = "upload"
        # Again, as a list or a policy changed.
        AGAIN = "again"
        # The words that somebody asked to generate from, and the file that came of it.
        PROMPT = "prompt"
        OUTPUT = "output"

    source = models.CharField(max_length=7, choices=Source.choices)
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    # The content of an audit without an asset; it counts as a reference until the audit's content is dropped.
    blob = TenantForeignKey(Blob, on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    modality = models.CharField(max_length=5)
    caption = models.TextField(blank=True, default="")
    # Who the content comes from, in the client's words: strikes are counted by it.
    subject = models.CharField(max_length=200, blank=True, default="")
    policy_id = models.UUIDField(null=True, blank=True)
    job_id = models.UUIDField(null=True, blank=True)
    requested_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    # Set when the audit could not be made: type and detail.
    error = models.JSONField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "audit_request"
        indexes = [
            models.Index(fields=["tenant", "asset"], name="audit_request_by_asset"),
            models.Index(fields=["tenant", "blob"], name="audit_request_by_blob"),
        ]


class Audit(TenantModel):
    """One decision about one item. Append-only: the application's role may insert and read.

    It holds no content and no reference that an erasure would have to follow: `item` is an asset's id, kept as a number
    after the asset is gone.
    """

    item = models.UUIDField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    modality = models.CharField(max_length=5)
    source = models.CharField(max_length=7)
    decision = models.CharField(max_length=6)
    # enforce, shadow, or off where no policy was in force.
    mode = models.CharField(max_length=7)
    policy_version = models.UUIDField(null=True, blank=True)
    # Ids of the rules that fired, in order.
    rules = models.JSONField(default=list)
    verdict = models.CharField(max_length=20)
    # 0 to 100, for the order of the queue.
    severity = models.PositiveSmallIntegerField(default=0)
    # SHA-256 of the evidence's canonical JSON: erasable, and still provable.
    evidence_digest = models.CharField(max_length=64)
    # Of policy, detectors and calibration, in one digest each.
    versions = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "audit"
        indexes = [
            models.Index(fields=["tenant", "-id"], name="audit_newest"),
            models.Index(fields=["tenant", "item", "-id"], name="audit_by_item"),
            models.Index(fields=["tenant", "decision", "-id"], name="audit_by_decision"),
        ]


class Evidence(TenantModel):
    """What an audit saw. Goes with the asset, or when its time is over; the audit stays with its digest."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="evidence")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    document = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "audit_evidence"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit"], name="audit_evidence_once")]
        indexes = [models.Index(fields=["tenant", "asset"], name="audit_evidence_by_asset")]


class AuditPicture(TenantModel):
    """A picture that a detector made for people: a mask, a heat-map. PNG, at most 512 pixels."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="pictures")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    name = models.CharField(max_length=100)
    content = models.BinaryField()

    class Meta(TenantModel.Meta):
        db_table = "audit_picture"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit", "name"], name="audit_picture_once")]
        indexes = [models.Index(fields=["tenant", "asset"], name="audit_picture_by_asset")]
