"""What a generation says about itself: a JSON file, written last, that names every other file and its digest."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

# --- Folders ---------------------------------------------------------------------------------------------
# Digests of large files, by several threads at once, and writes that survive a power cut.


#: A digest is the SHA-256 of the SHA-256s of pieces this long, so that threads can share one file.
PIECE = 32 << 20
_READ = 1 << 20

#: (device, inode, size, mtime_ns) to digest, of files read in this process: a generation that was closed to
#: save memory opens again without reading it all.
_seen: dict[tuple[int, int, int, int], str] = {}
_seen_lock = threading.Lock()
_SEEN_MOST = 100_000


@dataclass(frozen=True)
class FileStamp:
    """How a file must be: its length and its digest."""

    bytes: int
    digest: str


def digest_of_bytes(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def stamp_files(folder: Path, names: Iterable[str], threads: int) -> dict[str, FileStamp]:
    """Each file's length and digest. Raises OSError."""
    names = list(names)
    digests = _digests([folder / name for name in names], threads)
    return {
        name: FileStamp((folder / name).stat().st_size, digest)
        for name, digest in zip(names, digests, strict=True)
    }


def first_damage(folder: Path, expected: Mapping[str, FileStamp], *, verify: bool) -> str | None:
    """What is wrong with the first bad file, or None. Lengths always; digests with ``verify``.

    Files that this process has read before, by inode, length and time of change, are not read again.
    """
    try:
        unread: list[str] = []
        for name, stamp in expected.items():
            key = _key(folder / name)
            if key[2] != stamp.bytes:
                return f"{name} has {key[2]} bytes, not {stamp.bytes}"
            if _seen.get(key) != stamp.digest:
                unread.append(name)
        if verify:
            digests = _digests([folder / name for name in unread], os.cpu_count() or 1)
            for name, digest in zip(unread, digests, strict=True):
                if digest != expected[name].digest:
                    return f"{name} was changed"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return None


def sync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digests(paths: list[Path], threads: int) -> list[str]:
    """Of each file; all their pieces share one pool of threads."""
    keys = [_key(path) for path in paths]
    pieces = [
        (path, start) for path, key in zip(paths, keys, strict=True) for start in range(0, key[2], PIECE)
    ]
    hashes = {path: hashlib.sha256() for path in paths}
    with ThreadPoolExecutor(max(1, min(threads, len(pieces)))) as pool:
        for (path, _), digest in zip(pieces, pool.map(_piece, pieces), strict=True):
            hashes[path].update(digest)
    found = [hashes[path].hexdigest() for path in paths]
    with _seen_lock:
        if len(_seen) > _SEEN_MOST:
            _seen.clear()
        # A file that changed while it was read has another key by now.
        _seen.update((key, digest) for key, digest in zip(keys, found, strict=True))
    return found


def _piece(piece: tuple[Path, int]) -> bytes:
    """SHA-256 of up to PIECE bytes from ``start``. Reads, because touching a mapping of a cut file kills."""
    path, start = piece
    digest, buffer = hashlib.sha256(), bytearray(_READ)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        left = PIECE
        while left and (count := file.readinto(memoryview(buffer)[: min(left, _READ)])):
            digest.update(memoryview(buffer)[:count])
            left -= count
    return digest.digest()


def _key(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


# --- Manifest --------------------------------------------------------------------------------------------


FORMAT = 1
NAME = "manifest.json"


class GenerationDamaged(Exception):
    """A generation that cannot be trusted: a file is missing, cut, changed, or of another format."""


@dataclass(frozen=True)
class Effort:
    """How hard to look when at least ``share`` of the rows are allowed, as measured: recall@10 and cpu ms.

    ``effort`` 0 means exact search over the allowed rows.
    """

    share: float
    effort: int
    recall: float
    ms: float


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder that was built and measured, published or not."""

    kind: str
    settings: Mapping[str, int]
    recall: float
    build_s: float


@dataclass(frozen=True)
class Manifest:
    """``recall`` and ``target`` are recall@10 of searches without a filter, against exact ones.

    ``seq`` is the newest sequence number inside; ``efforts`` go from share 1 down; ``files`` maps names
    relative to the folder to bytes and digest; ``build_s`` is wall time of all attempts; ``peak_mb`` is the
    most memory that the building process held, mapped pages included.
    """

    kind: str
    settings: Mapping[str, int]
    dimension: int
    model: str
    seq: int
    vectors: int
    assets: int
    recall: float
    target: float
    queries: int
    efforts: tuple[Effort, ...]
    attempts: tuple[Attempt, ...]
    files: Mapping[str, FileStamp]
    created_at: str
    build_s: float
    peak_mb: float
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The opposite of ``as_json``. Raises GenerationDamaged."""
        try:
            if value["format"] != FORMAT:
                raise GenerationDamaged(f"format {value['format']!r} is not {FORMAT}")
            known = {field.name: value[field.name] for field in fields(cls)}
            if not isinstance(known["dimension"], int) or known["dimension"] < 1:
                raise GenerationDamaged(f"a vector cannot have {known['dimension']!r} numbers")
            known["efforts"] = tuple(Effort(**row) for row in value["efforts"])
            known["attempts"] = tuple(Attempt(**row) for row in value["attempts"])
            known["files"] = {name: FileStamp(**stamp) for name, stamp in value["files"].items()}
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise GenerationDamaged(f"the manifest is incomplete: {error}") from error

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` whole or not at all, with a digest of itself, and sync the folder."""
        value = self.as_json()
        value["digest"] = digest_of_bytes(_canonical(value))
        part = folder / f"{NAME}.part"
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")
        sync(part)
        part.rename(folder / NAME)
        sync(folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises GenerationDamaged."""
        try:
            value = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GenerationDamaged(f"no manifest: {error}") from error
        if not isinstance(value, dict):
            raise GenerationDamaged("the manifest is not an object")
        digest = value.pop("digest", None)
        if value.get("format") == FORMAT and digest != digest_of_bytes(_canonical(value)):
            raise GenerationDamaged("the manifest was changed")
        return cls.from_json(value)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
