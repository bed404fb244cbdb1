"""Keys apart from backups (BACKUP_KEYS_FILE): one file that each backup replaces, so that destroyed keys are in none.

A backup holds no data keys and no master key then. What it holds of a tenant that was erased since is unreadable with
the keys of now: files and sealed values. Rows of its database are not encrypted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standalone.backup.database import connected, view
from standalone.errors import StackError
from standalone.files import read_json, write_json

TABLE = "data_key"
VARIABLE = "BACKUP_KEYS_FILE"
FORMAT = 1
_INSERT = (
    f"INSERT INTO {TABLE} SELECT * FROM jsonb_populate_recordset(NULL::{TABLE}, %s) ON CONFLICT DO NOTHING"  # noqa: S608
)


@dataclass(frozen=True)
class Keys:
    """`master` is the text of the master key's file, or empty; `rows` are those of the table, destroyed ones too."""

    master: str
    rows: list[dict[str, Any]]


def file_of(environ: Mapping[str, str]) -> Path | None:
    return Path(environ[VARIABLE]) if environ.get(VARIABLE) else None


def write(path: Path, url: str, master_key_file: str) -> None:
    """Replace the file by the keys of now. `url`: of the operator's role."""
    with view(url) as now:
        rows = [row for (row,) in now.rows(f"SELECT to_jsonb(t) FROM {TABLE} t ORDER BY id")]  # noqa: S608 - a constant
    master = Path(master_key_file).read_text() if master_key_file else ""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, {"format": FORMAT, "master": master, "rows": rows})
    # The name, too, before anybody relies on the former file being gone.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path | None) -> Keys:
    """Raises StackError."""
    if path is None:
        raise StackError(
            f"This backup holds no keys: set {VARIABLE} to the file that they were written to when it was made. It is "
            "replaced by each backup; the newest opens them all."
        )
    try:
        body = read_json(path)
        return Keys(str(body["master"]), list(body["rows"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StackError(f"{VARIABLE}: {path} cannot be read as a file of keys: {error}") from error


def load(keys: Keys, url: str) -> None:
    """Into a restored database that has none, as its owner."""
    with connected(url) as connection, connection, connection.cursor() as cursor:
        cursor.execute(_INSERT, (json.dumps(keys.rows),))


def replace(keys: Keys, url: str) -> None:
    """In a database that was recovered with the keys of its moment: those that were destroyed since are so again."""
    with connected(url) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE}")  # noqa: S608 - a constant
        cursor.execute(_INSERT, (json.dumps(keys.rows),))


def erased_since(url: str) -> list[str]:
    """Slugs of tenants in a restored database whose keys were destroyed: they were erased after the backup."""
    with view(url) as restored:
        found = restored.rows(
            "SELECT slug FROM tenant WHERE id IN (SELECT owner FROM data_key WHERE state = 'destroyed') ORDER BY slug"
        )
    return [slug for (slug,) in found]
