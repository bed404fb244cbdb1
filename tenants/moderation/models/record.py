"""The record of what was decided: append-only lines of ids, sealed by a chain of digests."""

from __future__ import annotations

from django.db import models

from tenants.scope import TenantModel


class Record(TenantModel):
    """One line: what happened to which audit, by whom, and the digest of what was said. Ids only, no content.

    `sequence` counts without gaps within a tenant (from a locked row), so that a missing line shows.
    """

    sequence = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=30)
    audit = models.UUIDField(null=True, blank=True)
    item = models.UUIDField(null=True, blank=True)
    # What else it is about: a review, an appeal, an activation, a list.
    subject = models.UUIDField(null=True, blank=True)
    policy_version = models.UUIDField(null=True, blank=True)
    decision = models.CharField(max_length=6, blank=True, default="")
    actor = models.CharField(max_length=100, blank=True, default="")
    payload_digest = models.CharField(max_length=64, blank=True, default="")
    # SHA-256 of this line (`record.canonical`): tells which line of a broken seal was changed.
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "moderation_record"
        constraints = [models.UniqueConstraint(fields=["tenant", "sequence"], name="moderation_record_once")]
        indexes = [models.Index(fields=["tenant", "audit", "sequence"], name="moderation_record_by_audit")]


class Seal(TenantModel):
    """Lines `first` to `last`, and the digest of them and of the seal before: changing one line breaks the chain."""

    first = models.PositiveBigIntegerField()
    last = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    previous = models.CharField(max_length=64, blank=True, default="")
    # Part of what is digested, so written by hand.
    created_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "moderation_seal"
        constraints = [models.UniqueConstraint(fields=["tenant", "first"], name="moderation_seal_once")]


class RecordClock(TenantModel):
    """The last sequence number of a tenant's record; locked while a line is added."""

    last = models.PositiveBigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "moderation_clock"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="moderation_clock_once")]
