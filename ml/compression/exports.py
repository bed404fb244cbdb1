"""Exported encoders on disk: ``models_dir()/exports/NAME`` with a manifest. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.compression.store import EXPORTS, MANIFEST, is_intact, models_dir, read_manifest

#: Raise it when a reader of this release could not use what the exporter of that one wrote.
FORMAT = "export-1"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ExportMissing(RuntimeError):
    """There is no such export, or its files are not those that its manifest names."""


@dataclass(frozen=True)
class Export:
    """One exported encoder. ``entry`` is what the exporter recorded: modality, preparation, parity, …"""

    name: str
    folder: Path
    entry: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.folder / MODEL

    @property
    def bytes(self) -> int:
        """Of all its files but the manifest."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.name != MANIFEST)


def exports_dir() -> Path:
    """``exports`` in the folder of prepared models."""
    return models_dir() / EXPORTS


def check_name(name: str) -> str:
    """``name`` if it can name an export, else ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name an export: small letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def find_export(name: str, folder: Path | None = None) -> Export:
    """The export ``name`` with its files checked against their digests. Raises ExportMissing, ValueError."""
    path = (folder or exports_dir()) / check_name(name)
    manifest = read_manifest(path)
    if manifest is None:
        raise ExportMissing(
            f"there is no exported encoder {name!r} in {path.parent}: "
            f"run `python -m ml.compression export SPEC --name {name}`"
        )
    if manifest.get("recipe") != FORMAT:
        raise ExportMissing(
            f"{path} is {manifest.get('recipe')!r}; this release reads {FORMAT!r}: export it again"
        )
    entry = manifest.get("models", {}).get("encoder")
    if not isinstance(entry, dict) or not (path / MODEL).is_file() or not is_intact(path, FORMAT):
        raise ExportMissing(f"the files in {path} are not those that its {MANIFEST} names: export it again")
    return Export(name, path, entry)


def list_exports(folder: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Name and entry of each export; what has no manifest of this format is left out."""
    found = []
    for path in sorted((folder or exports_dir()).glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent) or {}
        if manifest.get("recipe") == FORMAT and NAME.fullmatch(path.parent.name):
            found.append((path.parent.name, manifest["models"]["encoder"]))
    return found
