"""Encrypting the files that are there, or under the key of now: file by file, while they are read.

A killed run is taken up by the next one: what is under the key of now is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from uuid import UUID

from django.core.files.storage import default_storage
from django.db import connection

from tenants.datasets import storage, upload_bytes
from tenants.datasets.encrypted_files import SEALING, EncryptedStorage, FileDamaged

Say = Callable[[str], None]
THREADS = 2
PART = 200
# Another run may still be writing it.
YOUNG_S = 3600


@dataclass
class Encrypted:
    """How many files were looked at, written anew (a dry run: would be), and are damaged, with the first of them."""

    seen: int = 0
    done: int = 0
    damaged: int = 0
    example: str = ""


def encrypt_files(tenant_id: UUID, say: Say, *, dry_run: bool = False) -> Encrypted:
    """All of a tenant but uploads in parts. Raises KeysUnavailable, KeyMissing, KeyDestroyed."""
    counted, paths = Encrypted(), _paths(tenant_id)
    _forget_killed(tenant_id)
    with ThreadPoolExecutor(THREADS) as pool:
        while part := list(islice(paths, PART)):
            for path, outcome in zip(part, pool.map(partial(_encrypt, dry_run=dry_run), part), strict=True):
                _count(counted, path, outcome)
            say(f"{tenant_id}: {counted.seen} files, {counted.done} written anew")
    return counted


def any_encrypted(tenant_id: UUID) -> bool:
    """Whether a file of the tenant is encrypted: of those that are written as they are stored."""
    for path in _paths(tenant_id):
        with suppress(FileNotFoundError):
            if storage.header_of(path) is not None:
                return True
    return False


def _paths(tenant_id: UUID) -> Iterator[str]:
    for path in storage.files_below(str(tenant_id)):
        # Parts of uploads grow where they are, and are encrypted when they have become a file.
        if path.split("/")[1] not in (upload_bytes.KIND, SEALING):
            yield path


def _forget_killed(tenant_id: UUID) -> None:
    """What killed runs were writing."""
    folder = storage.local_path(f"{tenant_id}/{SEALING}")
    for path in storage.older_files(folder, YOUNG_S) if folder is not None else ():
        path.unlink(missing_ok=True)


def _encrypt(path: str, *, dry_run: bool) -> bool | None:
    """None for a damaged file."""
    store = default_storage
    try:
        if not isinstance(store, EncryptedStorage):
            return False
        return store.encrypt_again(path, dry_run=dry_run)
    except FileNotFoundError:
        return False
    except FileDamaged:
        return None
    finally:
        connection.close()


def _count(counted: Encrypted, path: str, outcome: bool | None) -> None:
    counted.seen += 1
    counted.done += bool(outcome)
    if outcome is None:
        counted.damaged += 1
        counted.example = counted.example or path
