"""What was asked to be made from words, and what came of it."""

from __future__ import annotations

from django.db import models

from tenants.datasets.models import Asset, Dataset
from tenants.scope import TenantForeignKey, TenantModel


class Generation(TenantModel):
    """One request: pictures, clips and music of one prompt, one seed and one mood.

    What is made lies in `dataset` as assets; deleting the dataset deletes the request, prompt and all. `remix_of` is an
    asset's id, kept as a number: an erased asset takes the requests that began with it along (pipeline.erasure).
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        # The policy refused the prompt; nothing was made.
        BLOCKED = "blocked"

    KINDS = ("image", "audio", "video")
    UNDER_WAY = (State.QUEUED, State.RUNNING)
    # Types of the errors after which nothing is kept, as the policy did not want it.
    REFUSALS = PROMPT_BLOCKED, OUTPUT_BLOCKED = "prompt-blocked", "output-blocked"

    prompt = models.TextField()
    negative = models.TextField(blank=True, default="")
    # Kinds, in the order of KINDS.
    outputs = models.JSONField(default=list)
    seed = models.BigIntegerField()
    steps = models.PositiveIntegerField()
    guidance = models.FloatField()
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    seconds = models.FloatField()
    candidates = models.PositiveIntegerField()
    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=9, choices=State.choices, default=State.QUEUED)
    # How well what was kept fits the prompt, in the joint space; None where there is nothing to look at.
    score = models.FloatField(null=True, blank=True)
    # By kind, the model that made it, with its version.
    made_by = models.JSONField(default=dict)
    error = models.JSONField(null=True, blank=True)
    job_id = models.UUIDField(null=True, blank=True)
    # The audit of the prompt, once there was one.
    prompt_audit_id = models.UUIDField(null=True, blank=True)
    variation_of = TenantForeignKey(
        "self", on_delete=models.SET_NULL, related_name="+", null=True, blank=True
    )
    remix_of_id = models.UUIDField(null=True, blank=True)
    # What the invisible mark of its outputs says: 32 bits of the id.
    mark = models.BigIntegerField()
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "generation"
        indexes = [
            models.Index(fields=["tenant", "state", "-id"], name="generation_by_state"),
            models.Index(fields=["tenant", "dataset"], name="generation_by_dataset"),
            models.Index(fields=["tenant", "job_id"], name="generation_by_job"),
            models.Index(fields=["tenant", "mark"], name="generation_by_mark"),
            models.Index(
                fields=["tenant", "variation_of", "-id"],
                name="generation_by_variation",
                condition=models.Q(variation_of__isnull=False),
            ),
            models.Index(
                fields=["tenant", "remix_of_id"],
                name="generation_by_remix",
                condition=models.Q(remix_of_id__isnull=False),
            ),
        ]


class GenerationOutput(TenantModel):
    """One thing that was made. Without an asset it was kept out by the policy; with its asset it is erased."""

    generation = TenantForeignKey(Generation, on_delete=models.CASCADE, related_name="made")
    kind = models.CharField(max_length=5)
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    score = models.FloatField(null=True, blank=True)
    # Of every candidate that was drawn, the kept one among them.
    scores = models.JSONField(default=list)
    # model, rules or layout.
    how = models.CharField(max_length=10)
    model = models.CharField(max_length=200)
    # Of the file as it was released: its audit where a policy is in force, and what that decided where it is enforced.
    audit_id = models.UUIDField(null=True, blank=True)
    decision = models.CharField(max_length=6, blank=True, default="")
    # What was read back from the file before it was released: `c2pa` and `watermark`.
    provenance = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "generation_output"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "generation", "kind"], name="generation_output_once")
        ]
        indexes = [models.Index(fields=["tenant", "asset"], name="generation_output_by_asset")]
