"""Datasets, their assets, the blobs behind them and the typed facets that filters use."""

from __future__ import annotations

from django.db import models

from tenants.scope import TenantForeignKey, TenantModel


class Dataset(TenantModel):
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    metadata_schema = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Set when deletion was asked for: hidden at once, erased by a job.
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "dataset"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "name"], condition=models.Q(deleted_at=None), name="dataset_name_once"
            )
        ]


class Blob(TenantModel):
    """Bytes of a tenant, stored once by their SHA-256.

    `references` counts the assets that use it; at zero the collector removes file and row under the row's lock.
    """

    sha256 = models.CharField(max_length=64)
    bytes = models.PositiveBigIntegerField()
    media_type = models.CharField(max_length=100)
    references = models.PositiveIntegerField(default=0)
    # Set once decoded: pixel size after orientation, and the type of the rendition without location, if one was made.
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    clean_type = models.CharField(max_length=100, blank=True, default="")
    has_thumbnail = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "blob"
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="blob_once")]


class Asset(TenantModel):
    class State(models.TextChoices):
        PENDING = "pending"
        READY = "ready"
        FAILED = "failed"

    class Modality(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"
        AUDIO = "audio"
        VIDEO = "video"

    dataset = TenantForeignKey(Dataset, on_delete=models.CASCADE, related_name="assets")
    blob = TenantForeignKey(Blob, on_delete=models.PROTECT, related_name="assets")
    modality = models.CharField(max_length=5, choices=Modality.choices)
    status = models.CharField(max_length=7, choices=State.choices, default=State.PENDING)
    external_id = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 (NULLs are distinct)
    caption = models.TextField(blank=True, default="")
    # The first words of a text asset, so that lists and results need not open its blob.
    excerpt = models.TextField(blank=True, default="")
    metadata = models.JSONField(default=dict, blank=True)
    error = models.JSONField(null=True, blank=True)
    revision = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "asset"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "dataset", "external_id"], name="asset_external_id_once"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "dataset", "-id"], name="asset_by_dataset"),
            models.Index(fields=["tenant", "blob"], name="asset_by_blob"),
        ]


class Facet(TenantModel):
    """One filterable value of an asset's metadata, typed.

    Row-level security keeps Postgres from using indexes on JSONB and numeric operators (not leakproof); btree on
    text, float8 and bool are leakproof, hence this table beside `Asset.metadata`.
    """

    asset = TenantForeignKey(Asset, on_delete=models.CASCADE, related_name="facets")
    key = models.CharField(max_length=100)
    text = models.TextField(null=True, blank=True)  # noqa: DJ001 (NULL means: of another type)
    number = models.FloatField(null=True, blank=True)

    class Meta(TenantModel.Meta):
        db_table = "facet"
        indexes = [
            models.Index(fields=["tenant", "key", "text", "asset"], name="facet_by_text"),
            models.Index(fields=["tenant", "key", "number", "asset"], name="facet_by_number"),
            models.Index(fields=["tenant", "asset"], name="facet_by_asset"),
        ]
