"""Whether the disk has room for a run of the tests. Standard library only: `make test` asks before it installs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WARN_MB = 20_000
#: Measured (CONTRIBUTING.md): what is installed and built, and the most that a run has on the disk.
INSTALLED_MB = 5_000
RUN_MB = 4_000


def check() -> None:
    """Says that little is free; ends the process where a run would fill the disk."""
    need = RUN_MB + (0 if (ROOT / ".venv" / "bin" / "python").exists() else INSTALLED_MB)
    for folder in (ROOT, Path(tempfile.gettempdir())):
        free = shutil.disk_usage(folder).free >> 20
        if free < need:
            sys.exit(
                f"error: {free} MB are free in {folder}, and the tests need {need} MB: make room, or set TMPDIR"
            )
        if free < WARN_MB:
            print(f"warning: {free} MB are free in {folder}; a run takes up to {need} MB", file=sys.stderr)


if __name__ == "__main__":
    check()
