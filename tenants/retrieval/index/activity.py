"""Which indexes are searched at all: noted in the process, told to the database by a thread, once an hour for each.

Only archiving reads it, which counts in days: a process that is killed loses a note that its next search makes again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid

from django.db import connection
from django.utils import timezone

from tenants.retrieval.models import IndexPointer
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
