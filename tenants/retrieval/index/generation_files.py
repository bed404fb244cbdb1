"""Where the files of generations lie: the storage holds each of them whole, a host's disk caches those it searches.

A build is uploaded before the pointer names it, its manifest last, so whatever a pointer names can be fetched by any
host. A folder that is missing here is absent, not damaged: it is fetched, beside the requests. What is damaged here is
fetched again. Only where the stored copy is missing or wrong is a generation given up, and the index built anew from
Postgres, which is the truth. A storage that is away damages nothing: the next search asks again.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage

from ml.indexes import files
from ml.indexes.files import NAME, Manifest
from ml.indexes.generation import Generation, GenerationDamaged, open_generation
from tenants.datasets import storage
from tenants.errors import StorageFull, room_on_disk
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

# Where copies lie in the storage: `TENANT/index/GENERATION/…`.
KIND = "index"
# Of a local folder that is being filled from the storage, and of one that is being removed.
FETCHED, GONE = ".fetched", ".gone"
# A storage that does not answer may do so a moment later.
PAUSES_S = (1.0, 5.0, 20.0)


class NotHere(Exception):
    """A generation cannot be opened now: it is on its way from the storage, or missing and the repair under way."""


def folder_of(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> Path:
    return settings.INDEX_DIR / str(tenant_id) / str(generation_id)


def path_of(tenant_id: uuid.UUID, generation_id: uuid.UUID | str, name: str = "") -> str:
    """Where a file of a generation lies in the storage; without a name its folder."""
    return f"{tenant_id}/{KIND}/{generation_id}" + (f"/{name}" if name else "")


def is_here(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bool:
    """Whether this host has its files."""
    return (folder_of(tenant_id, generation_id) / NAME).exists()


# --- To the storage --------------------------------------------------------------------------------------


def upload(tenant_id: uuid.UUID, generation_id: uuid.UUID, folder: Path) -> None:
    """Store a finished folder whole, the manifest last; what an interrupted upload stored in full is not sent again.

    Raises GenerationDamaged where the folder is not whole, and OSError where the storage keeps a file in part.
    """
    manifest = Manifest.read(folder)
    if problem := files.first_damage(folder, manifest.files, verify=True):
        raise GenerationDamaged(problem)
    for name in (*manifest.files, NAME):
        storage.put_copy(path_of(tenant_id, generation_id, name), folder / name)
    for name, stamp in manifest.files.items():
        if default_storage.size(path_of(tenant_id, generation_id, name)) != stamp.bytes:
            raise OSError(f"The storage kept {name} of generation {generation_id} only in part.")


def remove_copy(tenant_id: uuid.UUID, generation_id: uuid.UUID | str) -> None:
    """Remove a generation from the storage; a storage that is away is asked again by the next upkeep."""
    try:
        _remove(path_of(tenant_id, generation_id))
    except Exception:
        log.warning("a stored index could not be removed", exc_info=True)


def _remove(folder: str) -> None:
    for path in list(storage.files_below(folder)):
        default_storage.delete(path)
    # In a folder storage emptied folders are left, in a bucket there are none.
    with suppress(FileNotFoundError, OSError):
        for inner in default_storage.listdir(folder)[0]:
            default_storage.delete(f"{folder}/{inner}")
        default_storage.delete(folder)


# --- From the storage ------------------------------------------------------------------------------------


def open_kept(
    tenant_id: uuid.UUID, generation_id: uuid.UUID, begun: Callable[[], None] = lambda: None
) -> Generation:
    """The generation, opened from this host's files; where they are absent or damaged they are fetched first.

    `begun` is called before that, as it may take minutes. Raises GenerationDamaged where the stored copy is missing or
    wrong, NotHere where the storage is away, and StorageFull.
    """
    folder = folder_of(tenant_id, generation_id)
    while True:
        fetched = not is_here(tenant_id, generation_id)
        if fetched:
            begun()
            bring_here(tenant_id, generation_id)
        try:
            return open_generation(folder)
        except GenerationDamaged as error:
            # Let go between two looks, it is fetched again, too.
            if fetched or not _is_stored(tenant_id, generation_id):
                raise
            log.warning("an index is fetched anew: %s", error, extra={"generation": str(generation_id)})
            put_away(tenant_id, generation_id)


def bring_here(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Fetch a generation into its folder, whole. Another process of this host may be at it, too.

    Raises as `open_kept` does.
    """
    if not _is_stored(tenant_id, generation_id):
        # Built by a release that kept indexes on one host only.
        raise GenerationDamaged("its files are gone")
    folder = folder_of(tenant_id, generation_id)
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
    log.info("an index was fetched", extra={"generation": str(generation_id)})


def _is_stored(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bool:
    with tenant_scope(tenant_id):
        return IndexGeneration.objects.filter(pk=generation_id, archived=True).exists()


def _fetch_patiently(tenant_id: uuid.UUID, generation_id: uuid.UUID, part: Path) -> None:
    again = True
    for pause in (*PAUSES_S, None):
        try:
            _fetch(tenant_id, generation_id, part)
            return
        except StorageFull:
            raise
        except GenerationDamaged:
            # A connection that broke at the wrong byte, or this disk, is asked once more before the copy is blamed.
            if not again:
                raise
            again = False
        except FileNotFoundError as error:
            raise GenerationDamaged(f"Its stored copy is incomplete: {error}") from error
        except Exception as error:
            if pause is None:
                raise NotHere from error
            log.warning("an index cannot be fetched yet", exc_info=True)
            time.sleep(pause)


def _fetch(tenant_id: uuid.UUID, generation_id: uuid.UUID, part: Path) -> None:
    def take(name: str) -> None:
        target = part / name
        if not target.resolve().is_relative_to(part.resolve()):
            raise GenerationDamaged(f"{name!r} is no name of a file in it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with room_on_disk():
            storage.fetch(path_of(tenant_id, generation_id, name), target)

    take(NAME)
    manifest = Manifest.read(part)
    # Before the disk is full: everything else that runs here needs it too.
    if shutil.disk_usage(part).free < sum(stamp.bytes for stamp in manifest.files.values()):
        raise StorageFull
    for name in manifest.files:
        take(name)
    if problem := files.first_damage(part, manifest.files, verify=True):
        raise GenerationDamaged(f"Its stored copy is damaged: {problem}")


# --- This host's disk ------------------------------------------------------------------------------------


def local_folders(tenant_id: uuid.UUID) -> list[Path]:
    """What this host has of a tenant's generations, also in parts."""
    try:
        return sorted((settings.INDEX_DIR / str(tenant_id)).iterdir())
    except FileNotFoundError:
        return []


def local_generations(tenant_id: uuid.UUID) -> Iterator[uuid.UUID]:
    """Ids of the generations whose files this host has."""
    for folder in local_folders(tenant_id):
        with suppress(ValueError):
            if (folder / NAME).exists():
                yield uuid.UUID(folder.name)


def damage_of(folder: Path) -> str | None:
    """What is wrong with a generation's files on this host, None if nothing is.

    Reads those that have changed since this process read them.
    """
    try:
        return files.first_damage(folder, Manifest.read(folder).files, verify=True)
    except GenerationDamaged as error:
        return str(error)


def is_stored_whole(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> bool:
    """Whether there is a copy to fetch. In a folder storage its files may be the very ones that this host has; a copy
    elsewhere is taken to be whole, and looked at when it is fetched."""
    if not _is_stored(tenant_id, generation_id):
        return False
    try:
        folder = Path(default_storage.path(path_of(tenant_id, generation_id)))
    except NotImplementedError:
        return True
    try:
        return files.first_damage(folder, Manifest.read(folder).files, verify=True) is None
    except GenerationDamaged:
        return False


def note_use(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Say that this host searches in it; read by `used_at`."""
    with suppress(FileNotFoundError):
        os.utime(folder_of(tenant_id, generation_id))


def used_at(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> float:
    """When this host last searched in it, or got it: seconds since 1970; now where it has none."""
    try:
        return folder_of(tenant_id, generation_id).stat().st_mtime
    except FileNotFoundError:
        return time.time()


def put_away(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Remove this host's files. Who searches in them at this moment keeps what is mapped until the search ends."""
    folder = folder_of(tenant_id, generation_id)
    gone = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{GONE}")
    # Out of sight first: who comes now must find all of it or nothing.
    with suppress(OSError):
        folder.rename(gone)
    for left in (gone, folder):
        shutil.rmtree(left, ignore_errors=True)


def is_arriving(path: Path, stale_s: float) -> bool:
    """Whether somebody is fetching into this folder; each of its files is written to in turn."""
    if path.suffix != FETCHED:
        return False
    try:
        return time.time() - max(p.stat().st_mtime for p in (path, *path.rglob("*"))) < stale_s
    except FileNotFoundError:
        # It has just arrived, under another name.
        return True
