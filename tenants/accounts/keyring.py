"""Data keys: one random key a tenant, and one of the installation, wrapped under a master key (`DataKey` rows).

What is sealed says under which key. A new version takes over for what is written from then on; former ones open what
they sealed, until they are destroyed with their tenant. Unwrapped keys are held in this process's memory: so many, for
so long. Where the master key cannot be asked (a KMS that is away), those held are used for a longer time, and what
else needs a key raises KeysUnavailable. Why: docs/adr/0062-a-data-key-for-each-tenant.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.utils import timezone
from django.utils.translation import gettext as _
from uuid_utils.compat import uuid7

from tenants.accounts.master_keys import (
    KEY_BYTES,
    NONCE_BYTES,
    KeysUnavailable,
    WrongKey,
    derived,
    masters,
    primary,
)
from tenants.accounts.models import DataKey
from tenants.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"CLseal1\0"
ID_BYTES = 16
# How long a process may go on sealing under a version that was replaced elsewhere.
ACTIVE_S = 10.0
State = DataKey.State


class KeyMissing(Unavailable):
    """The data key was wrapped under a master key that is not here; no new one is made in its place."""

    slug = "keys-sealed"


class KeyDestroyed(Conflict):
    """The tenant was erased, and its key with it: what was sealed under it is gone for good."""

    slug = "key-destroyed"

    def __init__(self) -> None:
        super().__init__(_("This workspace was erased along with its key. Nothing in it can be read."))


class NotSealed(ValueError):
    """Sealed under another key, for another purpose or tenant, or changed."""


@dataclass(frozen=True)
class OpenKey:
    """An unwrapped data key."""

    id: UUID
    owner: UUID | None
    version: int
    secret: bytes

    def derived(self, purpose: bytes, length: int = KEY_BYTES) -> bytes:
        return derived(self.secret, purpose, length)


# --- Sealing ---------------------------------------------------------------------------------------------


def seal(content: bytes, *, purpose: bytes, owner: UUID | None) -> bytes:
    """AES-256-GCM under the owner's key, with purpose and owner as associated data. None: the installation.

    Raises KeysUnavailable, KeyMissing, KeyDestroyed.
    """
    key = active_key(owner)
    nonce = os.urandom(NONCE_BYTES)
    return MAGIC + key.id.bytes + nonce + _cipher(key).encrypt(nonce, content, _about(purpose, owner))


def unseal(sealed: bytes, *, purpose: bytes, owner: UUID | None) -> bytes:
    """Raises NotSealed, KeysUnavailable, KeyMissing, KeyDestroyed."""
    key_id = sealed_under(sealed)
    if key_id is None:
        raise NotSealed
    key, start = key_of(key_id), len(MAGIC) + ID_BYTES
    nonce, body = sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :]
    try:
        return _cipher(key).decrypt(nonce, body, _about(purpose, owner))
    except (InvalidTag, ValueError) as error:
        raise NotSealed from error


def sealed_under(sealed: bytes) -> UUID | None:
    """The id of the data key; None for what a former release sealed under SECRET_KEY."""
    end = len(MAGIC) + ID_BYTES
    return UUID(bytes=sealed[len(MAGIC) : end]) if sealed.startswith(MAGIC) and len(sealed) >= end else None


def _cipher(key: OpenKey) -> AESGCM:
    return AESGCM(key.derived(b"crosslight sealed secrets"))


def _about(purpose: bytes, owner: UUID | None) -> bytes:
    return str(owner or "installation").encode() + b"\0" + purpose


# --- Keys ------------------------------------------------------------------------------------------------


def active_key(owner: UUID | None) -> OpenKey:
    """The key for what is written now, made by whoever needs it first. A version that another process made takes over
    within ACTIVE_S."""
    return key_of(_active_ids.get(owner, lambda: (_active_row(owner) or _make(owner)).pk))


def key_of(key_id: UUID) -> OpenKey:
    """Raises KeyMissing, KeyDestroyed, KeysUnavailable."""
    return _held.get(key_id, lambda: _unwrapped(_row(key_id)))


def _row(key_id: UUID) -> DataKey:
    row = DataKey.objects.filter(pk=key_id).first()
    if row is None:
        raise KeyMissing(
            _("The data key %(id)s is not in this database: the keys of this installation were not restored.")
            % {"id": key_id}
        )
    return row


def _active_row(owner: UUID | None) -> DataKey | None:
    rows = DataKey.objects.filter(owner=owner)
    row = rows.filter(state=State.ACTIVE).first()
    if row is None and rows.filter(state=State.DESTROYED).exists():
        # Who still writes for an erased tenant must not get a new key.
        raise KeyDestroyed
    return row


def wrapped_row(owner: UUID | None, version: int) -> DataKey:
    """A new random key, wrapped under the first master key; not saved."""
    row, master = DataKey(pk=uuid7(), owner=owner, version=version), primary()
    row.wrapped, row.master_id = master.wrap(os.urandom(KEY_BYTES), context_of(row)), master.id
    return row


def _make(owner: UUID | None) -> DataKey:
    """The row that is there in the end, whoever made it."""
    row = wrapped_row(owner, version=1)
    with _own_connection():
        DataKey.objects.bulk_create([row], ignore_conflicts=True)
        return DataKey.objects.get(owner=owner, state=State.ACTIVE)


@contextmanager
def _own_connection() -> Iterator[None]:
    """A transaction of the caller may be rolled back, and files that were written under a new key stay: the key has
    to be committed by then."""
    if not connection.in_atomic_block:
        yield
        return
    before, own = connections[DEFAULT_DB_ALIAS], connections.create_connection(DEFAULT_DB_ALIAS)
    connections[DEFAULT_DB_ALIAS] = own
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = before
        own.close()


def context_of(row: DataKey) -> dict[str, str]:
    """What the wrapped bytes are bound to: in another row they do not open."""
    return {"key": str(row.pk), "owner": str(row.owner or "installation"), "version": str(row.version)}


def _unwrapped(row: DataKey) -> OpenKey:
    if row.state == State.DESTROYED:
        raise KeyDestroyed
    return OpenKey(row.pk, row.owner, row.version, unwrap(row))


def unwrap(row: DataKey) -> bytes:
    """Raises KeysUnavailable, KeyMissing."""
    for master in masters():
        if master.opens(row.master_id):
            try:
                return master.unwrap(bytes(row.wrapped), context_of(row))
            except WrongKey as error:
                raise _missing(row) from error
    raise _missing(row)


def _missing(row: DataKey) -> KeyMissing:
    return KeyMissing(
        _(
            "The data key %(key)s was wrapped under the master key %(master)s, which is not here. Set MASTER_KEY_FILE, "
            "KMS_URL or SECRET_KEY to the one that it was: new keys are not made in its place."
        )
        % {"key": row.pk, "master": row.master_id}
    )


def destroy_keys(owner: UUID) -> list[UUID]:
    """Overwrite the wrapped keys of a tenant, for good; of all versions. Returns the ids of those destroyed now.

    One that has none yet gets none any more.
    """
    destroyed = {"state": State.DESTROYED, "wrapped": b"", "master_id": "", "destroyed_at": timezone.now()}
    DataKey.objects.get_or_create(owner=owner, version=1, defaults={"pk": uuid7(), **destroyed})
    rows = DataKey.objects.filter(owner=owner).exclude(state=State.DESTROYED)
    gone = list(rows.order_by("version").values_list("pk", flat=True))
    rows.filter(pk__in=gone).update(
        wrapped=b"", master_id="", state=State.DESTROYED, destroyed_at=timezone.now()
    )
    forget()
    return gone


# --- What this process holds -----------------------------------------------------------------------------

Name = TypeVar("Name")
Value = TypeVar("Value")


class _Held(Generic[Name, Value]):
    """So many values in memory, the latest fetched last, each for some seconds."""

    def __init__(self, seconds: Callable[[], float], seconds_away: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Name, tuple[float, Value]] = OrderedDict()
        self._seconds, self._seconds_away = seconds, seconds_away

    def get(self, name: Name, fetch: Callable[[], Value]) -> Value:
        """Raises what `fetch` raises; but what is held outlives a KMS that is away for a longer time."""
        with self._lock:
            held = self._values.get(name)
        age = time.monotonic() - held[0] if held else 0.0
        if held and age < self._seconds():
            return held[1]
        try:
            value = fetch()
        except KeysUnavailable:
            if held and age < self._seconds_away():
                return held[1]
            raise
        self._keep(name, value)
        return value

    def _keep(self, name: Name, value: Value) -> None:
        with self._lock:
            self._values[name] = time.monotonic(), value
            self._values.move_to_end(name)
            while len(self._values) > settings.KEY_CACHE_KEYS:
                self._values.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()


_held: _Held[UUID, OpenKey] = _Held(lambda: settings.KEY_CACHE_S, lambda: settings.KEY_CACHE_AWAY_S)
_active_ids: _Held[UUID | None, UUID] = _Held(lambda: ACTIVE_S, lambda: ACTIVE_S)


def forget() -> None:
    """Drop the keys that this process holds."""
    _active_ids.clear()
    _held.clear()
