"""Storing and removing vectors: the only writers of the tenant's sequence."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from tenants.datasets.models import Asset
from tenants.retrieval.models import FacetChange, Tombstone, Vector, VectorClock
from tenants.scope import current_tenant_id, tenant_scope

DIMENSION = 256
KEEP_TOMBSTONES = dt.timedelta(days=1)
# Whether the index is due is asked once in so many numbers, beside the upkeep.
LOOK_EVERY = 1_000


@dataclass(frozen=True)
class NewVector:
    """One vector to store: float32 [256] of norm 1, and which part of the asset it stands for."""

    modality: str
    values: np.ndarray
    segment: dict | None = None


def take_numbers(count: int) -> int:
    """Take `count` sequence numbers under the clock's lock; returns the first. In the caller's transaction.

    The lock is held until commit, so numbers become visible in order.
    """
    VectorClock.objects.bulk_create([VectorClock()], ignore_conflicts=True)
    clock = VectorClock.objects.select_for_update().get()
    VectorClock.objects.filter(pk=clock.pk).update(last=clock.last + count)
    if clock.last // LOOK_EVERY != (clock.last + count) // LOOK_EVERY:
        tenant_id = current_tenant_id()
        # A function with a name, as Django logs the name of one that fails.
        transaction.on_commit(lambda: _look_after_index(tenant_id), robust=True)
    return clock.last + 1


def _look_after_index(tenant_id: uuid.UUID) -> None:
    # Imported here: the life of an index stands above what it is made of.
    from tenants.retrieval import lifecycle

    with tenant_scope(tenant_id):
        lifecycle.consider_all()


def replace_vectors(*, asset: Asset, model: str, vectors: Sequence[NewVector]) -> int:
    """Make these the asset's only vectors; returns by how many their number grew. Safe to repeat."""
    with tenant_scope(current_tenant_id()):
        removed = remove_vectors(asset_ids=[asset.id])
        add_vectors(model=model, vectors=[(asset, vectors)])
    return len(vectors) - removed


def add_vectors(*, model: str, vectors: Sequence[tuple[Asset, Sequence[NewVector]]]) -> None:
    """Store the first vectors of new assets. In the caller's transaction.

    An asset without any takes a number too: words find it, so who holds facets has to learn of it.
    """
    bare = [asset.id for asset, given in vectors if not given]
    flat = [(asset, vector) for asset, given in vectors for vector in given]
    first = take_numbers(len(flat) + len(bare))
    FacetChange.objects.bulk_create(
        FacetChange(asset_id=asset_id, seq=first + len(flat) + n) for n, asset_id in enumerate(bare)
    )
    Vector.objects.bulk_create(
        _row(asset, model, vector, first + offset) for offset, (asset, vector) in enumerate(flat)
    )


def _row(asset: Asset, model: str, vector: NewVector, seq: int) -> Vector:
    return Vector(
        asset_id=asset.id,
        dataset_id=asset.dataset_id,
        asset_modality=asset.modality,
        model=model,
        modality=vector.modality,
        seq=seq,
        data=as_bytes(vector.values),
        segment=vector.segment,
    )


def as_bytes(values: np.ndarray) -> bytes:
    """Little-endian float32 [256]. Raises ValueError for another shape or values that are not finite."""
    row = np.ascontiguousarray(values, dtype="<f4")
    if row.shape != (DIMENSION,) or not np.isfinite(row).all():
        raise ValueError(f"expected {DIMENSION} finite numbers, got shape {row.shape}")
    return row.tobytes()


def remove_vectors(*, asset_ids: Sequence[uuid.UUID]) -> int:
    """Delete the vectors of these assets and leave a tombstone for each that had some; returns how many vectors."""
    with tenant_scope(current_tenant_id()):
        had = list(Vector.objects.filter(asset_id__in=asset_ids).values_list("asset_id", flat=True))
        if not had:
            return 0
        gone = sorted(set(had))
        first = take_numbers(len(gone))
        Tombstone.objects.bulk_create(Tombstone(asset_id=a, seq=first + n) for n, a in enumerate(gone))
        Vector.objects.filter(asset_id__in=gone, seq__lt=first).delete()
    return len(had)


def prune_tombstones(*, needed_above: int | None = None) -> int:
    """Forget the active tenant's old tombstones; readers that are behind them load everything anew.

    Those above `needed_above` stay: an index generation in use ends there.
    """
    with tenant_scope(current_tenant_id()):
        old = Tombstone.objects.filter(created_at__lt=timezone.now() - KEEP_TOMBSTONES)
        if needed_above is not None:
            old = old.filter(seq__lte=needed_above)
        newest = old.aggregate(newest=Max("seq"))["newest"]
        if newest is None:
            return 0
        clock = VectorClock.objects.select_for_update().get()
        VectorClock.objects.filter(pk=clock.pk).update(pruned=max(clock.pruned, newest))
        return old.filter(seq__lte=newest).delete()[0]
