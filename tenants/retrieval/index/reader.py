"""What a search has to know before it begins, of one moment and in one statement."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.utils import timezone

from tenants.prepared import Prepared
from tenants.retrieval.models import IndexPointer
from tenants.retrieval.types import LEFT, Current, IndexStatus
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

EVERY_S = 3600.0
WAIT_S = 2.0
MOST = 10_000

_Key = tuple[uuid.UUID, str]


class Activity:
    """Notes of searches by tenant and model."""

    def __init__(self) -> None:
        self._told: dict[_Key, float] = {}
        self._noted: set[_Key] = set()
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, tenant_id: uuid.UUID, model: str) -> None:
        """A search was made in a generation. Costs a look into a dictionary, but for the first one in an hour."""
        key, now = (tenant_id, model), time.monotonic()
        if now - self._told.get(key, -math.inf) < EVERY_S:
            return
        with self._lock:
            if len(self._told) >= MOST:
                self._told.clear()
            self._told[key] = now
            self._noted.add(key)
            self._something.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._tell_for_ever, name="activity", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Tell the database what was noted; what cannot be told is noted again."""
        with self._lock:
            noted, self._noted = self._noted, set()
        while noted:
            key = noted.pop()
            try:
                _tell(*key)
            except Exception:
                with self._lock:
                    self._noted |= noted | {key}
                raise

    def _tell_for_ever(self) -> None:
        while True:
            self._something.wait()
            self._something.clear()
            time.sleep(WAIT_S)
            try:
                self.flush()
            except Exception:
                log.warning("which indexes are searched waits for the database", exc_info=True)
                self._something.set()
            finally:
                connection.close()


def _tell(tenant_id: uuid.UUID, model: str) -> None:
    with tenant_scope(tenant_id):
        IndexPointer.objects.filter(model=model).update(searched_at=timezone.now())


activity = Activity()


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
_INDEX_STATUS = Prepared("index_status", ("uuid", "text"), SQL)


def read_index_status(tenant_id: uuid.UUID, model: str) -> IndexStatus:
    """For this tenant and model. Needs no scope: alone it is one round trip."""
    (row,) = _INDEX_STATUS.rows_of(tenant_id, tenant_id, model)
    return parse_index_status(tenant_id, model, row)


def parse_index_status(tenant_id: uuid.UUID, model: str, row: Sequence[Any]) -> IndexStatus:
    """What a row of `SQL` says."""
    last, pruned, live, hidden, engine, *current = row
    published = Current(*current) if current[0] and engine not in LEFT else None
    if published is not None:
        activity.note(tenant_id, model)
    return IndexStatus(last, pruned, tuple(hidden), engine, published, live)
