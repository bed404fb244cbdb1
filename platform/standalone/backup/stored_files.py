"""The stored files' half: out of the storage into a backup, and back. Any Django storage will do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from django.core.files import File

from standalone.backup.database import Snapshot
from standalone.backup.encryption import Contents, Encryption
from standalone.backup.manifest import FILES
from tenants.age import content_length
from tenants.datasets import upload_bytes
from tenants.datasets.encrypted_files import HEADER_BYTES, SEALING, Header
from tenants.datasets.storage import KINDS, PAGES, as_stored, open_blob, path_of
from tenants.datasets.storage import digest as content_digest
from tenants.errors import ServiceError
from tenants.learning import scratch
from tenants.retrieval import index

# Reading from a bucket waits for the network.
THREADS = 8
PART = 1000
# Left by health checks that were killed.
PROBES = "readyz"
# Kinds of files that are made again from the database or from other files, uploads that nobody has used yet, and
# trainings under way.
LEFT_OUT = {index.STORED_AS, upload_bytes.KIND, scratch.KIND, SEALING, PAGES}
# File systems keep times with different precision.
SAME_TIME_S = 0.001


@dataclass
class CopyReport:
    """What a run of copying did. `missing` and `damaged` name originals that the database needs."""

    sums: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    new_files: int = 0
    new_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        counts = {name: getattr(self, name) for name in ("files", "bytes", "new_files", "new_bytes")}
        return {**counts, "missing": self.missing, "damaged": self.damaged}


@dataclass(frozen=True)
class Kept:
    """One file of the backup: its SHA-256, and SHA-256 and length of the stored file that it holds."""

    sha256: str
    content_sha256: str
    length: int
    new: bool


class StorageCopier:
    """Copies the storage into `target`; what `previous` has is only linked. `known` are its paths with their SHA-256,
    without those that another key opens."""

    def __init__(
        self,
        snapshot: Snapshot,
        target: Path,
        previous: Path | None,
        known: dict[str, str],
        encryption: Encryption | None = None,
    ) -> None:
        self.snapshot, self.target, self.previous, self.known = snapshot, target, previous, known
        self.encryption = encryption or Encryption()
        self.done = CopyReport()

    def run(self) -> CopyReport:
        tenants = self.snapshot.tenants()
        with ThreadPoolExecutor(THREADS) as pool:
            for tenant in tenants:
                self._tenant(tenant, pool)
            for top in sorted(set(_folders("")) - set(tenants) - {PROBES}):
                self._all_below(top, pool)
        return self.done

    def _tenant(self, tenant: str, pool: ThreadPoolExecutor) -> None:
        """Blobs that the snapshot knows, and whatever else is kept for the tenant."""
        named = self.snapshot.blobs(tenant)
        found: set[str] = set()
        for kind in sorted((set(_folders(tenant)) | {KINDS[0]}) - LEFT_OUT):
            if kind not in KINDS:
                self._all_below(f"{tenant}/{kind}", pool)
                continue
            for shard in _folders(f"{tenant}/{kind}"):
                here = sorted(set(_names(f"{tenant}/{kind}/{shard}")) & named)
                found |= set(here) if kind == KINDS[0] else set()
                self._copy_all((path_of(tenant, name, kind) for name in here), pool)
        self.done.missing += [path_of(tenant, name) for name in sorted(named - found)]

    def _all_below(self, folder: str, pool: ThreadPoolExecutor) -> None:
        self._copy_all((f"{folder}/{name}" for name in _names(folder)), pool)
        for inner in _folders(folder):
            self._all_below(f"{folder}/{inner}", pool)

    def _copy_all(self, paths: Iterator[str], pool: ThreadPoolExecutor) -> None:
        for path, outcome in pool.map(self._copy, paths):
            self._record(path, outcome)

    def _copy(self, path: str) -> tuple[str, Kept | None]:
        """None for a file that has just gone."""
        try:
            return path, self._link(path) or self._fetch(path)
        except FileNotFoundError:
            return path, None

    def _named(self, path: str) -> str:
        return f"{path}{self.encryption.suffix}"

    def _link(self, path: str) -> Kept | None:
        digest = self.known.get(path)
        if digest is None or self.previous is None:
            return None
        earlier, target = self.previous / FILES / self._named(path), self.target / self._named(path)
        # What was encrypted was compared with its name then; a damaged one is not known.
        content = path.rsplit("/", 1)[1] if self.encryption.suffix else digest
        if not _is_sound(path, content, earlier):
            return None
        size, time = _signature(path)
        if not self._is_unchanged(path, earlier, size, time):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(earlier, target)
        except OSError:
            # Too many links, or a file system without them.
            shutil.copy2(earlier, target)
        return Kept(digest, content, size, new=False)

    def _is_unchanged(self, path: str, earlier: Path, size: int, time: float) -> bool:
        """An original never changes under its name; what is made from it may be made again."""
        try:
            held = earlier.stat()
            length = content_length(earlier) if self.encryption.suffix else held.st_size
        except FileNotFoundError:
            return False
        return length == size and (_is_original(path) or abs(held.st_mtime - time) < SAME_TIME_S)

    def _fetch(self, path: str) -> Kept:
        target = self.target / self._named(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _, time = _signature(path)
        with as_stored().open(path, "rb") as source, target.open("wb") as sink:
            copied = self.encryption.copy(source, sink)
        os.utime(target, (time, time))
        return Kept(copied.sha256, copied.content_sha256, copied.length, new=True)

    def _record(self, path: str, kept: Kept | None) -> None:
        if kept is None:
            if _is_original(path):
                self.done.missing.append(path)
            return
        self.done.sums[f"{FILES}/{self._named(path)}"] = kept.sha256
        self.done.files += 1
        self.done.bytes += kept.length
        self.done.new_files += kept.new
        self.done.new_bytes += kept.length if kept.new else 0
        if not _is_sound(path, kept.content_sha256, self.target / self._named(path), new=kept.new):
            self.done.damaged.append(path)


def _is_sound(path: str, digest: str, copy: Path, *, new: bool = False) -> bool:
    """The name of an original is its digest; of one that is encrypted in the storage that of its content, which is read
    once, when it is `new`."""
    name = path.rsplit("/", 1)[1]
    if not _is_original(path) or digest == name:
        return True
    if new:
        return _content_digest(path) in (name, None)
    return _is_encrypted(copy)


def _is_encrypted(copy: Path) -> bool:
    try:
        with copy.open("rb") as file:
            return Header.read(file.read(HEADER_BYTES)) is not None
    except FileNotFoundError:
        return False


def _content_digest(path: str) -> str | None:
    """None for what has gone meanwhile."""
    try:
        with open_blob(path) as stream:
            return content_digest(stream)[0]
    except FileNotFoundError:
        return None
    except ServiceError:
        return ""


def _is_original(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 4 and parts[1] == KINDS[0]


def _signature(path: str) -> tuple[int, float]:
    return as_stored().size(path), as_stored().get_modified_time(path).timestamp()


def _listdir(folder: str) -> tuple[list[str], list[str]]:
    try:
        return as_stored().listdir(folder)
    except FileNotFoundError:
        return [], []


def _folders(folder: str) -> list[str]:
    return sorted(name for name in _listdir(folder)[0] if name)


def _names(folder: str) -> list[str]:
    return sorted(name for name in _listdir(folder)[1] if name)


def restore_files(contents: Contents, names: Iterator[str], scratch: Path) -> int:
    """Store these files of a backup unless they are there in full; returns how many there are. `scratch` is a folder
    for what is decrypted and too long for the memory."""
    count = 0
    with ThreadPoolExecutor(THREADS) as pool:
        # The pool takes all that it is given at once: a part at a time keeps memory flat.
        while part := list(islice(names, PART)):
            list(pool.map(lambda name: _restore_file(contents, name, scratch), part))
            count += len(part)
    return count


def _restore_file(contents: Contents, name: str, scratch: Path) -> None:
    # As it was: a file that is encrypted in the storage stays so, and needs no key of a tenant here.
    store, held = as_stored(), f"{FILES}/{name}"
    if store.exists(name):
        if store.size(name) == contents.length(held):
            return
        store.delete(name)
    with contents.opened(held, scratch) as stream:
        store.save(name, File(stream))
