"""Background work. The Job row is the truth; Celery is only the doorbell."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from tenants.scope import TenantModel


class Job(TenantModel):
    """Message, progress bar and record of one piece of background work.

    `fence` grows with every claim; whoever writes must hold the newest one, so a worker that was thought dead and
    comes back cannot overwrite its successor.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    TERMINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    kind = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    arguments = models.JSONField(default=dict)
    reserved = models.JSONField(default=dict)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    progress_failed = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    cost_cpu_s = models.FloatField(default=0)
    cost_gpu_s = models.FloatField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "job"
        indexes = [models.Index(fields=["tenant", "state", "-id"], name="job_by_state")]

    @property
    def finished(self) -> bool:
        return self.state in self.TERMINAL


class JobDispatch(models.Model):
    """What still has to be sent to the broker, again if need be (global: the sweeper knows no tenant).

    `due_at` is when the doorbell must ring (again): shortly after queueing, later while a lease runs.
    """

    job_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    kind = models.CharField(max_length=40)
    queue = models.CharField(max_length=20)
    sends = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "job_dispatch"
