"""Files encrypted with age (https://age-encryption.org/v1) for public keys: backups and exports.

Streamed in both directions, so that memory is flat. Needs no settings and no Django.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyrage

SUFFIX = ".age"
MAGIC = b"age-encryption.org/v1\n"
PUBLIC, PRIVATE = "age1", "AGE-SECRET-KEY-1"
CHUNK = 1 << 20
# The payload: a nonce, then segments of 64 KiB with a tag each (the format's specification, "Payload").
NONCE, SEGMENT, TAG = 16, 64 << 10, 16
LAST_OF_HEADER = b"---"


class CannotOpen(Exception):
    """Not age's format, not for these private keys, changed, or cut off."""


@dataclass(frozen=True)
class Copied:
    """SHA-256 of what was written, and SHA-256 and length of its content."""

    sha256: str
    content_sha256: str
    length: int


class _Source:
    """Reads the content for pyrage by large pieces, whatever it asks for, and keeps the error that it would reword."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._held = source, io.BytesIO()
        self.sha, self.length = hashlib.sha256(), 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        if piece := self._held.read(size):
            return piece
        try:
            chunk = self._source.read(CHUNK)
        except BaseException as error:
            self.error = error
            raise
        self.sha.update(chunk)
        self.length += len(chunk)
        self._held = io.BytesIO(chunk)
        return self._held.read(size)


class _Sink:
    """Takes what pyrage writes. It swallows errors of the last write: they are kept here."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.sha = hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._sink.write(data)
        except BaseException as error:
            self.error = error
            raise
        self.sha.update(data)
        return len(data)

    def flush(self) -> None:
        """The file is flushed where it is closed."""


def encrypt(source: IO[bytes], sink: IO[bytes], recipients: Sequence[str]) -> Copied:
    """Write what `source` holds, for these public keys. Raises what reading or writing raises."""
    taken, given = _Source(source), _Sink(sink)
    keys = [pyrage.x25519.Recipient.from_str(key) for key in recipients]
    try:
        pyrage.encrypt_io(taken, given, keys)
    except (pyrage.EncryptError, OSError):
        if not (taken.error or given.error):
            raise
    # The error of our own file, in place of what pyrage makes of it, or of nothing.
    if error := taken.error or given.error:
        raise error
    return Copied(given.sha.hexdigest(), taken.sha.hexdigest(), taken.length)


def decrypt(source: IO[bytes], sink: IO[bytes], keys: Sequence[str]) -> None:
    """Write what an encrypted file holds, by one of these private keys. Raises CannotOpen, after which what was
    written is not to be used, and what writing raises."""
    given = _Sink(sink)
    try:
        pyrage.decrypt_io(source, given, [pyrage.x25519.Identity.from_str(key) for key in keys])
    except (pyrage.DecryptError, OSError) as error:
        raise given.error or CannotOpen(str(error)) from error
    if given.error:
        raise given.error


@contextmanager
def encrypting(sink: IO[bytes], recipient: str) -> Iterator[IO[bytes]]:
    """A stream without a way back, of which everything written goes into `sink` encrypted; whole after the block.

    A thread encrypts what comes through a pipe. Raises what writing into `sink` raises.
    """
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1, "age") as pool:
        done = pool.submit(_drain, reading, sink, recipient)
        # A pipe that breaks is for the other end to explain.
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as into:
            yield into
        done.result()


def _drain(end: int, sink: IO[bytes], recipient: str) -> None:
    with os.fdopen(end, "rb") as source:
        encrypt(source, sink, [recipient])


def is_public_key(text: str) -> bool:
    try:
        pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        return False
    return True


def public_key_of(private: str) -> str:
    """Raises CannotOpen for what is no private key."""
    try:
        return str(pyrage.x25519.Identity.from_str(private).to_public())
    except pyrage.IdentityError as error:
        raise CannotOpen(str(error)) from error


def new_pair() -> tuple[str, str]:
    """A private key, and its public one."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def words(text: str) -> list[str]:
    """Keys, separated by commas or white space; comments as `age-keygen` writes them."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [word for line in lines for word in line.replace(",", " ").split()]


def private_keys(text: str) -> list[str]:
    return [word for word in words(text) if word.startswith(PRIVATE)]


def content_length(path: Path) -> int:
    """Of an encrypted file, in bytes, without a key: what its length leaves after header, nonce and tags."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while (line := file.readline(CHUNK)) and not line.startswith(LAST_OF_HEADER):
            pass
        payload = size - file.tell() - NONCE
    segments = -(-payload // (SEGMENT + TAG))
    return payload - segments * TAG
