"""What a tenant decides about content: policies, their immutable versions, and when each came into force."""

from __future__ import annotations

from django.db import models

from tenants.moderation.models.audits import Audit
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
            models.UniqueConstraint(fields=["tenant", "policy", "number"], name="policy_version_once"),
            models.UniqueConstraint(fields=["tenant", "policy", "digest"], name="policy_version_same_once"),
        ]


class PolicyActivation(TenantModel):
    """One change of what is in force: what was asked for (`version`, `mode`), and what holds since. Append-only.

    The row with the highest number of a policy counts. At most one policy of a tenant has an enforced version.
    """

    class Mode(models.TextChoices):
        OFF = "off"
        # Decides and records, and changes nothing.
        SHADOW = "shadow"
        ENFORCE = "enforce"

    policy = TenantForeignKey(Policy, on_delete=models.CASCADE, related_name="activations")
    # Counts up within the tenant: an order that no clock can disturb.
    number = models.PositiveIntegerField()
    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+")
    mode = models.CharField(max_length=7, choices=Mode.choices)
    enforced = TenantForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    # The share of items that the enforced version decides for, by a stable hash of the item's content, so that an item
    # falls on the same side each time. For the others `rest` decides, the version that was enforced for all before;
    # where there is none, they are decided as in shadow.
    ratio = models.FloatField(default=1.0)
    rest = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    shadow = TenantForeignKey(
        PolicyVersion, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    # For rolling back: what held before, and the row of the other policy that this one replaced.
    before = TenantForeignKey("self", on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    displaced = TenantForeignKey("self", on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_activation"
        constraints = [models.UniqueConstraint(fields=["tenant", "number"], name="policy_activation_once")]
        indexes = [models.Index(fields=["tenant", "policy", "-number"], name="policy_activation_newest")]


class ShadowDecision(TenantModel):
    """What a version would have decided about an audit that another one decided. Append-only."""

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="shadows")
    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="+")
    decision = models.CharField(max_length=6)
    # Ids of the rules that fired, in order.
    rules = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "shadow_decision"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit", "version"], name="shadow_once")]
        indexes = [models.Index(fields=["tenant", "version", "-id"], name="shadow_by_version")]


class Backtest(TenantModel):
    """A version tried on the tenant's history. `state` is how far its job has come, so that another can go on."""

    version = TenantForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="backtests")
    job_id = models.UUIDField()
    state = models.JSONField(default=dict)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "policy_backtest"
        constraints = [models.UniqueConstraint(fields=["tenant", "job_id"], name="policy_backtest_once")]
        indexes = [models.Index(fields=["tenant", "version", "-id"], name="policy_backtest_newest")]
