"""Background work. The Job row is the truth; a message of Celery only says that work waits."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from tenants.scope import TenantForeignKey, TenantModel

_WAITING = models.Q(waiting=True)


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

    class Priority(models.IntegerChoices):
        LOW = 1
        NORMAL = 2
        HIGH = 3

    TERMINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    kind = models.CharField(max_length=40)
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.NORMAL)
    # The job that queued this one as a part of its own work. No foreign key: either may be archived first.
    parent_id = models.UUIDField(null=True, blank=True)
    # Who asked for it, in the words of the audit log; empty: the system by itself. NULL of what a release queued that
    # did not note it, so that nobody takes silence for the system.
    requested_by = models.CharField(max_length=100, null=True, blank=True, default="")  # noqa: DJ001
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
    # How many lines its log has ever had (JobNote), and how fast it went of late, as measured up to then (timing).
    notes = models.PositiveIntegerField(default=0)
    rate_per_s = models.FloatField(null=True, blank=True)
    paced_at = models.DateTimeField(null=True, blank=True)
    paced_done = models.PositiveIntegerField(default=0)
    # Of the last attempt that broke: for operators, never in an answer to a tenant.
    traceback = models.TextField(default="", blank=True)
    # Where the request that queued it stands in a trace (W3C traceparent).
    trace = models.CharField(max_length=100, default="", blank=True)

    class Meta(TenantModel.Meta):
        db_table = "job"
        indexes = [
            models.Index(fields=["tenant", "state", "-id"], name="job_by_state"),
            models.Index(fields=["tenant", "kind", "-id"], name="job_by_kind"),
            models.Index(fields=["tenant", "requested_by", "-id"], name="job_by_requester"),
            models.Index(
                fields=["tenant", "parent_id", "id"],
                name="job_by_parent",
                condition=models.Q(parent_id__isnull=False),
            ),
            # Work across tenants: dead letters, the newest first.
            models.Index(fields=["-id"], name="job_dead_letters", condition=models.Q(state="failed")),
            # What ended lately, across tenants; and what of one is old enough for the archive.
            models.Index(
                fields=["finished_at"], name="job_by_end", condition=models.Q(finished_at__isnull=False)
            ),
            models.Index(
                fields=["tenant", "finished_at", "id"],
                name="job_by_age",
                condition=models.Q(finished_at__isnull=False),
            ),
        ]

    @property
    def finished(self) -> bool:
        return self.state in self.TERMINAL


class JobNote(TenantModel):
    """One line of a job's log. `number` counts from 1; of a long log the middle has gone (notes)."""

    class Level(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        ERROR = "error"

    job = TenantForeignKey(Job, on_delete=models.CASCADE, related_name="+")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    level = models.CharField(max_length=7, choices=Level, default=Level.INFO)
    text = models.CharField(max_length=500)

    class Meta(TenantModel.Meta):
        db_table = "job_note"
        constraints = [models.UniqueConstraint(fields=["tenant", "job", "number"], name="job_note_number")]


class JobArchive(TenantModel):
    """A file of finished jobs in the tenant's storage. `jobs` are those still to be removed after it was written."""

    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.PositiveIntegerField()
    bytes = models.PositiveBigIntegerField(default=0)
    jobs = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "job_archive"


class JobDispatch(models.Model):
    """Jobs that have not ended, for the workers and the sweeper (global: they know no tenant before they take one).

    A row *waits*: a worker may take it (turns), `due_at` is since when. Or it sleeps until `due_at`: taken and not
    claimed yet, running until its lease ends, or put off; then the sweeper lets it wait again.
    """

    job_id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant_id = models.UUIDField()
    kind = models.CharField(max_length=40)
    queue = models.CharField(max_length=20)
    waiting = models.BooleanField(default=False)
    # When it is its tenant's turn among all tenants, and its place among the jobs of its tenant (turns).
    turn = models.BigIntegerField(default=0)
    place = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()

    class Meta:
        db_table = "job_dispatch"
        indexes = [
            models.Index(fields=["queue", "turn", "job_id"], name="dispatch_turn", condition=_WAITING),
            models.Index(
                fields=["queue", "tenant_id", "place", "job_id"], name="dispatch_place", condition=_WAITING
            ),
            models.Index(fields=["queue", "tenant_id", "turn"], name="dispatch_last", condition=_WAITING),
            models.Index(fields=["queue", "due_at"], name="dispatch_oldest", condition=_WAITING),
            models.Index(fields=["due_at"], name="dispatch_due", condition=~_WAITING),
        ]


class JobTurn(models.Model):
    """The turn from which a tenant that was served is served again in a queue (global, as JobDispatch)."""

    queue = models.CharField(max_length=20)
    tenant_id = models.UUIDField()
    turn = models.BigIntegerField()

    class Meta:
        db_table = "job_turn"
        constraints = [models.UniqueConstraint(fields=["queue", "tenant_id"], name="job_turn_of_tenant")]
        indexes = [models.Index(fields=["queue", "turn"], name="job_turn_newest")]


class Node(models.Model):
    """A host of this installation, which is a data directory (global; `tenants.jobs.nodes`)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=253)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "node"


class NodeErasure(models.Model):
    """Says that nothing of an erased tenant was left on a host at a moment (global: the tenant is gone)."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="+")
    erased_tenant = models.UUIDField()
    confirmed_at = models.DateTimeField()

    class Meta:
        db_table = "node_erasure"
        constraints = [models.UniqueConstraint(fields=["node", "erased_tenant"], name="node_erasure_once")]
        indexes = [models.Index(fields=["erased_tenant"], name="node_erasure_of_tenant")]
