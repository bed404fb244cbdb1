"""What in an answer is another tenant's: its words, ids, hashes and whole files, whatever they are packed in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress

from tenants.datasets import storage
from tests.isolation.world import HASH, UUID, World

MOST_UNPACKED = 64 << 20
_UUID = re.compile(UUID.pattern.encode(), re.IGNORECASE)
_PLAIN_UUID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
#: A cursor of a list is the 16 bytes of an id; other ones are longer.
_CURSOR = re.compile(rb"(?<![\w-])[\w-]{22}(?![\w-])")
_PACKED = re.compile(rb"(?<![\w-])[\w-]{24,2000}(?![\w-])")


class Judge:
    """Knows what only the victim has. `found(content)` names what of it stands in some bytes."""

    def __init__(self, victim: World, attacker: World) -> None:
        theirs, own = victim.text(), attacker.text()
        self._salt = victim.salt.encode()
        self._words = re.compile(self._salt + rb"[0-9]{4}", re.IGNORECASE)
        self.ids = {one.lower() for one in UUID.findall(theirs)} - set(UUID.findall(own))
        self._plain = {one.replace("-", ""): one for one in self.ids}
        self.hashes = set(HASH.findall(theirs)) - set(HASH.findall(own))
        prefixes = {row["prefix"] for row in victim.rows["key_digest"]}
        self._prefixes = re.compile(b"|".join(sorted(one.encode() for one in prefixes)))
        files = _files_of(victim)
        self._files = set(files.values()) - set(_files_of(attacker).values())
        self._made_of: dict[str, set[str]] = {}
        for path, digest in files.items():
            # A thumbnail's path ends with the hash of what it was made of, too.
            self._made_of.setdefault(path.rpartition("/")[2], set()).add(f"file {digest}")

    def found(self, content: bytes) -> set[str]:
        """Fingerprints in the content itself and in all that is packed in it."""
        names: set[str] = set()
        for layer in layers(content):
            names |= self._in_layer(layer)
        return names

    def made_of(self, content: bytes) -> set[str]:
        """The file of these bytes and what is made of it: whoever has sent it gets them of his own."""
        return self._made_of.get(hashlib.sha256(content).hexdigest(), set())

    def _in_layer(self, content: bytes) -> set[str]:
        names = self._plainly_in(content)
        if hashlib.sha256(content).hexdigest() in self._files:
            names.add(f"file {hashlib.sha256(content).hexdigest()}")
        for token in _CURSOR.findall(content):
            with suppress(ValueError):
                names |= self._ids_of(base64.urlsafe_b64decode(token + b"==").hex())
        for token in _PACKED.findall(content)[:2_000]:
            with suppress(ValueError):
                names |= self._plainly_in(base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4)))
        return names

    def _plainly_in(self, content: bytes) -> set[str]:
        names = {one.lower() for one in _UUID.findall(content)}
        found = {one.decode() for one in names if one.decode() in self.ids}
        for plain in _PLAIN_UUID.findall(content):
            found |= self._ids_of(plain.decode())
        found |= {one.decode() for one in _HASH.findall(content)} & self.hashes
        if self._salt in content.lower():
            found |= {one.decode().lower() for one in self._words.findall(content)}
        return found | {one.decode() for one in self._prefixes.findall(content)}

    def _ids_of(self, plain: str) -> set[str]:
        return {self._plain[plain]} if plain in self._plain else set()


def layers(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """The content, and what is in it where it is an archive, a table or a compressed stream."""
    yield content
    if depth < 4:
        for part in _unpacked(content):
            yield from layers(part, depth + 1)


def _unpacked(content: bytes) -> Iterator[bytes]:
    if content[:4] == b"PK\x03\x04":
        wrong = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error)
        with suppress(*wrong), zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield member.filename.encode()
                if member.file_size < MOST_UNPACKED:
                    yield archive.read(member)
    elif content[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError, zlib.error):
            yield gzip.decompress(content)
    elif content[:4] == b"PAR1":
        yield _of_parquet(content)
    elif content[257:262] == b"ustar":
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for entry in archive:
                yield entry.name.encode()
                if (file := archive.extractfile(entry)) is not None:
                    yield file.read()


def _of_parquet(content: bytes) -> bytes:
    import pyarrow.parquet

    return str(pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()).encode()


def _files_of(world: World) -> dict[str, str]:
    """The digests of all stored files of a tenant by their paths, thumbnails and derived ones, too."""
    found = {}
    for path in storage.files_below(str(world.id)):
        with storage.open_blob(path) as file:
            found[path] = hashlib.sha256(file.read()).hexdigest()
    return found
