"""The generations that this process has open.

Their files are mapped, so the kernel decides what of them is in memory. Whoever searches in one keeps it; here is only
known which are open, so that all share them, and which are being opened. What is held, and for how long, is decided in
`tenants.retrieval.index.memory`.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from django.conf import settings
from django.db import connection

from ml.indexes import files
from ml.indexes.files import NAME, Manifest
from ml.indexes.generation import Generation, GenerationDamaged, open_generation
from ml.indexes.postings import PostingsDamaged
from tenants.datasets import storage
from tenants.errors import StorageFull, room_on_disk
from tenants.retrieval.index import signals
from tenants.retrieval.index.segments import FileSegment
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope

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


KIND = "index"
# Of a local folder that is being filled from the storage.
FETCHED = ".fetched"
# A storage that does not answer may do so a moment later; after the last of these the index is built anew.
PAUSES_S = (1.0, 5.0, 20.0)


def path_of(tenant_id: uuid.UUID, generation_id: uuid.UUID | str, name: str = "") -> str:
    """Where a file of a generation's copy lies in the storage; without a name its folder."""
    return f"{tenant_id}/{KIND}/{generation_id}" + (f"/{name}" if name else "")


class IndexRegistry:
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
        try:
            # What has to be fetched first takes long: nobody waits for that.
            generation = open_kept(tenant_id, generation_id, begun=lambda: _give_up(coming))
            base = FileSegment(generation_id, generation.manifest.seq, generation)
            base.postings  # noqa: B018 - maps them
            return base
        except Exception as error:
            log.warning("an index cannot be opened", extra={"generation": str(generation_id)}, exc_info=True)
            if isinstance(error, DAMAGES) and not _is_shortage(error):
                self._repair(tenant_id, generation_id, f"{type(error).__name__}: {error}")
        return None

    def _repair(self, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
        try:
            signals.damaged(tenant_id=tenant_id, generation_id=generation_id, reason=reason)
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


# --- Back ------------------------------------------------------------------------------------------------


def open_kept(tenant_id: uuid.UUID, generation_id: uuid.UUID, begun: Callable[[], None]) -> Generation:
    """The generation, opened from its local files; where they are archived they are fetched first.

    `begun` is called before that, as it may take minutes. Raises GenerationDamaged, and StorageFull.
    """
    folder = folder_of(tenant_id, generation_id)
    while True:
        fetched = _bring_back(tenant_id, generation_id, begun)
        try:
            return open_generation(folder)
        except GenerationDamaged:
            # They may have been archived between two looks; what was just fetched is given up.
            if fetched or (folder / NAME).exists() or not _is_archived(tenant_id, generation_id):
                raise


def _is_archived(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bool:
    with tenant_scope(tenant_id):
        return IndexGeneration.objects.filter(pk=generation_id, archived=True).exists()


def _bring_back(tenant_id: uuid.UUID, generation_id: uuid.UUID, begun: Callable[[], None]) -> bool:
    folder = folder_of(tenant_id, generation_id)
    if (folder / NAME).exists() or not _is_archived(tenant_id, generation_id):
        return False
    begun()
    # A name of its own: several processes may be at it.
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{FETCHED}")
    part.mkdir(parents=True)
    try:
        _fetch_patiently(tenant_id, generation_id, part)
        if not (folder / NAME).exists():
            # Left by a removal that was killed.
            shutil.rmtree(folder, ignore_errors=True)
        # Another process may have been faster.
        with suppress(OSError):
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info("an archived index is back", extra={"generation": str(generation_id)})
    return True


def _fetch_patiently(tenant_id: uuid.UUID, generation_id: uuid.UUID, part: Path) -> None:
    """Raises GenerationDamaged: also when the storage stays away, as an index can be built without it."""
    for pause in (*PAUSES_S, None):
        try:
            _fetch(tenant_id, generation_id, part)
            return
        except (GenerationDamaged, StorageFull):
            raise
        except FileNotFoundError as error:
            raise GenerationDamaged(f"Its archive is incomplete: {error}") from error
        except Exception as error:
            if pause is None:
                raise GenerationDamaged(f"Its archive cannot be read: {error}") from error
            log.warning("an archived index cannot be fetched yet", exc_info=True)
            time.sleep(pause)


def _fetch(tenant_id: uuid.UUID, generation_id: uuid.UUID, part: Path) -> None:
    def take(name: str) -> None:
        target = part / name
        if not target.resolve().is_relative_to(part.resolve()):
            raise GenerationDamaged(f"{name!r} is no name of a file in it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with room_on_disk():
            storage.copy_to(path_of(tenant_id, generation_id, name), target)

    take(NAME)
    manifest = Manifest.read(part)
    # Before the disk is full: everything else that runs here needs it too.
    if shutil.disk_usage(part).free < sum(stamp.bytes for stamp in manifest.files.values()):
        raise StorageFull
    for name in manifest.files:
        take(name)
    if problem := files.wrong(part, manifest.files, verify=True):
        raise GenerationDamaged(f"Its archive is damaged: {problem}")


opened = IndexRegistry()
