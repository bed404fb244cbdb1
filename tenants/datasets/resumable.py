"""Uploads that wait to be used: each a file that grows at its end, over as many requests as it takes.

`<id>.part` holds the bytes, and its size is the offset: a process that is killed in the middle of a write leaves
nothing out of step. `<id>.json` beside it says what is expected. Both lie in UPLOADS_DIR/<tenant>/, under ids made
here; the name that a client gave is only data. The protocol that fills them is `tenants.datasets.tus`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.utils.translation import gettext as _

from tenants.accounts import quotas
from tenants.datasets.filenames import clean_filename
from tenants.errors import (
    Conflict,
    Invalid,
    NotFound,
    NotReady,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    room_on_disk,
)
from tenants.scope import current_tenant_id

# More than this many begun uploads of one tenant are a client that never uses what it sends.
MAX_PARTIAL = 100
MAX_NAME = 200
# Files outlive their upload by this much: nothing is removed under a request that found it in time.
GRACE_S = 3600


@dataclass(frozen=True)
class PartialUpload:
    """An upload as it is now: `offset` bytes of `bytes` are here."""

    id: uuid.UUID
    bytes: int
    offset: int
    metadata: dict[str, str]
    expires_at: datetime

    @property
    def complete(self) -> bool:
        return self.offset == self.bytes

    @property
    def filename(self) -> str:
        """The file's name as the client told it, cleaned; empty where it told none."""
        return clean_filename(self.metadata.get("filename") or self.metadata.get("name"))

    @property
    def name(self) -> str:
        """The same to show and to guess a format from: never empty."""
        return self.filename[:MAX_NAME] or "upload"


class Claimed(File):
    """A finished upload; storage takes the file over by moving it."""

    def __init__(self, stream: IO[bytes], path: Path, upload: PartialUpload) -> None:
        super().__init__(stream, name=upload.name)
        self._path, self.filename = path, upload.filename

    def temporary_file_path(self) -> str:
        return str(self._path)


def begin(*, upload_id: uuid.UUID, length: int, metadata: dict[str, str], expires_at: datetime) -> None:
    """Make room for an upload of the active tenant. Raises QuotaExceeded, StorageFull."""
    folder = _folder(current_tenant_id())
    with room_on_disk():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Asked twice: the first time locks the counter, so that of two uploads at once the second counts the first.
    quotas.check_room({"bytes": length})
    quotas.check_room({"bytes": length + _expected_bytes(folder)})
    if shutil.disk_usage(folder).free < length:
        raise StorageFull
    told = {"bytes": length, "metadata": metadata, "expires_at": expires_at.timestamp()}
    with room_on_disk():
        _data_path(folder, upload_id).touch(mode=0o600, exist_ok=False)
        _info_path(folder, upload_id).write_text(json.dumps(told))


def _expected_bytes(folder: Path) -> int:
    """What all begun uploads of a folder will have in the end."""
    begun = [_read(path) for path in folder.glob("*.json")]
    if len(begun) >= MAX_PARTIAL:
        raise QuotaExceeded(
            _("%(waiting)s uploads have been begun and not been used. Use or delete some of them first.")
            % {"waiting": MAX_PARTIAL},
            resource="uploads",
            limit=MAX_PARTIAL,
        )
    return sum(upload.bytes for upload in begun if upload)


def find(upload_id: uuid.UUID | None) -> PartialUpload:
    """An upload of the active tenant. Raises NotFound, also for one that has expired."""
    return _existing(current_tenant_id(), upload_id)


def _existing(tenant_id: uuid.UUID, upload_id: uuid.UUID | None) -> PartialUpload:
    found = look_up(tenant_id, upload_id) if upload_id else None
    if found is None:
        raise NotFound(
            _("There is no such upload. Unused ones are removed after %(size)s hours.")
            % {"size": settings.UPLOAD_EXPIRY_S // 3600}
        )
    return found


def look_up(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> PartialUpload | None:
    """An upload if there is one; outside of any scope, as files need no database."""
    return _read(_info_path(_folder(tenant_id), upload_id))


def append(*, tenant_id: uuid.UUID, upload_id: uuid.UUID, offset: int, data: bytes) -> None:
    """Write at the end, which must be `offset`. Under `locked`. Raises StorageFull."""
    path = _data_path(_folder(tenant_id), upload_id)
    with room_on_disk(), path.open("r+b") as stream:
        if stream.seek(0, os.SEEK_END) != offset:
            raise Conflict(_("The upload has grown meanwhile. Ask for its offset and go on from there."))
        stream.write(data)


@contextmanager
def locked(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[IO[bytes] | None]:
    """The upload's file, for nobody else; None if another holds it. The kernel frees what a killed process held.

    Raises NotFound.
    """
    path = _data_path(_folder(tenant_id), upload_id)
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(_("There is no such upload.")) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if not path.exists():
            # Its last holder has used or deleted it, after it was opened here.
            raise NotFound(_("There is no such upload."))
        yield stream


@contextmanager
def claimed(tenant_id: uuid.UUID, upload_id: uuid.UUID | None, *, at_most: int) -> Iterator[Claimed]:
    """A finished upload, to be used once: it is gone at the end, or when the transaction around this commits.

    Raises NotFound, TooLarge, NotReady (bytes are missing), Conflict (another request uses it).
    """
    waiting = _existing(tenant_id, upload_id)
    if waiting.bytes > at_most:
        raise TooLarge(
            _("This upload has %(bytes)s bytes; for this use it may have %(size)s MiB.")
            % {"bytes": waiting.bytes, "size": at_most // 2**20}
        )
    if not waiting.complete:
        raise NotReady(
            _("Of this upload %(offset)s of %(bytes)s bytes are here. Send the rest first.")
            % {"offset": waiting.offset, "bytes": waiting.bytes}
        )
    with locked(tenant_id, waiting.id) as stream:
        if stream is None:
            raise Conflict(_("Another request is using this upload."))
        yield Claimed(stream, _data_path(_folder(tenant_id), waiting.id), waiting)
        transaction.on_commit(partial(discard, tenant_id, waiting.id))


@contextmanager
def file_of(tenant_id: uuid.UUID, file: Any, upload_id: str | None, *, at_most: int) -> Iterator[Any]:
    """The file of a form or the finished upload that is named instead; None if there is neither.

    Raises Invalid for both, and what `claimed` raises.
    """
    if not upload_id:
        yield file
        return
    if file is not None:
        raise Invalid(_("Send a file or name an upload, not both."), pointer="/upload")
    with claimed(tenant_id, _id(upload_id), at_most=at_most) as upload:
        yield upload


def filename_of(file: Any) -> str:
    """The cleaned name under which a file of a form or a finished upload was sent; empty where there was none."""
    return file.filename if isinstance(file, Claimed) else clean_filename(getattr(file, "name", None))


def _id(text: str) -> uuid.UUID | None:
    """The id, or None for anything but its one spelling."""
    try:
        found = uuid.UUID(text)
    except ValueError:
        return None
    return found if str(found) == text else None


def discard(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
    """Remove an upload, whatever is left of it."""
    folder = _folder(tenant_id)
    # The facts go first: without them the upload is absent.
    _info_path(folder, upload_id).unlink(missing_ok=True)
    _data_path(folder, upload_id).unlink(missing_ok=True)


def discard_expired() -> int:
    """Remove what the active tenant did not use in time, or a crash left incomplete; how many files."""
    limit = time.time() - settings.UPLOAD_EXPIRY_S - GRACE_S
    stale = [path for path in _folder(current_tenant_id()).glob("*") if _modified(path) < limit]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _read(path: Path) -> PartialUpload | None:
    """What a file of facts says and how far the bytes have come; None if there is no such upload (any more)."""
    try:
        told = json.loads(path.read_text())
        offset = path.with_suffix(".part").stat().st_size
    except (FileNotFoundError, ValueError):
        # Half-written facts are of an upload that is just being begun.
        return None
    if told["expires_at"] < time.time():
        return None
    expires = datetime.fromtimestamp(told["expires_at"], UTC)
    return PartialUpload(uuid.UUID(path.stem), told["bytes"], offset, told["metadata"], expires)


def _folder(tenant_id: uuid.UUID) -> Path:
    return settings.UPLOADS_DIR / str(tenant_id)


def _info_path(folder: Path, upload_id: uuid.UUID) -> Path:
    return folder / f"{upload_id}.json"


def _data_path(folder: Path, upload_id: uuid.UUID) -> Path:
    return folder / f"{upload_id}.part"
