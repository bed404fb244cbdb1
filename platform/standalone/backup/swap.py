"""The last step of a restore: renaming, in an order that can be taken up wherever it was cut off."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from standalone.datadir import RESTORE_JOURNAL, RESTORING
from standalone.files import read_json, write_json

# What makes an installation; the rest of a data directory is working files, or is made again.
PLACED = ("secrets.json", "master.key", "demo.json", "provenance", "blobs", "postgres")
# Also of the old installation: its queue, counters and half-sent uploads belong to rows that go.
REPLACED = (*PLACED, "valkey", "uploads")
# The stages of the journal. While building, the data directory is as it was.
BUILDING, CLEARING, PLACING = "building", "clearing", "placing"


class StagingArea:
    """`restoring/` in a data directory: what is built there, and its journal."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / RESTORING
        self.journal = data_dir / RESTORE_JOURNAL

    def held(self) -> list[str]:
        """What of an installation the data directory has."""
        return [name for name in REPLACED if (self.data_dir / name).exists()]

    def state(self) -> dict[str, Any]:
        return dict(read_json(self.journal, {}))

    @property
    def half_placed(self) -> bool:
        return self.state().get("stage") in (CLEARING, PLACING)

    def begin(self, backup: str) -> None:
        """Go on with what a killed restore of the same backup has built, else start empty."""
        if self.state().get("backup") != backup:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        self._note(BUILDING, backup=backup)

    def abandon(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def put_in_place(self) -> None:
        """Move the old installation aside, if there is one, and the built one to where it belongs."""
        if not self.half_placed:
            self._note(CLEARING, aside=f"replaced-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        self.finish()

    def finish(self) -> None:
        """Also of a restore that was killed in here. Without one there is nothing to do."""
        if self.state().get("stage") == CLEARING:
            self._clear(self.data_dir / self.state()["aside"])
            self._note(PLACING)
        if self.state().get("stage") == PLACING:
            for name in PLACED:
                if (self.folder / name).exists():
                    (self.folder / name).rename(self.data_dir / name)
            (self.data_dir / "run" / "seeding").unlink(missing_ok=True)
            self.abandon()

    def _clear(self, aside: Path) -> None:
        for name in self.held():
            aside.mkdir(mode=0o700, exist_ok=True)
            (self.data_dir / name).rename(aside / name)

    def _note(self, stage: str, **more: str) -> None:
        write_json(self.journal, {**self.state(), **more, "stage": stage})
