"""Where the bytes of an upload in parts lie, and who may write to them: in a folder, or in a bucket.

In a folder it is a file that grows, held by a lock of the kernel. In a bucket it is an S3 multipart upload, whose parts
have at least 5 MiB; what is shorter waits as objects of its own and is joined to the next part, as in tusd's s3store
(https://tus.github.io/tusd/storage-backends/aws-s3/). It is held by a lease in the database, which lapses when its
holder dies. A holder that only was too slow can do no harm: its parts and objects have names that nobody else uses, and
it can no longer say that they count.

The row says how much is here, and says so after the bytes are stored: whoever is killed in between leaves bytes that
do not count.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from tenants.datasets import storage
from tenants.datasets.models import ResumableUpload
from tenants.errors import Conflict, Unavailable, room_on_disk
from tenants.scope import tenant_scope

KIND = "upload"
# How long an upload in a bucket stays held after its holder's last sign of life.
LEASE_S = 15.0
# What one part has at least; larger where there would be more than so many, as S3 allows 10,000.
PART_BYTES = 8 * 2**20
MAX_PARTS = 5000
# S3's words for what is not there (any more).
ABSENT = ("NoSuchUpload", "NoSuchKey", "404")


class Lost(Exception):
    """The bytes of an upload are gone, as after a restored backup, which has none of them."""


class Held(Protocol):
    """An upload that nobody else writes to, uses or removes. `row` is as it was read under the lock."""

    row: ResumableUpload

    @property
    def offset(self) -> int:
        """How many bytes are here."""

    def append(self, data: bytes) -> None:
        """Store at `offset`, `data` being anything that can be sliced into bytes.

        Raises StorageFull, Conflict (held by another meanwhile), Lost.
        """

    def open(self) -> Any:
        """A context of the whole as a local file: stream, path, and where the storage has it as one object, or None.

        Raises StorageFull, Lost.
        """


class Place(Protocol):
    def hold(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Any:
        """A context of the upload as `Held`; of None where another has it. Raises Lost where there is none."""

    def stored(self, row: ResumableUpload) -> int:
        """How many bytes of it are here. Raises Lost."""

    def begin(self, row: ResumableUpload) -> None: ...

    def free(self) -> int:
        """Bytes that this host has room for."""

    def remove(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
        """Remove all bytes, also those that never counted. Raises Unavailable."""

    def tidy(self, tenant_id: uuid.UUID, older_than_s: float) -> int:
        """Remove what has no row and is so old; how many files."""

    def unfinished(self, tenant_id: uuid.UUID) -> list[tuple[str, str]]:
        """Key and id of what is stored and is no file yet."""

    def forget(self, tenant_id: uuid.UUID) -> None:
        """Remove all of it."""


def place_of(tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Place:
    """The place of the bytes of one upload; of a former release's they are in UPLOADS_DIR of the host that began it."""
    return FORMER if FORMER.path(tenant_id, upload_id).exists() else place()


def place() -> Place:
    """The place for new uploads, which every host with this storage shares."""
    return STORED if storage.local_path("") is not None else BUCKET


def _count(row: ResumableUpload, added: int, **changes: Any) -> None:
    """Let stored bytes count, if nobody else has written since. Raises Conflict."""
    with tenant_scope(row.tenant_id):
        same = ResumableUpload.objects.filter(pk=row.pk, offset=row.offset, holder=row.holder)
        changes["offset"] = row.offset + added
        if not same.update(**changes):
            raise Conflict(
                _("The upload has grown in the meantime. Ask for its offset and continue from there.")
            )
    for name, value in changes.items():
        setattr(row, name, value)


# --- In a folder -----------------------------------------------------------------------------------------


class Folder:
    """Files that grow. Those of the storage are seen by every host that mounts it."""

    def __init__(self, *, former: bool = False) -> None:
        self._former = former

    def _folder(self, tenant_id: uuid.UUID) -> Path:
        if self._former:
            return settings.UPLOADS_DIR / str(tenant_id)
        return Path(default_storage.path(f"{tenant_id}/{KIND}"))

    def path(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Path:
        return self._folder(tenant_id) / f"{upload_id}.part"

    def begin(self, row: ResumableUpload) -> None:
        path = self.path(row.tenant_id, row.pk)
        with room_on_disk():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)

    def free(self) -> int:
        root = Path(default_storage.path(""))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return shutil.disk_usage(root).free

    def stored(self, row: ResumableUpload) -> int:
        try:
            # What a killed process wrote last is beyond the offset; what a power cut took is before it.
            return min(row.offset, self.path(row.tenant_id, row.pk).stat().st_size)
        except FileNotFoundError as error:
            raise Lost from error

    @contextmanager
    def hold(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[Held | None]:
        path = self.path(tenant_id, upload_id)
        try:
            stream = path.open("r+b")
        except FileNotFoundError as error:
            raise Lost from error
        with stream:
            try:
                # The kernel frees it when its holder is killed.
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            if not path.exists():
                # Its last holder has used or removed it, after it was opened here.
                raise Lost
            with tenant_scope(tenant_id):
                row = _unexpired(upload_id)
            yield _File(row, stream, path)

    def remove(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
        path = self.path(tenant_id, upload_id)
        # The facts of a former release go first: without them nobody takes the rest up.
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def tidy(self, tenant_id: uuid.UUID, older_than_s: float) -> int:
        stale = list(storage.older_files(self._folder(tenant_id), older_than_s))
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def unfinished(self, tenant_id: uuid.UUID) -> list[tuple[str, str]]:
        return []  # they are ordinary files of the storage

    def forget(self, tenant_id: uuid.UUID) -> None:
        shutil.rmtree(self._folder(tenant_id), ignore_errors=True)


class _File:
    def __init__(self, row: ResumableUpload, stream: IO[bytes], path: Path) -> None:
        self.row, self._stream, self._path = row, stream, path

    @property
    def offset(self) -> int:
        return min(self.row.offset, os.fstat(self._stream.fileno()).st_size)

    def append(self, data: bytes) -> None:
        with room_on_disk():
            at = self._stream.seek(self.offset)
            self._stream.write(data)
            self._stream.truncate()
            self._stream.flush()
        _count(self.row, at + len(data) - self.row.offset)

    @contextmanager
    def open(self) -> Iterator[tuple[IO[bytes], Path, str | None]]:
        self._stream.seek(0)
        yield self._stream, self._path, None


# --- In a bucket -----------------------------------------------------------------------------------------


class Bucket:
    """Multipart uploads in the storage's bucket, and objects in `<tenant>/upload/<id>/`."""

    def begin(self, row: ResumableUpload) -> None:
        pass  # nothing is asked of the bucket before there are bytes

    def free(self) -> int:
        # Whoever uses it reads it here first.
        return shutil.disk_usage(settings.SPOOL_DIR).free

    def stored(self, row: ResumableUpload) -> int:
        if row.local:
            raise Lost
        return row.offset

    @contextmanager
    def hold(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> Iterator[Held | None]:
        token = uuid.uuid4()
        row = _lease(tenant_id, upload_id, token)
        if row is None:
            yield None
            return
        try:
            with _renewed(row):
                yield _Parts(row)
        finally:
            with tenant_scope(tenant_id):
                ResumableUpload.objects.filter(pk=upload_id, holder=token).update(holder=None)

    def remove(self, tenant_id: uuid.UUID, upload_id: uuid.UUID) -> None:
        folder = f"{tenant_id}/{KIND}/{upload_id}"
        with _asked():
            self._abort(folder + "/")
            for path in list(storage.files_below(folder)):
                default_storage.delete(path)

    def tidy(self, tenant_id: uuid.UUID, older_than_s: float) -> int:
        return 0  # nothing is written without a row, which stays until all is gone

    def unfinished(self, tenant_id: uuid.UUID) -> list[tuple[str, str]]:
        with _asked():
            return list(self._multiparts(f"{tenant_id}/{KIND}/"))

    def forget(self, tenant_id: uuid.UUID) -> None:
        with _asked():
            self._abort(f"{tenant_id}/{KIND}/")

    def _abort(self, prefix: str) -> None:
        for key, multipart in self._multiparts(prefix):
            storage.bucket_client().abort_multipart_upload(
                Bucket=storage.bucket_name(), Key=key, UploadId=multipart
            )

    def _multiparts(self, prefix: str) -> Iterator[tuple[str, str]]:
        pages = (
            storage.bucket_client()
            .get_paginator("list_multipart_uploads")
            .paginate(Bucket=storage.bucket_name(), Prefix=storage.key_of(prefix))
        )
        yield from ((one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", ()))


class _Parts:
    def __init__(self, row: ResumableUpload) -> None:
        self.row = row
        self._folder = f"{row.tenant_id}/{KIND}/{row.pk}"
        # In whole MiB.
        self._part_bytes = max(PART_BYTES, -(-row.bytes // MAX_PARTS // 2**20) * 2**20)

    @property
    def offset(self) -> int:
        return self.row.offset

    def append(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            waiting = sum(length for _, length in self.row.pieces)
            taken = bytes(data[at : at + self._part_bytes - waiting])
            if waiting + len(taken) < self._part_bytes:
                self._add_piece(taken)
            else:
                self._add_part(taken)
            at += len(taken)

    def _add_piece(self, content: bytes) -> None:
        name = uuid.uuid4().hex
        with _asked():
            storage.bucket_client().put_object(
                Bucket=storage.bucket_name(), Key=self._key(name), Body=content
            )
        _count(self.row, len(content), pieces=[*self.row.pieces, [name, len(content)]])

    def _add_part(self, content: bytes) -> None:
        """What has waited and this, as the next part."""
        waited = self.row.pieces
        with _asked():
            body = b"".join([*(self._piece(name) for name, _ in waited), content])
            number = self._next_number()
            where = {
                "Bucket": storage.bucket_name(),
                "Key": self._key("whole"),
                "UploadId": self.row.multipart,
            }
            sent = storage.bucket_client().upload_part(**where, PartNumber=number, Body=body)
        _count(self.row, len(content), parts=[*self.row.parts, [number, sent["ETag"]]], pieces=[])
        with _asked():
            for name, _length in waited:
                default_storage.delete(f"{self._folder}/{name}")

    def _next_number(self) -> int:
        """One that no other holder has used, and the multipart upload for it. Raises Conflict."""
        if not self.row.multipart:
            begun = storage.bucket_client().create_multipart_upload(
                Bucket=storage.bucket_name(), Key=self._key("whole")
            )
            _count(self.row, 0, multipart=begun["UploadId"])
        number = self.row.part_number + 1
        _count(self.row, 0, part_number=number)
        return number

    def _piece(self, name: str) -> bytes:
        return (
            storage.bucket_client()
            .get_object(Bucket=storage.bucket_name(), Key=self._key(name))["Body"]
            .read()
        )

    def _key(self, name: str) -> str:
        return storage.key_of(f"{self._folder}/{name}")

    @contextmanager
    def open(self) -> Iterator[tuple[IO[bytes], Path, str | None]]:
        with NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="upload-") as copy:
            whole = f"{self._folder}/whole" if self.row.multipart else None
            with room_on_disk(), _asked():
                if whole:
                    self._complete()
                    storage.bucket_client().download_fileobj(storage.bucket_name(), self._key("whole"), copy)
                else:
                    for name, _length in self.row.pieces:
                        copy.write(self._piece(name))
                copy.flush()
            copy.seek(0)
            yield copy, Path(copy.name), whole

    def _complete(self) -> None:
        """Join the parts to one object, unless whoever used it last has done so already."""
        if self.row.pieces:
            self._add_part(b"")
        if default_storage.exists(f"{self._folder}/whole"):
            return
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in self.row.parts]
        storage.bucket_client().complete_multipart_upload(
            Bucket=storage.bucket_name(),
            Key=self._key("whole"),
            UploadId=self.row.multipart,
            MultipartUpload={"Parts": parts},
        )


def _lease(tenant_id: uuid.UUID, upload_id: uuid.UUID, token: uuid.UUID) -> ResumableUpload | None:
    """The row, held by `token`; None if another holds it. Raises Lost.

    Leases go by the clock of the database, as those of hosts differ.
    """
    free = Q(holder=None) | Q(held_until__lt=Now())
    with tenant_scope(tenant_id):
        held = ResumableUpload.objects.filter(free, pk=upload_id).update(holder=token, held_until=_end())
        row = _unexpired(upload_id)
        if row.local:
            raise Lost
        return row if held else None


def _unexpired(upload_id: uuid.UUID) -> ResumableUpload:
    row = ResumableUpload.objects.filter(pk=upload_id, expires_at__gt=Now()).first()
    if row is None:
        raise Lost
    return row


def _end() -> Any:
    return Now() + timedelta(seconds=LEASE_S)


@contextmanager
def _renewed(row: ResumableUpload) -> Iterator[None]:
    """Show signs of life, from a thread: a part may take longer than the lease, and so may the use of the whole."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_S / 3):
            try:
                with tenant_scope(row.tenant_id):
                    ResumableUpload.objects.filter(pk=row.pk, holder=row.holder).update(held_until=_end())
            except DatabaseError:
                continue  # of a lease that lapses another makes use, and this holder's bytes do not count
            finally:
                connection.close()

    thread = threading.Thread(target=renew, name="upload-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _asked() -> Iterator[None]:
    """Turns what a bucket answers into Lost and Unavailable."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        answer = getattr(error, "response", {})
        if answer.get("Error", {}).get("Code") in ABSENT:
            raise Lost from error
        raise Unavailable(
            _("The storage cannot be reached at the moment. Go on with the upload soon.")
        ) from error


STORED, FORMER, BUCKET = Folder(), Folder(former=True), Bucket()
