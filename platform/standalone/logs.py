"""Log files of the stack's processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROTATE_BYTES = 10 * 1024 * 1024
KEPT = 3


def tail(path: Path, lines: int = 15, window: int = 16_384) -> str:
    """The last lines of a log, or a word that there are none."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - window))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or "(empty log)"


def rotate(path: Path, limit: int = ROTATE_BYTES) -> None:
    """Copy and truncate: the processes hold the file open in append mode and go on at its new end."""
    if not path.exists() or path.stat().st_size < limit:
        return
    for number in range(KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
