"""Changing the keys themselves: wrapping data keys anew, and new versions. Each step may be killed and repeated."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from tenants.accounts import keyring, master_keys
from tenants.accounts.master_keys import LocalKey
from tenants.accounts.models import DataKey
from tenants.errors import Conflict

Say = Callable[[str], None]
State = DataKey.State


@dataclass(frozen=True)
class Progress:
    """`done` of `total`; `left` is what is still under a former key, of which `unreadable` cannot be opened."""

    done: int
    total: int
    left: int
    unreadable: int = 0


def wrapped_elsewhere(master_id: str) -> QuerySet[DataKey]:
    """The data keys that are not wrapped under this master key."""
    return DataKey.objects.exclude(state=State.DESTROYED).exclude(master_id=master_id)


def rewrap(say: Say, *, dry_run: bool = False) -> Progress:
    """Wrap every data key under the first master key, and verify that each opens with it.

    Raises KeysUnavailable; what is done by then stays done.
    """
    master = master_keys.primary()
    todo = list(wrapped_elsewhere(master.id).order_by("pk").values_list("pk", flat=True))
    total = DataKey.objects.exclude(state=State.DESTROYED).count()
    if dry_run:
        return Progress(0, total, len(todo))
    done = 0
    for number, key_id in enumerate(todo, start=1):
        # Of a master key that is lost: the others must not stay behind because of it.
        with suppress(keyring.KeyMissing):
            done += _rewrap(key_id, master)
        if number % 100 == 0:
            say(f"{number} of {len(todo)} data keys")
    damaged = 0
    for row in DataKey.objects.exclude(state=State.DESTROYED).filter(master_id=master.id).iterator():
        try:
            master.unwrap(bytes(row.wrapped), keyring.context_of(row))
        except master_keys.WrongKey:
            damaged += 1
    left = wrapped_elsewhere(master.id).count()
    return Progress(done, total, left, unreadable=len(todo) - done + damaged)


def _rewrap(key_id: UUID, master: master_keys.MasterKey) -> bool:
    row = DataKey.objects.get(pk=key_id)
    if row.state == State.DESTROYED:
        return True
    wrapped = master.wrap(keyring.unwrap(row), keyring.context_of(row))
    # Unless it was destroyed or wrapped by another run meanwhile.
    same = DataKey.objects.filter(pk=key_id, master_id=row.master_id).exclude(state=State.DESTROYED)
    same.update(wrapped=wrapped, master_id=master.id)
    return True


def add_master_key() -> LocalKey:
    """Put a new key before the others in the master key's file. Raises Conflict where there is none."""
    path = _file()
    key = master_keys.new_key()
    _replace(path, master_keys.written((key, *master_keys.read_file(path))))
    return key


def drop_former_master_keys() -> int:
    """Remove all keys but the first from the file, once nothing is wrapped under them; returns how many.

    Raises Conflict, with nothing removed.
    """
    path = _file()
    first, *former = master_keys.read_file(path)
    if left := wrapped_elsewhere(first.id).count():
        raise Conflict(
            f"{left} data keys are still wrapped under a former master key: run it without --drop-former first."
        )
    _replace(path, master_keys.written((first,)))
    return len(former)


def _file() -> Path:
    if settings.KMS_URL or not settings.MASTER_KEY_FILE:
        raise Conflict(
            "There is no file with master keys here. A KMS has its own rotation; where SECRET_KEY is the master key, "
            "set MASTER_KEY_FILE to a file with a new one (docs/encryption.md). Then run this with --rewrap."
        )
    return Path(settings.MASTER_KEY_FILE)


def _replace(path: Path, text: str) -> None:
    """At once, and on the disk: a half-written file would lose every key."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def new_version(owner: UUID | None) -> UUID:
    """From now on this key seals; the one before opens what it sealed. Returns the new one's id.

    Raises KeyDestroyed, KeysUnavailable.
    """
    keyring.forget()
    before = keyring.active_key(owner)
    row = keyring.wrapped_row(owner, before.version + 1)
    with transaction.atomic():
        if DataKey.objects.filter(pk=before.id, state=State.ACTIVE).update(state=State.RETIRED):
            row.save(force_insert=True)
    keyring.forget()
    return keyring.active_key(owner).id


def owners() -> list[UUID | None]:
    """Whose keys there are; None is the installation."""
    rows = DataKey.objects.filter(state=State.ACTIVE).order_by("owner")
    return list(rows.values_list("owner", flat=True))
