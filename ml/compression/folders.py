"""Folders that appear whole or not at all, however many processes ask at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an advisory lock beside ``folder``; the kernel releases it when the process dies: nothing goes stale."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def replacing(folder: Path, keep: str = "") -> Iterator[Path]:
    """An empty folder beside that takes ``folder``'s place when the block ends without an error.

    The sub-folder ``keep`` moves from the old one to the new one. Needs the lock. Leftovers of killed builds are
    removed first.
    """
    for leftover in folder.parent.glob(f".{folder.name}.building-*"):
        _move(keep, leftover, folder)
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.building-", dir=folder.parent))
    try:
        _open_to_all(building)
        yield building
        _swap(building, folder, keep)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    # By a descriptor: a limited process may not change the modes of names (`ml.sandbox`).
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fchmod(at, 0o755)
    finally:
        os.close(at)


def _swap(building: Path, folder: Path, keep: str) -> None:
    if not folder.exists():
        building.rename(folder)
        return
    # Moved aside first: a folder cannot be replaced in one step. Who reads in between finds none.
    folder.rename(old := building.with_name(building.name + "-old"))
    building.rename(folder)
    _move(keep, old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _move(name: str, source: Path, target: Path) -> None:
    if name and (source / name).is_dir() and not (target / name).exists():
        target.mkdir(exist_ok=True)
        (source / name).rename(target / name)
