"""What happened, and what was already answered."""

from __future__ import annotations

from django.db import models

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
