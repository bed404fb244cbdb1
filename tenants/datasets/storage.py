"""Content-addressed blobs of a tenant, in whatever storage the installation uses.

Paths hold the tenant's id and the SHA-256, never a name that a user chose.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from uuid import UUID

from cachetools import TTLCache
from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, default_storage
from django.utils import timezone

from tenants.datasets.encrypted_files import EncryptedStorage, FileDamaged, Header


class Encrypted(ValueError):
    """Who has no keys cannot read this file."""


CHUNK = 1 << 20
# What has one file for each original: the renditions of pictures and sound; what was read of a document, and its words.
KINDS = ("original", "clean", "thumbnail", "parsed", "words")
# Pictures of the pages of documents, a folder for each: made again where they are missing.
PAGES = "pages"
# Plain originals up to this length are compared with their name, which is their SHA-256, before they are read.
COMPARED_BYTES = 16 << 20
# A player asks for one film in many ranges.
COMPARED_S, COMPARED_FILES = 60.0, 4096
_compared: TTLCache[tuple[str, int, int, int], bool] = TTLCache(COMPARED_FILES, COMPARED_S)
_compared_lock = threading.Lock()


def path_of(tenant_id: UUID | str, sha256: str, kind: str = "original") -> str:
    return f"{tenant_id}/{kind}/{sha256[:2]}/{sha256}"


def page_path(tenant_id: UUID | str, sha256: str, page: int, width: int) -> str:
    return f"{_pages_of(tenant_id, sha256)}/{page}-{width}"


def _pages_of(tenant_id: UUID | str, sha256: str) -> str:
    return f"{tenant_id}/{PAGES}/{sha256[:2]}/{sha256}"


def digest(stream: IO[bytes]) -> tuple[str, int]:
    """SHA-256 and length of a stream, which is rewound."""
    stream.seek(0)
    sha, length = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK):
        sha.update(chunk)
        length += len(chunk)
    stream.seek(0)
    return sha.hexdigest(), length


class _Movable(File):
    """A local file that a folder storage takes over by renaming it; a bucket reads it."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        super().__init__(stream)
        self._path = path
        # Stored now, however long ago it was uploaded: collectors leave alone what is new.
        os.utime(path)

    def temporary_file_path(self) -> str:
        return self._path


def put(path: str, content: IO[bytes] | bytes | Path) -> None:
    """Store under a path, unless it is there already in full.

    A local file (Path) or a spooled upload is moved; what a bucket has already (`stored_as`, a path) it copies itself.
    """
    if (stored := getattr(content, "stored_as", None)) is not None and not encrypts():
        _copy(stored, path, default_storage.size(stored))
    elif isinstance(content, Path):
        with content.open("rb") as stream:
            _save(path, _Movable(stream, str(content)))
    elif isinstance(content, bytes):
        _save(path, ContentFile(content))
    else:
        # Of a spooled upload Django knows the path.
        spooled = getattr(content, "temporary_file_path", None)
        _save(path, _Movable(content, spooled()) if spooled else File(content))


def put_copy(path: str, source: Path) -> None:
    """Store a local file that never changes, unless it is there already in full; the local one stays.

    A folder storage on the same file system gets a hard link, which takes no room.
    """
    target = None if encrypts() else local_path(path)
    if target is not None and not target.exists() and _linked(source, target):
        return
    with source.open("rb") as stream:
        _save(path, File(stream))


def fetch(path: str, target: Path) -> None:
    """A stored file that never changes as a local one: a hard link where that can be, else a copy.

    Raises FileNotFoundError.
    """
    there = plain_path(path)
    # What is there may be a link to the stored file: to write into it would write into that.
    target.unlink(missing_ok=True)
    if there is None or not _linked(there, target):
        copy_to(path, target)


def _linked(source: Path, target: Path) -> bool:
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.link(source, target)
    except OSError:
        # Another file system, or one without links; a source that is missing is told by who copies it.
        return False
    return True


def _save(path: str, body: File) -> None:
    if not _is_there(path, body.size):
        default_storage.save(path, body)


def _copy(source: str, path: str, length: int) -> None:
    """Within a bucket, in parts where it is large: no byte comes through here."""
    if not _is_there(path, length):
        bucket_client().copy({"Bucket": bucket_name(), "Key": key_of(source)}, bucket_name(), key_of(path))


def _is_there(path: str, length: int) -> bool:
    """Whether it is there in full; the half of a file is removed."""
    if not default_storage.exists(path):
        return False
    if default_storage.size(path) == length:
        return True
    default_storage.delete(path)
    return False


def open_blob(path: str) -> IO[bytes]:
    """A stored file to be read. Raises FileNotFoundError, and FileDamaged: of an encrypted file, while it is read; of a
    plain original in a folder, of up to COMPARED_BYTES, at once. What else was changed is found by the doctor only."""
    stream = default_storage.open(path, "rb")
    try:
        _compare(path, stream)
    except BaseException:
        stream.close()
        raise
    return stream


def _compare(path: str, stream: Any) -> None:
    """Raises FileDamaged. What was found in order is not read again for COMPARED_S, unless it is written to."""
    parts = path.split("/")
    if len(parts) != 4 or parts[1] != KINDS[0] or local_path(path) is None:
        return
    try:
        held = os.fstat(stream.fileno())
    except io.UnsupportedOperation:
        return  # encrypted: each piece is checked as it is read
    seen = (path, held.st_ino, held.st_size, held.st_mtime_ns)
    with _compared_lock:
        if held.st_size > COMPARED_BYTES or seen in _compared:
            return
    if hashlib.file_digest(stream, "sha256").hexdigest() != parts[3]:
        raise FileDamaged(path)
    stream.seek(0)
    with _compared_lock:
        _compared[seen] = True


def is_damaged(path: str, sha256: str) -> bool:
    """Whether a stored file has other content than this digest is of; reads all of it. Raises FileNotFoundError, and
    what says that its key is away."""
    try:
        with default_storage.open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() != sha256
    except FileDamaged:
        return True


def drop_damaged(path: str, sha256: str) -> None:
    """Make room for the content of this digest where a file in a folder has lost it. A bucket looks after its own."""
    if local_path(path) is not None and default_storage.exists(path) and is_damaged(path, sha256):
        default_storage.delete(path)


@contextmanager
def local(path: str, folder: Path) -> Iterator[Path]:
    """A stored file as a local one: itself in a folder storage where it is not encrypted, else a copy in `folder` that
    ends with the block.

    Raises FileNotFoundError, FileDamaged.
    """
    if (there := plain_path(path)) is not None:
        open_blob(path).close()
        yield there
        return
    with NamedTemporaryFile(dir=folder, prefix="blob-") as copy:
        copy_to(path, Path(copy.name))
        yield Path(copy.name)


def local_path(path: str) -> Path | None:
    """Where a stored file lies on this host; None where the storage is no folder."""
    with suppress(NotImplementedError):
        return Path(default_storage.path(path))
    return None


def plain_path(path: str) -> Path | None:
    """Where a stored file lies on this host, as it is; None where it is encrypted, or the storage is no folder.

    Raises FileNotFoundError.
    """
    there = local_path(path)
    if there is not None:
        there.stat()
    return there if there is not None and header_of(path) is None else None


def encrypts() -> bool:
    """Whether what is stored now is encrypted."""
    return bool(settings.ENCRYPT_FILES) and isinstance(default_storage, EncryptedStorage)


def header_of(path: str) -> Header | None:
    """How a stored file is encrypted; None if it is not. Raises FileNotFoundError."""
    store: Any = default_storage
    return store.header(path) if isinstance(default_storage, EncryptedStorage) else None


def as_stored() -> Storage:
    """The storage without decryption: of backups, which keep files as they are."""
    store: Any = default_storage
    inner: Storage = store.inner if isinstance(default_storage, EncryptedStorage) else store
    return inner


# Where the storage is a bucket, what S3 knows it and its objects by.


def bucket_client() -> Any:
    """S3's client of this thread."""
    store: Any = default_storage
    return store.connection.meta.client


def bucket_name() -> str:
    store: Any = default_storage
    return str(store.bucket_name)


def key_of(path: str) -> str:
    """The key under which a stored file lies; of a folder's path with a slash at its end, the prefix."""
    store: Any = default_storage
    return posixpath.join(store.location, path)


def link_to(path: str, seconds: int) -> str:
    """Where another host without credentials reads a stored file: an address that is signed for so long or, where the
    storage is a folder, its path there. Raises Encrypted for what it could not read."""
    if header_of(path) is not None:
        raise Encrypted(path)
    if (there := local_path(path)) is not None:
        return str(there)
    named = {"Bucket": bucket_name(), "Key": key_of(path)}
    return str(bucket_client().generate_presigned_url("get_object", Params=named, ExpiresIn=seconds))


def import_path(tenant_id: UUID | str, import_id: UUID | str) -> str:
    """Where the source of an import is kept until the import has ended."""
    return f"{tenant_id}/import/{import_id}"


def kept_imports(tenant_id: UUID | str, older_than_s: float = 3600) -> list[UUID]:
    """Ids of imports whose source is stored; those written just now are left out, their row may not be there yet."""
    folder, limit = f"{tenant_id}/import", timezone.now() - timedelta(seconds=older_than_s)
    try:
        _, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return []
    return [UUID(name) for name in names if default_storage.get_modified_time(f"{folder}/{name}") < limit]


def drop(path: str) -> None:
    default_storage.delete(path)


def remove(tenant_id: UUID | str, sha256: str, *, with_pages: bool = True) -> None:
    """A file and all that was made of it; `with_pages` costs a look into a folder."""
    for kind in KINDS:
        default_storage.delete(path_of(tenant_id, sha256, kind))
    if with_pages:
        folder = _pages_of(tenant_id, sha256)
        for path in files_below(folder):
            default_storage.delete(path)
        there = local_path(folder)
        if there is not None and there.is_dir():
            there.rmdir()


def stale_pages(tenant_id: UUID | str, shard: str, older_than_s: float) -> Iterator[str]:
    """The hashes of documents in one of the 256 folders of pages whose newest picture is so old."""
    folder, limit = f"{tenant_id}/{PAGES}/{shard}", timezone.now() - timedelta(seconds=older_than_s)
    try:
        names, _ = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        with suppress(FileNotFoundError):
            written = [default_storage.get_modified_time(path) for path in files_below(f"{folder}/{name}")]
            if not written or max(written) < limit:
                yield name


def stale_files(tenant_id: UUID | str, kind: str, shard: str, older_than_s: float) -> Iterator[str]:
    """The hashes of files in one of the 256 folders of a kind that nobody wrote to for so long."""
    folder, limit = f"{tenant_id}/{kind}/{shard}", timezone.now() - timedelta(seconds=older_than_s)
    try:
        _, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        # Another collector may have been faster.
        with suppress(FileNotFoundError):
            if default_storage.get_modified_time(f"{folder}/{name}") < limit:
                yield name


def older_files(folder: Path, seconds: float) -> Iterator[Path]:
    """The files in a local folder that nobody wrote to for so long."""
    limit = time.time() - seconds
    for path in folder.glob("*"):
        # It may go while it is looked at.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                yield path


def files_below(folder: str) -> Iterator[str]:
    """Every stored file in a folder and in those inside of it; nothing of one that is not there."""
    try:
        folders, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{name}" for name in names if name)
    for inner in folders:
        yield from files_below(f"{folder}/{inner}")


def chunks(stream: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    """`length` bytes from `start`, in chunks; closes the stream."""
    with stream:
        stream.seek(start)
        while length > 0 and (chunk := stream.read(min(CHUNK, length))):
            length -= len(chunk)
            yield chunk


def copy_to(path: str, target: Path) -> None:
    """Copy a blob to a local file, for a decoder that needs one."""
    with open_blob(path) as source, target.open("wb") as sink:
        while chunk := source.read(CHUNK):
            sink.write(chunk)
