"""What a classifier reads of an asset: the mean of its stored vectors of a model, made a unit vector."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenants.retrieval.index import sampled

# Of a film or a long text: vectors that are looked at, evenly spread.
MOST_PARTS = 16


@dataclass(frozen=True)
class Features:
    """Unit vectors float32 [n, d] of those assets that have some, in the order in which they were named."""

    asset_ids: list[uuid.UUID]
    values: np.ndarray


def read_features(assets: Mapping[uuid.UUID, str], model: str) -> Features:
    """Of assets by id, with their modalities. In the tenant's scope, which the caller keeps short: a batch at a time.

    The vectors of what an asset itself is count; those of its captions or words only where there are no others.
    """
    own: dict[uuid.UUID, list[np.ndarray]] = {}
    others: dict[uuid.UUID, list[np.ndarray]] = {}
    for stored in sampled(list(assets), model=model, most=MOST_PARTS):
        kept = own if stored.modality == assets[stored.asset_id] else others
        kept.setdefault(stored.asset_id, []).append(stored.values)
    found = {one: own.get(one) or others[one] for one in assets if one in own or one in others}
    return Features(list(found), _means(list(found.values())))


def feature_of(modality: str, vectors: Iterable[tuple[str, np.ndarray]]) -> np.ndarray | None:
    """The same of vectors float32 [d] that are not stored, each with its modality; None of none."""
    given = list(vectors)
    parts = [values for kind, values in given if kind == modality] or [values for _, values in given]
    if not parts:
        return None
    chosen = np.unique(np.linspace(0, len(parts) - 1, min(MOST_PARTS, len(parts))).round().astype(int))
    return _means([[parts[place] for place in chosen]])[0]


def _means(parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    if not parts:
        return np.empty((0, 0), np.float32)
    means = np.stack([np.mean(some, axis=0) for some in parts])
    lengths: np.ndarray = np.linalg.norm(means, axis=1, keepdims=True)
    # Vectors that cancel each other out say nothing; their head's logit is then its offset.
    return (means / np.maximum(lengths, 1e-12)).astype(np.float32)
