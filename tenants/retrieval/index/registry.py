"""The generations that this process has open.

Their files are mapped, so the kernel decides what of them is in memory. Whoever searches in one keeps it; here is only
known which are open, so that all share them, and which are being opened. What is held, and for how long, is decided in
`tenants.retrieval.index.memory`.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import connection

from ml.indexes.generation import GenerationDamaged
from ml.indexes.postings import PostingsDamaged
from tenants.retrieval.index.segments import FileSegment

log = logging.getLogger(__name__)

# Opened beside the requests and not fetched yet; those that nobody comes for must not pile up.
MOST_ARRIVED = 16
DAMAGES = (GenerationDamaged, PostingsDamaged, ValueError, KeyError)
# What a process may lack for a moment, in the words that every layer passes on. The files are not at fault.
SHORTAGES = [os.strerror(number) for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)]


class NotHere(Exception):
    """The files of a generation are missing or damaged, and the repair is under way; or they cannot be opened now,
    perhaps as they are on their way back from the archive."""


def folder_of(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> Path:
    return settings.INDEX_DIR / str(tenant_id) / str(generation_id)


class Opened:
    """Opened generations by id."""

    def __init__(self) -> None:
        self._open: WeakValueDictionary[uuid.UUID, FileSegment] = WeakValueDictionary()
        self._arrived: OrderedDict[uuid.UUID, FileSegment] = OrderedDict()
        self._opening: dict[uuid.UUID, Future[FileSegment]] = {}
        self._lock = threading.Lock()

    def get(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, *, wait: bool) -> FileSegment | None:
        """The generation, for the caller to keep; None if a thread of its own still opens it and `wait` is not set.

        Raises NotHere, without `wait` never.
        """
        with self._lock:
            base = self._open.get(generation_id)
            if base is not None:
                self._arrived.pop(generation_id, None)
                return base
            coming = self._opening.get(generation_id)
            if coming is None:
                coming = self._opening[generation_id] = Future()
                self._begin(tenant_id, generation_id, coming)
        if not wait:
            return None
        base = coming.result()
        with self._lock:
            self._arrived.pop(generation_id, None)
        return base

    def _begin(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: Future[FileSegment]) -> None:
        arguments = (tenant_id, generation_id, coming)
        try:
            threading.Thread(target=self._run, args=arguments, name="open-index", daemon=True).start()
        except RuntimeError:
            # No more threads at this moment: the next request tries again.
            del self._opening[generation_id]
            coming.set_exception(NotHere())

    def _run(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: Future[FileSegment]) -> None:
        base = self._opened(tenant_id, generation_id, coming)
        connection.close()
        with self._lock:
            del self._opening[generation_id]
            if base is not None:
                self._open[generation_id] = self._arrived[generation_id] = base
            while len(self._arrived) > MOST_ARRIVED:
                self._arrived.popitem(last=False)
        if base is None:
            _give_up(coming)
        elif not coming.done():
            coming.set_result(base)

    def _opened(
        self, tenant_id: uuid.UUID, generation_id: uuid.UUID, coming: Future[FileSegment]
    ) -> FileSegment | None:
        """Whole, with all that a search maps later: after this its files may go."""
        # Imported here: where files are kept stands above who reads them.
        from tenants.retrieval.index import archive

        try:
            # What has to be fetched first takes long: nobody waits for that.
            generation = archive.open_kept(tenant_id, generation_id, begun=lambda: _give_up(coming))
            base = FileSegment(generation_id, generation.manifest.seq, generation)
            base.postings  # noqa: B018 - maps them
            return base
        except Exception as error:
            log.warning("an index cannot be opened", extra={"generation": str(generation_id)}, exc_info=True)
            if isinstance(error, DAMAGES) and not _is_shortage(error):
                self._repair(tenant_id, generation_id, f"{type(error).__name__}: {error}")
        return None

    def _repair(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
        # Imported here: what repairs an index stands above what reads it.
        from tenants.retrieval.index import lifecycle

        try:
            lifecycle.repair(tenant_id=tenant_id, generation_id=generation_id, reason=reason)
        except Exception:
            # Upkeep looks for missing files as well.
            log.exception("the repair of an index could not be begun")
        finally:
            connection.close()

    def forget(self, generation_id: uuid.UUID) -> None:
        """For one whose files are gone. Searches under way keep it until they end."""
        with self._lock:
            self._open.pop(generation_id, None)
            self._arrived.pop(generation_id, None)

    def bytes(self) -> int:
        """Of the files of all that are open."""
        with self._lock:
            return sum(base.mapped_bytes for base in self._open.values())


def _give_up(coming: Future[FileSegment]) -> None:
    if not coming.done():
        coming.set_exception(NotHere())


def _is_shortage(error: BaseException) -> bool:
    return any(words in str(cause) for cause in _causes(error) for words in SHORTAGES)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


opened = Opened()
