"""What a backup says about itself, and whether it is true."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from standalone.errors import StackError

# 2: encrypted and signed, where that is asked for.
FORMAT = 2
MANIFEST, SIGNATURE, SUMS, DUMP, SECRETS, FILES = (
    "manifest.json",
    "manifest.sig",
    "SHA256SUMS",
    "database.dump",
    "secrets.json",
    "files",
)
SHOWN = 5


@dataclass(frozen=True)
class Manifest:
    """`tables` maps a table to its rows and digest; `storage` counts the stored files and names what was wrong;
    `recipients` are those for whom the files are encrypted, none for a plain backup."""

    created_at: str
    version: str
    postgres: str
    migrations: dict[str, list[str]]
    tables: dict[str, dict[str, Any]]
    storage: dict[str, Any]
    sums_sha256: str
    recipients: list[str] = field(default_factory=list)
    format: int = FORMAT
    product: str = field(default="crosslight")

    @property
    def created(self) -> datetime:
        return datetime.fromisoformat(self.created_at)

    @property
    def rows(self) -> int:
        return sum(table["rows"] for table in self.tables.values())

    def to_json(self) -> str:
        body = asdict(self)
        return json.dumps({**body, "sha256": digest_of(body)}, indent=1, sort_keys=True) + "\n"


def digest_of(body: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Raises StackError for a folder without a manifest, a damaged one, and one of a newer format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise StackError(f"{folder} is not a complete backup: it has no {MANIFEST}.")
    try:
        body = json.loads(path.read_text())
        written = body.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read") from error
    if written != digest_of(body):
        raise _damaged(folder, f"{MANIFEST} was changed")
    # Before its fields are taken apart: a newer format may have others.
    if body["format"] > FORMAT:
        raise StackError(
            f"{folder} has format {body['format']}, this release reads up to {FORMAT}. "
            "Restore it with the release that wrote it, or a newer one."
        )
    return Manifest(**body)


def find(path: Path) -> Path:
    """The backup at `path`, or the newest complete one in a folder of backups."""
    if not path.is_dir():
        raise StackError(f"There is no backup at {path}.")
    if (path / MANIFEST).exists():
        return path
    if found := complete_backups(path):
        return found[-1]
    raise StackError(f"{path} is not a complete backup and holds none: no {MANIFEST} there.")


def complete_backups(folder: Path) -> list[Path]:
    """The oldest first. Their names are times; unfinished ones start with a dot."""
    found = (path.parent for path in folder.glob(f"*/{MANIFEST}"))
    return sorted(path for path in found if not path.name.startswith("."))


def read_sums(folder: Path) -> Iterator[tuple[str, str]]:
    """Path and SHA-256 of each file that the backup consists of. Raises StackError for what is no such line."""
    with (folder / SUMS).open() as lines:
        for line in lines:
            digest, separator, name = line.rstrip("\n").partition("  ")
            if not separator or len(digest) != 64 or not stays_inside(name):
                raise _damaged(folder, f"{SUMS} has a line that names no file: {line.rstrip()[:100]!r}")
            yield name, digest


def stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts


def verify(folder: Path, only: Collection[str] | None = None) -> Manifest:
    """Read everything, or these files, and compare. Raises StackError that names what is missing or changed."""
    manifest = read_manifest(folder)
    if not (folder / SUMS).is_file() or sha256(folder / SUMS) != manifest.sums_sha256:
        raise _damaged(folder, f"{SUMS} is missing or was changed")
    wrong = [
        complaint
        for name, digest in read_sums(folder)
        if (only is None or name in only) and (complaint := _complaint(folder, name, digest))
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise _damaged(folder, ", ".join(wrong[:SHOWN]) + more)
    return manifest


def _complaint(folder: Path, name: str, digest: str) -> str | None:
    try:
        return None if sha256(folder / name) == digest else f"{name} was changed"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def _damaged(folder: Path, what: str) -> StackError:
    return StackError(f"The backup {folder} is damaged: {what}. Nothing was changed; use another backup.")
