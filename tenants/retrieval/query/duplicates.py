"""Results that are nearly the same: one stands for all of them.

Two assets of a kind are near-duplicates if they have the same file, or if what they are (not their captions) points in
nearly the same direction. The best ranked one leads a group, and every member is close to its leader: closeness to a
member is not handed on, so that a chain of small differences does not join what is far apart.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

import numpy as np

from tenants.datasets.models import Asset
from tenants.datasets.selectors import visible_assets
from tenants.retrieval.index.stored import sampled
from tenants.retrieval.types import DIMENSION, Hit

# Measured on the demo data (docs/experiments.md): above every pair of different pictures there.
THRESHOLD = 0.985
# Frames or passages that stand for a film, a recording or a long text.
MOST = 8


def group(hits: Sequence[Hit], *, model: str) -> list[list[Hit]]:
    """The hits, the best first, as groups in the order of their leaders, each with its leader first, by `model`.

    In the tenant's scope. Of hits whose asset is gone nothing is known: each is a group of its own.
    """
    ids = [hit.asset_id for hit in hits]
    same = _alike(ids, model) | _same_files(ids)
    free, groups = np.ones(len(hits), bool), []
    for at in range(len(hits)):
        if free[at]:
            members = np.flatnonzero(same[at] & free)
            free[members] = False
            free[at] = False
            groups.append([hits[at], *(hits[other] for other in members.tolist() if other != at)])
    return groups


def alive(groups: Iterable[Sequence[Hit]]) -> list[list[Hit]]:
    """The groups without what was deleted meanwhile; the next member leads where the leader is gone."""
    kept = list(groups)
    ids = [hit.asset_id for members in kept for hit in members]
    there = set(visible_assets().filter(pk__in=ids).values_list("pk", flat=True))
    left = [[hit for hit in members if hit.asset_id in there] for members in kept]
    return [members for members in left if members]


def _alike(ids: Sequence[uuid.UUID], model: str) -> np.ndarray:
    """Which pairs point in nearly the same direction: bool [n, n]."""
    place = {asset_id: at for at, asset_id in enumerate(ids)}
    sums, kinds = np.zeros((len(ids), DIMENSION), np.float32), np.zeros(len(ids), "U5")
    for one in sampled(ids, model=model, most=MOST, own=True):
        sums[place[one.asset_id]] += one.values
        kinds[place[one.asset_id]] = one.modality
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return (sums @ sums.T >= THRESHOLD) & (kinds[:, None] == kinds[None, :])


def _same_files(ids: Sequence[uuid.UUID]) -> np.ndarray:
    """Which pairs share their bytes: bool [n, n]."""
    blobs = dict(Asset.objects.filter(pk__in=ids).values_list("pk", "blob_id"))
    numbers: dict[uuid.UUID, int] = {}
    # What is gone is like nothing, not even like itself.
    codes = np.array(
        [numbers.setdefault(blobs[one], len(numbers)) if one in blobs else -1 for one in ids], np.int64
    )
    return (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]
