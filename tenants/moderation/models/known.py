"""Known content by hashes: a tenant's own lists, and lists that an operator shares with every tenant."""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7

from tenants.scope import TenantForeignKey, TenantModel


class Stance(models.TextChoices):
    BAD = "bad"
    GOOD = "good"


class Algorithm(models.TextChoices):
    # Of the bytes.
    SHA256 = "sha256"
    # Of a picture, or of one frame of a film.
    PDQ = "pdq"
    # Of a picture: a unit vector, for crops and rotations.
    VECTOR = "vector"
    # Of a sound.
    SOUND = "sound"


class HashList(TenantModel):
    name = models.CharField(max_length=100)
    stance = models.CharField(max_length=4, choices=Stance.choices)
    description = models.TextField(blank=True, default="")
    # Counts up with every change of entries: caches of the list are told by it.
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "hash_list"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="hash_list_name_once")]


class HashEntry(TenantModel):
    """One hash of one known item; an item has several, which share `item`."""

    hash_list = TenantForeignKey(HashList, on_delete=models.CASCADE, related_name="entries")
    item = models.UUIDField()
    algorithm = models.CharField(max_length=6, choices=Algorithm.choices)
    content = models.BinaryField()
    note = models.CharField(max_length=500, blank=True, default="")
    created_by = models.CharField(max_length=100, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "hash_entry"
        indexes = [
            models.Index(fields=["tenant", "hash_list", "algorithm"], name="hash_entry_by_list"),
            models.Index(fields=["tenant", "item"], name="hash_entry_by_item"),
        ]


class SharedHashList(models.Model):
    """A list for every tenant, kept by the operator (global: it holds no tenant's data)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    stance = models.CharField(max_length=4, choices=Stance.choices)
    description = models.TextField(blank=True, default="")
    revision = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "shared_hash_list"


class SharedHashEntry(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    hash_list = models.ForeignKey(SharedHashList, on_delete=models.CASCADE, related_name="entries")
    item = models.UUIDField()
    algorithm = models.CharField(max_length=6, choices=Algorithm.choices)
    content = models.BinaryField()
    note = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        db_table = "shared_hash_entry"
