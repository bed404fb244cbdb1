"""What is known of a map's points now: datasets, modalities, states, verdicts, a key of metadata, models.

Read at every look, so that what was deleted, blocked or held back is not shown, however old the map is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from tenants.datasets.models import Facet
from tenants.retrieval.filters.filter_plan import is_any
from tenants.retrieval.maps.points import Points
from tenants.scope import current_tenant_id

# More values than these are told as one: nobody tells so many colours apart.
MOST_VALUES = 100
OTHER, NONE = -2, -1

_LIVE = """
SELECT a.id::text, a.dataset_id::text, a.modality, a.status, a.moderation
FROM unnest(%(ids)s::uuid[]) AS wanted (id)
JOIN asset a ON a.tenant_id = %(tenant)s AND a.id = wanted.id
JOIN dataset d ON d.tenant_id = %(tenant)s AND d.id = a.dataset_id
WHERE d.deleted_at IS NULL AND a.moderation NOT IN ('block', 'quarantined')
ORDER BY a.id
"""


@dataclass(frozen=True)
class Shown:
    """The points of assets that are there: ids, places, and columns of codes into their values, all of one length."""

    ids: list[str]
    places: np.ndarray
    columns: dict[str, dict[str, Any]]


def shown(points: Points, *, key: str = "") -> Shown:
    """In the tenant's scope. `key` names a key of metadata, which becomes the column `field`."""
    known = ids_of(points.ids)
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, {"ids": known, "tenant": current_tenant_id()})
        rows = cursor.fetchall()
    place = {asset_id: number for number, asset_id in enumerate(known)}
    ids = [row[0] for row in rows]
    columns = {
        name: coded([row[at] or None for row in rows])
        for at, name in enumerate(("dataset", "modality", "status", "verdict"), 1)
    }
    if key:
        columns["field"] = _field(key, ids)
    return Shown(ids, points.places[[place[one] for one in ids]], columns)


def ids_of(ids: np.ndarray) -> list[str]:
    """Bytes [n, 16] as the canonical text of ids."""
    text = ids.tobytes().hex()
    parts = (text[at : at + 32] for at in range(0, len(text), 32))
    return [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in parts]


def coded(values: Sequence[Any]) -> dict[str, Any]:
    """Values as numbers of a list of them, the most frequent first; those beyond the list are OTHER, None is NONE."""
    counted = Counter(value for value in values if value is not None)
    listed = [value for value, _ in sorted(counted.items(), key=lambda one: (-one[1], str(one[0])))]
    number = {value: code for code, value in enumerate(listed[:MOST_VALUES])}
    codes = [NONE if value is None else number.get(value, OTHER) for value in values]
    return {"kind": "category", "values": listed[:MOST_VALUES], "codes": codes}


def _field(key: str, ids: Sequence[str]) -> dict[str, Any]:
    """Numbers where most assets have one under this key, else values; of a list the first."""
    texts, numbers = _facets(key, ids)
    if len(numbers) > len(texts):
        return {"kind": "number", "numbers": [numbers.get(one) for one in ids]}
    return coded([texts.get(one, _as_text(numbers.get(one))) for one in ids])


def _as_text(number: float | None) -> str | None:
    return None if number is None else f"{number:g}"


def _facets(key: str, ids: Sequence[str]) -> tuple[dict[str, str], dict[str, float]]:
    rows = Facet.objects.filter(is_any("asset_id", ids), key=key)
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for asset_id, text, number in rows.order_by("-id").values_list("asset_id", "text", "number"):
        if text is not None:
            texts[str(asset_id)] = text
        elif number is not None:
            numbers[str(asset_id)] = number
    return texts, numbers


def as_columns(points: Points, found: Shown) -> dict[str, Any]:
    """A map with its points, in the shape of the API and of the page."""
    # Four digits behind the point are a hundredth of a pixel on any screen.
    places = np.round(found.places.astype(np.float64), 4)
    return {
        "method": points.method,
        "model": points.model,
        "total": points.total,
        "details": points.details,
        "ids": found.ids,
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "columns": found.columns,
    }
