"""A text tower that a space carries in its own folder: ``encoders.text`` is then ``space:<digest of the model>``.

Its files stand in the manifest under ``text_tower`` with their digests; ``chinese`` there says that the student of the
bundled tower reads what is Chinese beside it. No torch: it runs on ONNX Runtime.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from ml.alignment.storage import SpaceError
from ml.encoders.base import Encoder

SCHEME = "space:"


def spec_of(entry: dict[str, Any]) -> str:
    """What ``encoders.text`` says of a tower whose manifest entry this is: other weights, another spec."""
    return f"{SCHEME}{entry['sha256']['model.onnx'][:16]}"


def open_own_tower(folder: Path, manifest: dict[str, Any]) -> Encoder:
    """The tower in ``folder``. Raises SpaceError for one that is missing, damaged or not the manifest's."""
    from ml.compression.store import Export
    from ml.encoders.onnx import open_export

    entry = manifest.get("text_tower")
    if not isinstance(entry, dict) or spec_of(entry) != manifest["encoders"]["text"]:
        raise SpaceError(f"{folder}: the manifest names a text tower of its own and does not describe it")
    for name, digest in entry["sha256"].items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise SpaceError(f"{folder / name} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise SpaceError(f"{folder / name} is damaged: its SHA-256 is not the manifest's")
    tower = open_export(Export(folder.name, folder, entry))
    if not entry.get("chinese"):
        return tower
    from ml.encoders.bilingual import Bilingual

    return Bilingual(tower)


def carry_tower(base: Path, entry: dict[str, Any], folder: Path) -> None:
    """Copy the tower's files of one space into the folder of another, whose manifest has to have the same entry."""
    for name in entry["sha256"]:
        shutil.copyfile(base / name, folder / name)
