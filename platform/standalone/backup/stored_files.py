"""The stored files' half: out of the storage into a backup, and back. Any Django storage will do."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from django.core.files.storage import default_storage

from standalone.backup.database import Snapshot
from standalone.backup.manifest import FILES
from tenants.datasets import upload_bytes
from tenants.datasets.storage import KINDS, path_of, put
from tenants.learning import scratch
from tenants.retrieval import index

CHUNK = 1 << 20
# Reading from a bucket waits for the network.
THREADS = 8
PART = 1000
# Left by health checks that were killed.
PROBES = "readyz"
# Kinds of files that are made again from the database, uploads that nobody has used yet, and trainings under way.
LEFT_OUT = {index.STORED_AS, upload_bytes.KIND, scratch.KIND}
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


class StorageCopier:
    """Copies the storage into `target`; what `previous` (path to SHA-256, beside its folder) has is only linked."""

    def __init__(
        self, snapshot: Snapshot, target: Path, previous: Path | None, known: dict[str, str]
    ) -> None:
        self.snapshot, self.target, self.previous, self.known = snapshot, target, previous, known
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

    def _copy(self, path: str) -> tuple[str, tuple[str, int, bool] | None]:
        """SHA-256, length and whether it is new; None for a file that has just gone."""
        try:
            return path, self._link(path) or self._fetch(path)
        except FileNotFoundError:
            return path, None

    def _link(self, path: str) -> tuple[str, int, bool] | None:
        digest = self.known.get(path)
        if digest is None or self.previous is None or not _is_sound(path, digest):
            return None
        earlier, target = self.previous / FILES / path, self.target / path
        size, time = _signature(path)
        if not _is_unchanged(path, earlier, size, time):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(earlier, target)
        except OSError:
            # Too many links, or a file system without them.
            shutil.copy2(earlier, target)
        return digest, size, False

    def _fetch(self, path: str) -> tuple[str, int, bool]:
        target = self.target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        _, time = _signature(path)
        with default_storage.open(path, "rb") as source, target.open("wb") as sink:
            digest, length = copy_hashing(source, sink)
        os.utime(target, (time, time))
        return digest, length, True

    def _record(self, path: str, outcome: tuple[str, int, bool] | None) -> None:
        if outcome is None:
            if _is_original(path):
                self.done.missing.append(path)
            return
        digest, length, new = outcome
        self.done.sums[f"{FILES}/{path}"] = digest
        self.done.files += 1
        self.done.bytes += length
        self.done.new_files += new
        self.done.new_bytes += length if new else 0
        if not _is_sound(path, digest):
            self.done.damaged.append(path)


def _is_sound(path: str, digest: str) -> bool:
    """The name of an original is its digest."""
    return not _is_original(path) or digest == path.rsplit("/", 1)[1]


def _is_unchanged(path: str, earlier: Path, size: int, time: float) -> bool:
    """An original never changes under its name; what is made from it may be made again."""
    try:
        held = earlier.stat()
    except FileNotFoundError:
        return False
    return held.st_size == size and (_is_original(path) or abs(held.st_mtime - time) < SAME_TIME_S)


def _is_original(path: str) -> bool:
    parts = path.split("/")
    return len(parts) == 4 and parts[1] == KINDS[0]


def _signature(path: str) -> tuple[int, float]:
    return default_storage.size(path), default_storage.get_modified_time(path).timestamp()


def _listdir(folder: str) -> tuple[list[str], list[str]]:
    try:
        return default_storage.listdir(folder)
    except FileNotFoundError:
        return [], []


def _folders(folder: str) -> list[str]:
    return sorted(name for name in _listdir(folder)[0] if name)


def _names(folder: str) -> list[str]:
    return sorted(name for name in _listdir(folder)[1] if name)


def copy_hashing(source: IO[bytes], sink: IO[bytes]) -> tuple[str, int]:
    """Copy, and return SHA-256 and length of what was copied."""
    sha, length = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        sha.update(chunk)
        sink.write(chunk)
        length += len(chunk)
    return sha.hexdigest(), length


def restore_files(backup: Path, names: Iterator[str]) -> int:
    """Store these files of a backup unless they are there in full; returns how many there are."""
    count = 0
    with ThreadPoolExecutor(THREADS) as pool:
        # The pool takes all that it is given at once: a part at a time keeps memory flat.
        while part := list(islice(names, PART)):
            list(pool.map(lambda name: _restore_file(backup / FILES / name, name), part))
            count += len(part)
    return count


def _restore_file(source: Path, name: str) -> None:
    with source.open("rb") as stream:
        put(name, stream)
