"""Storing and removing vectors: the only writers of the tenant's sequence."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from django.db import connection, transaction
from django.db.models import Max
from django.db.models.functions import Length
from django.utils import timezone

from ml.indexes.base import as_matrix
from tenants.datasets.models import Asset
from tenants.retrieval.index import registry
from tenants.retrieval.model_store import default_model
from tenants.retrieval.models import FacetChange, Tombstone, Vector, VectorClock
from tenants.scope import current_tenant_id, tenant_scope

KEEP_TOMBSTONES = dt.timedelta(days=1)
# Models whose dimension is remembered.
MOST_REMEMBERED = 10_000
# Whether the index is due is asked once in so many numbers, beside the upkeep.
LOOK_EVERY = 1_000


class ModelSwitched(RuntimeError):
    """Another model began to answer searches while vectors were made: they have to be made again, for that one too."""


@dataclass(frozen=True)
class NewVector:
    """One vector to store: float32 [d] of norm 1, which part of the asset it stands for, and the model it is of
    (empty: of the one that the call names)."""

    modality: str
    values: np.ndarray
    segment: dict | None = None
    model: str = ""


def take_numbers(count: int) -> int:
    """Take `count` sequence numbers under the clock's lock; returns the first. In the caller's transaction.

    The lock is held until commit, so numbers become visible in order.
    """
    return _advance(locked_clock(), count)


def locked_clock() -> VectorClock:
    """The active tenant's clock, made if there is none, and locked until the caller's transaction ends."""
    VectorClock.objects.bulk_create([VectorClock(live=default_model())], ignore_conflicts=True)
    return VectorClock.objects.select_for_update().get()


def _advance(clock: VectorClock, count: int) -> int:
    VectorClock.objects.filter(pk=clock.pk).update(last=clock.last + count)
    if clock.last // LOOK_EVERY != (clock.last + count) // LOOK_EVERY:
        tenant_id = current_tenant_id()
        # A function with a name, as Django logs the name of one that fails.
        transaction.on_commit(lambda: _look_after_index(tenant_id), robust=True)
    return clock.last + 1


def _look_after_index(tenant_id: uuid.UUID) -> None:
    with tenant_scope(tenant_id):
        registry.grown()


def replace_vectors(
    *, asset: Asset, vectors: Sequence[NewVector], model: str = "", made_for: Collection[str] = ()
) -> int:
    """Make these the asset's only vectors; returns by how many those of the live model grew. Safe to repeat.

    Raises ModelSwitched as `add_vectors`.
    """
    with tenant_scope(current_tenant_id()):
        removed = remove_vectors(asset_ids=[asset.id])
        return add_vectors(vectors=[(asset, vectors)], model=model, made_for=made_for) - removed


def add_vectors(
    *, vectors: Sequence[tuple[Asset, Sequence[NewVector]]], model: str = "", made_for: Collection[str] = ()
) -> int:
    """Store the first vectors of new assets; returns how many are of the live model. In the caller's transaction.

    `made_for`: the models that they were made for. Those of models that are not written any more are left out; raises
    ModelSwitched, and stores nothing, if the live model is none of them. An asset without any vectors takes a number
    too: words find it, so who holds facets has to learn of it.
    """
    clock = locked_clock()
    if made_for and clock.live not in made_for:
        raise ModelSwitched(clock.live)
    wanted = {clock.live, *clock.beside} if made_for else None
    bare = [asset.id for asset, given in vectors if not given]
    named = ((asset, vector, vector.model or model) for asset, given in vectors for vector in given)
    flat = [one for one in named if wanted is None or one[2] in wanted]
    _check_dimensions(flat)
    first = _advance(clock, len(flat) + len(bare))
    FacetChange.objects.bulk_create(
        FacetChange(asset_id=asset_id, seq=first + len(flat) + n) for n, asset_id in enumerate(bare)
    )
    Vector.objects.bulk_create(
        _row(asset, name, vector, first + offset) for offset, (asset, vector, name) in enumerate(flat)
    )
    return sum(name == clock.live for _, _, name in flat)


def _check_dimensions(vectors: Iterable[tuple[Asset, NewVector, str]]) -> None:
    """All vectors of a model have as many numbers: an index of some others could not be searched. Raises ValueError."""
    found: dict[str, set[int]] = {}
    for _, vector, model in vectors:
        found.setdefault(model, set()).add(len(vector.values))
    for model, lengths in found.items():
        if len(lengths | {dimension_of(model) or max(lengths)}) > 1:
            raise ValueError(f"vectors of {model} have {dimension_of(model)} numbers, not {sorted(lengths)}")


# By tenant and model, once vectors are stored: it stays as it is as long as there is the model.
_dimensions: dict[tuple[uuid.UUID, str], int] = {}


def dimension_of(model: str) -> int | None:
    """How many numbers the active tenant's stored vectors of a model have; None where there are none."""
    key = (current_tenant_id(), model)
    if (known := _dimensions.get(key)) is not None:
        return known
    widths = Vector.objects.filter(model=model).order_by("seq").annotate(width=Length("data"))
    if (found := widths.values_list("width", flat=True).first()) is None:
        return None
    # What is rolled back is not remembered.
    transaction.on_commit(lambda: _remember(key, found // 4))
    return found // 4


def _remember(key: tuple[uuid.UUID, str], dimension: int) -> None:
    if len(_dimensions) >= MOST_REMEMBERED:
        _dimensions.clear()
    _dimensions[key] = dimension


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
    """Little-endian float32 [d]. Raises ValueError for another shape or values that are not finite."""
    row = np.ascontiguousarray(values, dtype="<f4")
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        raise ValueError(f"expected finite numbers in a row, got shape {row.shape}")
    return row.tobytes()


def remove_vectors(*, asset_ids: Sequence[uuid.UUID]) -> int:
    """Delete the vectors of these assets, of every model, and leave a tombstone for each that had some; returns how
    many were of the live model. The assets are locked by the caller."""
    with tenant_scope(current_tenant_id()):
        had = list(Vector.objects.filter(asset_id__in=asset_ids).values_list("asset_id", "model"))
        if not had:
            return 0
        gone, clock = sorted({asset_id for asset_id, _ in had}), locked_clock()
        first = _advance(clock, len(gone))
        Tombstone.objects.bulk_create(Tombstone(asset_id=a, seq=first + n) for n, a in enumerate(gone))
        Vector.objects.filter(asset_id__in=gone, seq__lt=first).delete()
    return sum(model == clock.live for _, model in had)


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


# --- Changes of metadata, told to the indexes that hold facets -------------------------------------------


def record_changes(asset_ids: Collection[uuid.UUID]) -> None:
    """Number a change of facets of each of these assets. In the caller's transaction, which takes the clock's lock.

    So it comes after every lock on jobs, datasets, assets and blobs, and before the quota's.
    """
    if not asset_ids:
        return
    first = take_numbers(len(asset_ids))
    FacetChange.objects.bulk_create(
        FacetChange(asset_id=asset_id, seq=first + n) for n, asset_id in enumerate(asset_ids)
    )


# --- Stored vectors of some assets as arrays, in one statement of bounded size ------------------------


# A film has hundreds of frames: of each kind of vector that an asset has, at most so many, evenly spread over it.
_SAMPLED = """
SELECT v.asset_id, v.modality, v.data
FROM (
    SELECT id, row_number() OVER (PARTITION BY asset_id, modality ORDER BY seq) - 1 AS at,
        count(*) OVER (PARTITION BY asset_id, modality) AS parts
    FROM vector
    WHERE tenant_id = %(tenant)s AND asset_id = ANY(%(assets)s) AND model = %(model)s
        AND (%(own)s IS FALSE OR modality = asset_modality)
        AND (%(modality)s::text IS NULL OR modality = %(modality)s)
) AS counted
JOIN vector v ON v.tenant_id = %(tenant)s AND v.id = counted.id
WHERE counted.at %% ceil(counted.parts / %(most)s::float8)::int = 0
ORDER BY v.seq
"""


class Stored(NamedTuple):
    """One vector float32 [d] and what of its asset it stands for."""

    asset_id: uuid.UUID
    modality: str
    values: np.ndarray


def sampled(
    asset_ids: Sequence[uuid.UUID], *, model: str, most: int, modality: str | None = None, own: bool = False
) -> list[Stored]:
    """At most `most` vectors of each asset and modality, in the tenant's scope.

    `own`: only those of what the asset itself is, hence not those of a caption.
    """
    given: dict[str, Any] = {
        "tenant": current_tenant_id(),
        "assets": list(asset_ids),
        "model": model,
        "most": most,
        "modality": modality,
        "own": own,
    }
    with connection.cursor() as cursor:
        cursor.execute(_SAMPLED, given)
        rows = cursor.fetchall()
    values = as_matrix([row[2] for row in rows])
    return [Stored(row[0], row[1], vector) for row, vector in zip(rows, values, strict=True)]
