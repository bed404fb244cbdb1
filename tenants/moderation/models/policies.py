"""What a tenant decides about content: policies, their immutable versions, and when each came into force."""

from __future__ import annotations

from django.db import models

from tenants.scope import TenantForeignKey, TenantModel


class Policy(TenantModel):
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True, default="")
    # The starter policy that it was made from, or empty.
    starter = models.CharField(max_length=50, blank=True, default="")
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="policy_name_once")]


class PolicyVersion(TenantModel):
    """One version, never changed: the application's role may not update or delete it.

    `document` is what `tenants.moderation.policy_document` describes: `rules` in order, `thresholds` per category,
    `detectors`, `on_failure`, `quarantine`.
    """

    policy = TenantForeignKey(Policy, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    document = models.JSONField()
    # SHA-256 of the document in canonical JSON.
    digest = models.CharField(max_length=64)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_version"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "policy", "number"], name="policy_version_once")
        ]


class PolicyActivation(TenantModel):
    """One change of what is in force; the newest row of a policy counts. Append-only."""

    class Mode(models.TextChoices):
        OFF = "off"
        # Decides and records, and changes nothing.
        SHADOW = "shadow"
        ENFORCE = "enforce"

    policy = TenantForeignKey(Policy, on_delete=models.CASCADE, related_name="activations")
    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+")
    mode = models.CharField(max_length=7, choices=Mode.choices)
    # The share of items that an enforced version decides for; the others are decided as in shadow. By a stable hash of
    # the item's content, so that an item falls on the same side each time.
    ratio = models.FloatField(default=1.0)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_activation"
        indexes = [models.Index(fields=["tenant", "policy", "-id"], name="policy_activation_newest")]
