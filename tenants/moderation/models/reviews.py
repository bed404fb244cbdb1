"""People's part: flags in a queue, what they decided, appeals, strikes."""

from __future__ import annotations

from django.db import models

from tenants.datasets.models import Asset
from tenants.moderation.models.audits import Audit
from tenants.scope import TenantForeignKey, TenantModel


class Review(TenantModel):
    """One flag of one audit in the queue: closing it closes only this one.

    `kind` second is a second opinion by sampling, whose answer changes nothing by itself unless the two disagree.
    """

    class Kind(models.TextChoices):
        FLAG = "flag"
        SECOND = "second"
        APPEAL = "appeal"

    class State(models.TextChoices):
        OPEN = "open"
        CLAIMED = "claimed"
        DECIDED = "decided"
        # Nothing is left to decide: the item was erased, or a newer audit took its place.
        DROPPED = "dropped"

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="reviews")
    # None for an item that is no asset, and once the asset is erased.
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    kind = models.CharField(max_length=6, choices=Kind.choices, default=Kind.FLAG)
    # Of a second opinion: the review whose outcome it checks. Of a flag: the one about which two people disagreed.
    of_review = models.UUIDField(null=True, blank=True)
    # The rule that raised the flag, or `detector-failed`.
    rule = models.CharField(max_length=100)
    reason = models.TextField(blank=True, default="")
    severity = models.PositiveSmallIntegerField(default=0)
    state = models.CharField(max_length=7, choices=State.choices, default=State.OPEN)
    # In the audit log's words (key:… or user:…); of the claim, whose lease ends at `lease_until`.
    claimed_by = models.CharField(max_length=100, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    # Until when it should be decided.
    due_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "review"
        constraints = [
            # A flag of a rule, once for an audit, however often the audit's job runs.
            models.UniqueConstraint(
                fields=["tenant", "audit", "rule"],
                condition=models.Q(kind="flag", of_review=None),
                name="review_flag_once",
            ),
            # A second opinion, and what follows where the two disagree; a dropped one may be asked for again.
            models.UniqueConstraint(
                fields=["tenant", "of_review", "kind"],
                condition=~models.Q(of_review=None) & ~models.Q(state="dropped"),
                name="review_check_once",
            ),
            models.UniqueConstraint(
                fields=["tenant", "audit"],
                # Not a list: Postgres writes one differently after a restore, which then seems to be another index.
                condition=models.Q(kind="appeal") & (models.Q(state="open") | models.Q(state="claimed")),
                name="review_appeal_once",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "state", "-severity", "id"], name="review_queue"),
            # All that wait in one order, whoever holds them: two states in the index above would have to be sorted.
            models.Index(
                fields=["tenant", "-severity", "id"],
                condition=models.Q(state="open") | models.Q(state="claimed"),
                name="review_waiting",
            ),
            models.Index(fields=["tenant", "state", "due_at", "id"], name="review_due"),
            models.Index(fields=["tenant", "audit"], name="review_by_audit"),
            models.Index(fields=["tenant", "asset"], name="review_by_asset"),
        ]


class Outcome(TenantModel):
    """What a person decided about a review. Append-only: undoing adds a row that points at the undone one."""

    # A number and not a reference: a review goes with its asset, its outcome stays.
    review = models.UUIDField()
    audit = models.UUIDField()
    # The audit's item, or the audit itself for an item that is no asset: who decided about it before is asked by this.
    item = models.UUIDField()
    kind = models.CharField(max_length=6, choices=Review.Kind.choices, default=Review.Kind.FLAG)
    # As the review had it: figures of agreement need it when the review is gone.
    of_review = models.UUIDField(null=True, blank=True)
    # Of one bulk decision, which is undone as a whole.
    batch = models.UUIDField(null=True, blank=True)
    undoes = models.UUIDField(null=True, blank=True)
    # Of a row that undoes another: what the item stands at again.
    decision = models.CharField(max_length=6)
    # What the item stood at before.
    before = models.CharField(max_length=6, blank=True, default="")
    # What the item is to be shown with.
    labels = models.JSONField(default=list, blank=True)
    # The item of the hash list to which the content was added with this decision.
    copies = models.UUIDField(null=True, blank=True)
    reviewer = models.CharField(max_length=100)
    reason = models.TextField(blank=True, default="")
    rule = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "review_outcome"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "undoes"], name="review_outcome_undone_once")
        ]
        indexes = [
            models.Index(fields=["tenant", "review", "id"], name="review_outcome_by_review"),
            models.Index(fields=["tenant", "item", "id"], name="review_outcome_by_item"),
            models.Index(fields=["tenant", "batch"], name="review_outcome_by_batch"),
            models.Index(fields=["tenant", "rule", "-id"], name="review_outcome_by_rule"),
        ]


class Appeal(TenantModel):
    """Somebody disagrees with a decision. It is reviewed by another person than the one who decided."""

    class State(models.TextChoices):
        OPEN = "open"
        UPHELD = "upheld"
        OVERTURNED = "overturned"

    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="appeals")
    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    review_id = models.UUIDField(null=True, blank=True)
    reason = models.TextField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "appeal"
        indexes = [
            models.Index(fields=["tenant", "audit"], name="appeal_by_audit"),
            models.Index(fields=["tenant", "asset"], name="appeal_by_asset"),
        ]


class Strike(TenantModel):
    """One blocked item of one subject (who sent it, in the client's words). Withdrawn when the block is."""

    subject = models.CharField(max_length=200)
    audit = TenantForeignKey(Audit, on_delete=models.CASCADE, related_name="strikes")
    rule = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "strike"
        constraints = [models.UniqueConstraint(fields=["tenant", "audit"], name="strike_once")]
        indexes = [models.Index(fields=["tenant", "subject", "-id"], name="strike_by_subject")]
