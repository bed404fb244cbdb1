"""The generations that this process has open, least recently used first out.

Their files are mapped, so the kernel decides what of them is in memory; the budget bounds what it may be asked for.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import OrderedDict
from pathlib import Path

from django.conf import settings
from django.db import connection

from ml.indexes.generation import GenerationDamaged, open_generation
from tenants.retrieval.base import Base

log = logging.getLogger(__name__)


class NotHere(Exception):
    """The files of a generation are missing or damaged; the repair is under way."""


def folder_of(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> Path:
    return settings.INDEX_DIR / str(tenant_id) / str(generation_id)


class Opened:
    """Opened generations by id."""

    def __init__(self) -> None:
        self._bases: OrderedDict[uuid.UUID, Base] = OrderedDict()
        self._opening: dict[uuid.UUID, threading.Thread] = {}
        self._lock = threading.Lock()

    def get(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, *, wait: bool) -> Base | None:
        """The generation; None if it is being opened by a thread of its own and `wait` is not set.

        Raises NotHere.
        """
        with self._lock:
            if generation_id in self._bases:
                self._bases.move_to_end(generation_id)
                return self._bases[generation_id]
            thread = self._opening.get(generation_id)
            if thread is None:
                thread = threading.Thread(
                    target=self._open, args=(tenant_id, generation_id), name="open-index", daemon=True
                )
                self._opening[generation_id] = thread
                thread.start()
        if not wait:
            return None
        thread.join()
        with self._lock:
            base = self._bases.get(generation_id)
        if base is None:
            raise NotHere
        return base

    def _open(self, tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
        try:
            generation = open_generation(folder_of(tenant_id, generation_id))
            base = Base(generation_id, generation.manifest.seq, generation)
            with self._lock:
                self._bases[generation_id] = base
                self._evict(generation_id)
        except (GenerationDamaged, OSError, ValueError, KeyError) as error:
            log.warning("an index cannot be opened", extra={"generation": str(generation_id)}, exc_info=True)
            self._repair(tenant_id, generation_id, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._opening.pop(generation_id, None)

    def _repair(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
        # Imported here: what repairs an index stands above what reads it.
        from tenants.retrieval import lifecycle

        try:
            lifecycle.repair(tenant_id=tenant_id, generation_id=generation_id, reason=reason)
        except Exception:
            # Upkeep looks for missing files as well.
            log.exception("the repair of an index could not be begun")
        finally:
            connection.close()

    def _evict(self, newest: uuid.UUID) -> None:
        """Forget those that go over the budget. Searches that use them keep them mapped until they end."""
        total = sum(base.generation.bytes_mapped for base in self._bases.values())
        for generation_id in list(self._bases):
            if total <= settings.INDEX_MAPPED_BYTES or generation_id == newest:
                return
            total -= self._bases.pop(generation_id).generation.bytes_mapped

    def forget(self, generation_id: uuid.UUID) -> None:
        """For one whose files are gone."""
        with self._lock:
            self._bases.pop(generation_id, None)

    def bytes(self) -> int:
        with self._lock:
            return sum(base.generation.bytes_mapped for base in self._bases.values())


opened = Opened()
