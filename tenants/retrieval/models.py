"""Vectors: the truth that every index of them is derived from; and the lexical index, which is its own."""

from __future__ import annotations

from django.contrib.postgres.search import SearchVectorField
from django.db import models

from tenants.datasets.models import Asset
from tenants.scope import TenantForeignKey, TenantModel


class VectorClock(TenantModel):
    """The tenant's sequence, taken under this row's lock.

    A plain database sequence commits out of order, so a reader of "newer than n" would skip rows.
    `pruned` is the highest tombstone that was thrown away: a reader behind it must load everything anew.
    """

    last = models.BigIntegerField(default=0)
    pruned = models.BigIntegerField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "vector_clock"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="vector_clock_once")]


class Vector(TenantModel):
    """One unit vector of an asset: 256 float32, little endian. `model` is `space id:version`."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="vectors")
    dataset_id = models.UUIDField()
    asset_modality = models.CharField(max_length=5)
    model = models.CharField(max_length=100)
    modality = models.CharField(max_length=5)
    seq = models.BigIntegerField()
    data = models.BinaryField()
    segment = models.JSONField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "vector"
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="vector_seq_once")]
        indexes = [models.Index(fields=["tenant", "asset"], name="vector_by_asset")]


class Tombstone(TenantModel):
    """Says that every vector of an asset with a smaller sequence number is gone."""

    asset_id = models.UUIDField()
    seq = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "tombstone"
        constraints = [models.UniqueConstraint(fields=["tenant", "seq"], name="tombstone_seq_once")]


class LexicalEntry(TenantModel):
    """The words of an asset and of its metadata. How they are written and read: `tenants.retrieval.lexical`."""

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="lexical_entries")
    dataset_id = models.UUIDField()
    modality = models.CharField(max_length=5)
    words = SearchVectorField()

    class Meta(TenantModel.Meta):
        db_table = "lexical_entry"
        # The GIN index on `words` stands in the migration beside the function that reads it.
        constraints = [models.UniqueConstraint(fields=["tenant", "asset"], name="lexical_entry_once")]
