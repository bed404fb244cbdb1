"""Stored files encrypted under their tenant's data key, over any Django storage; others are read as they are.

A file is a header and segments of 64 KiB, each sealed by AES-256-GCM as in STREAM (Hoang, Reyhanitabar, Rogaway and
Vizár, 2015): the nonce is a random prefix, the segment's number and whether it is the last one. So any part is read
without the rest, and a flipped bit, a cut, swapped segments, or the file of another tenant or name in its place are
errors. The key is derived for each file from the data key, a random salt and the file's name (HKDF-SHA256).

    magic 8 | id of the data key 16 | salt 16 | nonce prefix 7 | log2 of the segment's length 1 | segments, each + 16
"""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InvalidStorageError, Storage, storages
from django.utils.translation import gettext as _

from tenants.accounts import keyring
from tenants.errors import Unavailable

MAGIC = b"CLfile1\0"
SALT_BYTES, PREFIX_BYTES, TAG_BYTES = 16, 7, 16
HEADER_BYTES = len(MAGIC) + 16 + SALT_BYTES + PREFIX_BYTES + 1
SEGMENT_BITS = 16
# Read from the storage at a time, in segments.
READ_AHEAD = 16
# Up to so many bytes are encrypted in memory; more in a file of SPOOL_DIR, which is moved into place.
IN_MEMORY = 1 << 20
# The folder of a tenant in which files are written that take the place of others.
SEALING = "sealing"


class FileDamaged(Unavailable):
    """A stored file does not hold what was written there under this name."""

    slug = "file-damaged"

    def __init__(self, name: str) -> None:
        super().__init__(
            _(
                "The stored file %(name)s was changed or damaged. Nothing of it is shown; restore it from a backup."
            )
            % {"name": name}
        )


@dataclass(frozen=True)
class Header:
    """How one file is encrypted."""

    key_id: UUID
    salt: bytes
    prefix: bytes
    bits: int = SEGMENT_BITS

    @classmethod
    def read(cls, start: bytes) -> Header | None:
        """None for a file that is not encrypted."""
        if len(start) < HEADER_BYTES or not start.startswith(MAGIC):
            return None
        rest = start[len(MAGIC) : HEADER_BYTES]
        return cls(UUID(bytes=rest[:16]), rest[16:32], rest[32:39], rest[39])

    def __bytes__(self) -> bytes:
        return MAGIC + self.key_id.bytes + self.salt + self.prefix + bytes([self.bits])

    @property
    def segment(self) -> int:
        return 1 << self.bits

    def length_of(self, stored: int) -> int:
        """Bytes of content in a file of so many bytes; -1 where no whole file has that length."""
        sealed = stored - HEADER_BYTES
        count = max(1, -(-sealed // (self.segment + TAG_BYTES)))
        return max(-1, sealed - count * TAG_BYTES)

    def cipher(self, name: str) -> AESGCM:
        """Raises KeyMissing, KeyDestroyed, KeysUnavailable."""
        secret = keyring.key_of(self.key_id).secret
        info = b"crosslight file\0" + bytes([self.bits]) + name.encode()
        return AESGCM(HKDF(SHA256(), 32, salt=self.salt, info=info).derive(secret))

    def nonce(self, number: int, *, last: bool) -> bytes:
        return self.prefix + number.to_bytes(4, "big") + bytes([last])


def encrypt(source: IO[bytes], sink: IO[bytes], *, owner: UUID, name: str) -> None:
    """Write all of `source`, encrypted under the owner's key as the file of this name."""
    key = keyring.active_key(owner)
    header = Header(key.id, os.urandom(SALT_BYTES), os.urandom(PREFIX_BYTES))
    cipher, number = header.cipher(name), 0
    sink.write(bytes(header))
    segment = _filled(source, header.segment)
    while True:
        following = _filled(source, header.segment) if len(segment) == header.segment else b""
        sink.write(cipher.encrypt(header.nonce(number, last=not following), segment, None))
        if not following:
            return
        segment, number = following, number + 1


def _filled(source: IO[bytes], length: int) -> bytes:
    """So many bytes, or what is left."""
    found = source.read(length)
    while len(found) < length and (more := source.read(length - len(found))):
        found += more
    return found


class _Segments(io.RawIOBase):
    """The content of an encrypted file. Reading raises FileDamaged for other bytes than were written."""

    def __init__(self, stored: IO[bytes], header: Header, name: str) -> None:
        self._stored, self._header, self._name = stored, header, name
        self._cipher = header.cipher(name)
        self.size = header.length_of(stored.seek(0, io.SEEK_END))
        if not 0 <= header.bits <= 24 or self.size < 0:
            raise FileDamaged(name)
        self._count = max(1, -(-self.size // header.segment))
        self._position, self._first, self._held = 0, 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        part = self._at(self._position)[: len(view)]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(READ_AHEAD * self._header.segment), b""))

    def _at(self, position: int) -> memoryview:
        """Content from a position on, as far as it was decrypted; empty at the end."""
        if position >= self.size:
            if self.size == 0 and not self._held:
                self._decrypt(0)  # an empty file has a segment, too, which says so
                self._held = b"\0"
            return memoryview(b"")
        if not self._first <= position < self._first + len(self._held):
            self._decrypt(position // self._header.segment)
        return memoryview(self._held)[position - self._first :]

    def _decrypt(self, number: int) -> None:
        whole = self._header.segment + TAG_BYTES
        self._stored.seek(HEADER_BYTES + number * whole)
        sealed = memoryview(_filled(self._stored, whole * READ_AHEAD))
        parts = [
            self._segment(number + index, sealed[index * whole : (index + 1) * whole])
            for index in range(max(1, -(-len(sealed) // whole)))
        ]
        self._first, self._held = number * self._header.segment, b"".join(parts)

    def _segment(self, number: int, sealed: memoryview) -> bytes:
        nonce = self._header.nonce(number, last=number == self._count - 1)
        try:
            return self._cipher.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError) as error:
            raise FileDamaged(self._name) from error

    def close(self) -> None:
        self._stored.close()
        super().close()


class _Content(io.BufferedReader):
    """Decrypted content, with the length that Django's File asks for."""

    def __init__(self, segments: _Segments) -> None:
        super().__init__(segments, 1 << SEGMENT_BITS)
        self.size = segments.size


class _Movable(File):
    """A local file that a folder storage takes over by renaming it; a bucket reads it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


class EncryptedStorage(Storage):
    """Encrypts files of tenants as they are saved, where ENCRYPT_FILES says so; names, lengths and bytes are those of
    the content. `inner` is what they are stored in."""

    def __init__(self, inner: dict[str, Any]) -> None:
        self.inner: Storage = storages.create_storage(inner)

    def __getattr__(self, name: str) -> Any:
        # What only a bucket or only a folder has. Not before there is an inner storage.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    # --- Writing ---

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: File) -> str:
        owner = owner_of(name)
        if owner is None or not (settings.ENCRYPT_FILES or _looks_encrypted(content)):
            return self.inner.save(name, content)
        with self._encrypted(name, owner, content, content.size) as sealed:
            return self.inner.save(name, sealed)

    @contextmanager
    def _encrypted(self, name: str, owner: UUID, content: IO[bytes] | File, length: int) -> Iterator[File]:
        if length <= IN_MEMORY:
            held = io.BytesIO()
            encrypt(content, held, owner=owner, name=_normal(name))
            yield ContentFile(held.getvalue())
            return
        with NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="sealed-", delete=False) as file:
            try:
                encrypt(content, file, owner=owner, name=_normal(name))
                file.flush()
                file.seek(0)
                yield _Movable(file, file.name)
            finally:
                Path(file.name).unlink(missing_ok=True)

    def encrypt_again(self, name: str, *, dry_run: bool = False) -> bool:
        """Encrypt a stored file under the key of now, unless it is; whether there was anything to do.

        At once: readers have the old bytes or the new ones, whose content is the same. Raises FileNotFoundError.
        """
        owner, header = owner_of(name), self.header(name)
        if owner is None or (header is not None and header.key_id == keyring.active_key(owner).id):
            return False
        if dry_run:
            return True
        with self.open(name) as content, self._encrypted(name, owner, content, content.size) as sealed:
            if isinstance(self.inner, FileSystemStorage):
                self._replace(name, sealed)
            else:
                self.inner.save(name, sealed)
        return True

    def _replace(self, name: str, sealed: File) -> None:
        target = Path(self.inner.path(name))
        held = target.stat()
        # On the same file system, and where nothing looks for content.
        part = Path(self.inner.path(f"{owner_of(name)}/{SEALING}/{uuid4().hex}"))
        part.parent.mkdir(mode=0o700, exist_ok=True)
        with part.open("wb") as sink:
            os.fchmod(sink.fileno(), 0o600)
            for chunk in sealed.chunks():
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
        # Collectors go by how old a file is.
        os.utime(part, ns=(held.st_atime_ns, held.st_mtime_ns))
        part.replace(target)

    # --- Reading ---

    def _open(self, name: str, mode: str = "rb") -> File:
        stored = self.inner.open(name, mode)
        if "r" not in mode:
            return stored
        header = Header.read(stored.read(HEADER_BYTES))
        stored.seek(0)
        if header is None:
            return stored
        return File(_Content(_Segments(stored, header, _normal(name))), name)

    def header(self, name: str) -> Header | None:
        """How it is encrypted; None if it is not. Raises FileNotFoundError."""
        if owner_of(name) is None:
            return None
        if hasattr(self.inner, "bucket"):
            return Header.read(self._start_of_object(name))
        with self.inner.open(name, "rb") as stored:
            return Header.read(stored.read(HEADER_BYTES))

    def _start_of_object(self, name: str) -> bytes:
        """Without fetching the rest."""
        from botocore.exceptions import ClientError

        inner: Any = self.inner
        try:
            answer = inner.bucket.Object(posixpath.join(inner.location, name)).get(
                Range=f"bytes=0-{HEADER_BYTES - 1}"
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "InvalidRange":  # an empty object
                return b""
            if code in ("NoSuchKey", "404"):
                raise FileNotFoundError(name) from error
            raise
        return bytes(answer["Body"].read())

    def size(self, name: str) -> int:
        stored, header = self.inner.size(name), self.header(name)
        return stored if header is None else header.length_of(stored)

    # --- What is the same for content and bytes ---

    def exists(self, name: str) -> bool:
        return self.inner.exists(name)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return self.inner.listdir(path)

    def path(self, name: str) -> str:
        return self.inner.path(name)

    def get_modified_time(self, name: str) -> Any:
        return self.inner.get_modified_time(name)

    def url(self, name: str | None) -> str:
        raise InvalidStorageError("Stored files have no address of their own.")


def owner_of(name: str) -> UUID | None:
    """The tenant whose folder a file is in."""
    with suppress(ValueError):
        return UUID(name.partition("/")[0])
    return None


def _normal(name: str) -> str:
    return posixpath.normpath(name)


def _looks_encrypted(content: File) -> bool:
    """What would be taken for an encrypted file is encrypted, wherever it comes from."""
    start = content.read(HEADER_BYTES)
    content.seek(0)
    return Header.read(start) is not None
