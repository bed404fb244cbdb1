"""The same assets as two models place them, one laid over the other, and which of them moved most."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from django.utils.translation import gettext as _

from ml.projection import comparison
from ml.projection.comparison import cosines, order_of
from tenants.datasets.selectors import require_assets
from tenants.errors import Invalid
from tenants.retrieval.maps.points import Points, placed
from tenants.retrieval.maps.reading import Wanted
from tenants.retrieval.model_routing import routing
from tenants.retrieval.query import likeness
from tenants.scope import tenant_scope


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
    after = comparison.align(before.places, second.places[right])
    return Compared(before, after, comparison.moves(before.places, after))


# --- How alike some chosen assets are, each with each other one ---------------------------------------


MOST = 200


def matrix_of(tenant_id: uuid.UUID, asset_ids: Sequence[uuid.UUID], model: str = "") -> dict[str, Any]:
    """Cosines as "more like this" would find them, and the order that puts like beside like. In no scope.

    `model` is a space, empty for the live one. Raises NotFound, Invalid, ModelUnavailable.
    """
    wanted = list(dict.fromkeys(asset_ids))
    if not 2 <= len(wanted) <= MOST:
        raise Invalid(_("2 to %(most)s assets can be compared.") % {"most": MOST}, pointer="/assets")
    model = model or routing.written(tenant_id).live
    space = routing.space(model, tenant_id)
    with tenant_scope(tenant_id):
        require_assets(wanted)
        vectors = likeness.each_of(asset_ids, "/assets", space=space)
    matrix = cosines(vectors)
    order = order_of(matrix)
    return {
        "model": model,
        "assets": [str(wanted[place]) for place in order],
        "matrix": [[round(float(value), 4) for value in row] for row in matrix[order][:, order]],
    }
