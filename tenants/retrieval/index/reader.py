"""What a search has to know before it begins, of one moment and in one statement."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from tenants.prepared import Prepared
from tenants.retrieval.index.activity import activity
from tenants.retrieval.types import LEFT, Current, Opening

# $1: tenant, $2: model. One row.
SQL = """
SELECT COALESCE(c.last, 0) AS last, COALESCE(c.pruned, 0) AS pruned, COALESCE(c.live, $2) AS live,
    ARRAY(SELECT id FROM dataset WHERE tenant_id = $1 AND deleted_at IS NOT NULL) AS hidden,
    COALESCE(p.engine, 'memory') AS engine, g.id AS generation, g.seq, g.kind, g.recall
FROM (SELECT) AS always
LEFT JOIN vector_clock c ON c.tenant_id = $1
LEFT JOIN index_pointer p ON p.tenant_id = $1 AND p.model = $2
LEFT JOIN index_generation g ON g.tenant_id = p.tenant_id AND g.id = p.current_id
"""
COLUMNS = 9
_OPENING = Prepared("opening", ("uuid", "text"), SQL)


def opening(tenant_id: uuid.UUID, model: str) -> Opening:
    """For this tenant and model. Needs no scope: alone it is one round trip."""
    (row,) = _OPENING.rows_of(tenant_id, tenant_id, model)
    return read_opening(tenant_id, model, row)


def read_opening(tenant_id: uuid.UUID, model: str, row: Sequence[Any]) -> Opening:
    """What a row of `SQL` says."""
    last, pruned, live, hidden, engine, *current = row
    published = Current(*current) if current[0] and engine not in LEFT else None
    if published is not None:
        activity.note(tenant_id, model)
    return Opening(last, pruned, tuple(hidden), engine, published, live)
