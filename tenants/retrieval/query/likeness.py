"""Assets as queries: "more like this", and "not like that"."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from django.utils.translation import gettext as _

from tenants.errors import Invalid
from tenants.retrieval.index.vectors import Stored, sampled
from tenants.retrieval.model_routing.model_store import model_of

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

MAX_ASSETS = 20
# Vectors that stand for one kind of content of an asset: the frames of a film, the passages of a recording.
MOST = 64
PICTURES = {"image", "video"}

# How much of what a query shares with its negative examples is taken away (`without`), and the bounds of that. Measured
# on the demo data: docs/experiments.md.
UNLIKE_WEIGHT = 0.3
MAX_UNLIKE_WEIGHT = 1.0


def of_assets(asset_ids: Sequence[uuid.UUID], pointer: str, *, space: JointSpace) -> np.ndarray:
    """What these assets have in common, as a query in a space: float32 [256] of norm 1. In the tenant's scope.

    Each asset counts the same, and so does each kind of content in it: a caption is not drowned by a film's frames.
    Raises Invalid for an asset that has no vectors (yet), or where they cancel each other out.
    """
    return _unit(each_of(asset_ids, pointer, space=space).mean(axis=0), pointer)


def each_of(asset_ids: Sequence[uuid.UUID], pointer: str, *, space: JointSpace) -> np.ndarray:
    """Each of these assets, once, as a query of its own: float32 [n, 256], rows of norm 1. In the tenant's scope.

    Raises Invalid for an asset that has no vectors (yet).
    """
    found: dict[uuid.UUID, dict[str, list[Stored]]] = {}
    for one in sampled(asset_ids, model=model_of(space), most=MOST):
        found.setdefault(one.asset_id, {}).setdefault(one.modality, []).append(one)
    for place, asset_id in enumerate(asset_ids):
        if asset_id not in found:
            raise Invalid(_("This asset is not ready to be compared."), pointer=f"{pointer}/{place}")
    return np.array([_of_asset(found[asset_id], space) for asset_id in dict.fromkeys(asset_ids)], np.float32)


def of_part(
    asset_id: uuid.UUID, modality: str, pointer: str, missing: str, *, space: JointSpace
) -> np.ndarray:
    """One kind of content of an asset, as a query: float32 [256] of norm 1. In the tenant's scope.

    Raises Invalid with the words `missing` where it has none (yet).
    """
    found = sampled([asset_id], model=model_of(space), most=MOST, modality=modality)
    if not found:
        raise Invalid(missing, pointer=pointer)
    return _unit(_mean(modality, found, space), pointer)


def without(query: np.ndarray, unwanted: np.ndarray, weight: float) -> np.ndarray:
    """The query less `weight` of what it shares with something unwanted: float32 [256], not normalised.

    Rocchio's negative feedback (Relevance feedback in information retrieval, 1971) with the weight in proportion to how
    alike the two are; with weight 1 this is orthogonal negation (Widdows, ACL 2003). A fixed weight does not fit a
    space where pictures are far more alike each other than words and pictures are: what gently moves a picture away
    from another one would leave nothing of a text.
    """
    shared = max(0.0, float(query @ unwanted))
    return (query - weight * shared * unwanted).astype(np.float32)


def _of_asset(kinds: dict[str, list[Stored]], space: JointSpace) -> np.ndarray:
    means = [_mean(modality, rows, space) for modality, rows in sorted(kinds.items())]
    return _normed(np.mean(means, axis=0))


def _mean(modality: str, rows: Sequence[Stored], space: JointSpace) -> np.ndarray:
    values = np.vstack([one.values for one in rows])
    # A stored picture carries a correction that only texts should meet.
    return _normed((space.as_query(values) if modality in PICTURES else values).mean(axis=0))


def _normed(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _unit(vector: np.ndarray, pointer: str) -> np.ndarray:
    norm = float(np.linalg.norm(vector))
    if norm < 1e-6:
        raise Invalid(_("These assets cancel each other out."), pointer=pointer)
    return (vector / norm).astype(np.float32)
