"""Stored vectors of some assets as arrays, in one statement of bounded size."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from django.db import connection

from tenants.retrieval.types import DIMENSION
from tenants.scope import current_tenant_id

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
    """One vector float32 [256] and what of its asset it stands for."""

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
    values = np.frombuffer(b"".join(bytes(row[2]) for row in rows), "<f4").reshape(-1, DIMENSION)
    return [Stored(row[0], row[1], vector) for row, vector in zip(rows, values, strict=True)]
