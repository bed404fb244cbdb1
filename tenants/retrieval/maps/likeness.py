"""How alike some chosen assets are, each with each other one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _

from ml.projection.likeness import cosines, order_of
from tenants.datasets.selectors import require_assets
from tenants.errors import Invalid
from tenants.retrieval.model_routing import routing
from tenants.retrieval.query import likeness
from tenants.scope import tenant_scope

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
