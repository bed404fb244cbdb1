"""The archive of Postgres's write-ahead log (WAL_ARCHIVE): a folder or a bucket that holds every finished segment.

Postgres itself calls this file, for each segment, as `archive_command` and `restore_command`; so it stands alone:

    python -I wal.py put PATH NAME      0 once it is stored for good; else Postgres keeps the segment and tries again
    python -I wal.py fetch NAME PATH    0 found, 1 not there (recovery ends), 200 could not be asked (Postgres stops)

An object is named NAME.DIGEST.gz, DIGEST being the first 32 hexadecimal digits of the segment's SHA-256: what comes
back is what was put, and another content under a name that is taken (two clusters on one archive) is refused. Where
backups are encrypted, it is encrypted for the same recipients, and named NAME.DIGEST.gz.age.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VARIABLE = "WAL_ARCHIVE"
# Where the segments are that were not finished when the old cluster ended: tried after the archive.
PENDING_VARIABLE = "WAL_PENDING"
# Keys of age, comma-separated: who calls this has read the files that BACKUP_RECIPIENTS and BACKUP_IDENTITY may name.
RECIPIENTS_VARIABLE, IDENTITIES_VARIABLE = "WAL_RECIPIENTS", "WAL_IDENTITIES"
# A segment of a quiet minute is mostly zeros: 16 MB become some tens of kilobytes.
LEVEL = 1
ABSENT, BROKEN = 1, 200
NAME = re.compile(r"[0-9A-F]{8}(?:[0-9A-F]{16}(?:\.partial|\.[0-9A-F]{8}\.backup)?|\.history)")
OBJECT = re.compile(rf"(?P<name>{NAME.pattern})\.(?P<digest>[0-9a-f]{{32}})\.gz(?P<age>\.age)?")


class ArchiveError(Exception):
    """The archive's address is none, cannot be reached, or holds something else under this name."""


class Archive(ABC):
    """Objects by name. `open_archive` makes one of an address."""

    @abstractmethod
    def names(self, prefix: str = "") -> Iterator[str]: ...

    @abstractmethod
    def read(self, name: str) -> bytes: ...

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """For good, or not at all, when this returns."""

    @abstractmethod
    def remove(self, name: str) -> None: ...

    def put(self, name: str, content: bytes) -> None:
        """Store a segment. Raises ArchiveError where the name is taken by another content."""
        if not NAME.fullmatch(name):
            raise ArchiveError(f"{name!r} is no name of a segment")
        wanted = f"{name}.{_digest(content)}.gz"
        held = [found for found in self.names(f"{name}.") if _is_of(found, name)]
        if held and all(found.startswith(wanted) for found in held):
            return
        if held:
            raise ArchiveError(
                f"{name} is in the archive with another content: do two clusters write to it? Give each one its own"
            )
        compressed = gzip.compress(content, LEVEL, mtime=0)
        if recipients := _words(RECIPIENTS_VARIABLE):
            self.write(f"{wanted}.age", _encrypted(compressed, recipients))
        else:
            self.write(wanted, compressed)

    def fetch(self, name: str) -> bytes | None:
        """A segment as it was put; None where there is none. Raises ArchiveError for a damaged one."""
        for found in self.names(f"{name}."):
            if _is_of(found, name):
                return _opened(found, self.read(found))
        return None

    def segments(self) -> list[str]:
        """Names of the objects that hold segments, in the log's order."""
        return sorted(found for found in self.names() if OBJECT.fullmatch(found))

    def remove_before(self, first: str) -> int:
        """Remove what no recovery that begins at the segment `first` reads; histories stay. How many went."""
        old = [found for found in self.segments() if ".history" not in found and found[8:24] < first[8:24]]
        for found in old:
            self.remove(found)
        return len(old)


class Folder(Archive):
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self, prefix: str = "") -> Iterator[str]:
        yield from (path.name for path in self.path.iterdir() if path.name.startswith(prefix))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        handle, partial = tempfile.mkstemp(dir=self.path, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).rename(self.path / name)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class Bucket(Archive):
    """Of S3, with the credentials and endpoint of the environment, as STORAGE_URL has them."""

    def __init__(self, bucket: str, prefix: str) -> None:
        import boto3

        self.client: Any = boto3.client("s3")
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""

    def names(self, prefix: str = "") -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
            yield from (each["Key"].removeprefix(self.prefix) for each in page.get("Contents", ()))

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()
        return body

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=content)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)


def open_archive(url: str) -> Archive:
    """Of an absolute path, a file:// or an s3:// address. Raises ArchiveError."""
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return Bucket(parts.netloc, parts.path.strip("/"))
    if folder := folder_of(url):
        return Folder(folder)
    raise ArchiveError(f"{VARIABLE} is the absolute path of a folder or s3://bucket/prefix, not {url!r}")


def folder_of(url: str) -> Path | None:
    """The folder that an address names, or None."""
    parts = urlsplit(url)
    path = Path(parts.path)
    return path if parts.scheme in ("", "file") and not parts.netloc and path.is_absolute() else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _is_of(found: str, name: str) -> bool:
    match = OBJECT.fullmatch(found)
    return match is not None and match["name"] == name


def _words(variable: str) -> list[str]:
    return [word for word in os.environ.get(variable, "").split(",") if word]


def _encrypted(content: bytes, recipients: list[str]) -> bytes:
    import pyrage

    sealed: bytes = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(key) for key in recipients])
    return sealed


def _decrypted(found: str, stored: bytes) -> bytes:
    import pyrage

    try:
        identities = [pyrage.x25519.Identity.from_str(key) for key in _words(IDENTITIES_VARIABLE)]
        opened: bytes = pyrage.decrypt(stored, identities)
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise ArchiveError(f"{found} cannot be decrypted with BACKUP_IDENTITY: {error}") from error
    return opened


def _opened(found: str, stored: bytes) -> bytes:
    match = OBJECT.fullmatch(found)
    if match and match["age"]:
        stored = _decrypted(found, stored)
    try:
        content = gzip.decompress(stored)
    except (OSError, EOFError) as error:
        raise ArchiveError(f"{found} is damaged: {error}") from error
    if match is None or match["digest"] != _digest(content):
        raise ArchiveError(f"{found} is damaged: it has another content than its name says")
    return content


def _put(path: str, name: str) -> int:
    open_archive(os.environ[VARIABLE]).put(name, Path(path).read_bytes())
    return 0


def _fetch(name: str, path: str) -> int:
    content = open_archive(os.environ[VARIABLE]).fetch(name)
    pending = Path(os.environ.get(PENDING_VARIABLE) or os.devnull) / name
    if content is None and pending.is_file():
        content = pending.read_bytes()
    if content is None:
        return ABSENT
    Path(path).write_bytes(content)
    return 0


def main(arguments: list[str]) -> int:
    command, first, second = arguments
    try:
        return {"put": _put, "fetch": _fetch}[command](first, second)
    except Exception as error:
        print(f"{command} {first}: {type(error).__name__}: {error}", file=sys.stderr)
        # Above 125 Postgres's archiver would end itself, and count no failure.
        return BROKEN if command == "fetch" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
