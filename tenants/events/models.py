"""What happened, who is told of it, what was already answered, what was erased and what was handed out."""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7

from tenants.scope import TenantForeignKey, TenantModel


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
            models.Index(fields=["tenant", "target", "-id"], name="audit_event_by_target"),
        ]


class AuditLogLine(TenantModel):
    """An event's place in the chain that seals the audit log, and its digest there (`tenants.events.log_lines`).

    Append-only. An event whose words are replaced when a person is erased gets a second line, which says so.
    """

    sequence = models.PositiveBigIntegerField()
    # No foreign key: a line stays when somebody deletes its event, and so tells of it.
    event = models.UUIDField()
    digest = models.CharField(max_length=64)
    # Empty for an event as it was written; "erasure" for one from which a person was erased.
    why = models.CharField(max_length=8, blank=True, default="")

    class Meta(TenantModel.Meta):
        db_table = "audit_log_line"
        constraints = [models.UniqueConstraint(fields=["tenant", "sequence"], name="audit_log_line_once")]
        indexes = [models.Index(fields=["tenant", "-event"], name="audit_log_line_by_event")]


class StreamPosition(models.Model):
    """How far a log was sent to the syslog server (global: its sender goes through all tenants)."""

    # A tenant's id, or "operators".
    name = models.CharField(primary_key=True, max_length=40)
    tenant = models.ForeignKey(
        "accounts.Tenant", on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    # The number of the last line, or of the operators' log its id.
    position = models.CharField(max_length=40)

    class Meta:
        db_table = "stream_position"


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
    # The public key of age for which the file is encrypted; empty for a plain one.
    recipient = models.CharField(max_length=100, blank=True, default="", db_default="")
    # The version of a dataset that it holds, by `id`, `dataset`, `name` and `digest`; None: everything.
    version = models.JSONField(null=True, blank=True)
    requested_by = models.CharField(max_length=100, blank=True, default="")
    sha256 = models.CharField(max_length=64, blank=True, default="")
    bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "export"


class Webhook(TenantModel):
    """An address that is told what happens in the tenant. Secrets are encrypted; they are shown once."""

    class State(models.TextChoices):
        ACTIVE = "active"
        # Events are kept for it and sent when it is active again.
        PAUSED = "paused"
        # Told nothing any more, by a person or because it answered so.
        DISABLED = "disabled"

    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200, blank=True, default="")
    # Types of events; an empty list stands for all.
    events = models.JSONField(default=list)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    # Why it is disabled: "gone" (it answered 410), "failing" (for days), or "" (a person did it).
    reason = models.CharField(max_length=10, blank=True, default="")
    sealed_secret = models.BinaryField()
    # What was valid before the last rotation, and until when it still signs.
    sealed_previous = models.BinaryField(null=True, blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    # Since when nothing has come through; None after a success.
    failing_since = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "webhook"


class WebhookEvent(TenantModel):
    """Something that happened, as it is told: the body that is signed and sent, the same to every endpoint."""

    type = models.CharField(max_length=40)
    body = models.TextField()
    # Of what is told once: the resource and the period of a quota. None for everything else.
    once = models.CharField(max_length=60, null=True, blank=True)  # noqa: DJ001 - null is not equal to null
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "webhook_event"
        constraints = [models.UniqueConstraint(fields=["tenant", "once"], name="webhook_event_once")]


class WebhookDelivery(TenantModel):
    """An event on its way to one endpoint, and how each attempt went."""

    class State(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    # No foreign key: what happens must not fail because its endpoint is deleted at that moment.
    webhook_id = models.UUIDField()
    event = TenantForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    # Of the schedule; counted from zero again after a replay.
    tries = models.PositiveSmallIntegerField(default=0)
    # The newest, each {at, status, latency_ms, error, response}.
    attempts = models.JSONField(default=list)
    due_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "webhook_delivery"
        indexes = [
            models.Index(fields=["tenant", "webhook_id", "-id"], name="webhook_delivery_by_webhook"),
            models.Index(fields=["tenant", "webhook_id", "state", "-id"], name="webhook_delivery_by_state"),
            models.Index(fields=["tenant", "event"], name="webhook_delivery_by_event"),
        ]


class WebhookDue(models.Model):
    """A delivery that is still to be made, and when (global: workers and the sweep know no tenant).

    A row of its own and only added to by those who emit, so that they never wait for each other or for a worker.
    """

    delivery_id = models.UUIDField(primary_key=True)
    webhook_id = models.UUIDField()
    tenant_id = models.UUIDField()
    due_at = models.DateTimeField()

    class Meta:
        db_table = "webhook_due"
        indexes = [models.Index(fields=["webhook_id", "due_at"], name="webhook_due_by_webhook")]


class WebhookLane(models.Model):
    """The way to one endpoint, which one worker holds at a time (global, like the jobs' dispatch).

    `fence` grows with every claim: who was thought dead and comes back stores nothing.
    """

    webhook_id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField()
    # Whether the endpoint is active.
    open = models.BooleanField(default=True)
    # Whether its last attempt failed: such lanes together hold only some of the workers' threads.
    failing = models.BooleanField(default=False)
    held_until = models.DateTimeField()
    fence = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "webhook_lane"
