"""What a search found, as the API shows it, in one statement: the ORM takes twice as long to make objects of rows.

The columns are those of `tenants.datasets.selectors.shape_of_columns`, in their order.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from tenants.datasets import shapes
from tenants.datasets.selectors import shape_of_columns
from tenants.prepared import Prepared
from tenants.retrieval.index import reader
from tenants.retrieval.query.result_page import Reader
from tenants.retrieval.types import IndexStatus

# Of a recording's details only what is shown: its waveform is as large as all the rest of a page.
#
# Each asset is looked up by its id, and what belongs to it afterwards (`OFFSET 0` keeps these steps apart). The plan
# is one for all tenants: left the choice, Postgres takes all assets of a dataset, as the average tenant has few.
# $1: tenant, IDS: the parameter with the ids.
_SQL = """
SELECT a.id::text, a.dataset_id::text, a.modality, a.status, a.external_id,
    b.sha256, b.bytes, b.media_type, b.width, b.height,
    a.filename, a.caption, a.more_captions, a.excerpt, a.metadata, b.scan, a.created_at,
    b.details - 'peaks' AS details, a.error, a.moderation, a.labels
FROM unnest(IDS) AS wanted (id)
CROSS JOIN LATERAL (SELECT * FROM asset WHERE tenant_id = $1 AND asset.id = wanted.id OFFSET 0) a
CROSS JOIN LATERAL (SELECT * FROM blob WHERE tenant_id = $1 AND blob.id = a.blob_id OFFSET 0) b
CROSS JOIN LATERAL (SELECT deleted_at FROM dataset WHERE tenant_id = $1 AND dataset.id = a.dataset_id OFFSET 0) d
WHERE d.deleted_at IS NULL AND a.moderation NOT IN ('block', 'quarantined')
"""
_ASSETS = Prepared("hydrate", ("uuid", "uuid[]"), _SQL.replace("IDS", "$2"))
_TOGETHER = Prepared(
    "opening_and_hydrate",
    ("uuid", "text", "uuid[]"),
    f"SELECT * FROM ({reader.SQL}) AS o LEFT JOIN LATERAL ({_SQL.replace('IDS', '$3')}) AS h ON true",  # noqa: S608
)


def hydrate(tenant_id: uuid.UUID, asset_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, shapes.Asset]:
    """Assets of this tenant by id, in the shape of the API, read now. Needs no scope: alone it is one round trip.

    What is gone is absent, and so is what belongs to a dataset that is being deleted, or was blocked or held back.
    """
    if not asset_ids:
        return {}
    # Ids come as text, which the shape wants: psycopg2 makes a UUID of one in as long as Postgres finds a row.
    known = {str(asset_id): asset_id for asset_id in asset_ids}
    return {known[row[0]]: _shape(row) for row in _ASSETS.rows_of(tenant_id, tenant_id, list(asset_ids))}


def hydrate_with_index_status(
    tenant_id: uuid.UUID, model: str, asset_ids: Sequence[uuid.UUID]
) -> tuple[IndexStatus, dict[uuid.UUID, shapes.Asset]]:
    """`opening` and `hydrate` in one round trip, of one moment."""
    known = {str(asset_id): asset_id for asset_id in asset_ids}
    rows = _TOGETHER.rows_of(tenant_id, tenant_id, model, list(asset_ids))
    now = reader.parse_index_status(tenant_id, model, rows[0][: reader.COLUMNS])
    assets = [row[reader.COLUMNS :] for row in rows]
    return now, {known[row[0]]: _shape(row) for row in assets if row[0] is not None}


def _shape(row: tuple[Any, ...]) -> shapes.Asset:
    *plain, others, excerpt, metadata, scan, created_at, details, error, moderation, labels = row
    columns: list[Any] = [
        *plain, _json(others), excerpt, _json(metadata), _json(scan), created_at, _json(details), _json(error),
        moderation, _json(labels),
    ]  # fmt: skip
    return shape_of_columns(*columns)


def _json(text: str | None) -> Any:
    """Django leaves JSON to its fields: a cursor gives its text. Reading it is most of what a row costs."""
    return None if text is None else msgspec.json.decode(text)


# As the API shows them.
HYDRATED = Reader(hydrate, hydrate_with_index_status)
