"""The same assets as two models place them, one laid over the other, and which of them moved most."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import numpy as np

from ml.projection import aligning
from tenants.retrieval.maps.points import Points, placed
from tenants.retrieval.maps.reading import Wanted


@dataclass(frozen=True)
class Compared:
    """`before` holds the places of the first model, `after` float32 [n, 2] those of the second laid over them, `moved`
    [n] how far each went, in units of the map's extent."""

    before: Points
    after: np.ndarray
    moved: np.ndarray


def compared(tenant_id: uuid.UUID, wanted: Wanted, other: str) -> Compared:
    """By PCA of each model's own vectors, of the assets that both have. In no scope."""
    first, second = placed(tenant_id, wanted), placed(tenant_id, replace(wanted, model=other))
    places = {bytes(one): place for place, one in enumerate(second.ids)}
    both = [(at, places[bytes(one)]) for at, one in enumerate(first.ids) if bytes(one) in places]
    left = np.array([one for one, _ in both], int)
    right = np.array([one for _, one in both], int)
    before = replace(first, ids=first.ids[left], places=first.places[left])
    after = aligning.align(before.places, second.places[right])
    return Compared(before, after, aligning.moves(before.places, after))
