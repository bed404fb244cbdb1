"""Generations that nobody searches leave the disk: copied to the storage, and fetched back by the next search.

A copy is the same files under `TENANT/index/GENERATION/…`, its manifest last. The local files go only in the
transaction that says `archived`, when the whole copy is there; what is fetched takes its place only when every digest
of the manifest fits. So neither is ever served half, and a kill in between costs one more copy. A generation never
changes: the copy stays after it was fetched, and the next archiving only removes the local files. Nothing in it is the
truth: a copy that is missing or damaged is given up, and the index built anew.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import time
import uuid
from contextlib import suppress

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from ml.indexes import files
from ml.indexes.files import NAME, GenerationDamaged, Manifest
from tenants.datasets import storage
from tenants.retrieval.index import signals
from tenants.retrieval.index.registry import KIND, folder_of, opened, path_of
from tenants.retrieval.models import IndexGeneration, IndexPointer
from tenants.scope import tenant_scope

log = logging.getLogger(__name__)

# Of a local folder that is being removed.
GONE = ".gone"
# What nobody wrote to for so long was left by a killed process.
STALE_S = 3600


def look_after(tenant_id: uuid.UUID, until: float) -> None:
    """Archive what a tenant does not search, and remove copies that nobody needs. In no scope, as it copies.

    After `until` (monotonic) no other copy is begun: the rest has time until the next upkeep.
    """
    with tenant_scope(tenant_id):
        if not IndexGeneration.objects.exists():
            return
        idle = [one for one in _idle() if folder_of(tenant_id, one.pk).exists()]
    for one in idle:
        if time.monotonic() < until:
            _archive(one)
    _collect(tenant_id)


# --- Out -------------------------------------------------------------------------------------------------


def _idle() -> list[IndexGeneration]:
    """Those that answer for a model, or answered before, of which no search was noted for INDEX_ARCHIVE_DAYS."""
    if not settings.INDEX_ARCHIVE_DAYS:
        return []
    since = timezone.now() - dt.timedelta(days=settings.INDEX_ARCHIVE_DAYS)
    quiet = Q(searched_at=None) | Q(searched_at__lt=since)
    pointers = IndexPointer.objects.filter(quiet, current__ready_at__lt=since)
    pointers = pointers.select_related("current", "previous")
    both = [one for pointer in pointers for one in (pointer.previous, pointer.current)]
    return [one for one in both if one and not one.is_external]


def _archive(one: IndexGeneration) -> None:
    try:
        if not one.archived:
            _copy(one)
    except GenerationDamaged as error:
        signals.damaged(tenant_id=one.tenant_id, generation_id=one.pk, reason=str(error))
        return
    with tenant_scope(one.tenant_id):
        # Whoever swaps the pointer, or notes a search, comes before this or after it.
        list(IndexPointer.objects.select_for_update().filter(model=one.model))
        if one.pk not in {kept.pk for kept in _idle()}:
            return
        IndexGeneration.objects.filter(pk=one.pk).update(archived=True)
        transaction.on_commit(lambda: put_away(one.tenant_id, one.pk))
    log.info("an index is archived", extra={"generation": str(one.pk)})


def _copy(one: IndexGeneration) -> None:
    """Into the storage, whole; what an interrupted copy stored in full is not sent again. Raises GenerationDamaged."""
    folder = folder_of(one.tenant_id, one.pk)
    manifest = Manifest.read(folder)
    if problem := files.wrong(folder, manifest.files, verify=True):
        raise GenerationDamaged(problem)
    for name in (*manifest.files, NAME):
        with (folder / name).open("rb") as stream:
            storage.put(path_of(one.tenant_id, one.pk, name), stream)
    for name, stamp in manifest.files.items():
        if default_storage.size(path_of(one.tenant_id, one.pk, name)) != stamp.bytes:
            raise OSError(f"The storage kept {name} of generation {one.pk} only in part.")


def put_away(tenant_id: uuid.UUID, generation_id: uuid.UUID) -> None:
    """Remove local files. Who searches in them at this moment keeps what is mapped until the search ends."""
    opened.forget(generation_id)
    folder = folder_of(tenant_id, generation_id)
    gone = folder.with_name(f"{folder.name}{GONE}")
    # Out of sight first: who comes now must find all of it or nothing.
    with suppress(OSError):
        folder.rename(gone)
    for left in (gone, folder):
        shutil.rmtree(left, ignore_errors=True)


# --- Away ------------------------------------------------------------------------------------------------


def remove_copy(tenant_id: uuid.UUID, generation_id: uuid.UUID | str) -> None:
    """Remove a generation's copy from the storage; a storage that is away is asked again by the next upkeep."""
    try:
        _remove(path_of(tenant_id, generation_id))
    except Exception:
        log.warning("an archived index could not be removed", exc_info=True)


def _remove(folder: str) -> None:
    for path in list(storage.files_below(folder)):
        default_storage.delete(path)
    # In a folder storage emptied folders are left, in a bucket there are none.
    with suppress(FileNotFoundError, OSError):
        for inner in default_storage.listdir(folder)[0]:
            default_storage.delete(f"{folder}/{inner}")
        default_storage.delete(folder)


def _collect(tenant_id: uuid.UUID) -> None:
    """Remove copies of generations that are no longer in use, and what killed copies left of them."""
    try:
        names, _ = default_storage.listdir(f"{tenant_id}/{KIND}")
    except FileNotFoundError:
        return
    with tenant_scope(tenant_id):
        used = IndexPointer.objects.values_list("current_id", "previous_id")
        kept = {str(pk) for both in used for pk in both}
    for name in sorted({*filter(None, names)} - kept):
        if _is_stale(path_of(tenant_id, name)):
            remove_copy(tenant_id, name)


def _is_stale(folder: str) -> bool:
    limit = timezone.now() - dt.timedelta(seconds=STALE_S)
    with suppress(FileNotFoundError):
        return all(default_storage.get_modified_time(path) < limit for path in storage.files_below(folder))
    return False
