"""The keys with which this installation signs what it generates: without them restored files would be strangers'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from standalone.backup.manifest import stays_inside
from standalone.errors import StackError

KINDS = ("*.pem", "*.key")
FILE, FOLDER = "provenance.json", "provenance"


def read_keys(folder: Path) -> dict[str, str]:
    """Path within the folder to PEM text; empty where nothing was signed yet."""
    found = sorted(path for kind in KINDS for path in folder.rglob(kind))
    return {path.relative_to(folder).as_posix(): path.read_text("ascii") for path in found}


def write_keys(folder: Path, keys: Mapping[str, str]) -> None:
    """Raises StackError for a path that leads elsewhere."""
    for name, text in keys.items():
        if not stays_inside(name):
            raise StackError(f"{FILE} names {name!r}, which lies outside.")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(text, "ascii")
