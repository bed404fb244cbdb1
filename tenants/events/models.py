"""What happened, what was already answered, what was erased and what was handed out."""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7

from tenants.scope import TenantModel


class AuditEvent(TenantModel):
    """One line of the tenant's append-only audit log: who did what to which thing."""

    actor = models.CharField(max_length=100)
    verb = models.CharField(max_length=50)
    target = models.CharField(max_length=100, blank=True)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "audit_event"
        indexes = [
            models.Index(fields=["tenant", "verb", "-id"], name="audit_event_by_verb"),
            models.Index(fields=["tenant", "actor", "-id"], name="audit_event_by_actor"),
        ]


class IdempotentAnswer(TenantModel):
    """The first answer to a creating request, replayed for the same key and body."""

    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(default=dict)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "idempotent_answer"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="idempotent_answer_once")]


class Erasure(TenantModel):
    """The receipt of an erasure: what was removed where, and what remains for how long.

    It outlives what it is about, so it holds none of it: numbers, random ids, and for a person's data a keyed hash of
    what was asked for. `criteria` holds the request itself, only until the last asset is gone.
    """

    class Kind(models.TextChoices):
        ASSET = "asset"
        SUBJECT = "subject"
        DATASET = "dataset"
        RETENTION = "retention"

    kind = models.CharField(max_length=9, choices=Kind.choices)
    # Of the asset or dataset; None for a person's data.
    target = models.UUIDField(null=True, blank=True)
    subject_hash = models.CharField(max_length=64, blank=True, default="")
    criteria = models.JSONField(null=True, blank=True)
    job_id = models.UUIDField(null=True, blank=True)
    requested_by = models.CharField(max_length=100, blank=True, default="")
    matched = models.PositiveIntegerField(default=0)
    removed = models.JSONField(default=dict)
    remains = models.JSONField(default=dict)
    # True once a look through every place that names an asset found nothing.
    verified = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "erasure"
        indexes = [models.Index(fields=["tenant", "target"], name="erasure_by_target")]


class TenantErasure(models.Model):
    """The receipt of a whole tenant's erasure (global: the tenant is gone), and how far it has come."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    erased_tenant = models.UUIDField(unique=True)
    slug = models.CharField(max_length=50)
    removed = models.JSONField(default=dict)
    remains = models.JSONField(default=dict)
    verified = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "tenant_erasure"


class Export(TenantModel):
    """A tenant's data as one file, made by a job and kept for some days."""

    job_id = models.UUIDField(null=True, blank=True)
    with_vectors = models.BooleanField(default=False)
    requested_by = models.CharField(max_length=100, blank=True, default="")
    sha256 = models.CharField(max_length=64, blank=True, default="")
    bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "export"
